"""What is said once in the project: where each fact or way stands, and that it stands nowhere else."""

import ast
import re
from collections import Counter

import pytest

from setr.record import files
from tests.helpers.environment import ROOT

FILES = [value for name, value in vars(files).items() if name.isupper() and name != "SCORES"]
# What it is: pattern of the code, and the files that it may stand in.
ONCE = {
    "windows overlap by a third": (r"\* 2 // 3\)", {"setr/study/protocols.py"}),
    "the six ratios": (r"0\.5, 0\.75, 1\.0, 1\.25", {"setr/study/protocols.py"}),
    "a recipe of nobody's": (r"Recipe\(iterations=1000", {"setr/study/miniature.py"}),
    "a size with its aspect kept": (r"min\(max\(\w+\) / max\(size\)", {"setr/data/loading/sizes.py"}),
    "a file's hash": (r"hashlib\.file_digest|sha256\([^()]*\.read_bytes\(\)\)", {"setr/files/hashing.py"}),
    "a lock": (r"fcntl\.flock\(", {"setr/files/locking.py"}),
    "JSON, durably": (r"def write_json\(", {"setr/files/atomic.py"}),
    "a record as plain values": (r"json\.loads\(json\.dumps\((dataclasses\.)?asdict", {"setr/settings/config.py"}),
    "a bar": (r"MofNCompleteColumn\(\)", {"pipelines/terminal/bar.py"}),
    **{f"an experiment's {name}": (rf'[=/(\[] ?"{re.escape(name)}"', {"setr/record/files.py"}) for name in FILES},
    # The other one is the folder of results': scores by cell.
    "an experiment's scores.json": (
        r'[=/(\[] ?"scores\.json"',
        {"setr/record/files.py", "pipelines/tracking/results_folder.py", "pipelines/clean.py"},
    ),
    "an experiment's areas": (r'"areas-\{', {"setr/record/files.py"}),
    "the reading of an experiment's files": (
        r"(json\.loads|read_json|read_text|read_bytes)\(.*\b(EXPERIMENT|EVENTS|IDENTITY|EVALUATIONS|SCORES|PROOF|RUN)\b",
        set(),  # setr.record.reading has it, by the name that it is given
    ),
    "the tag of a checkpoint": (r'"setr\.checkpoint"', {"setr/reporting/numbers/results.py"}),
    "counts of single images": (r'\w\["areas"\]', set()),  # they are read by name
    "what a password looks like": (r"\(\?<=://\)", set()),  # setr.redaction knows
    "a decoder by its name or its kind": (
        r'isinstance\([^()]*, \(?(UpHead|MLA|FCNHead|FPN)\w*\)|startswith\("(setr-|fcn|hybrid)|== "setr-',
        {
            "setr/evaluation/introspection.py",
            "setr/reporting/figures/figure_store.py",
        },  # what is inside MLA; the best of SETR
    ),
}


@pytest.mark.parametrize("what", ONCE)
def test_it_stands_once(what: str) -> None:
    pattern, places = ONCE[what]
    found = {
        str(file.relative_to(ROOT))
        for folder in ("setr", "pipelines")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(pattern, file.read_text())
    }
    assert found == places


def test_the_name_of_a_class_means_one_thing() -> None:
    names = Counter(
        node.name
        for folder in ("setr", "pipelines")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert names["Planned"] == 1
    assert [name for name, count in names.items() if count > 1] == []
