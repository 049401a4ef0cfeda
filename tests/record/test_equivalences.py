"""Only a whole, unedited line about the very codes and trace, with all that a proof needs, is a proof."""

import dataclasses
import json
import subprocess
import sys

import pytest

from setr.errors import EnvironmentFailure
from setr.record.equivalences import Verdict, comparisons, is_equivalent, record
from setr.record.files import EQUIVALENCES

TRAINED, CODE, OTHER, TRACE = "a" * 64, "b" * 64, "c" * 64, "d" * 64
EVIDENCE = {
    "trace": TRACE, "iterations": 80, "orders": 80, "rates": 80, "draws": 80, "pixels": 10, "first_steps": 4,
    "checkpoints": {"40": 3}, "images": 8, "differences": [],
}  # fmt: skip
EQUAL = Verdict(equal=True, exact=True, tolerance=0.0, first_difference="", evidence=EVIDENCE)


def asked(folder, code=CODE, trained=TRAINED, trace=TRACE):
    return is_equivalent(folder, trained=trained, code=code, trace_sha256=trace)


def test_a_comparison_that_found_all_equal_is_a_proof(tmp_path):
    assert asked(tmp_path) is None
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    proof = asked(tmp_path)
    assert (proof.trained, proof.code, proof.verdict) == (TRAINED, CODE, EQUAL)
    assert proof.host
    assert proof.time > 1e9
    assert comparisons(tmp_path) == [proof]


@pytest.mark.parametrize("question", [{"code": OTHER}, {"trained": OTHER}, {"trace": OTHER}, {"trace": ""}])
def test_a_comparison_of_something_else_proves_nothing(tmp_path, question):
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    assert asked(tmp_path, **question) is None


def test_codes_are_not_chained(tmp_path):
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    record(tmp_path, trained=CODE, code=OTHER, verdict=EQUAL)
    assert asked(tmp_path, code=OTHER) is None


LACKING = [
    {"trace": OTHER}, {"trace": None}, {"iterations": 0}, {"orders": 79}, {"rates": 79}, {"draws": 0},
    {"first_steps": 3}, {"checkpoints": {}}, {"checkpoints": {"40": 0}}, {"checkpoints": None}, {"images": 0},
    {"orders": True, "rates": True, "iterations": True}, {"images": "8"},
]  # fmt: skip


@pytest.mark.parametrize("lacking", LACKING, ids=json.dumps)
def test_equal_without_all_the_evidence_is_no_proof(tmp_path, lacking):
    evidence = {**EVIDENCE, **lacking}
    record(tmp_path, trained=TRAINED, code=CODE, verdict=dataclasses.replace(EQUAL, evidence=evidence))
    assert len(comparisons(tmp_path)) == 1
    assert asked(tmp_path) is None


@pytest.mark.parametrize(
    "changes",
    [{"equal": False, "first_difference": "loss at step 1"}, {"provable": False}, {"first_difference": "something"}],
)
def test_not_equal_is_written_down_and_proves_nothing(tmp_path, changes):
    verdict = dataclasses.replace(EQUAL, **changes)
    record(tmp_path, trained=TRAINED, code=CODE, verdict=verdict)
    assert [found.verdict for found in comparisons(tmp_path)] == [verdict]
    assert asked(tmp_path) is None


def test_a_training_of_few_steps_needs_no_checkpoint(tmp_path):
    evidence = {**EVIDENCE, "iterations": 3, "orders": 3, "rates": 3, "first_steps": 3, "checkpoints": {}}
    record(tmp_path, trained=TRAINED, code=CODE, verdict=dataclasses.replace(EQUAL, evidence=evidence))
    assert asked(tmp_path)


def edited(line, old, new):
    assert old in line
    return line.replace(old, new)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line[: len(line) // 2] + b"\n",
        lambda line: edited(line, CODE.encode(), OTHER.encode()),
        lambda line: edited(line, b'"images":8', b'"images":9'),
        lambda line: edited(line, b'"schema":1', b'"schema":2'),
        lambda line: edited(line, b'"sha256":"', b'"sha256":"0'),
        lambda line: b"[]\n",
        lambda line: b'"text"\n',
        lambda line: b"\xff\xfe\n",
        lambda line: b"{}\n",
    ],
)
def test_a_line_that_was_cut_or_edited_is_never_accepted(tmp_path, damage):
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    path = tmp_path / EQUIVALENCES
    path.write_bytes(damage(path.read_bytes()))
    for code in (CODE, OTHER):
        assert asked(tmp_path, code=code) is None
    assert comparisons(tmp_path) == []
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)  # a cut line does not swallow the next one
    assert asked(tmp_path) is not None
    assert len(comparisons(tmp_path)) == 1


def test_a_last_line_without_its_end_counts_when_it_is_whole_and_not_before(tmp_path):
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    path = tmp_path / EQUIVALENCES
    path.write_bytes(path.read_bytes()[:-1])
    assert asked(tmp_path) is None
    assert comparisons(tmp_path) == []
    record(tmp_path, trained=TRAINED, code=OTHER, verdict=EQUAL)
    assert [found.code for found in comparisons(tmp_path)] == [CODE, OTHER]


def test_the_newest_proof_counts_and_a_difference_does_not_take_it_back(tmp_path):
    within = dataclasses.replace(EQUAL, exact=False, tolerance=1e-4)
    record(tmp_path, trained=TRAINED, code=CODE, verdict=within)
    assert asked(tmp_path).verdict.exact is False
    record(tmp_path, trained=TRAINED, code=CODE, verdict=EQUAL)
    assert asked(tmp_path).verdict.exact is True


def test_the_footnote_names_what_was_apart():
    assert EQUAL.footnote == ""
    evidence = {**EVIDENCE, "differences": ["threads 2 -> 1"]}
    within = dataclasses.replace(EQUAL, exact=False, tolerance=1e-4, evidence=evidence)
    assert within.footnote == "replayed within a relative 0.0001, not to the bit: threads 2 -> 1"
    assert dataclasses.replace(within, equal=False).footnote == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
        record(tmp_path / "file" / "folder", trained=TRAINED, code=CODE, verdict=EQUAL)


def test_a_plan_reads_proofs_without_torch():
    code = "import sys, setr.record.equivalences; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
