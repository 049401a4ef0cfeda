"""How a sweep, a search and a training start: from a snapshot of the code, so that one code makes all of their results.

The command file calls `enter` before it imports anything heavy. That keeps the project's code as it is now in the
storage path (setr.record.snapshot) and becomes the same command there, by exec: process id, terminal, variables and
what waits for the process stay. From then on nothing is imported from the working tree: not by the driver's late
imports, not by torchrun's ranks (they run the same file), and not by Ray's workers, whenever they start
(pipelines.cluster.engine points each at the snapshot before it imports anything). So an edit or `git checkout` changes
nothing in what runs.

While it works, a mark in the storage path says which command began with which snapshot. It goes when the command ends
in order, and stays after a kill, a stop that saved, or a failure of disk, server or cluster. The same command then goes
on from that snapshot and says so if the code differs now; `--anew` takes the present code. Settings are not code: if
params.yaml alone differs, its present values count, except in a job that Slurm has queued again.
"""

import hashlib
import json
import os
import re
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.terminal.command import exit_status
from setr.errors import EnvironmentFailure, InputError, IntegrityError, SetrError
from setr.files.atomic import read_json, write_json
from setr.record.lineage import SENT, lineage
from setr.record.snapshot import CODE, differing, keep, read_code, verify
from setr.settings.config import Config, load_config
from setr.settings.folders import check_folders
from setr.settings.home import PROJECT, SNAPSHOT, home, resolve

ANEW = "--anew"
SECTIONS = {"sweep": "sweep", "search": "search", "train": "training"}  # of the settings: a command's own
READ_ONLY = ("-h", "--help", "--plan", "--simulate")  # these train nothing, and run the code that is there
MARKS = "begun"  # in the storage path's folder of snapshots
SETTINGS = "params.yaml"
STOPPED = 128  # and above: ended by a signal
SHOWN_FILES = 3

Work = Callable[[Config, Namespace], int | None]


@dataclass(frozen=True)
class Mark:
    """What began, with which code, where; it is there until it has ended."""

    command: tuple[str, ...]
    snapshot: str  # hash: it lies in the same storage path
    began: str  # local time
    host: str
    process: int


def add_anew(parser: ArgumentParser) -> None:
    """Adds the option that begins with the present code."""
    parser.add_argument(
        ANEW, action="store_true", help="begin with the present code, not with that of the interrupted command"
    )


def enter(command: str) -> None:
    """Becomes the same command in a snapshot of the code; returns in one, or where nothing is going to be trained.

    Ends the process with an error's line and status if a setting is wrong, or the snapshot cannot be made or is not
    what it was.
    """
    if status := exit_status(lambda: _enter(command, sys.argv[1:])):
        sys.exit(status)


def marked(command: str, work: Work) -> Work:
    """Returns `work` with the mark around it, which says what began and is gone when it has ended."""

    def run(config: Config, arguments: Namespace) -> int | None:
        words = sys.argv[1:]
        first = os.environ.get("RANK", "0") == "0"
        storage = resolve(config.storage.checkpoints)
        # Who starts a snapshot by its own path has said which code goes on.
        if not (first and _is_kept_in(storage)) or _trains_nothing(config, command, words):
            return work(config, arguments)
        path = _mark_path(storage, command, words)
        before = _read_mark(path)
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        if before is not None and before.snapshot == PROJECT.name:
            began = before.began
        write_json(
            path, asdict(Mark((command, *_asked(words)), PROJECT.name, began, socket.gethostname(), os.getpid()))
        )
        try:
            status = work(config, arguments)
        except SetrError as error:
            # Refused: nothing has begun. Whoever works there now, or was cut off there, keeps his mark.
            if not isinstance(error, EnvironmentFailure) or error.code == "E_LEASE":
                _restore(path, before)
            raise
        if (status or 0) < STOPPED and status != EnvironmentFailure.exit_status:
            _restore(path, None)
        return status

    return run


def _enter(command: str, words: list[str]) -> int:
    if (PROJECT / SNAPSHOT).is_file():
        verify(PROJECT)
        return 0
    if any(word in READ_ONLY for word in words):
        return 0  # and --simulate has words of its own among the settings
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    config = load_config(PROJECT / SETTINGS, overrides, section=SECTIONS[command])
    if _trains_nothing(config, command, words):
        return 0
    check_folders(config)  # before anything is written into one
    folder = _choose(config, command, words)
    script = folder / "pipelines" / f"{command}.py"
    sys.stdout.flush()
    os.execve(
        sys.executable,
        [sys.executable, *_interpreter_options(), str(script), *words],
        {**os.environ, "SETR_HOME": str(home())},
    )


