"""MLflow, and the only file that imports it: one process writes, in batches, outside the training step.

Workers write events to their experiment's file; the driver replays that file here. Points keep the time they were
recorded with, and MLflow drops identical points, so replaying twice changes nothing.
"""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# Two tries of five seconds: a dead server is reported in time instead of after MLflow's default of minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A second wall: nothing here loads a model from the registry, and nobody's pickle runs if something does.
# (What is registered holds no pickle: pipelines/tracking/serving.py.)
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.models import ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import Schema, TensorSpec
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from pipelines.tracking.answers import CheckedClient, checked_id
from pipelines.tracking.database import check_file
from pipelines.tracking.moved_database import follow_move
from setr.errors import EnvironmentFailure, SetrError
from setr.files.atomic import give_rights, make_folder
from setr.record.events import Event, curves
from setr.record.lineage import project_version
from setr.redaction import first_line, redact, redacted, without_secrets
from setr.reporting.numbers.results import CHECKPOINT_TAG
from setr.settings.config import TrackingConfig

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

OFFLINE = "offline"  # as tracking.uri or MLFLOW_TRACKING_URI: nothing is tracked until the records are imported
_EXPERIMENT = (
    "A run for each command that trained (the parent), below it a run for each experiment: data set, model, schedule, "
    "seed.\n\n"
    "- filter: ``tags.`setr.variant` = 'setr-pup'``, ``tags.`setr.cells` LIKE '%table2/%'``, "
    "``tags.`setr.schedule` = '80k'``, ``tags.`setr.scale` = 'paper'``\n"
    "- metrics: `train/` and `val/` are curves, `final/<protocol>/` the scores that the tables print\n"
    "- artifacts: `record.json` (everything a report needs), `qualitative.png`; of the parent: the report's tables and "
    "figures\n"
)
BATCH = 1000  # points in one request, MLflow's limit
IDENTITY_TAG = "setr.identity"
KEY_TAG = "setr.key"  # what a parent run is found again by
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"  # the description, in Markdown
RECORD_ARTIFACT = "record.json"
SAMPLING_SECONDS = 5.0  # between two looks at this machine's load
UPLOAD_SECONDS = "600"  # for the answer to a model's upload, which may be a gigabyte


@dataclass(frozen=True)
class TrackedRun:
    """One run as the tracking server has it."""

    run_id: str
    name: str
    status: str
    url: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    start_time: int  # milliseconds
    artifacts: str  # address of the folder of files


