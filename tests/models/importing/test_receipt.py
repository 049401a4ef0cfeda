"""A receipt accounts for every tensor once, also where several files filled one model."""

import json

from setr.models.importing.receipt import STATUSES, Receipt, TensorEntry, joined


def receipt(name: str, *entries: TensorEntry, placeholders: tuple[str, ...] = ()) -> Receipt:
    return Receipt(
        source=name,
        path=f"/{name}",
        sha256=name * 3,
        size_bytes=len(name),
        opened_with="safetensors",
        format="timm",
        settings={"from": name},
        tensors=entries,
        spec={"variant": name},
        placeholders=placeholders,
    )


ONE = receipt(
    "a",
    TensorEntry("mapped", "encoder.x", "x", (2,)),
    TensorEntry("unused", key="old", shape=(3,), detail="nobody's"),
    TensorEntry("missing", "encoder.y", shape=(4,), detail="not in the file"),
    TensorEntry("missing", "head.z", shape=(5,), detail="not in the file"),
    placeholders=("B", "A"),
)
TWO = receipt(
    "bb",
    TensorEntry("missing", "encoder.x", shape=(2,), detail="not in the file"),
    TensorEntry("resized", "encoder.y", "y", (4,), "2x2 to 3x3"),
    TensorEntry("missing", "head.z", shape=(5,), detail="not in the file"),
    placeholders=("A",),
)


def test_every_status_is_counted_and_its_entries_stand_in_order() -> None:
    assert ONE.counts() == dict.fromkeys(STATUSES, 0) | {"mapped": 1, "unused": 1, "missing": 2}
    assert [entry.parameter for entry in ONE.with_status("missing")] == ["encoder.y", "head.z"]


def test_rows_are_grouped_by_status_and_reason() -> None:
    assert ONE.rows() == [
        ("mapped", 1, "encoder.x"),
        ("unused", 1, "nobody's"),
        ("missing", 2, "not in the file"),
    ]
    several = receipt("c", *(TensorEntry("mapped", f"p{number}", "k") for number in range(3)))
    assert several.rows() == [("mapped", 3, "p0 ... p2")]


def test_it_is_plain_values() -> None:
    written = json.loads(json.dumps(ONE.as_dict()))
    assert written["tensors"][0] == {
        "status": "mapped", "parameter": "encoder.x", "key": "x", "shape": [2], "detail": "",
    }  # fmt: skip
    assert written["placeholders"] == ["B", "A"]
    assert written["counts"] == ONE.counts()
    assert written["sha256"] == "aaa"


def test_two_files_fill_one_model() -> None:
    whole = joined([ONE, TWO])
    assert (whole.source, whole.sha256, whole.size_bytes) == ("a+bb", "aaa+bbbbbb", 3)
    assert whole.settings == {"/a": {"from": "a"}, "/bb": {"from": "bb"}}
    assert whole.placeholders == ("A", "B")
    assert whole.spec == {"variant": "a"}
    filled = [(entry.status, entry.parameter) for entry in whole.tensors if entry.parameter]
    assert filled.count(("missing", "encoder.x")) == 0
    assert filled.count(("missing", "encoder.y")) == 0
    assert ("missing", "head.z") in filled
    assert joined([ONE]) is ONE
