import os
import subprocess
import sys
import time

import pytest

from setr.settings.run import Limits
from setr.training import watchdog
from setr.training.watchdog import CHECKPOINT, DATA, EVALUATION, STEP, Sections, limit_seconds, watched


def test_seconds_go_to_the_section_they_were_spent_in():
    sections = Sections()
    time.sleep(0.02)
    with sections(STEP):
        time.sleep(0.05)
    for _ in sections.waiting(iter([1, 2])):
        with sections(EVALUATION):
            time.sleep(0.01)
    totals = sections.totals()
    assert 0.02 <= totals["setup"] < 0.045
    assert 0.05 <= totals[STEP] < 0.09
    assert 0.02 <= totals[EVALUATION] < 0.06
    assert totals[DATA] < 0.01


def test_a_step_counts_with_the_wait_for_its_batch():
    sections = Sections()

    def slow():
        time.sleep(0.03)
        yield 1

    for _ in sections.waiting(slow()):
        with sections(STEP):
            time.sleep(0.01)
    assert list(sections.steps) == [pytest.approx(0.04, abs=0.02)]


def test_limits_follow_the_steps():
    sections, limits = Sections(), Limits()
    assert limit_seconds(STEP, sections, limits) == limits.setup, "the first steps may compile"
    sections.steps.extend([0.5] * 99)
    assert limit_seconds(STEP, sections, limits) == limit_seconds(DATA, sections, limits) == 30
    sections.steps.extend([8.0] * 99)
    assert limit_seconds(STEP, sections, limits) == 80
    assert limit_seconds(CHECKPOINT, sections, limits) == 900


@pytest.fixture
def ended(monkeypatch):
    """Records what would have ended the process."""
    found = []
    monkeypatch.setattr(watchdog, "_end_process", lambda folder, rank, cause, on_hang: found.append(cause))
    return found


def test_progress_in_time_raises_no_alarm(tmp_path, ended):
    sections = Sections()
    with watched(sections, tmp_path, limits=Limits(setup=0.3), poll_seconds=0.01):
        for _ in range(6):
            time.sleep(0.06)
            with sections(STEP):
                pass
    assert not ended


def test_a_section_over_its_limit_is_named(tmp_path, ended):
    sections = Sections()
    with watched(sections, tmp_path, limits=Limits(checkpoint=0.05), poll_seconds=0.01), sections(CHECKPOINT):
        time.sleep(0.3)
    assert ended[0].startswith("no progress in checkpoint")


def test_time_in_which_the_process_was_suspended_does_not_count(tmp_path, ended, monkeypatch):
    clock = iter([0.0, *[1000.0 * n for n in range(1, 1000)]])
    sections = Sections()
    monkeypatch.setattr(watchdog.time, "perf_counter", lambda: next(clock))
    with watched(sections, tmp_path, limits=Limits(setup=1.0), poll_seconds=0.01):
        time.sleep(0.2)
    assert not ended


HANGS = """
import sys, threading, time
from pathlib import Path
from setr.training import watchdog
from setr.settings.run import Limits
from setr.training.watchdog import STEP, Sections, watched
watchdog.TELL_SECONDS = 0.5
folder, what = Path(sys.argv[1]), sys.argv[2]
def told(cause):
    if what == "whoever is told":
        time.sleep(600)
    (folder / "told").write_text(cause)
time.strftime = lambda form: "now"
sections = Sections()
with watched(sections, folder, rank=1, limits=Limits(setup=0.1), on_hang=told, poll_seconds=0.05):
    time.sleep(600)
"""


@pytest.mark.parametrize("what", ["nothing else", "the storage", "whoever is told", "a folder in the way"])
def test_a_process_that_hangs_ends_though_storage_or_whoever_is_told_hang_too(what, tmp_path):
    stacks = tmp_path / "stacks-rank1-now.txt"
    if what == "the storage":
        os.mkfifo(stacks)  # nobody reads: opening it waits for ever
    elif what == "a folder in the way":
        stacks.mkdir()
    ended = subprocess.run([sys.executable, "-c", HANGS, tmp_path, what], timeout=120)
    assert ended.returncode == watchdog.EXIT_STATUS
    if what in ("nothing else", "whoever is told"):
        assert stacks.read_text().startswith("no progress in setup")
        assert "most recent call first" in stacks.read_text()
    if what != "whoever is told":
        assert (tmp_path / "told").read_text().endswith("stacks in stacks-rank1-now.txt")