def tracking_uri(config: TrackingConfig, home: Path) -> str:
    """Returns $MLFLOW_TRACKING_URI, else the setting, else the SQLite file in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.uri or f"sqlite:///{home / 'mlflow.db'}"


class Tracker:
    """Writes runs to one MLflow experiment and reads them back."""

    def __init__(self, config: TrackingConfig, home: Path) -> None:
        """Connect, creating the database and the experiment if they are new; alone, before any fan-out.

        Raises EnvironmentFailure within `config.timeout_seconds` if the server does not answer.
        """
        self.uri = tracking_uri(config, home)
        self.address = without_secrets(self.uri)  # as it may be shown
        self.local = self.uri.startswith("sqlite:")
        if self.uri.startswith("file:") or "://" not in self.uri:
            raise EnvironmentFailure(
                "E_TRACKING",
                "MLflow's file store is no longer supported",
                where=self.address,
                remedy="use sqlite:///<absolute path>/mlflow.db or the address of a server",
            )
        artifacts = str(home / "mlartifacts") if self.local else None
        if self.uri == f"sqlite:///{home / 'mlflow.db'}":
            old = follow_move(home / "mlflow.db", home / "mlartifacts", config.experiment)
            if old:
                print(f"MLflow's files moved along with the project, from {old}", file=sys.stderr, flush=True)
        client, self.experiment_id = self._within(
            config.timeout_seconds, lambda: _open(self.uri, config.experiment, artifacts)
        )
        self.client = cast(MlflowClient, CheckedClient(client, self.address))

    def _within(self, seconds: float, connect: Any) -> Any:
        """Returns connect(), or raises if it fails or takes longer than `seconds`."""
        outcome: dict[str, Any] = {}

        def attempt() -> None:
            try:
                outcome["value"] = connect()
            except Exception as error:
                outcome["error"] = error

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        # A new SQLite file runs its migrations, which is work and not silence.
        thread.join(seconds if not self.local else 120)
        if "value" in outcome:
            return outcome["value"]
        error = outcome.get("error")
        if isinstance(error, SetrError):
            raise error
        if error is not None and any(word in str(error) for word in ("401", "403")):
            raise EnvironmentFailure(
                "E_TRACKING",
                "MLflow refuses the login",
                where=self.address,
                found=first_line(error),
                remedy="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            ) from None
        raise EnvironmentFailure(
            "E_TRACKING",
            "MLflow cannot be reached" if error is None or not self.local else "MLflow's database cannot be opened",
            where=self.address,
            found=first_line(error) if error else f"no answer in {seconds:.0f} s",
            remedy="start the server or set MLFLOW_TRACKING_URI",
        ) from None

    def start_parent(self, name: str, tags: Mapping[str, str], description: str, *, key: str = "") -> str:
        """Returns the id of a parent run: the one that was started under the same `key`, continued, or a new one."""
        tags = redacted(dict(tags))
        if key:
            tags = {**tags, KEY_TAG: key}
            for found in self.runs(f"tags.`{KEY_TAG}` = '{key}'"):
                self.client.update_run(found.run_id, status="RUNNING")
                self.set_tags(found.run_id, {NOTE_TAG: description, **tags})
                return found.run_id
        run = self.client.create_run(self.experiment_id, run_name=name, tags={NOTE_TAG: description, **tags})
        return checked_id(run.info.run_id, self.address)

    def start_child(self, parent: str, identity: str, name: str, tags: Mapping[str, str]) -> str:
        """Returns the id of the identity's run: the one that exists, continued, or a new child of `parent`."""
        found = self.find(identity)
        if found:
            run_id = found[0].run_id
            self.client.update_run(run_id, status="RUNNING")
            self.set_tags(run_id, {**tags, PARENT_TAG: parent})
            return run_id
        run = self.client.create_run(
            self.experiment_id, run_name=name, tags={**redacted(dict(tags)), IDENTITY_TAG: identity, PARENT_TAG: parent}
        )
        return checked_id(run.info.run_id, self.address)

    def run(self, run_id: str) -> TrackedRun | None:
        """Returns a run, None if the server has none of that id."""
        try:
            return self._tracked(self.client.get_run(run_id))
        except EnvironmentFailure:
            return None

    def find(self, identity: str) -> list[TrackedRun]:
        """Returns the identity's runs, oldest first."""
        return list(self.runs(f"tags.`{IDENTITY_TAG}` = '{identity}'"))

    def runs(self, query: str = "") -> Iterator[TrackedRun]:
        """Yields the runs of the experiment that match an MLflow filter, oldest first."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                query,
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from (self._tracked(run) for run in page)
            token = page.token
            if not token:
                return

    def metrics(self, run_id: str) -> dict[str, float]:
        """Returns the run's metrics, each with its last value."""
        return dict(self.client.get_run(run_id).data.metrics)

    def _tracked(self, run: Run) -> TrackedRun:
        return TrackedRun(
            run_id=checked_id(run.info.run_id, self.address),
            name=run.info.run_name or "",
            status=str(run.info.status),
            url=self.url(run.info.run_id),
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            start_time=int(run.info.start_time or 0),
            artifacts=run.info.artifact_uri or "",
        )

    def url(self, run_id: str) -> str:
        """Returns the address of the run's page in the MLflow UI (`make ui` for a local database)."""
        base = (
            "http://127.0.0.1:5000"
            if not self.uri.startswith("http")
            else without_secrets(self.uri, mark="").rstrip("/")
        )
        return f"{base}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def set_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Writes parameters that are not there yet (MLflow refuses to change one)."""
        present = self.client.get_run(run_id).data.params
        new = [Param(key, redact(str(value))[:6000]) for key, value in parameters.items() if key not in present]
        for start in range(0, len(new), 100):
            self.client.log_batch(run_id, params=new[start : start + 100])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Writes tags, replacing earlier values."""
        self.client.log_batch(run_id, tags=[RunTag(key, redact(str(value))[:8000]) for key, value in tags.items()])

    def replay(self, run_id: str, events: Sequence[Event]) -> int:
        """Writes the metrics of `events`; returns the number of points."""
        points = [
            Metric(_grouped(name), value, int(seconds * 1000), step)
            for name, series in curves(list(events)).items()
            for step, value, seconds in series
        ]
        for start in range(0, len(points), BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + BATCH])
        return len(points)

    def artifacts(self, run_id: str, files: Iterable[Path]) -> None:
        """Stores files with the run."""
        for path in files:
            self.client.log_artifact(run_id, str(path))

    def folder_artifact(self, run_id: str, folder: Path, name: str) -> None:
        """Stores all files of a folder with the run, below `name`."""
        self.client.log_artifacts(run_id, str(folder), name)

    def text_artifact(self, run_id: str, name: str, text: str) -> None:
        """Stores a text with the run."""
        self.client.log_text(run_id, text, name)

    def fetch_artifact(self, run_id: str, name: str, folder: str = "") -> bytes | None:
        """Returns the bytes of one of the run's artifacts, or None if it has none of that name.

        `folder` is the run's address of files, if known: one on this machine's disk is read without asking.
        """
        if folder and is_local_uri(folder):
            path = Path(local_file_uri_to_path(folder)) / name
            try:
                return path.read_bytes() if path.is_file() else None
            except OSError:
                return None
        with tempfile.TemporaryDirectory() as place:
            try:
                return Path(self.client.download_artifacts(run_id, name, place)).read_bytes()
            except (EnvironmentFailure, OSError):
                return None

    def register(
        self,
        run_id: str,
        name: str,
        data: Path,
        *,
        loader: str,
        example: np.ndarray,
        tags: Mapping[str, str],
        text: str,
    ) -> str:
        """Registers the files in `data` as a version of the model `name`; returns its number.

        `loader` is the installed module that reads them (MLflow calls its _load_pyfunc), `example` images (B,H,W,3),
        `text` the description. A run's checkpoint is registered once.
        """
        for known in self.client.search_model_versions(f"run_id = '{run_id}'"):
            if known.name == name and known.tags.get(CHECKPOINT_TAG) == tags[CHECKPOINT_TAG]:
                return str(known.version)
        place = f"model-{tags[CHECKPOINT_TAG][:12]}"  # another checkpoint of the run takes nothing from under a version
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
            outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / place
            mlflow.pyfunc.save_model(
                path,
                loader_module=loader,
                data_path=str(data),
                signature=signature,
                input_example=example,
                pip_requirements=[f"setr-tables=={project_version()}"],
            )
            with _patience():
                self.client.log_artifacts(run_id, str(path), place)
        with contextlib.suppress(EnvironmentFailure):  # it is there already, which the next call needs
            self.client.create_registered_model(name)
        made = self.client.create_model_version(
            name, f"runs:/{run_id}/{place}", run_id, tags=dict(tags), description=text, await_creation_for=0
        )
        return str(made.version)

    def finish(self, run_id: str, *, failed: bool = False, stopped: bool = False) -> None:
        """Marks the run as ended."""
        self.client.set_terminated(run_id, "FAILED" if failed else "KILLED" if stopped else "FINISHED")

    @contextmanager
    def system_metrics(self, run_id: str) -> Iterator[None]:
        """Records CPU, memory, disk and network of this machine with the run, every few seconds."""
        mlflow.set_tracking_uri(self.uri)
        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=SAMPLING_SECONDS, resume_logging=True, tracking_uri=self.uri
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


def _grouped(name: str) -> str:
    """Returns a metric's name as the MLflow UI groups its charts: by what stands before the slash."""
    return name if name.startswith(("val/", "final/", "sweep/")) else f"train/{name}"


