"""Edits of the real modules, and the hashes of the code that experiments run through: which change, which do not."""

from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.identity.edits.changes import EARLY, SUBJECTS, Point, candidates, changed, points
from benchmarks.identity.edits.clock import with_clock
from benchmarks.identity.edits.editing import Sources, module_of
from benchmarks.identity.edits.rewordings import KINDS, rewordings
from benchmarks.identity.workshop import copy_project, edited_project
from setr.study.code import RECORDS, SCORING, TRAINING, code_slice

PARTS = frozenset({"SegmenterSpec", "EncoderSize", "ResNetSpec", "UpHeadSpec", "MLASpec", "FCNHeadSpec"})
# What another definition is made of, or what was followed by its annotation, is seen: a replay shows the rest.
SEEN = {"function split", "annotations stripped"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("plain") / "project")


def hashes(project: Path) -> list[str]:
    return [code_slice(roots, PARTS, project / "setr").sha256 for roots in (TRAINING, SCORING)]


def computing(project: Path) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for roots in (TRAINING, SCORING):
        for file, names in code_slice(roots, PARTS, project / "setr").modules.items():
            found[file].update(names)
    return {file: sorted(names) for file, names in sorted(found.items())}


def test_rewordings_change_no_hash(plain: Path, tmp_path: Path) -> None:
    edits = rewordings(Sources(plain), computing(plain), seed=1, count=len(KINDS))
    assert {edit.kind for edit in edits} == set(KINDS)
    before = hashes(plain)
    for number, edit in enumerate(edits):
        for file, text in edit.files.items():
            if file.endswith(".py"):
                compile(text, file, "exec")
        same = hashes(edited_project(plain, tmp_path / str(number), edit.files)) == before
        assert same or edit.kind in SEEN or edit.name.endswith("asked for in each step"), edit.name


def test_a_new_decoder_is_code_of_its_own_experiments_alone(plain: Path, tmp_path: Path) -> None:
    [edit] = [
        edit for edit in rewordings(Sources(plain), computing(plain), 1, len(KINDS)) if edit.kind == "new decoder"
    ]
    [file] = [file for file in edit.files if not (plain / file).exists()]
    one = edited_project(plain, tmp_path / "one", edit.files)
    other = edited_project(plain, tmp_path / "other", {**edit.files, file: edit.files[file].replace("2 *", "3 *")})
    spec = next(word for word in edit.files[file].split("class ")[1].split("(") if word.endswith("Spec"))
    for kinds, same in ((PARTS, True), (PARTS | {spec}, False)):
        slices = [code_slice(TRAINING, kinds, project / "setr") for project in (one, other)]
        assert (slices[0].sha256 == slices[1].sha256) == same
        assert any(name == spec for _, name in slices[0].definitions) != same


def test_a_split_function_is_other_code(plain: Path, tmp_path: Path) -> None:
    own = {file: names for file, names in computing(plain).items() if file == "setr/training/loss.py"}
    sources, before = Sources(plain), hashes(plain)
    edits = [edit for edit in rewordings(sources, own, seed=0, count=len(KINDS)) if edit.kind == "function split"]
    assert hashes(edited_project(plain, tmp_path / "split", edits[0].files)) != before


def test_every_change_of_what_is_computed_changes_a_hash(plain: Path, tmp_path: Path) -> None:
    """The first 60 of the list that lie in code: the hash of their own definition, which is in that of the whole."""
    project = edited_project(plain, tmp_path / "base", with_clock(Sources(plain)).files)
    sources, code = Sources(project), computing(project)
    every = {file: range(1, 1 + len(sources.text(file).splitlines())) for file in sources.files("setr")}
    found = [point for point in points(sources, code, every, every) if point.definition in code.get(point.file, ())]
    records = tuple(name.replace(".", "/") for name in RECORDS)  # their values enter
    found = [point for point in found if not point.file.startswith(records)]

    def own_hash(at: Path, point: Point) -> str:
        place = (module_of(point.file), point.definition)
        return code_slice([":".join(place)], PARTS, at / "setr").definitions[place]

    places = candidates(found, seed=2)
    assert len(places) == 60
    for number, (_, entries) in enumerate(places):
        for when, point in entries[:1]:
            there = edited_project(project, tmp_path / str(number), changed(sources, when, point).files)
            assert own_hash(there, point) != own_hash(project, point), str(point)


def test_there_is_a_change_of_every_subject(plain: Path) -> None:
    sources = Sources(plain)
    every = {file: range(1, 1 + len(sources.text(file).splitlines())) for file in sources.files("setr")}
    found = points(sources, computing(plain), every, every)
    places = candidates(found, seed=0)
    assert {subject for subject, _ in places if subject} == set(SUBJECTS)
    assert len(places) == 60
    assert sum(entries[0][0] == EARLY for _, entries in places) == 30
    drawn = [point.key for _, entries in places for _, point in entries]
    assert len(set(drawn)) == len(drawn)
    assert [str(point) for _, entries in candidates(found, seed=0) for _, point in entries] == [
        str(point) for _, entries in places for _, point in entries
    ]
