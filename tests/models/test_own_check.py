"""A head of a user's own is tried before anything trains: each usual mistake is one line, on any machine."""

import dataclasses
import re
import textwrap

import pytest

from setr.errors import InputError
from setr.models.own_check import check_own, needs_values
from setr.models.own_code import OwnCode, allowed
from setr.models.own_head import own_head
from setr.models.variants import variant_spec
from tests.helpers.own_decoder import SOURCE, WIDTH, own_spec, text_of_the_docs

FILE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class ConcatHead(nn.Module):
    def __init__(self, channels_in, num_classes{options}):
        super().__init__()
        self.joined = nn.Conv2d(sum(channels_in), 8, 1)
        self.classifier = nn.Conv2d(8, num_classes, 1)
        {init}

    def forward(self, features, image_size):
        x = self.joined(torch.cat(features, 1))
        {forward}
"""
LINE = 17  # of FILE, where `forward` stands
RETURN = "return self.classifier(x)"


def head(forward: str = RETURN, init: str = "pass", options: str = "") -> str:
    indented = textwrap.indent(textwrap.dedent(forward), " " * 8).strip()
    return FILE.format(forward=indented, init=init, options=options)


def checked(text: str, **options: object) -> tuple[str, ...]:
    with allowed([OwnCode(SOURCE, text)]):
        return check_own(own_spec(**options))  # type: ignore[arg-type]  # options of the class


def test_the_file_of_the_docs_passes() -> None:
    with allowed([OwnCode(SOURCE, text_of_the_docs())]):
        assert check_own(own_spec(auxiliary=True, channels=16)) == ()
        assert not needs_values(own_spec())


def test_models_without_heads_of_ones_own_are_not_tried() -> None:
    spec = variant_spec("setr-pup", num_classes=19, crop_size=(768, 768))
    assert check_own(spec) == ()
    assert not needs_values(spec)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (head("return self.joined(torch.cat(features, 1))"), r"another number of classes.*\(2, 8, .*\(2, 5, h, w\)"),
        (head("return self.classifier(x).permute(0, 2, 3, 1)"), r"classes last.*x\.permute"),
        (head("return [self.classifier(x)]"), r"returns a list.*the logits alone"),
        (head("return self.classifier(x), x"), r"returns a tuple"),
        (head("return {'out': self.classifier(x)}"), r"returns a dict"),
        (head("return None"), r"returns no tensor.*NoneType"),
        (head("return self.classifier(x).flatten(2).transpose(1, 2)"), r"tokens, not a map.*unflatten"),
        (head("return self.classifier(x).mean((2, 3))"), r"another shape.*\(2, 5\)"),
        (head("return self.classifier(x)[:1]"), r"another shape.*\(1, 5, "),
        (head("return self.classifier(x).argmax(1, keepdim=True).expand(-1, 5, -1, -1)"), r"no logits.*int64"),
        (head("return self.classifier(x).detach()"), r"trains nothing"),
        (head("return self.classifier(x).argmax(1)"), r"tokens, not a map"),
        (head("a, b, c, d = features\nreturn self.classifier(x)"), rf"ValueError.*line {LINE}.*2 maps: `layers`"),
        (head("return self.classifier(features[3])"), rf"IndexError.*line {LINE}.*it is given 2 maps"),
        (head("return self.classifier(x.cuda())"), rf"line {LINE}.*hard-code no device"),
        (head("return self.classifier(x) + torch.ones(4)[0:1]"), r"line 17.*hard-code no device"),
        (head("features[0].add_(1)\nreturn self.classifier(x)"), r"in place.*other heads"),
        (head("F.relu(features[1], inplace=True)\nreturn self.classifier(x)"), r"in place"),
        (head("return self.clasifier(x)"), rf"AttributeError.*mine\.py, line {LINE}"),
        (head("return self.classifier(x)", init="raise RuntimeError('no')"), r"cannot be made.*mine\.py, line 13"),
        (head().replace("image_size", "size, extra"), r"another forward.*extra.*forward\(self, features, image_size\)"),
        (head().replace("forward", "predict"), r"has no forward"),
        (head().replace(", num_classes)", ")").replace("num_classes,", "5,"), r"cannot be called"),
        (head(options=", width"), r"cannot be called.*width"),
        (head("return self.classifier(torch.from_numpy(np.ones(3)))"), rf"line {LINE}"),
    ],
)
def test_each_mistake_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^E_OWN_CODE \| (?s:.)*({said})") as refused:
        checked(text)
    assert "\n" not in str(refused.value)
    assert "mine.py" in str(refused.value)


def test_an_option_that_it_does_not_take_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"E_OWN_CODE.*found chanels.*did you mean channels"):
        checked(head(options=", channels=3"), chanels=4)
    assert checked(head(options=", **others"), chanels=4) == ()


def test_maps_of_another_width_are_refused() -> None:
    with allowed([OwnCode(SOURCE, head())]):
        for widths in ((WIDTH,), (WIDTH, WIDTH + 1)):
            spec = dataclasses.replace(own_spec(), decoder=own_head(SOURCE, widths))
            with pytest.raises(InputError, match=r"reads other maps.*expected \(64, 64\)"):
                check_own(spec)


@pytest.mark.parametrize(
    "forward",
    [
        "threshold = float(x.detach().cpu().numpy().mean())\nreturn self.classifier(x - threshold)",
        "return self.classifier(x / x.detach().max().item())",
        "return self.classifier(x) if (x > 0).any() else self.classifier(-x)",
    ],
)
def test_what_needs_values_is_tried_on_the_cpu(forward: str) -> None:
    assert checked(head(forward)) == ()
    with allowed([OwnCode(SOURCE, head(forward))]):
        assert needs_values(own_spec())
    with pytest.raises(InputError, match="another number of classes"):
        checked(head(forward.replace("self.classifier", "F.relu")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (head(init="self.unused = nn.Linear(3, 3)"), r"2 parameters get no gradient.*unused\.weight, unused\.bias"),
        (head("x = self.joined(torch.cat(features, 1).detach())\nreturn self.classifier(x)"), "reaches the encoder"),
        (head(init="self.scale = torch.ones(1)"), r"scale is a tensor that goes to no device"),
        (
            head(
                "pooled = self.norm(x.mean((2, 3), True))\nreturn self.classifier(x + pooled)",
                "self.norm = nn.BatchNorm2d(8)",
            ),
            "BatchNorm over one value",
        ),
        (head("return self.classifier(x.reshape(-1, 8, 4, 6))"), "works at the crop alone"),
    ],
)
def test_what_may_be_meant_is_a_warning(text: str, said: str) -> None:
    found = checked(text)
    assert len(found) == 1
    assert re.search(said, found[0])


def test_an_auxiliary_head_is_tried_with_its_one_map() -> None:
    text = head("return self.classifier(x)[:, :1] if len(features) == 1 else self.classifier(x)")
    with allowed([OwnCode(SOURCE, text)]):
        assert check_own(own_spec()) == ()
        with pytest.raises(InputError, match="another number of classes"):
            check_own(own_spec(auxiliary=True))
