"""MLflow, and the only file that imports it: one process writes, in batches, outside the training step.

Workers write events to their experiment's file; the driver replays that file here. Points keep the time they were
recorded with, and MLflow drops identical points, so replaying twice changes nothing.
"""

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Two tries of five seconds: a dead server is reported in time instead of after MLflow's default of minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A second wall: nothing here loads a model from the registry, and nobody's pickle runs if something does.
# (What is registered holds no pickle: pipelines/serving.py.)
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import Schema, TensorSpec
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from pipelines.lineage import project_version
from setr.config import TrackingConfig
from setr.errors import EnvironmentFailure
from setr.training.events import Event, curves

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
CHECKPOINT_TAG = "setr.checkpoint"
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
        self.local = self.uri.startswith("sqlite:")
        if self.uri.startswith("file:") or "://" not in self.uri:
            raise EnvironmentFailure(
                "E_TRACKING",
                "MLflow's file store is no longer supported",
                where=redact(self.uri),
                remedy="use sqlite:///<absolute path>/mlflow.db or the address of a server",
            )
        artifacts = str(home / "mlartifacts") if self.local else None
        self.client, self.experiment_id = self._within(
            config.timeout_seconds, lambda: _open(self.uri, config.experiment, artifacts)
        )

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
        if error is not None and any(word in str(error) for word in ("401", "403")):
            raise EnvironmentFailure(
                "E_TRACKING",
                "MLflow refuses the login",
                where=redact(self.uri),
                found=redact(str(error)).splitlines()[0],
                remedy="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            ) from None
        raise EnvironmentFailure(
            "E_TRACKING",
            "MLflow cannot be reached" if error is None or not self.local else "MLflow's database cannot be opened",
            where=redact(self.uri),
            found=redact(str(error)).splitlines()[0] if error else f"no answer in {seconds:.0f} s",
            remedy="start the server or set MLFLOW_TRACKING_URI",
        ) from None

    def start_parent(self, name: str, tags: Mapping[str, str], description: str, *, key: str = "") -> str:
        """Returns the id of a parent run: the one that was started under the same `key`, continued, or a new one."""
        if key:
            tags = {**tags, KEY_TAG: key}
            for found in self.runs(f"tags.`{KEY_TAG}` = '{key}'"):
                self.client.update_run(found.run_id, status="RUNNING")
                self.set_tags(found.run_id, {NOTE_TAG: description, **tags})
                return found.run_id
        run = self.client.create_run(self.experiment_id, run_name=name, tags={NOTE_TAG: description, **tags})
        return str(run.info.run_id)

    def start_child(self, parent: str, identity: str, name: str, tags: Mapping[str, str]) -> str:
        """Returns the id of the identity's run: the one that exists, continued, or a new child of `parent`."""
        found = self.find(identity)
        if found:
            run_id = found[0].run_id
            self.client.update_run(run_id, status="RUNNING")
            self.set_tags(run_id, {**tags, PARENT_TAG: parent})
            return run_id
        run = self.client.create_run(
            self.experiment_id, run_name=name, tags={**tags, IDENTITY_TAG: identity, PARENT_TAG: parent}
        )
        return str(run.info.run_id)

    def run(self, run_id: str) -> TrackedRun | None:
        """Returns a run, None if the server has none of that id."""
        try:
            return self._tracked(self.client.get_run(run_id))
        except MlflowException:
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
            run_id=run.info.run_id,
            name=run.info.run_name or "",
            status=run.info.status,
            url=self.url(run.info.run_id),
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            start_time=run.info.start_time,
            artifacts=run.info.artifact_uri or "",
        )

    def url(self, run_id: str) -> str:
        """Returns the address of the run's page in the MLflow UI (`make ui` for a local database)."""
        base = "http://127.0.0.1:5000" if not self.uri.startswith("http") else self.uri.rstrip("/")
        return f"{base}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def set_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Writes parameters that are not there yet (MLflow refuses to change one)."""
        present = self.client.get_run(run_id).data.params
        new = [Param(key, str(value)[:6000]) for key, value in parameters.items() if key not in present]
        for start in range(0, len(new), 100):
            self.client.log_batch(run_id, params=new[start : start + 100])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Writes tags, replacing earlier values."""
        self.client.log_batch(run_id, tags=[RunTag(key, str(value)[:8000]) for key, value in tags.items()])

    def replay(self, run_id: str, events: Sequence[Event], after_step: int = -1) -> int:
        """Writes the metrics of `events` with a step above `after_step`; returns the number of points."""
        points = [
            Metric(_grouped(name), value, int(seconds * 1000), step)
            for name, series in curves(list(events)).items()
            for step, value, seconds in series
            if step > after_step
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
            try:
                return (Path(local_file_uri_to_path(folder)) / name).read_bytes()
            except OSError:
                return None
        with tempfile.TemporaryDirectory() as place:
            try:
                return Path(self.client.download_artifacts(run_id, name, place)).read_bytes()
            except (MlflowException, OSError):
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
        with contextlib.suppress(MlflowException):  # it is there already, which the next call needs
            self.client.create_registered_model(name)
        made = self.client.create_model_version(
            name, f"runs:/{run_id}/{place}", run_id, tags=dict(tags), description=text, await_creation_for=0
        )
        return str(made.version)

    def finish(self, run_id: str, *, failed: bool = False, stopped: bool = False) -> None:
        """Marks the run as ended."""
        self.client.set_terminated(run_id, "FAILED" if failed else "KILLED" if stopped else "FINISHED")

    @contextmanager
    def system_metrics(self, run_id: str, seconds: float = 5.0) -> Iterator[None]:
        """Records CPU, memory, disk and network of this machine with the run, every `seconds`."""
        mlflow.set_tracking_uri(self.uri)
        monitor = SystemMetricsMonitor(run_id, sampling_interval=seconds, resume_logging=True, tracking_uri=self.uri)
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


class OfflineTracker(Tracker):
    """Stands in where no server can be reached: keeps nothing, the experiments' records are imported later."""

    uri = OFFLINE
    local = True

    def __init__(self) -> None:
        """Connect to nothing."""

    def start_parent(self, name: str, tags: Mapping[str, str], description: str, *, key: str = "") -> str:
        """Returns no id."""
        return ""

    def start_child(self, parent: str, identity: str, name: str, tags: Mapping[str, str]) -> str:
        """Returns no id."""
        return ""

    def runs(self, query: str = "") -> Iterator[TrackedRun]:
        """Yields nothing."""
        return iter(())

    def run(self, run_id: str) -> None:
        """Returns None."""

    def url(self, run_id: str) -> str:
        """Returns no address."""
        return ""

    def metrics(self, run_id: str) -> dict[str, float]:
        """Returns none."""
        return {}

    def replay(self, run_id: str, events: Sequence[Event], after_step: int = -1) -> int:
        """Writes nothing."""
        return 0

    def fetch_artifact(self, run_id: str, name: str, folder: str = "") -> bytes | None:
        """Returns None."""
        return None

    def set_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Writes nothing."""

    def artifacts(self, run_id: str, files: Iterable[Path]) -> None:
        """Stores nothing."""

    def folder_artifact(self, run_id: str, folder: Path, name: str) -> None:
        """Stores nothing."""

    def text_artifact(self, run_id: str, name: str, text: str) -> None:
        """Stores nothing."""

    def register(self, run_id: str, name: str, data: Path, **_: Any) -> str:
        """Registers nothing."""
        return ""

    def finish(self, run_id: str, *, failed: bool = False, stopped: bool = False) -> None:
        """Marks nothing."""

    @contextmanager
    def system_metrics(self, run_id: str, seconds: float = 5.0) -> Iterator[None]:
        """Records nothing."""
        yield


def open_tracker(config: TrackingConfig, home: Path) -> Tracker:
    """Returns the tracker of the settings; `offline` is one that keeps nothing."""
    return OfflineTracker() if tracking_uri(config, home) == OFFLINE else Tracker(config, home)


def redact(text: str) -> str:
    """Returns `text` without the password of a database or server address."""
    scheme, separator, rest = text.partition("://")
    if not separator or "@" not in rest:
        return text
    return f"{scheme}://***@{rest.rpartition('@')[2]}"


def _open(uri: str, experiment: str, artifacts: str | None) -> tuple[MlflowClient, str]:
    if uri.startswith("sqlite:///"):
        _make_database(Path(uri.removeprefix("sqlite:///")))
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return client, str(found.experiment_id)
    made = client.create_experiment(experiment, artifact_location=artifacts, tags={NOTE_TAG: _EXPERIMENT})
    return client, str(made)


def _make_database(path: Path) -> None:
    """Makes MLflow's tables aside unless the file is there: a process killed half way would leave half of them."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # somebody else was as fast, and may have written
        except OSError:
            made.replace(path)  # a file system without links
