import time

import pytest

from setr.training import watchdog
from setr.training.watchdog import CHECKPOINT, DATA, EVALUATION, STEP, Limits, Sections, limit_seconds, watched


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
