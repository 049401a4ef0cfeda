"""Ray's nodes as processes of this machine, with ports and folders of their own, to be killed like machines."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from benchmarks.faults.home import environment

# A dead node is noticed after a second and a half instead of a quarter of a minute.
SOON = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}


class Cluster:
    """A head without CPUs and nodes beside it, closed by a token; a context manager."""

    def __init__(self, home: Path, *, stop_seconds: int = 60) -> None:
        """Start the head; jobs that it runs work in `home`."""
        self.home = home
        self.folder = Path(tempfile.mkdtemp(prefix="setr-ray-"))  # short: a socket's path has at most 107 characters
        self.python = plain_python(self.folder)
        self.token = secrets.token_hex(32)
        self.port, self.dashboard = free_port(), free_port()
        self.address, self.jobs = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.dashboard}"
        self.variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": str(stop_seconds),
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",  # a job says `python`
            "RAY_raylet_start_wait_time_s": "300",
            **SOON,
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.started = 0
        self._start(
            "--head",
            f"--port={self.port}",
            f"--dashboard-port={self.dashboard}",
            "--dashboard-host=127.0.0.1",
            f"--ray-client-server-port={free_port()}",
            "--num-cpus=0",
        )
        self._wait()

    def __enter__(self) -> "Cluster":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all nodes."""
        for node in reversed(self.nodes):
            kill_tree(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self, cpus: int = 1) -> "subprocess.Popen[bytes]":
        """Starts a node; it joins after this returns."""
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}")

    def wait_for_nodes(self, seconds: float = 400) -> None:
        """Returns when all nodes that were started are in the cluster."""
        deadline = time.monotonic() + seconds
        while True:
            found = json.loads(self._ask("/nodes?view=summary"))["data"]["summary"]
            if sum(node["raylet"].get("state") == "ALIVE" for node in found) >= len(self.nodes):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"a node did not join: {(self.folder / 'node-1.log').read_text()}")
            time.sleep(0.5)

    def kill(self, node: "subprocess.Popen[bytes]") -> None:
        """Kills a node with all that runs on it, at once, as a power cut does."""
        self.nodes.remove(node)
        kill_tree(node)

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        # A folder of its own: two nodes in one would delete each other's copies of a job's code.
        place = (f"--temp-dir={self.folder}/{self.started}", f"--dashboard-agent-listen-port={free_port()}")
        ray = (str(self.python), "-m", "ray.scripts.scripts")
        words = [*ray, "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0", *place, *options]
        with (self.folder / f"node-{self.started}.log").open("w") as log:
            node = subprocess.Popen(
                words, env=environment(self.home, **self.variables), stdout=log, stderr=log, start_new_session=True
            )
        self.nodes.append(node)
        self.started += 1
        return node

    def _ask(self, path: str) -> bytes:
        request = urllib.request.Request(self.jobs + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def _wait(self, seconds: float = 400) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._ask("/api/version")
            except OSError:
                said = (self.folder / "node-0.log").read_text()
                if self.nodes[0].poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the head does not start: {said}") from None
                time.sleep(0.2)
            else:
                return


def plain_python(folder: Path) -> Path:
    """Returns this interpreter by a path without a space, if need be through a link in `folder`.

    A node that was started by another path never starts a worker: Ray puts it into a shell command as it is.
    """
    if " " not in sys.executable:
        return Path(sys.executable)
    link = folder / "environment"
    link.symlink_to(sys.prefix)
    return link / "bin" / Path(sys.executable).name


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process and all below it at the same moment."""
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