def _is_kept_in(storage: Path) -> bool:
    """Returns whether this process runs a snapshot of the storage path."""
    return (PROJECT / SNAPSHOT).is_file() and PROJECT.parent == (storage / CODE).resolve()


def _trains_nothing(config: Config, command: str, words: list[str]) -> bool:
    return any(word in READ_ONLY for word in words) or (command == "sweep" and config.sweep.plan)


def _choose(config: Config, command: str, words: list[str]) -> Path:
    """Returns the snapshot to run: that of the same command if it was interrupted, else one of the present code."""
    storage = resolve(config.storage.checkpoints)
    code = read_code(PROJECT, leave_out=_written_folders(config))
    mark = _read_mark(_mark_path(storage, command, words))
    if mark is not None:
        folder = storage / CODE / mark.snapshot
        requeued = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
        anew = "DVC_STAGE" if os.environ.get("DVC_STAGE") else ANEW if ANEW in words and not requeued else ""
        files = _difference(code, folder, anew=bool(anew))
        if files and not anew and (requeued or files != [SETTINGS]):
            _say(
                f"goes on with the code that it began with on {mark.began}, snapshot {folder.name[:12]}; "
                f"{_counted(files)} now: {ANEW} begins with the present code"
            )
            verify(folder)
            return folder
        if files and anew:
            why = "as DVC records it" if anew != ANEW else f"as {ANEW} asks"
            _say(
                f"plans anew with the present code, {why}; "
                f"{_counted(files)} from snapshot {folder.name[:12]}, begun on {mark.began}"
            )
    folder = keep(code, storage)
    _keep_lineage(folder)
    return folder


def _difference(code: Mapping[str, bytes], folder: Path, *, anew: bool) -> list[str]:
    """Returns the files in which the present code differs from the snapshot that a mark names."""
    if not folder.is_dir():
        if anew:
            return [folder.name]
        raise IntegrityError(
            "E_SNAPSHOT",
            "the snapshot of the code that this began with is gone",
            where=folder,
            remedy=f"put it back, or give {ANEW} to begin with the present code",
        )
    try:
        return differing(code, folder)
    except IntegrityError:
        if anew:
            return [SNAPSHOT]
        raise


def _counted(files: list[str]) -> str:
    names = ", ".join(files[:SHOWN_FILES]) + (", ..." if len(files) > SHOWN_FILES else "")
    return f"{len(files)} {'files differ' if len(files) > 1 else 'file differs'} ({names})"


def _say(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(text, flush=True)


def _keep_lineage(folder: Path) -> None:
    """Writes what git knows of the code beside it; another commit may have the same code, and the newest counts."""
    found = asdict(lineage(PROJECT))
    if read_json(folder / SENT) != found:
        try:
            write_json(folder / SENT, found)
        except EnvironmentFailure:
            if not (folder / SENT).is_file():  # of another owner: what he wrote is true of the same code
                raise


def _written_folders(config: Config) -> list[Path]:
    """Returns where commands write and data lie: no code, wherever the settings say that it is."""
    storage = config.storage
    places = [storage.checkpoints, storage.results, storage.report, storage.logs, config.weights.folder]
    places += [place for place in (config.data.shards, config.data.root, *config.datasets.values()) if place]
    folders = [resolve(place) for place in places if "://" not in place]
    return [*folders, *([home()] if home() != PROJECT else [])]


def _asked(words: list[str]) -> list[str]:
    return [word for word in words if word != ANEW]


def _mark_path(storage: Path, command: str, words: list[str]) -> Path:
    name = hashlib.sha256(json.dumps([command, *_asked(words)]).encode()).hexdigest()[:16]
    return storage / CODE / MARKS / f"{command}-{name}.json"


def _read_mark(path: Path) -> Mark | None:
    record = read_json(path)
    if record is None:
        return None
    try:
        mark = Mark(**{**record, "command": tuple(record["command"])})
        if not re.fullmatch("[0-9a-f]{64}", mark.snapshot):
            raise ValueError(mark.snapshot)
        return mark
    except (TypeError, KeyError, ValueError):
        raise InputError(
            "E_SNAPSHOT",
            "not a mark of what began",
            where=path,
            remedy="remove the file to begin with the present code",
        ) from None


def _restore(path: Path, before: Mark | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, asdict(before))


def _interpreter_options() -> list[str]:
    """Returns what stood between the interpreter and the command file: -u, -X, -W."""
    arguments = sys.argv[1:]
    before = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    if sys.orig_argv[len(sys.orig_argv) - len(arguments) :] != arguments or not before:
        return []  # started by way of another program
    if before[-2:-1] == ["-m"]:
        return before[:-2]
    return before[:-1] if Path(before[-1]).name == Path(sys.argv[0]).name else []
