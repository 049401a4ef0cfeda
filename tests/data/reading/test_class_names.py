"""Class names from the settings and from files, and the files of other programs."""

from pathlib import Path

import pytest

from setr.data.reading.class_names import class_names
from setr.errors import InputError

NAMES = ("Straße", "Bäume", "car")
LINES = "\n".join(NAMES) + "\n"


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_in_utf8_is_read(tmp_path: Path, code: str, ending: str) -> None:
    (tmp_path / "classes.txt").write_bytes(LINES.replace("\n", ending).encode(code))
    assert class_names([str(tmp_path / "classes.txt")]) == NAMES


@pytest.mark.parametrize("code", ["latin-1", "cp1252", "mac-roman", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_code_is_refused(tmp_path: Path, code: str) -> None:
    (tmp_path / "classes.txt").write_bytes(LINES.encode(code))
    with pytest.raises(InputError, match=r"^E_CLASSES.*classes\.txt.*UTF-8"):
        class_names([str(tmp_path / "classes.txt")])


@pytest.mark.parametrize("name", ["Stra\N{REPLACEMENT CHARACTER}e", "a\0b", "a\x1bb"])
def test_a_name_that_lost_a_letter_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^E_CLASSES.*lost"):
        class_names([name, "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# label:color_rgb:parts:actions\nroad:128,64,128::\n", "a comment"),
        ("road:128,64,128::\ncar:0,0,142::\n", "names with colours"),
        ("road 128 64 128\ncar 0 0 142\n", "names with colours"),
        ("1 road\n2 car\n", "names with numbers"),
        ("0: road\n1: car\n", "names with numbers"),
        ("__ignore__\n_background_\nroad\n", "__ignore__ is no class"),
        ("road, car, tree\n", "one name"),
    ],
)
def test_the_lists_of_other_programs_never_shift_a_class(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(InputError, match=rf"^E_CLASSES.*{message}"):
        class_names([str(tmp_path / "labels.txt")])


@pytest.mark.parametrize("name", ["_classes.csv", "meta.json", "data.yaml", "classes.xml"])
def test_the_name_of_another_file_is_no_class(name: str) -> None:
    with pytest.raises(InputError, match=r"^E_CLASSES.*\.txt file"):
        class_names([name])


def test_names_with_digits_and_signs_are_names() -> None:
    assert class_names(["lane 1", "tree, tall", "2"]) == ("lane 1", "tree, tall", "2")