@contextmanager
def _patience() -> Iterator[None]:
    """Gives the server more time than a metric has."""
    before = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT")
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = UPLOAD_SECONDS
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
        else:
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = before


def open_tracker(config: TrackingConfig, home: Path) -> Tracker | None:
    """Returns the tracker of the settings, None for `offline`."""
    return None if tracking_uri(config, home) == OFFLINE else Tracker(config, home)


def _open(uri: str, experiment: str, artifacts: str | None) -> tuple[MlflowClient, str]:
    address = without_secrets(uri)
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        check_file(file)
        _make_database(file)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        made = client.create_experiment(experiment, artifact_location=artifacts, tags={NOTE_TAG: _EXPERIMENT})
        return client, checked_id(made, address)
    number = checked_id(found.experiment_id, address)
    if found.lifecycle_stage == "deleted":
        raise EnvironmentFailure(
            "E_TRACKING",
            "the experiment was deleted in MLflow, which keeps its name",
            where=f"{address}, {experiment}",
            remedy=f"restore it (mlflow experiments restore --experiment-id {number}), or set tracking.experiment",
        )
    return client, number


def _make_database(path: Path) -> None:
    """Makes MLflow's tables aside unless the file is there: a process killed half way would leave half of them."""
    if path.is_dir():
        raise EnvironmentFailure("E_TRACKING", "a folder is no database", where=path, expected="a file of SQLite's")
    if path.exists():
        return
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # somebody else was as fast, and may have written
        except OSError:
            made.replace(path)  # a file system without links
        give_rights(path)
