"""What a RAY_ADDRESS means, asked before Ray is imported: its way to log in is read then."""

import os
import socket
from pathlib import Path

LOCAL_ADDRESSES = ("", "local", "auto", "127.0.0.1", "localhost", "[::1]")


def brings_token(address: str) -> bool:
    """Returns whether a driver shows its login token without being told to.

    A cluster of its own asks for one, and so does a head of this machine: `ray start` writes a token down by default,
    while a driver by default shows none. A token goes to no other machine unasked (RAY_AUTH_MODE=token).
    """
    if address in ("", "local"):
        return True
    given = os.environ.get("RAY_AUTH_TOKEN") or token_file().is_file()
    return bool(given) and is_local(address)


def token_file() -> Path:
    """Returns where Ray keeps the login token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))


def is_local(address: str) -> bool:
    """Returns whether a RAY_ADDRESS means this machine."""
    host = address.removeprefix("ray://").removeprefix("http://").removeprefix("https://")
    name = host.rpartition(":")[0] or host
    return name in LOCAL_ADDRESSES or host in LOCAL_ADDRESSES or _is_own(name)


def _is_own(host: str) -> bool:
    """Returns whether an address is one of this machine's: a job's driver is given the head's outward address."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except (OSError, UnicodeError):
        return False
    return True
