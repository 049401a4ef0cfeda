"""The forecast of a running sweep, by hand."""

import io

from pipelines.terminal.progress import Board, BoardRow, SweepProgress


def board() -> Board:
    rows = {
        "a": BoardRow("a", 100, seconds=50.0, tables=(2,)),
        "b": BoardRow("b", 100, seconds=50.0, tables=(2, 6)),
        "c": BoardRow("c", 200, seconds=100.0, tables=(6,)),
    }
    return Board(rows, begun=1000.0, slots=1)


def test_tables_end_at_the_measured_pace() -> None:
    given = board()
    assert given.table_ends(now=1000.0) == {}  # nothing to tell yet
    given.apply("a", {"event": "start", "step": 0, "time": 1000.0})
    given.apply("a", {"event": "metrics", "step": 50, "time": 1050.0, "images_per_second": 4.0})
    # twice as slow as planned: 50 s for the other half of a, then 100 s for b, then 200 s for c
    assert given.table_ends(now=1050.0) == {2: 150.0, 6: 350.0}
    assert given.speed() == 4.0
    given.slots = 2
    assert given.table_ends(now=1050.0) == {2: 100.0, 6: 250.0}


def test_a_table_is_complete_with_its_last_experiment_and_not_with_a_failed_one() -> None:
    given = board()
    for name, start in (("a", 1000.0), ("b", 1100.0)):
        given.apply(name, {"event": "start", "step": 0, "time": start})
        given.apply(name, {"event": "metrics", "step": 100, "time": start + 100})
        given.apply(name, {"event": "finished", "step": 100, "time": start + 100})
    ends = given.table_ends(now=1200.0)
    assert ends == {2: 0.0, 6: 200.0}
    assert "Table 2 complete, Table 6 complete:" in given.forecast()
    given.apply("c", {"event": "failed", "step": 0, "cause": "x"})
    assert "Table 6" not in given.forecast()


def test_plain_lines_tell_it_rarely() -> None:
    stream = io.StringIO()
    given = board()
    with SweepProgress(given, stream) as shown:
        shown.update([("a", {"event": "start", "step": 0, "time": 1000.0})])
        for step in (10, 20, 30):
            shown.last_line = -100.0  # as if the pause between lines had passed
            shown.update([("a", {"event": "metrics", "step": step, "time": 1000.0 + step})])
        assert "complete" not in stream.getvalue()
        shown.last_line = shown.last_forecast = -1000.0
        shown.update([("a", {"event": "metrics", "step": 40, "time": 1040.0})])
    assert stream.getvalue().count("Table 2 complete:") == 1
