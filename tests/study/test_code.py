"""The slice of a made-up package, edited in ways that change what is computed and in ways that do not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from setr.errors import InputError
from setr.models.variants import VARIANTS, structure_parts, structure_record, variant_spec
from setr.study import code
from setr.study.code import Slice, code_slice, differing_modules, scoring_code, training_code

LOOP = """
from setr.data.reader import Reader
from setr.models import net
from setr.errors import Problem
import os

FACTOR = 2


def train(reader: Reader, x):
    from setr.training.loss import loss as measure

    if x is None:
        raise Problem("nothing")
    return measure(net.forward(x)) * FACTOR


def report(x):
    print(x)
"""
FILES = {
    "training/loop.py": LOOP,
    "training/loss.py": "def loss(x):\n    return x  # same\n\n\ndef other(x):\n    return 1\n",
    "models/net.py": "from setr.models.heads import HEADS\n\n\ndef forward(x):\n    return HEADS['a'](x)\n",
    "models/heads.py": "def a(x):\n    return x\n\n\ndef b(x):\n    return x\n\n\nHEADS = {'a': a, 'b': b}\n",
    "data/reader.py": "class Reader:\n    def get(self):\n        return helper(self)\n\n\n"
    "def helper(x):\n    return 1\n",
    "errors.py": "class Problem(Exception):\n    pass\n",
    **{f"{folder}__init__.py": "" for folder in ("", "training/", "models/", "data/")},
}

Edit = Callable[[str, str, str], Slice]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "setr"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(code, "CHOSEN_TABLES", ("setr.models.heads:HEADS",))
    return root


def sliced(package: Path) -> Slice:
    code.forget()
    return code_slice(["setr.training.loop:train"], frozenset("a"), package)


@pytest.fixture
def edited(package: Path) -> Edit:
    def edit(file: str, before: str, after: str) -> Slice:
        text = (package / file).read_text()
        assert before in text
        (package / file).write_text(text.replace(before, after))
        return sliced(package)

    return edit


def test_slice_holds_what_is_used_and_nothing_else(package: Path) -> None:
    assert {":".join(place) for place in sliced(package).definitions} == {
        "setr.training.loop:train",
        "setr.training.loop:FACTOR",
        "setr.training.loss:loss",
        "setr.models.net:forward",
        "setr.models.heads:HEADS",
        "setr.models.heads:a",
        "setr.data.reader:Reader",  # by its annotation: its methods may be called
        "setr.data.reader:helper",
    }


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("training/loop.py", '"nothing"', '"nothing was given", 2'),
        ("training/loop.py", "def report(x):\n    print(x)", "def report(y):\n    return y"),
        ("training/loop.py", "import os", "import os\nimport sys"),
        ("training/loop.py", "loss as measure", "loss as m"),
        ("training/loss.py", "return 1", "return 2"),
        ("models/heads.py", "def b(x):\n    return x", "def b(x):\n    return -x"),
        ("models/heads.py", "'b': b}", "'b': b, 'c': b}"),
        ("errors.py", "pass", "code = 1"),
    ],
)
def test_what_is_not_computed_does_not_count(package: Path, edited: Edit, file: str, before: str, after: str) -> None:
    first = sliced(package)
    if "as m" in after:
        edited(file, "measure(net", "m(net")
    assert edited(file, before, after).sha256 == first.sha256


@pytest.mark.parametrize(
    ("file", "before", "after", "named"),
    [
        ("training/loop.py", "FACTOR = 2", "FACTOR = 3", "setr/training/loop.py (FACTOR)"),
        ("training/loop.py", "x is None", "x is not None", "setr/training/loop.py (train)"),
        ("training/loss.py", "return x", "return -x", "setr/training/loss.py (loss)"),
        ("training/loss.py", "def loss", "SIDE.append(1)\n\n\ndef loss", "setr/training/loss.py (<module>)"),
        ("models/heads.py", "def a(x):\n    return x", "def a(x):\n    return -x", "setr/models/heads.py (a)"),
        ("models/heads.py", "'a': a", "'a': b", "setr/models/heads.py (HEADS, a, b)"),
        ("data/reader.py", "return 1", "return 2", "setr/data/reader.py (helper)"),
    ],
)
def test_what_is_computed_counts_and_is_named(
    package: Path, edited: Edit, file: str, before: str, after: str, named: str
) -> None:
    first = sliced(package)
    after_edit = edited(file, before, after)
    assert after_edit.sha256 != first.sha256
    assert differing_modules(first.modules, after_edit.modules) == [named]


def test_a_definition_may_move_to_another_module(package: Path) -> None:
    first = sliced(package)
    (package / "training/loss.py").write_text("from setr.training.moved import loss\n")
    (package / "training/moved.py").write_text("def loss(y):\n    return y\n".replace("y", "x"))
    assert sliced(package).sha256 == first.sha256


def test_two_definitions_of_one_name_are_told_apart(package: Path) -> None:
    (package / "models/heads.py").write_text(
        "from setr.training.loss import loss\n\n\ndef a(x):\n    return loss(x)\n\n\nHEADS = {'a': a}\n"
    )
    (package / "data/reader.py").write_text(
        "class Reader:\n    def get(self):\n        return loss(self)\n\n\ndef loss(x):\n    return 5\n"
    )
    first = sliced(package)
    (package / "models/heads.py").write_text(
        "from setr.data.reader import loss\n\n\ndef a(x):\n    return loss(x)\n\n\nHEADS = {'a': a}\n"
    )
    assert sliced(package).sha256 != first.sha256


def test_a_root_that_is_not_there_is_named(package: Path) -> None:
    with pytest.raises(InputError, match=r"setr\.training\.loop:trian"):
        code_slice(["setr.training.loop:trian"], package=package)


def parts_of(variant: str) -> frozenset[str]:
    crop = (769, 769) if variant.startswith("fcn") else (768, 768)
    return structure_parts(structure_record(variant_spec(variant, num_classes=19, crop_size=crop)))


def test_each_model_runs_through_its_own_decoder() -> None:
    decoders = {"UpHead", "MLAHead", "FCNHead", "SemanticFPNHead"}
    found = {
        variant: {name for _, name in training_code(parts_of(variant)).definitions} & decoders for variant in VARIANTS
    }
    assert found["setr-pup"] == {"UpHead"}
    assert found["setr-mla"] == {"MLAHead", "UpHead"}  # its auxiliary heads
    assert found["fcn"] == {"FCNHead"}
    assert found["semantic-fpn"] == {"SemanticFPNHead"}


@pytest.mark.parametrize("variant", ["setr-pup", "hybrid-base", "fcn", "semantic-fpn"])
def test_what_computes_is_in_the_slice_and_what_tells_is_not(variant: str) -> None:
    definitions = {":".join(place) for place in training_code(parts_of(variant)).definitions}
    for place in (
        "setr.training.step:train_step",
        "setr.training.loss:segmentation_loss",
        "setr.training.optim:learning_rate",
        "setr.training.gradients:GradientSum",
        "setr.training.batch_norm:SharedBatchNorm",
        "setr.training.ema:MovingAverage",
        "setr.data.loading.loader:sample_order",
        "setr.data.loading.transforms:augment",
        "setr.data.loading.photometric:distort",
        "setr.data.loading.photometric_batch:distort_batch",
        "setr.data.loading.resampling:image_window",
        "setr.data.shards:Shards",
        "setr.data.row_bytes:unpack_image",
        "setr.models.segmenter:Segmenter",
    ):
        assert place in definitions
    modules = {place.partition(":")[0] for place in definitions}
    for module in code.NOT_FOLLOWED:
        assert not any(name == module or name.startswith(module + ".") for name in modules)
    assert not any(
        name.startswith(("setr.evaluation", "setr.models.weights", "setr.models.variants")) for name in modules
    )


def test_scoring_has_a_code_of_its_own() -> None:
    assert scoring_code() == code_slice(code.SCORING).sha256
    names = {":".join(place) for place in code_slice(code.SCORING).definitions}
    assert {"setr.evaluation.metrics:scores", "setr.evaluation.inference:predict_sampled"} <= names
    assert not any(name.startswith("setr.training") for name in names)


OWN = '''"""A head."""

import math
from torch import nn
from setr.models.decoders.blocks import ChannelNorm

WIDTH = 2


def helper(x, factor=WIDTH):
    """Said."""
    if x is None:
        raise ValueError("nothing given")
    result = x * factor
    return result


def other(x):
    return x


class Part(nn.Module):
    def forward(self, x):
        return math.sqrt(2) * x


class Head(nn.Module):
    """The head."""

    def __init__(self, channels_in, num_classes):
        super().__init__()
        self.norm, self.part = ChannelNorm(channels_in[0]), Part()

    def forward(self, features, image_size):
        return helper(self.part(self.norm(features[0])))
'''
PARTS = frozenset({"SegmenterSpec", "EncoderSize", "OwnHeadSpec"})


def own_code(text: str = OWN, source: str = "mine.py:Head") -> Slice:
    return training_code(PARTS, {source: text})


def test_a_users_own_file_counts_with_what_its_class_reaches_there_and_here() -> None:
    found = own_code()
    assert set(found.modules["mine.py"]) == {"Head", "Part", "WIDTH", "helper"}
    definitions = {":".join(place) for place in found.definitions}
    assert {
        "setr.models.decoders.blocks:ChannelNorm",
        "setr.models.own_head:OwnHeadSpec",
        "setr.models.segmenter:seeded_own_segmenter",
        "setr.models.segmenter:initialised_but_own",
    } <= definitions
    assert not any("own_code" in place for place in definitions)
    assert set(own_code(OWN, "lab.heads:Head").modules) >= {"lab/heads.py"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""A head."""', '"""Another text."""\n# and a comment'),
        ('    """Said."""\n', ""),
        ('"nothing given"', 'f"nothing given: {x}"'),
        ("    result = x * factor\n    return result", "    y = x * factor\n    return y"),
        ("def other(x):\n    return x", "def other(x):\n    return -x"),
        ("import math", "import math\nimport json"),
        ("self, channels_in, num_classes", "self, channels_in: tuple, num_classes: int"),
    ],
)
def test_wording_of_a_users_own_file_does_not_count(before: str, after: str) -> None:
    assert before in OWN
    assert own_code(OWN.replace(before, after, 1)).sha256 == own_code().sha256


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("WIDTH = 2", "WIDTH = 3", "mine.py (WIDTH)"),
        ("x * factor", "x + factor", "mine.py (helper)"),
        ("math.sqrt(2)", "math.sqrt(3)", "mine.py (Part)"),
        ("import math\n", "import cmath as math\n", "mine.py (Part)"),
        ("features[0]", "features[-1]", "mine.py (Head)"),
        ("WIDTH = 2", "import torch\nWIDTH = 2\ntorch.set_num_threads(1)", "mine.py (<module>)"),
    ],
)
def test_what_a_users_own_file_computes_counts_and_is_named(before: str, after: str, named: str) -> None:
    assert before in OWN
    changed = own_code(OWN.replace(before, after, 1))
    assert changed.sha256 != own_code().sha256
    assert differing_modules(own_code().modules, changed.modules) == [named]


