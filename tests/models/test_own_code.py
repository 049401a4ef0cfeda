"""Only allowed texts run, each as what was read: nothing by name, nothing twice, nothing mixed."""

from pathlib import Path

import pytest

from setr.errors import InputError
from setr.models.own_code import OwnCode, allow, allowed, is_allowed, load, opened, text_of

HEAD = "from torch import nn\n\n\nclass Head(nn.Module):\n    number = {number}\n\n\nclass Other(Head):\n    pass\n"


def code(number: int, name: str = "Head", file: str = "mine.py") -> OwnCode:
    return OwnCode(f"{file}:{name}", HEAD.format(number=number))


def test_a_text_runs_within_the_block_that_allows_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    own = OwnCode("mine.py:Head", f"open({str(canary)!r}, 'a').write('x')\n{HEAD.format(number=1)}")
    with pytest.raises(InputError, match=r"E_CODE_NOT_ALLOWED.*mine\.py:Head.*--allow-code"):
        load(own.source)
    assert not canary.exists()
    with allowed([own]):
        kind = load(own.source)
        assert load(own.source) is kind
    assert canary.read_text() == "x"  # it ran once
    assert text_of(kind) == own.text
    with pytest.raises(InputError, match="E_CODE_NOT_ALLOWED"):
        load(own.source)


def test_two_classes_of_a_file_are_of_one_module() -> None:
    with allowed([code(2), code(2, "Other")]):
        assert load("mine.py:Other").__base__ is load("mine.py:Head")


def test_two_texts_of_one_name_do_not_mix() -> None:
    numbers = []
    for number in (3, 4, 3):
        with allowed([code(number)]):
            numbers.append(load("mine.py:Head").number)  # type: ignore[attr-defined]
    assert numbers == [3, 4, 3]


def test_a_name_with_two_texts_for_the_whole_process_is_refused() -> None:
    first, second = code(5, file="twice.py"), code(6, file="twice.py")
    allow(first)
    assert load("twice.py:Head").number == 5  # type: ignore[attr-defined]
    allow(second)
    assert is_allowed(first)
    assert is_allowed(second)
    with pytest.raises(InputError, match=r"E_OWN_CODE.*several files.*twice\.py"):
        load("twice.py:Head")
    with allowed([second]):
        assert load("twice.py:Head").number == 6  # type: ignore[attr-defined]
        assert not is_allowed(first)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import torch\nraise RuntimeError('no')\n",
            r"raises when it is imported: RuntimeError: no \| mine\.py, line 2",
        ),
        ("import no_such_library_here\n", r"ModuleNotFoundError.*mine\.py, line 1"),
        ("import sys\n\nsys.exit(3)\n", r"SystemExit: 3 \| mine\.py, line 3"),
        ("def f(:\n", r"SyntaxError"),
        ("Head = 1\n", r"not a class of torch\.nn\.Module"),
        ("class Head(dict):\n    pass\n", r"not a class of torch\.nn\.Module"),
        ("import torch\n", r"no such class"),
    ],
)
def test_a_file_that_cannot_run_is_one_line(text: str, said: str) -> None:
    with allowed([OwnCode("mine.py:Head", text)]), pytest.raises(InputError, match=f"E_OWN_CODE.*{said}") as refused:
        load("mine.py:Head")
    assert "\n" not in str(refused.value)


def test_what_a_checkpoint_brings_runs_if_it_is_asked_for_or_in_use_here() -> None:
    own = code(7, file="brought.py")
    with (
        pytest.raises(InputError, match=r"brought\.py:Head \| there \| look at it at there"),
        opened([own], allow_code=False, where="there"),
    ):
        pass
    with opened([own], allow_code=True, where="there"):
        assert load(own.source).number == 7  # type: ignore[attr-defined]
    allow(own)
    with opened([own], allow_code=False, where="there"):
        assert load(own.source).number == 7  # type: ignore[attr-defined]
    changed = OwnCode(own.source, own.text + "# changed\n")
    with pytest.raises(InputError, match="E_CODE_NOT_ALLOWED"), opened([changed], allow_code=False, where="there"):
        pass
