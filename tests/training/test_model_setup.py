"""Settings of speed and memory change what a training computes by rounding at most, and nothing of its record."""

import shutil
from pathlib import Path

import pytest
import torch

from setr.errors import InputError
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.encoder import run_block
from setr.models.encoder_facts import encoder_facts
from setr.models.segmenter import Segmenter, build_model, build_segmenter
from setr.models.specification import EncoderSize, SegmenterSpec, TimmSpec
from setr.models.timm_miniatures import miniature_options
from setr.settings.run import COMPILE_FROM, RunSettings
from setr.settings.strict import build
from setr.training.distributed import Stopped
from setr.training.model_setup import prepare_model, release_model
from tests.helpers.tiny_training import events, losses, run, weights

SIZE = EncoderSize("t", embed_dim=8, depth=4, num_heads=2, patch_size=4, decoder_channels=8)


def pup() -> Segmenter:
    """Returns SETR-PUP of four layers, for the four classes of tiny_training."""
    torch.manual_seed(0)
    return build_model("setr-pup-random", num_classes=4, crop_size=(16, 16), sizes=SIZE, drop_path=0.2)


def train(folder: Path, **options: object) -> None:
    run(folder, model=pup(), iterations=4, checkpoint_every=4, evaluate_every=4, **options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    train(folder)
    return folder


def same_losses(folder: Path, reference: Path, relative: float) -> None:
    found, expected = losses(folder), losses(reference)
    assert found.keys() == expected.keys()
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, rel=relative), f"step {step}"


def test_the_device_decides_what_is_left_open() -> None:
    on_cpu = RunSettings().on_device("cpu", steps=COMPILE_FROM)
    assert on_cpu == RunSettings(compile=False, channels_last=False, optimizer_kernel="fused")
    on_gpu = RunSettings().on_device("cuda:1", steps=COMPILE_FROM)
    assert on_gpu == RunSettings(compile=True, channels_last=True, optimizer_kernel="fused")
    assert RunSettings().on_device("cuda", steps=COMPILE_FROM - 1).compile is False
    named = RunSettings(compile=True, channels_last=True, activation_checkpointing=True, optimizer_kernel="plain")
    assert named.on_device("cpu", steps=1) == named
    with pytest.raises(InputError, match="did you mean fused"):
        build(RunSettings, {"optimizer_kernel": "fussed"}, "training")


def test_checkpointed_layers_give_the_same_bits(tmp_path: Path, plain: Path) -> None:
    train(tmp_path, activation_checkpointing=True)
    assert weights(tmp_path) == weights(plain)


