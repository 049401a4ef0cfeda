"""Fixtures that every test file may use: where the reference arrays and the CamVid images are, a PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.environment import ROOT

pytest_plugins = ["tests.helpers.fixtures"]  # once for all folders: nothing is trained twice

ROLES = ROOT / "infra" / "kubernetes" / "tracking" / "roles.sh"

# Two cores are shared by everything a test starts; one thread per process is faster than two that wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Returns the folder of reference arrays computed with mmsegmentation 1.2.2 (tests/reference/README.md)."""
    return Path(os.environ.get("SETR_REFERENCE", ROOT / "tests" / "reference"))


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """Returns the folder with CamVid's train/, trainannot/, val/ and valannot/, or skips."""
    folder = Path(os.environ.get("SETR_CAMVID", ROOT.parent / "shared" / "data" / "camvid"))
    if not (folder / "train").is_dir():
        pytest.skip(f"CamVid is not at {folder}; name its folder in SETR_CAMVID")
    return folder


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """Yields the environment that reaches a new PostgreSQL, on a socket only, after roles.sh ran in it.

    One a module: `mlflow db upgrade` makes its tables only in a database that no other test left a table in.
    """
    programs = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    programs += [Path(found).resolve().parent] if found else []
    if not programs:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="setr-pg-"))  # short: a socket's path has at most 107 characters
    account: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        account = {"user": "nobody"}
        shutil.chown(folder, "nobody")
    environment = {
        "PATH": f"{max(programs)}:{os.environ['PATH']}",
        "PGHOST": str(folder),
        "PGPASSWORD": "admin",
        "OWNER_PASSWORD": "the owner's",
        "RUNTIME_PASSWORD": 'run"time',
        "HOME": str(folder),
    }

    def call(*command: str) -> None:
        subprocess.run(
            command, env=environment, cwd=folder, check=True, timeout=60, stdout=subprocess.DEVNULL, **account
        )

    try:
        (folder / "password").write_text("admin")
        (folder / "password").chmod(0o644)
        shutil.copy(ROLES, folder)
        call("initdb", "-D", "data", "-U", "postgres", "--auth=scram-sha-256", "--pwfile=password", "--no-sync")
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        call("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
        try:
            call("bash", "roles.sh")
            yield environment
        finally:
            call("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
