"""Where a Ray of our own keeps sockets and logs: the path of a socket is short, and TMPDIR often is not."""

import os
import tempfile
from pathlib import Path

from setr.errors import EnvironmentFailure

SOCKET_BYTES = 107  # of a socket's path on Linux, the terminating zero left out
# ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store, and what a second one of a machine appends
BELOW_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.9")


def ray_folder(system: Path = Path("/tmp")) -> str | None:
    """Returns the folder for Ray to use, None for the one that it takes by itself.

    That one is $RAY_TMPDIR, else $TMPDIR. A $TMPDIR that is too long, or no folder to write in, is passed over for the
    system's. Raises EnvironmentFailure for a $RAY_TMPDIR that cannot be used, and where the system's cannot either.
    """
    named = os.environ.get("RAY_TMPDIR")
    asked = named or os.environ.get("TMPDIR")
    if not asked or not (problem := _problem(Path(asked))):
        return None
    if named or _problem(system):
        raise EnvironmentFailure(
            "E_CLUSTER",
            "Ray cannot keep its sockets in this folder",
            where=f"{'RAY_TMPDIR' if named else 'TMPDIR'}={asked}",
            found=problem,
            expected=f"a folder to write in, with a path of at most {SOCKET_BYTES - BELOW_BYTES} bytes",
            remedy="export RAY_TMPDIR=<a short folder on this machine's disk>, such as /tmp",
        )
    return str(system / "ray")


def _problem(folder: Path) -> str:
    """Returns what speaks against a folder, "" for one that Ray can use."""
    length = len(os.fsencode(folder.absolute()))
    if length > SOCKET_BYTES - BELOW_BYTES:
        return f"a path of {length} bytes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)
