"""Findings are counted by kind, with the first few places, and the most telling stands first."""

from setr.data.checking.findings import EXAMPLES, Finding, Findings
from setr.errors import InputError


def test_one_kind_is_counted_and_keeps_its_first_places() -> None:
    found = Findings()
    for number in range(7):
        found.add("E_SIZE", "error", "another size", [f"image {number}", "beside it"])
    [one] = found.ordered()
    assert one.count == 7
    assert one.examples == ("image 0", "beside it", "image 1", "beside it", "image 2")
    assert len(one.examples) == EXAMPLES


def test_wording_and_severity_tell_kinds_apart_and_counts_may_come_summed() -> None:
    found = Findings()
    found.add("E_A", "error", "one")
    found.add("E_A", "error", "two", count=40)
    found.add("E_A", "warning", "one")
    found.add("E_A", "error", "one", count=2)
    assert [(one.severity, one.what, one.count) for one in found.ordered()] == [
        ("error", "one", 3),
        ("error", "two", 40),
        ("warning", "one", 1),
    ]


def test_errors_come_first_and_the_wrong_family_before_what_it_explains() -> None:
    found = Findings()
    for code, severity in (
        ("W_B", "warning"),
        ("E_LABEL_VALUE", "error"),
        ("E_LABEL_FAMILY", "error"),
        ("E_Z", "error"),
    ):
        found.add(code, severity, "what")
    assert [one.code for one in found.ordered()] == ["E_LABEL_FAMILY", "E_LABEL_VALUE", "E_Z", "W_B"]


def test_a_raised_error_is_one_of_its_kind_with_its_place() -> None:
    found = Findings()
    for name in ("a.png", "b.png"):
        found.add_error(InputError("E_IMAGE", "cut short", where=name, found="10 bytes"))
    [one] = found.ordered()
    assert (one.code, one.severity, one.what, one.count) == ("E_IMAGE", "error", "cut short", 2)
    assert ["a.png" in one.examples[0], "b.png" in one.examples[1]] == [True, True]
    assert all("10 bytes" in example for example in one.examples)


def test_a_line_names_how_often_and_where() -> None:
    assert Finding("E_A", "error", "cut short", 3, ("a", "b")).line() == "ERROR E_A (3x) cut short | a; b"
    assert Finding("W_B", "warning", "small").line() == "WARNING W_B (1x) small"
