"""The Slurm script, really run: only the cluster's commands (srun, scontrol, ray) are stand-ins."""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

SCRIPT = ROOT / "infra" / "slurm" / "sweep.sbatch"

# srun runs its command here, as on a node; ray start stays until it is told to end; ray status knows three nodes.
STAND_INS = {
    "srun": """#!/usr/bin/env bash
echo "srun $*" >>"$CALLS"
while [[ $1 == --* ]]; do shift; done
exec "$@"
""",
    "scontrol": """#!/usr/bin/env bash
echo "scontrol $*" >>"$CALLS"
""",
    "ray": """#!/usr/bin/env bash
if [[ $1 == status ]]; then
    echo "Active:"
    if grep -q 'started start --head' "$CALLS"; then echo " 1 node_a"; fi
    if grep -q 'started start --address' "$CALLS"; then printf ' 1 node_b\\n 1 node_c\\n'; fi
    printf 'Pending:\\n 1 node_notyet\\n'
    exit
fi
[[ -n $NO_NODES ]] && exec sleep 20
echo "started $* mode=$RAY_AUTH_MODE token=$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" >>"$CALLS"
trap 'echo "ended $2" >>"$CALLS"; exit' TERM
while true; do sleep 0.05; done
""",
}
# In place of the sweep: says how it was called, then ends, or waits for SIGTERM as the real one does.
SWEEP = """
import json, os, signal, sys, time
names = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "SETR_HOME", "SETR_GIT_COMMIT")
with open(os.environ["CALLS"], "a") as file:
    file.write("sweep " + json.dumps([sys.argv[1:], {name: os.environ[name] for name in names}]) + "\\n")
if sys.argv[1] == "wait":
    def stop(number, frame):
        with open(os.environ["CALLS"], "a") as file:
            file.write("sweep saves\\n")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    open(os.environ["CALLS"] + ".ready", "w").close()
    time.sleep(20)
sys.exit(int(sys.argv[1]))
"""


@dataclass
class Job:
    """A started run of the script."""

    process: subprocess.Popen[str]
    calls_file: Path
    home: Path

    def end(self) -> tuple[int, list[str], str]:
        """Returns exit status, calls and output."""
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, self.calls_file.read_text().splitlines(), output

    def signal_when_running(self, number: signal.Signals) -> None:
        ready = Path(f"{self.calls_file}.ready")
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert time.monotonic() < deadline, self.calls_file.read_text()
            time.sleep(0.02)
        self.process.send_signal(number)


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in STAND_INS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    project = tmp_path / "project"
    (project / "pipelines").mkdir(parents=True)
    (project / "pipelines" / "sweep.py").write_text(SWEEP)
    calls = tmp_path / "calls"
    calls.touch()
    home = tmp_path / "home"
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **variables: str) -> Job:
        environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "NO_NODES": "",
            "SETR_HOME": str(home),
            "SETR_HEAD_ADDRESS": "10.1.2.3",
            "SLURM_SUBMIT_DIR": str(project),
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NUM_NODES": "3",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURMD_NODENAME": "n1",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_GPUS_ON_NODE": "4",
            **variables,
        }
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            env={name: value for name, value in environment.items() if value != "unset"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return Job(process, calls, home)

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_head_then_workers_then_sweep_and_its_status(start: Start) -> None:
    job = start("0", "tables=[2, 3]")
    status, calls, output = job.end()
    assert status == 0, output
    order = [line.split(" ")[0] for line in calls]
    assert order == ["srun", "started", "srun", "started", "sweep", "ended", "ended"]
    head, workers = (line for line in calls if line.startswith("srun"))
    assert "--nodes=1 --ntasks=1 --nodelist=n1 ray start --head --node-ip-address=10.1.2.3 --port=22345" in head
    assert "--nodes=2 --ntasks=2 --exclude=n1 ray start --address=10.1.2.3:22345" in workers
    for line in (head, workers):
        assert "--cpus-per-task=8" in line
        assert "--num-cpus=8 --num-gpus=4" in line
        assert line.endswith("--block")
    for line in (line for line in calls if line.startswith("started")):
        assert line.endswith("mode=token token=600")
    assert '[["0", "tables=[2, 3]"], {"RAY_ADDRESS": "10.1.2.3:22345", "RAY_AUTH_MODE": "token"' in calls[4]


def test_token_goes_with_the_job_and_is_new_each_time(start: Start) -> None:
    tokens = set()
    for _ in range(2):
        job = start("wait")
        job.signal_when_running(signal.SIGTERM)
        token = job.home / ".ray-token-12345"
        tokens.add(token.read_text())
        job.end()
        assert not token.exists()
        Path(f"{job.calls_file}.ready").unlink()
    assert len(tokens) == 2
    assert all(len(token) == 64 for token in tokens)
    assert stat.S_IMODE((job.home).stat().st_mode) == 0o700


def test_end_of_time_saves_and_queues_again(start: Start) -> None:
    job = start("wait")
    job.signal_when_running(signal.SIGUSR1)
    status, calls, output = job.end()
    assert status == 143, output
    assert calls[-4:] == ["sweep saves", *calls[-3:-1], "scontrol requeue 12345"]
    assert sorted(calls[-3:-1]) == ["ended --address=10.1.2.3:22345", "ended --head"]


def test_restarts_have_a_limit(start: Start) -> None:
    job = start("wait", SLURM_RESTART_COUNT="7", SETR_MAX_RESTARTS="7")
    job.signal_when_running(signal.SIGUSR1)
    status, calls, output = job.end()
    assert status == 143
    assert "sweep saves" in calls
    assert not [line for line in calls if line.startswith("scontrol")]
    assert "stopped after 7 restarts" in output


def test_cancel_saves_and_ends(start: Start) -> None:
    job = start("wait")
    job.signal_when_running(signal.SIGTERM)
    status, calls, _ = job.end()
    assert status == 143
    assert "sweep saves" in calls
    assert not [line for line in calls if line.startswith("scontrol")]


@pytest.mark.parametrize("code", [1, 2])
def test_failure_is_reported_and_not_repeated(start: Start, code: int) -> None:
    status, calls, _ = start(str(code), SLURM_JOB_NUM_NODES="1").end()
    assert status == code
    assert [line.split(" ")[0] for line in calls] == ["srun", "started", "sweep", "ended"]


def test_nodes_that_do_not_come_end_the_job(start: Start) -> None:
    status, calls, output = start("0", SETR_START_SECONDS="0", NO_NODES="yes").end()
    assert status == 4
    assert "error: 0 of 1 nodes joined the cluster in 0 s" in output
    assert not [line for line in calls if line.startswith("sweep")]


@pytest.mark.parametrize(
    ("name", "message"), [("SETR_HOME", "a folder that every node sees"), ("SLURM_SUBMIT_DIR", "sbatch")]
)
def test_what_is_missing_is_named(start: Start, name: str, message: str) -> None:
    status, calls, output = start("0", **{name: "unset"}).end()
    assert status != 0
    assert message in output
    assert not calls


def test_directives_stand_before_the_first_command() -> None:
    lines = SCRIPT.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert directives == [line.removeprefix("#SBATCH ") for line in lines[:first] if line.startswith("#SBATCH")]
    for wanted in ("--requeue", "--no-kill", "--open-mode=append", "--signal=B:USR1@300", "--ntasks-per-node=1"):
        assert wanted in directives
