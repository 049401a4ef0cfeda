"""A class of a user's own as decode head and as auxiliary head of a model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from setr.errors import InputError
from setr.models.export import export_weights
from setr.models.own_code import OwnCode, allowed
from setr.models.own_head import OwnHeadSpec, own_head, own_sources, without_own_code
from setr.models.segmenter import build_segmenter, own_texts, seeded_own_segmenter
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.weights import OWN_KEY, import_checkpoint
from tests.helpers.own_decoder import SOURCE, own_spec, text_of_the_docs

KEEPS = """
import torch
from torch import nn


class ConcatHead(nn.Module):
    def __init__(self, channels_in, num_classes):
        super().__init__()
        self.classifier = nn.Conv2d(channels_in[0], num_classes, 1)
        nn.init.constant_(self.classifier.weight, 0.25)
        self.register_buffer("scale", torch.full((1,), 3.0), persistent=False)
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]

    def forward(self, features, image_size):
        return self.classifier(features[0]) * self.scale
"""


@pytest.fixture
def docs() -> Iterator[OwnCode]:
    code = OwnCode(SOURCE, text_of_the_docs())
    with allowed([code]):
        yield code


@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_file_of_the_docs_makes_a_model(docs: OwnCode, auxiliary: bool) -> None:
    model = build_segmenter(own_spec(auxiliary=auxiliary, channels=16)).train()
    logits, others = model(torch.randn(2, 3, 32, 48))
    assert logits.shape == (2, 5, 32, 48)
    assert [one.shape for one in others] == [logits.shape] * (2 if auxiliary else 0)
    sum(one.mean() for one in (logits, *others)).backward()
    assert all(one.grad is not None for one in model.decode_head.parameters())
    assert model.eval()(torch.randn(1, 3, 50, 70)).shape == (1, 5, 50, 70)
    assert own_texts(model) == {SOURCE: docs.text}


def test_a_structure_with_it_is_kept_as_json(docs: OwnCode) -> None:
    spec = own_spec(auxiliary=True, channels=16, rates=[1, 2.5], name="a")
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
    assert own_sources(spec) == (SOURCE,)
    assert own_sources(without_own_code(spec)) == ()


@pytest.mark.parametrize("flavour", ["authors", "mmseg"])
def test_its_parameters_begin_as_it_leaves_them(flavour: str) -> None:
    spec = own_spec(auxiliary=True, flavour=flavour)
    with allowed([OwnCode(SOURCE, KEEPS)]):
        for model in (build_segmenter(spec), seeded_own_segmenter(spec, flavour, 3)):
            for head in (model.decode_head, model.auxiliary_heads[0]):
                assert torch.equal(head.classifier.weight, torch.full_like(head.classifier.weight, 0.25))
            assert list(model.state_dict()) == list(model.to("cpu").state_dict())
            other = model.auxiliary_heads[1].classifier  # of this project: by the style of the flavour
            assert isinstance(other, nn.Conv2d)
            assert bool((other.bias == 0).all()) == (flavour == "mmseg")


def test_two_starts_with_one_seed_are_the_same(docs: OwnCode) -> None:
    first, second = (seeded_own_segmenter(own_spec(), "authors", 5).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("text", [KEEPS, None])
def test_an_export_carries_the_code_and_runs_it_only_when_asked(
    text: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("exported")
    canary, path = folder / "canary", folder / "model.safetensors"
    own = OwnCode(SOURCE, f"open({str(canary)!r}, 'w')\n{text or text_of_the_docs()}")
    with allowed([own]):
        model = build_segmenter(own_spec()).eval()
        assert export_weights(model, path).largest_difference == 0.0
    canary.unlink()
    another = f"{own.text}# of somebody else\n"  # has not run here yet
    with safe_open(path, "pt") as file:
        header = {**file.metadata(), OWN_KEY: json.dumps({SOURCE: another})}
    save_file(load_file(path), path, header)
    with pytest.raises(InputError, match=r"E_CODE_NOT_ALLOWED.*mine\.py:ConcatHead.*model\.safetensors"):
        import_checkpoint(path)
    assert not canary.exists()
    read_back, _ = import_checkpoint(path, allow_code=True)
    assert canary.exists()
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(read_back(images), model(images))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels_in": 3}, "no option of a class"),
        ({"num_classes": 3}, "no option of a class"),
        ({"width": {"a": 1}}, "no value of an option: width"),
        ({"width": float("nan")}, "no value of an option: width"),
        ({"a b": 1}, "no option of a class"),
    ],
)
def test_options_that_no_record_keeps_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"E_OWN_CODE.*{said}"):
        own_head(SOURCE, (8,), options)


@pytest.mark.parametrize("source", ["../mine.py:Head", "/etc/x.py:Head", "mine.py", "mine.py:a-b", "a/b.py:C", 7])
def test_a_record_from_elsewhere_names_no_other_place(source: Any) -> None:
    with pytest.raises(ValueError, match="not a source"):
        OwnHeadSpec(source, (8,))


def test_a_class_that_cannot_be_made_is_named_with_its_line() -> None:
    text = KEEPS.replace("super().__init__()", "super().__init__()\n        raise KeyError('absent')")
    with (
        allowed([OwnCode(SOURCE, text)]),
        pytest.raises(InputError, match=r"E_OWN_CODE.*cannot be made: KeyError.*mine\.py, line 9"),
    ):
        build_segmenter(own_spec())


@pytest.mark.parametrize("brought", [None, "no json", "{}", '{"other.py:Head": ""}'])
def test_an_export_without_its_code_is_one_line(brought: str | None, docs: OwnCode, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    export_weights(build_segmenter(own_spec()).eval(), path)
    with safe_open(path, "pt") as file:
        header = {name: value for name, value in file.metadata().items() if name != OWN_KEY}
    save_file(load_file(path), path, header | ({OWN_KEY: brought} if brought is not None else {}))
    with pytest.raises(InputError, match=r"E_OWN_CODE.*not in the file"):
        import_checkpoint(path, allow_code=True)
