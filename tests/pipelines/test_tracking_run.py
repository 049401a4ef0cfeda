"""A real experiment's record through a real MLflow server into PostgreSQL and an S3 store, as clusters have them.

PostgreSQL is Debian's package, the S3 server is moto's, from an environment of its own: SETR_MOTO names its
`moto_server` (.ci/services makes both). Without them the tests say what is missing and skip.
"""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.tracking import recording
from pipelines.tracking.recording import Recorder, send_records
from pipelines.tracking.tracker import Tracker
from setr.planning.planned import Planned
from setr.record.events import append_event
from setr.settings.config import TrackingConfig
from tests.helpers.environment import ENGINES, ROOT, environment

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process with its output in a file."""

    def __init__(self, folder: Path, name: str, port: int, command: list[str], **variables: str) -> None:
        """Start it."""
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=environment(without=(*ENGINES, "AWS_", "PG"), **variables),
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, path: str, seconds: float = 400) -> "Server":
        """Returns itself when it answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(self.address + path, timeout=5).close()
            except (OSError, urllib.error.URLError):
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)
            else:
                return self

    def send(self, number: int) -> None:
        """Sends a signal to all its processes."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Ends it."""
        self.send(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yields an S3 server with the bucket `mlflow`."""
    program = os.environ.get("SETR_MOTO") or shutil.which("moto_server")
    if not program or not Path(program).is_file():
        pytest.skip("no S3 server: `bash .ci/services` makes one, or name moto's in SETR_MOTO")
    port = free_port()
    server = Server(tmp_path_factory.mktemp("s3"), "moto", port, [program, "-H", "127.0.0.1", "-p", str(port)], **KEYS)
    try:
        server.wait("/moto-api/")
        command = [sys.executable, str(ROOT / "infra" / "tracking" / "create_bucket.py"), "mlflow"]
        variables = environment(**KEYS, MLFLOW_S3_ENDPOINT_URL=server.address)
        subprocess.run(command, env=variables, check=True, timeout=60, stdout=subprocess.DEVNULL)
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def mlflow_server(
    database: dict[str, str], store: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Yields an MLflow server as infra/tracking starts it: tables by their owner, rows by a role without that right."""
    pytest.importorskip("psycopg2")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    mlflow = [sys.executable, "-m", "mlflow"]
    common = {**KEYS, "PGHOST": database["PGHOST"], "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(
        [*mlflow, "db", "upgrade", "postgresql+psycopg2://mlflow_owner@/mlflow"],
        env=environment(**common, PGPASSWORD=database["OWNER_PASSWORD"]),
        check=True,
        timeout=600,
    )
    options = [
        "--workers=1",
        f"--port={port}",
        "--backend-store-uri=postgresql+psycopg2://mlflow@/mlflow",
        "--artifacts-destination=s3://mlflow",
    ]
    variables = {
        **common,
        "PGPASSWORD": database["RUNTIME_PASSWORD"],
        "MLFLOW_S3_ENDPOINT_URL": store.address,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    server = Server(folder, "server", port, [*mlflow, "server", *options], **variables)
    try:
        yield server.wait("/health")
    finally:
        server.end()


@pytest.fixture
def tracker(mlflow_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.address)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)  # clients hold no key: files go through the server
    return Tracker(TrackingConfig(), tmp_path)


@pytest.mark.slow
def test_a_finished_experiment_is_in_postgresql_and_its_files_in_the_bucket(
    tracker: Tracker,
    store: Server,
    trained: Planned,
    database: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # asked directly here, on machines that may be busy
    parent = tracker.start_parent("sweep", {}, "text")
    for _ in range(2):
        send_records(tracker, parent, [trained])
    [run] = tracker.find(trained.identity)
    assert run.status == "FINISHED"
    history = tracker.client.get_metric_history(run.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3, 4]
    assert tracker.fetch_artifact(run.run_id, "scores.json") == (trained.folder / "scores.json").read_bytes()
    listed = urllib.request.urlopen(f"{store.address}/mlflow?list-type=2", timeout=20).read().decode()
    assert f"{run.run_id}/artifacts/record.json" in listed
    done = subprocess.run(
        [
            "psql",
            "--no-psqlrc",
            "-tA",
            "-U",
            "mlflow",
            "-d",
            "mlflow",
            "-c",
            "SELECT count(*) FROM metrics WHERE key = 'train/loss'",
        ],
        env={**database, "PGPASSWORD": database["RUNTIME_PASSWORD"]},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert int(done.stdout) == 4


@pytest.mark.slow
def test_a_server_that_stops_for_a_while_loses_and_doubles_nothing(
    tracker: Tracker, mlflow_server: Server, trained: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FLUSH_SECONDS", 0.5)
    experiment = dataclasses.replace(trained.experiment, seed=77)
    entry = dataclasses.replace(trained, experiment=experiment, folder=tmp_path / "experiment")
    record = entry.folder / "events.jsonl"
    watching = Recorder([entry], tracker, tracker.start_parent("sweep", {}, ""), {}, lambda events: None)
    with watching:
        for step in range(1, 81):
            if step == 20:
                mlflow_server.send(signal.SIGSTOP)
            if step == 70:
                mlflow_server.send(signal.SIGCONT)
            begun = time.perf_counter()
            append_event(record, {"event": "metrics", "step": step, "loss": float(step)})
            assert time.perf_counter() - begun < 1  # what trains never waits for the server
            time.sleep(0.1)
    assert watching.problem == ""
    [run] = tracker.find(entry.identity)
    points = [point.step for point in tracker.client.get_metric_history(run.run_id, "train/loss")]
    assert points == list(range(1, 81))
