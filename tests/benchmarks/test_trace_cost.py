"""The benchmark counts what the trace really takes, and leaves the writer as it was."""

import dataclasses
import time

import pytest

from benchmarks.trace_cost import measure
from setr.study.recipes import Recipe
from setr.training.trace_writer import TraceWriter

TINY = Recipe(
    iterations=4, checkpoint_every=2, evaluate_every=4, batch_size=1, crop_size=(32, 32), base_size=None,
    ratio_range=(1.0, 1.0),
)  # fmt: skip


def test_the_trace_s_seconds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = measure(TINY, images=2)
    assert 0 < cost.trace_seconds < cost.cpu_seconds
    assert cost.steps == 4
    assert cost.size_bytes > 4 * 56
    real = TraceWriter.add

    def slow(self: TraceWriter, *arguments: object) -> None:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TraceWriter, "add", slow)
    before = TraceWriter.__dict__["begin"]
    slowed = measure(dataclasses.replace(TINY, iterations=2), images=2)
    assert slowed.trace_seconds > 0.2
    assert TraceWriter.add is slow
    assert TraceWriter.__dict__["begin"] is before
