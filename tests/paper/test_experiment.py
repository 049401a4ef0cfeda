import dataclasses
from pathlib import Path

import pytest

from setr.errors import InputError
from setr.paper import experiment as module
from setr.paper.experiment import Experiment, canonical_json, code_hash, import_closure
from setr.paper.recipes import Recipe, recipe


@pytest.fixture
def pup() -> Experiment:
    return Experiment("cityscapes", "setr-pup", "80k", "paper", 0, recipe("cityscapes", "pup", "80k"), "m", "w", "c")


def test_identity_is_pinned(pup: Experiment) -> None:
    # Another value here means that every experiment of every user trains again: change it on purpose only.
    assert pup.identity == "99aecf6fbeff7960377b971f09950c2c0b6cd10747e4013e59f82862ef17fb80"
    assert pup.identity == dataclasses.replace(pup).identity


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Experiment) if field.name != "recipe"])
def test_every_field_decides_the_identity(pup: Experiment, field: str) -> None:
    other = dataclasses.replace(pup, **{field: 7 if field == "seed" else "other"})
    assert other.identity != pup.identity


def test_without_a_transform_of_ones_own_the_record_has_none(pup: Experiment) -> None:
    assert "transform" not in pup.as_dict()
    own = dataclasses.replace(pup, transform="mine:f#sha256:00")
    assert Experiment.from_dict(own.as_dict()) == own


OTHER_WORDS = {
    "flavour": "mmseg",
    "optimizer": "adamw",
    "poly_end": "iterations_minus_one",
    "loss_denominator": "valid",
    "class_weights": "inverse_sqrt",
    "precision": "bfloat16",
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Recipe)])
def test_every_recipe_field_decides_the_identity(pup: Experiment, field: str) -> None:
    value = getattr(pup.recipe, field)
    if isinstance(value, tuple):
        other: object = tuple(item + 1 for item in value)
    else:
        other = OTHER_WORDS[field] if field in OTHER_WORDS else not value if isinstance(value, bool) else value + 1
    changed = dataclasses.replace(pup, recipe=dataclasses.replace(pup.recipe, **{field: other}))
    assert changed.identity != pup.identity


def test_record_reads_back(pup: Experiment) -> None:
    assert Experiment.from_dict(pup.as_dict()) == pup
    assert canonical_json(pup.as_dict()) == canonical_json(Experiment.from_dict(pup.as_dict()).as_dict())


@pytest.mark.parametrize("record", [{}, {"dataset": "a"}, {"recipe": {"speed": 1}}])
def test_damaged_record_is_refused(record: dict) -> None:
    with pytest.raises(InputError, match="E_EXPERIMENT"):
        Experiment.from_dict(record)


def test_canonical_json_has_one_text_and_no_nan() -> None:
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `setr` of four modules: loop imports model (lazily: loss), report is not imported."""
    root = tmp_path / "setr"
    for name, text in {
        "training/loop.py": '"""Doc."""\nfrom setr.models import net\nimport setr.errors\nimport os\n\n\ndef f(x):\n'
        '    """Doc."""\n    from .loss import g\n\n    return g(net.h(x))\n',
        "training/loss.py": "def g(x):\n    return x  # same\n",
        "models/net.py": "from setr.paper.tables import t\n\nh = abs\n",
        "errors.py": "e = 1\n",
        "paper/tables.py": "t = 1\n",
        "reporting/site.py": "s = 1\n",
        "__init__.py": "",
        "training/__init__.py": "",
        "models/__init__.py": "",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(module, "_PACKAGE", root)
    return root


def hash_again() -> str:
    module._code_hash.cache_clear()
    module._parsed.cache_clear()
    return code_hash(["setr.training.loop"])


def test_closure_follows_every_import_within_the_package(package: Path) -> None:
    assert import_closure(["setr.training.loop"], package) == (
        "setr.models",
        "setr.models.net",
        "setr.training.loop",
        "setr.training.loss",
    )


def test_comments_docstrings_and_format_do_not_count(package: Path) -> None:
    before = hash_again()
    (package / "training/loss.py").write_text('"""Now with a text."""\n\n\ndef g(\n    x,\n):\n    return (x)\n')
    assert hash_again() == before


def test_what_is_computed_counts(package: Path) -> None:
    before = hash_again()
    (package / "training/loss.py").write_text("def g(x):\n    return -x\n")
    assert hash_again() != before


def test_modules_outside_the_closure_do_not_count(package: Path) -> None:
    before = hash_again()
    for name in ("errors.py", "paper/tables.py", "reporting/site.py"):
        (package / name).write_text("changed = 2\n")
    assert hash_again() == before


def test_a_string_that_is_no_docstring_counts(package: Path) -> None:
    before = hash_again()
    (package / "models/net.py").write_text("h = abs\nname = 'a'\n")
    first = hash_again()
    (package / "models/net.py").write_text("h = abs\nname = None\n")
    assert len({before, first, hash_again()}) == 3


def test_missing_module_is_named(package: Path) -> None:
    with pytest.raises(InputError, match=r"setr\.training\.lop"):
        code_hash(["setr.training.lop"])


def test_hash_of_this_project_is_quick_and_stable() -> None:
    assert code_hash(["setr.training.loss"]) == code_hash(("setr.training.loss", "setr.training.loss"))
    assert "setr.training.watchdog" not in import_closure(["setr.training.loop"])
