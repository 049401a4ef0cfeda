"""The hash of a file."""

import hashlib
from pathlib import Path


def file_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, as 64 hexadecimal digits; raises OSError where it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
