"""The schema that editors check studies by says what the reader says."""

import json
from pathlib import Path

from setr.settings.home import STUDIES
from setr.study.schema import schema

COMMITTED = STUDIES / "study.schema.json"


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    """Made by `python pipelines/study.py schema`."""
    assert json.loads(Path(COMMITTED).read_text(encoding="utf-8")) == schema()


def test_every_word_of_a_study_is_in_it() -> None:
    from setr.study import study_file

    made = schema()["properties"]
    table = made["tables"]["additionalProperties"]["properties"]
    assert set(made) == set(study_file._TOP)
    assert set(table) == set(study_file._TABLE)
    assert set(table["columns"]["additionalProperties"]["properties"]) == set(study_file._COLUMN)
    assert set(table["rows"]["items"]["anyOf"][1]["properties"]) == set(study_file._ROW)
