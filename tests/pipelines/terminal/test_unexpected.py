"""What no command foresaw is one line with a file for the rest, in every command."""

import ast
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.terminal.command import exit_status
from setr.errors import InputError
from tests.helpers.environment import ROOT, environment

COMMANDS = [path for path in sorted((ROOT / "pipelines").glob("*.py")) if "__main__" in path.read_text()]


def ended(error, tmp_path, monkeypatch, capsys):
    """Returns the status and the lines on stderr of a command that raises `error`."""
    monkeypatch.setenv("SETR_HOME", str(tmp_path))

    def run():
        raise error

    status = exit_status(run)
    return status, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (KeyError("x"), 5, "E_UNEXPECTED"),
        (AssertionError(), 5, "E_UNEXPECTED"),
        (RecursionError("too deep\nreally"), 5, "E_UNEXPECTED"),
        (MemoryError(), 5, "E_UNEXPECTED"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), 5, "E_UNEXPECTED"),
        (ValueError("\udcff \x1b[31m"), 5, "E_UNEXPECTED"),
        (BrokenPipeError(), 5, "E_UNEXPECTED"),  # a socket's: stdout is whole
        (OSError(errno.ENOSPC, "No space left", "/x"), 4, "E_STORAGE"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 4, "E_STORAGE"),
        (OSError(errno.EROFS, "Read-only", "/x"), 4, "E_STORAGE"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), 2, "E_PATH"),
        (OSError(errno.ECHILD, "No child"), 5, "E_UNEXPECTED"),
    ],
    ids=repr,
)
def test_any_exception_is_one_line_that_names_a_file(error, status, code, tmp_path, monkeypatch, capsys):
    found, lines = ended(error, tmp_path, monkeypatch, capsys)
    assert (found, len(lines)) == (status, 1)
    assert lines[0].startswith(f"error: {code} | ")
    assert lines[0].isprintable()
    kept = re.search(r"the traceback is in (\S+\.txt)", lines[0])
    assert kept, lines
    assert Path(kept[1]).parent == tmp_path / "logs"
    assert "Traceback" in Path(kept[1]).read_text()


def test_the_traceback_goes_elsewhere_if_there_is_no_room_at_home(tmp_path, monkeypatch, capsys):
    (tmp_path / "logs").write_text("a file, no folder")
    _, lines = ended(KeyError("x"), tmp_path, monkeypatch, capsys)
    kept = Path(re.search(r"in (\S+\.txt)", lines[0])[1])
    assert kept.parent != tmp_path / "logs"
    assert "Traceback" in kept.read_text()
    kept.unlink()


def test_no_password_of_an_address_is_shown_or_kept(tmp_path, monkeypatch, capsys):
    error = RuntimeError("cannot reach postgresql://me:canary@db/x")
    _, lines = ended(error, tmp_path, monkeypatch, capsys)
    assert "canary" not in lines[0]
    assert "db/x" in lines[0]
    assert all("canary" not in path.read_text() for path in (tmp_path / "logs").iterdir())


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("E_X", "what"), 2, "error: E_X | what"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_what_is_foreseen_keeps_no_file(error, status, line, tmp_path, monkeypatch, capsys):
    assert ended(error, tmp_path, monkeypatch, capsys) == (status, [line])
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("target", "status", "said"), [("/dev/full", 4, "E_STORAGE"), ("|", 141, "")])
def test_output_that_nobody_takes_ends_quietly(tmp_path, target, status, said):
    program = (
        "import sys\nfrom pipelines.terminal.command import exit_status as e\nsys.exit(e(lambda: print('x' * 100_000)))"
    )
    (tmp_path / "program.py").write_text(program)
    if target == "|":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(target, os.O_WRONLY)
    try:
        words = [sys.executable, str(tmp_path / "program.py")]
        done = subprocess.run(
            words, env=environment(tmp_path), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(writer)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)
    assert said in done.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_ends_through_the_one_place(path):
    called = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if is_call(node)}
    assert called & {"run_command", "exit_status"}, f"{path.name} shows its user tracebacks"


def is_call(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_there_are_commands():
    assert len(COMMANDS) >= 14
