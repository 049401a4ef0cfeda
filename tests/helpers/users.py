"""Work done as another user, in a process of its own; only root can do that."""

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch

from setr.errors import SetrError

FIRST, SECOND, GROUP = 61001, 61002, 61000  # no account needs to have these numbers

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can work as two other users")


def shared_folder(folder: Path, mode: int, owner: int = FIRST) -> Path:
    """Returns a new folder of the group with these rights, below one that everybody may pass through."""
    folder.parent.chmod(0o755)
    folder.mkdir()
    os.chown(folder, owner, GROUP)
    folder.chmod(mode)
    return folder


def work_as(
    context: BaseContext,
    user: int,
    umask: int,
    work: Callable[..., Any],
    *arguments: Any,
    before: Callable[[], Any] | None = None,
) -> str:
    """Returns "" when `work` is done, or the text of the error it ended with; "status N" if it died.

    `before` is done first, as root: it loads what `work` will need of an interpreter that others may not read.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, user, umask, work, arguments, before))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        said = str(receiver.recv())
    except EOFError:
        said = ""
    process.join(120)
    return said if said != "" or process.exitcode == 0 else f"status {process.exitcode}"


def _work(
    sender: Connection,
    user: int,
    umask: int,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    before: Callable[[], Any] | None,
) -> None:
    if before:
        before()
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(user)
    os.umask(umask)
    os.chdir("/")
    torch.set_num_threads(1)  # as in the process of the tests: results are compared to the bit
    try:
        work(*arguments)
    except SetrError as error:
        sender.send(str(error))


def modes(folder: Path) -> dict[str, int]:
    """Returns the rights of everything below `folder`, by relative path."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o7777 for path in sorted(folder.rglob("*"))}
