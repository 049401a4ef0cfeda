"""The tests lie where what they test lies, and share what they share in one way."""

import re
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))
ABOVE = ("setr", "pipelines", "benchmarks", "infra")  # those of setr lie without its name


def mirrored(folder: Path) -> Path:
    """Returns the folder whose tests a folder holds."""
    parts = folder.relative_to(ROOT / "tests").parts
    return ROOT.joinpath(*parts) if parts[:1] and parts[0] in ABOVE else ROOT.joinpath("setr", *parts)


def test_every_folder_of_tests_is_a_folder_of_what_they_test() -> None:
    folders = {file.parent for file in FILES if file.name.startswith("test_")} - {ROOT / "tests"}
    assert len(folders) > 20
    assert sorted(folder for folder in folders if not mirrored(folder).is_dir()) == []


def test_a_room_of_its_own_name_is_not_passed_over() -> None:
    """A file that is named as a module of another room lies in that room."""
    rooms: dict[str, set[Path]] = {}
    for above in ("setr", "pipelines"):
        for module in (ROOT / above).rglob("*.py"):
            rooms.setdefault(f"test_{module.name}", set()).add(module.parent)
    elsewhere = (ROOT / "benchmarks", ROOT / "infra")
    found = {file: mirrored(file.parent) for file in FILES if file.name in rooms and file.parent != ROOT / "tests"}
    astray = [file for file, room in found.items() if room not in rooms[file.name]]
    assert [file for file in astray if not any(map(found[file].is_relative_to, elsewhere))] == []


@pytest.mark.parametrize(
    ("what", "pattern", "places"),
    [
        ("a path is added", r"(?m)^\s*sys\.path\.(insert|append)\(", set()),
        ("variables are left out", r"\.startswith\(\(?\"(MLFLOW|RAY|SETR)_", set()),
        ("where the project is", r"Path\(__file__\)\.resolve\(\)\.parent", {"tests/helpers/environment.py"}),
    ],
)
def test_it_is_done_in_one_place(what: str, pattern: str, places: set[str]) -> None:
    assert {str(file.relative_to(ROOT)) for file in FILES if re.search(pattern, file.read_text())} == places
