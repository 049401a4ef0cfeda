"""What a folder says that it trains: a damaged record is written again, one of something else is refused."""

import json
from pathlib import Path

import pytest

from setr.errors import InputError
from setr.files.atomic import read_json
from setr.record.files import IDENTITY
from setr.training import resume

ORIGIN = {"identity": "a" * 64, "experiment": {"seed": 0}, "environment": {"torch": "2"}}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": 1}',
        json.dumps({**ORIGIN, "identity": 1}),
        json.dumps({**ORIGIN, "experiment": []}),
        json.dumps({**ORIGIN, "environment": None}),
        json.dumps({**ORIGIN, "identities": [1]}),
        json.dumps({**ORIGIN, "identities": "a"}),
        "[1]",
        "null",
        "",
        "[" * 100_000,
        "1" * 5000,
    ],
)
def test_a_damaged_record_is_written_again(tmp_path: Path, text: str) -> None:
    (tmp_path / IDENTITY).write_text(text)
    assert resume._agree(tmp_path, ORIGIN, 10, False, [], None) == [ORIGIN["identity"]]
    assert read_json(tmp_path / IDENTITY) == {**ORIGIN, "identities": [ORIGIN["identity"]]}


def test_a_whole_record_of_something_else_is_kept_and_refused(tmp_path: Path) -> None:
    other = {**ORIGIN, "identity": "b" * 64, "experiment": {"seed": 1}}
    (tmp_path / IDENTITY).write_text(json.dumps(other))
    (tmp_path / "step-00000004").mkdir()
    with pytest.raises(InputError, match=r"E_DRIFT.*seed: 1 -> 0"):
        resume._agree(tmp_path, ORIGIN, 10, False, [], None)
    assert read_json(tmp_path / IDENTITY) == other
