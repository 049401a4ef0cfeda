from pathlib import Path

import pytest

from setr.errors import InputError
from setr.study.cells import cells
from setr.study.shelf import open_study
from setr.study.starting import Answers, new_study


def test_what_a_new_study_says_is_a_study(tmp_path: Path) -> None:
    path = tmp_path / "first.yaml"
    path.write_text(new_study(Answers('A "first" one: decoders', data="damage", models=("pup", "other=mla"))))
    study = open_study(str(path))
    assert study.title == 'A "first" one: decoders'
    assert [cell.key for cell in cells(study=study)] == [
        f"first/main/{row}/{column}" for row in ("pup", "other") for column in ("low", "high")
    ]
    assert study.models["other"].decoder == "mla"


def test_a_model_needs_a_name() -> None:
    with pytest.raises(InputError, match="not a model"):
        new_study(Answers("x", models=("=pup",)))