def test_checkpointed_layers_keep_less() -> None:
    kept = []
    for wanted in (False, True):
        model = pup().train()
        prepare_model(model, RunSettings(activation_checkpointing=wanted).on_device("cpu", steps=1))
        total = [0]

        def count(tensor: torch.Tensor, total: list[int] = total) -> torch.Tensor:
            total[0] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model.encoder(torch.zeros(2, 3, 16, 16), (0, 1, 2, 3))
        kept.append(total[0])
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize(
    "execution",
    [{"channels_last": True}, {"optimizer_kernel": "foreach"}, {"optimizer_kernel": "plain"}],
    ids=["channels_last", "foreach", "plain"],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_memory_order_and_kernels_change_rounding_alone(
    tmp_path: Path, execution: dict[str, object], optimizer: str
) -> None:
    options = {"optimizer": optimizer, "base_lr": 0.05 if optimizer == "sgd" else 1e-3, "weight_decay": 0.01}
    train(tmp_path / "plain", **options)
    train(tmp_path / "other", **execution, **options)
    same_losses(tmp_path / "other", tmp_path / "plain", 1e-5)

    # and they go on to the same bits: the optimiser's state comes back in the parameters' memory order
    calls: list[int] = []
    stop = {"should_stop": lambda: calls.append(0) or len(calls) == 2}
    with pytest.raises(Stopped):
        train(tmp_path / "resumed", **execution, **stop, **options)
    train(tmp_path / "resumed", **execution, **options)
    assert weights(tmp_path / "resumed") == weights(tmp_path / "other")


def test_channels_last_is_for_all_but_the_transformer() -> None:
    model = pup()
    before = dict(model.named_parameters())
    prepare_model(model, RunSettings(channels_last=True).on_device("cpu", steps=1))
    convolution = model.decode_head.convs[0].conv.weight
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.is_contiguous()
    assert model.encoder.patch_embed.proj.weight.is_contiguous()
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_layers_change_rounding_alone(tmp_path: Path, plain: Path) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    seen = []

    def score(model: torch.nn.Module) -> dict[str, float]:
        graphs = counters["stats"]["unique_graphs"]
        with torch.no_grad():
            model(torch.zeros(1, 3, 24, 40))  # another size: an evaluation must compile nothing
        seen.append(counters["stats"]["unique_graphs"] - graphs)
        return {"mIoU": 1.0}

    train(tmp_path, compile=True, evaluate=score)
    same_losses(tmp_path, plain, 1e-4)
    assert counters["stats"]["unique_graphs"] > 0
    assert seen == [0]
    assert events(tmp_path, "start")[0]["execution"]["compile"] is True


def test_a_trained_model_runs_its_layers_as_they_are() -> None:
    model = pup()
    prepare_model(model, RunSettings(compile=True, activation_checkpointing=True).on_device("cpu", steps=1))
    assert model.encoder.run_training_block is not run_block
    release_model(model)
    assert model.encoder.run_training_block is run_block
    assert not model.encoder.grad_checkpointing


def test_the_start_event_says_what_was_used(plain: Path) -> None:
    assert events(plain, "start")[0]["execution"] == {
        "compile": False,
        "channels_last": False,
        "activation_checkpointing": False,
        "optimizer_kernel": "fused",
    }


def timm_model(name: str, *, frozen: bool = False) -> Segmenter:
    torch.manual_seed(0)
    encoder = TimmSpec(name, miniature_options(name))
    head = UpHeadSpec(encoder_facts(encoder).channels[3], 8)
    return build_segmenter(SegmenterSpec(encoder, (16, 16), 4, head, (3,), frozen=frozen))


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3.lvd1689m", "swin_tiny_patch4_window7_224.ms_in22k"])
def test_layers_of_timms_encoders_are_recomputed_too(name: str, tmp_path: Path) -> None:
    for folder, checkpointing in (("kept", False), ("recomputed", True)):
        settings = {"iterations": 3, "checkpoint_every": 3, "evaluate_every": 3}
        run(tmp_path / folder, model=timm_model(name), activation_checkpointing=checkpointing, **settings)
    same_losses(tmp_path / "recomputed", tmp_path / "kept", 1e-4)
    model = timm_model(name)
    prepare_model(model, RunSettings(activation_checkpointing=True).on_device("cpu", steps=1))
    assert any(getattr(module, "grad_checkpointing", False) for module in model.encoder.modules())
    release_model(model)
    assert not any(getattr(module, "grad_checkpointing", False) for module in model.encoder.modules())


@pytest.mark.parametrize(
    ("name", "last"),
    [("vit_small_patch16_dinov3.lvd1689m", False), ("convnext_tiny.fb_in22k", True), ("resnet50c.gluon_in1k", True)],
)
def test_channels_last_is_for_maps_and_not_for_tokens(name: str, last: bool) -> None:
    model = timm_model(name)
    prepare_model(model, RunSettings(channels_last=True).on_device("cpu", steps=1))
    wide = [p for p in model.encoder.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) is last for p in wide)


def test_a_frozen_encoder_is_as_it_was_after_a_training(tmp_path: Path) -> None:
    model = timm_model("resnet50c.gluon_in1k", frozen=True)  # with running statistics
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    run(tmp_path, model=model, iterations=3, checkpoint_every=3, evaluate_every=3)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    untrained = timm_model("resnet50c.gluon_in1k")
    assert not torch.equal(model.decode_head.classifier.weight, untrained.decode_head.classifier.weight)
