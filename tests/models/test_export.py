"""Exports compute the same logits as the model, at sizes and batches they were not made with."""

import json
from pathlib import Path

import pytest
import torch

from setr.errors import InputError, IntegrityError
from setr.files.hashing import file_sha256
from setr.models import export
from setr.models.export import export_onnx, export_program, export_weights
from setr.models.segmenter import Segmenter, build_model, build_segmenter
from setr.models.specification import EncoderSize
from setr.models.weights import import_checkpoint
from tests.models.test_timm_encoder import timm_spec

SIZE = EncoderSize("tiny", 32, depth=2, num_heads=2, patch_size=8, decoder_channels=8)
ANY_SIZES = ((48, 48), (64, 40), (37, 71))


def tiny(variant: str) -> Segmenter:
    torch.manual_seed(0)
    return build_model(variant, num_classes=5, crop_size=(48, 48), sizes=SIZE, scale="miniature").eval()


@pytest.mark.parametrize("variant", ["setr-naive", "setr-mla", "hybrid-base", "fcn", "fcn-21k", "semantic-fpn"])
def test_safetensors_and_json_and_back(tmp_path: Path, variant: str) -> None:
    model = tiny(variant).train()
    path = tmp_path / "out" / "model.safetensors"
    record = export_weights(model, path, about={"classes": ["a", "b", "c", "d", "e"]})
    assert model.training
    assert record.largest_difference == 0.0
    assert record.sha256 == file_sha256(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.safetensors"]
    description = json.loads(path.with_suffix(".json").read_text())
    assert description["about"]["classes"] == ["a", "b", "c", "d", "e"]
    assert description["weights"]["sha256"] == record.sha256
    read_back, receipt = import_checkpoint(path)
    assert read_back.spec == model.spec
    assert receipt.format == "setr"
    assert receipt.counts()["mapped"] == len(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(read_back.state_dict()[name], value)
    assert [p.requires_grad for p in read_back.parameters()] == [p.requires_grad for p in model.parameters()]


def test_every_variant_names_its_structure(tmp_path: Path) -> None:
    for variant in ("setr-pup-random", "setr-mla-deit", "hybrid-base-random"):
        model = tiny(variant)
        path = tmp_path / f"{variant}.safetensors"
        export_weights(model, path, sizes=((16, 16),))
        assert import_checkpoint(path)[0].spec == model.spec


@pytest.mark.parametrize("variant", ["setr-pup", "setr-mla"])
def test_onnx_at_any_size(tmp_path: Path, variant: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    record = export_onnx(tiny(variant), path, sizes=ANY_SIZES)
    assert record.largest_difference <= 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [dimension.dim_param or dimension.dim_value for dimension in shape.dim] == ["batch", 3, "height", "width"]


def test_torch_export_at_any_size(tmp_path: Path) -> None:
    record = export_program(tiny("setr-naive"), tmp_path / "model.pt2", sizes=ANY_SIZES)
    assert record.largest_difference <= 1e-5
    assert record.sha256 == file_sha256(tmp_path / "model.pt2")


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(IntegrityError, match="E_EXPORT_DIFFERS"):
        export_weights(tiny("setr-naive"), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_lies(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    export_weights(tiny("setr-naive"), tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    other = json.dumps(json.loads((tmp_path / "model.json").read_text())["spec"] | {"num_classes": 10**7})
    for header, code in (
        ("not json", "E_CKPT_FORMAT"),
        ('{"type": "os.system"}', "E_CKPT_FORMAT"),
        ('{"type": "EncoderSize", "name": "x"}', "E_CKPT_FORMAT"),
        ("[1, 2]", "E_CKPT_FORMAT"),
        (other, "E_CKPT_SHAPE"),
    ):
        save_file(tensors, tmp_path / "lie.safetensors", {"setr.spec": header})
        with pytest.raises(InputError, match=code) as error:
            import_checkpoint(tmp_path / "lie.safetensors")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [export_program, export_onnx])
def test_a_timm_encoder_is_exported_as_weights_alone(write, tmp_path):
    model = build_segmenter(timm_spec("convnext_tiny.fb_in22k")).eval()
    with pytest.raises(InputError, match=r"E_EXPORT_ENCODER.*safetensors"):
        write(model, tmp_path / "model.out")
    assert list(tmp_path.iterdir()) == []
    assert export_weights(model, tmp_path / "model.safetensors").largest_difference == 0