def test_a_users_own_file_touches_no_other_experiment() -> None:
    without = training_code(parts_of("setr-pup")).sha256
    own_code()
    assert training_code(parts_of("setr-pup")).sha256 == without
    definitions = {name for _, name in training_code(parts_of("setr-pup")).definitions}
    assert not {"OwnHeadSpec", "seeded_own_segmenter", "initialised_but_own"} & definitions


def test_two_users_own_classes_of_one_file_have_one_text() -> None:
    found = training_code(PARTS, {"mine.py:Head": OWN, "mine.py:Part": OWN})
    assert found.sha256 == own_code().sha256  # the other is reached from it anyway
    with pytest.raises(InputError, match=r"E_OWN_CODE.*two texts"):
        training_code(PARTS, {"mine.py:Head": OWN, "mine.py:Part": OWN + "\n"})


def test_code_that_is_no_python_is_named_by_file_and_line(tmp_path: Path) -> None:
    package = tmp_path / "setr"
    package.mkdir()
    (package / "broken.py").write_text("def root():\n    return (1\n\n\nx = = 2\n")
    with pytest.raises(InputError, match=r"E_CODE_SYNTAX \| not Python: .*broken.py:[0-9]+") as caught:
        code_slice(["setr.broken:root"], package=package)
    assert caught.value.exit_status == 2
    assert len(str(caught.value).splitlines()) == 1
