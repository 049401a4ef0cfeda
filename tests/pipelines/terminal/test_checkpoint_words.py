"""One grammar for all commands that open a checkpoint: plain word or checkpoint=, option or setting."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.terminal.command import split_words
from setr.settings.home import PROJECT

COMMANDS = ("predict", "export", "figures", "import_checkpoint")
NAMED = ("{}", "checkpoint={}", "evaluation.checkpoint={}")
HEADS = (("--num-heads", "3"), ("num_heads=3",), ("evaluation.num_heads=3",))
LAYERS = {"export": ["taps=[0,1,2,3]"], "import_checkpoint": ["taps=[0,1,2,3]"]}


@pytest.fixture
def image(tmp_path: Path, home: Path) -> str:
    """Returns a small photograph."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8))
    return str(path)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> int:
    """Returns the exit status of a command with these words."""
    script = PROJECT / "pipelines" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return int(ended.value.code or 0)


def options(name: str, image: str, out: Path) -> list[str]:
    """Returns the words of a command beside the checkpoint and its heads."""
    more = {"predict": [image], "figures": [image], "import_checkpoint": ["--no-tracking"]}.get(name, [])
    return [*more, "-o", str(out), *LAYERS.get(name, []), *(["--to", "safetensors"] if name == "export" else [])]


@pytest.mark.parametrize(("named", "heads"), zip(NAMED, HEADS, strict=True))
@pytest.mark.parametrize("name", COMMANDS)
def test_every_way_of_saying_it_opens_the_checkpoint(
    name: str,
    named: str,
    heads: tuple[str, ...],
    reference: Path,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A width of 48 says nothing of its heads: what names them three is needed, and is enough.
    words = [named.format(reference / "tiny_naive.pth"), *heads, *options(name, image, tmp_path / "out")]
    assert run(monkeypatch, name, *words) == 0
    assert list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_checkpoint_that_is_named_twice_or_not_at_all_is_one_line(
    name: str,
    reference: Path,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, rest = str(reference / "tiny_naive.pth"), options(name, image, tmp_path / "out")
    for words, said in (
        ([file, f"checkpoint={file}"], "error: E_COMMAND | the checkpoint is named twice"),
        ([], "error: E_CO"),  # E_CONFIG where it is the only word
        ([file, "num_head=3"], "error: E_CONFIG"),
        ([file, "more", "words"], "error: E_COMMAND | expected CHECKPOINT"),
    ):
        assert run(monkeypatch, name, *words, *rest) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(said)
    assert not list(tmp_path.glob("out*"))


def test_a_setting_that_a_command_does_not_read_is_refused(
    reference: Path, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(reference / "tiny_naive.pth"), image, "-o", str(tmp_path / "out"), "num_heads=3"]
    assert run(monkeypatch, "predict", *words, "protocol=ms") == 2
    assert "key protocol does nothing here" in capsys.readouterr().err


def test_what_is_there_as_a_file_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "run=3.pth").touch()
    words = [str(tmp_path / "run=3.pth"), str(tmp_path / "run=4.pth"), "photo.jpg"]
    assert split_words(words) == ([words[0], "photo.jpg"], [words[1]])
