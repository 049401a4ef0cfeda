import json
import math

from setr.record.events import EventReader, Unrepeated, append_event, curves, read_events


def test_events_come_back_in_order_and_a_torn_line_is_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, {"event": "metrics", "step": 1, "loss": 2.0})
    with path.open("ab") as file:
        file.write(b'{"event": "metrics", "st')  # a process killed while it wrote
    append_event(path, {"event": "metrics", "step": 2, "loss": 1.0})
    assert [event["step"] for event in read_events(path)] == [1, 2]


def test_reader_follows_a_growing_file_and_never_gives_half_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert list(reader) == []
    append_event(path, {"event": "start", "step": 0})
    assert [event["event"] for event in reader] == ["start"]
    with path.open("ab") as file:
        file.write(b'{"event": "finished"')
    assert list(reader) == []
    with path.open("ab") as file:
        file.write(b', "step": 3}\n')
    assert [event["step"] for event in reader] == [3]


def test_non_finite_numbers_become_null(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, {"event": "metrics", "step": 1, "loss": math.nan, "per_class_iou": [1.0, math.inf]})
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["per_class_iou"] == [1.0, None]


def test_curves_count_a_repeated_step_once(tmp_path):
    path = tmp_path / "events.jsonl"
    for step in (1, 2, 3, 2, 3, 4):  # killed after 3, resumed from the checkpoint of step 1
        append_event(path, {"event": "metrics", "step": step, "loss": float(step)})
    append_event(path, {"event": "evaluation", "step": 4, "mIoU": 50.0, "per_class_iou": [1, 2], "final": True})
    found = curves(read_events(path))
    assert [(step, value) for step, value, _ in found["loss"]] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert set(found) == {"loss", "val/mIoU"}


def test_a_point_passes_once_in_however_many_portions_events_come():
    first = Unrepeated()
    passed = [
        first({"event": kind, "step": step, "time": float(number), "loss": float(step)})
        for number, (kind, step) in enumerate(
            [("metrics", 1), ("metrics", 2), ("start", 1), ("metrics", 2), ("evaluation", 2), ("metrics", 3)]
        )
    ]
    assert [(event["event"], event["step"]) for event in passed if "loss" in event] == [
        ("metrics", 1),
        ("metrics", 2),
        ("start", 1),
        ("evaluation", 2),
        ("metrics", 3),
    ]
    assert [event["time"] for event in passed] == [0, 1, 2, 3, 4, 5]
    assert "mIoU" in first({"event": "metrics", "step": 2, "time": 6.0, "loss": 9.0, "mIoU": 1.0})
