"""A file of a user's own is looked over before anything of it runs; each mistake is one line with its place."""

from pathlib import Path

import pytest

from setr.errors import InputError
from setr.models.own_code import read_source

HEAD = "from torch import nn\n\n\nclass Head(nn.Module):\n    pass\n"


def written(folder: Path, text: str | bytes, name: str = "mine.py") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize("named", ["mine.py:Head", "heads/mine.py:Head", "../mine.py:Head"])
def test_the_source_is_the_files_name_without_its_folders(tmp_path: Path, named: str) -> None:
    base = written(tmp_path / "studies", "")
    written(base, HEAD, named.partition(":")[0])
    found = read_source(named, base)
    assert (found.source, found.text) == ("mine.py:Head", HEAD)


def test_a_file_of_an_editor_that_marks_utf_8_is_read(tmp_path: Path) -> None:
    assert read_source("mine.py:Head", written(tmp_path, b"\xef\xbb\xbf" + HEAD.encode())).text == HEAD


def test_an_installed_module_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    written(tmp_path, f"open({str(canary)!r}, 'w')\n", "lab_of_mine/__init__.py")
    written(tmp_path, HEAD, "lab_of_mine/heads.py")
    monkeypatch.syspath_prepend(tmp_path)
    found = read_source("lab_of_mine.heads:Head", Path("elsewhere"))
    assert (found.source, found.text) == ("lab_of_mine.heads:Head", HEAD)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("named", "text", "said"),
    [
        ("mine.py:Head", None, r"no such file \| .*mine\.py"),
        ("mine.py:Head", b"# \xff\n", r"not UTF-8 \| .*mine\.py, line 1"),
        ("mine.py:Head", "x = 1\ndef f(:\n", r"no Python \| .*mine\.py, line 2"),
        ("mine.py:Head", "x = '\0'\n", r"no Python"),
        ("mine.py:Haed", HEAD, r"no class Haed in the file \| .*did you mean Head"),
        ("mine.py:Head", "def Head():\n    pass\n", r"not a class of torch\.nn\.Module \| .*line 1"),
        ("mine.py:Head", "class Head:\n    pass\n", r"not a class of torch\.nn\.Module \| .*line 1"),
        ("mine.py:Head", f"import os\nimport beside\n{HEAD}", r"imports another one \| .*line 2 \| found beside"),
        ("mine.py:Head", f"from parts.more import x\n{HEAD}", r"imports another one \| .*line 1 \| found parts"),
        ("mine.py:Head", f"from . import x\n{HEAD}", r"imports another one \| .*line 1 \| found a relative import"),
        ("mine.py:Head", f"{HEAD}    def f(self):\n        import beside\n", r"imports another one \| .*line 7"),
        ("mine.py:Head", f"from setr.models.decoders.blocks import *\n{HEAD}", r"imports everything \| .*line 1"),
        ("mine.py", HEAD, r"not the name of a class"),
        ("my.own.py:Head", HEAD, r"not the name of a class"),
        ("setr.py:Head", HEAD, r"not the name of a class"),
        ("mine.py:a b", HEAD, r"not the name of a class"),
        ("no_such_package_here.heads:Head", HEAD, r"no such module"),
        ("json.no_such:Head", HEAD, r"no such module"),
        ("../:Head", HEAD, r"not the name of a class"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, named: str, text: str | bytes | None, said: str) -> None:
    written(tmp_path, "", "beside.py")
    written(tmp_path, "", "parts/more.py")
    if text is not None:
        written(tmp_path, text)
    with pytest.raises(InputError, match=rf"^E_OWN_CODE \| .*{said}") as refused:
        read_source(named, tmp_path)
    assert "\n" not in str(refused.value)


def test_what_lies_beside_and_is_imported_from_this_project_or_python_is_no_sibling(tmp_path: Path) -> None:
    written(tmp_path, "", "setr/anything.py")
    written(tmp_path, "", "math.py")
    text = f"import math\nfrom setr.models.decoders.blocks import ChannelNorm\n{HEAD}"
    assert read_source("mine.py:Head", written(tmp_path, text)).text == text
