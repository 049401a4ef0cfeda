"""Locks of files, which the kernel drops with the process that holds them: no stale one can remain."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from setr.files.atomic import give_rights

# Lustre without -o flock, NFS without a lock daemon, other file systems; NFS locks only what may be written.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)


def open_lock(path: Path) -> int:
    """Returns a descriptor of a file to lock, made if it is missing; one that may only be read serves as well."""
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        give_rights(path)
        return made
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:  # another user's, who left it to nobody
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def lock(file: int, *, wait: bool = False) -> bool | None:
    """Returns whether the exclusive lock of an open file is ours now, None where there are no locks.

    With `wait`, once whoever holds it lets go. Raises OSError for what else the file system says.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True
