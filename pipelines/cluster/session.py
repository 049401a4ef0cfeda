"""What a sweep holds while it trains: the cluster, and the run that its experiments' runs are children of."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.cluster import engine as cluster
from pipelines.cluster.driver_folder import DriverFolder, clear_dead
from pipelines.cluster.placement import growth, per_worker
from pipelines.cluster.preflight import check_database, check_room, check_shared
from pipelines.cluster.watch import RayLost
from pipelines.tracking.recording import finish_parent, send_proofs, send_records
from pipelines.tracking.tracker import IDENTITY_TAG, Tracker, open_tracker
from setr.errors import EnvironmentFailure, InputError
from setr.planning.planned import Planned
from setr.record.lineage import DIFF_ARTIFACT, lineage, origin
from setr.redaction import first_line, redacted
from setr.settings.config import Config, to_dict
from setr.settings.home import resolve

LAST_LINES = 40  # of each of Ray's logs, kept when Ray is lost


@contextlib.contextmanager
def joined_cluster(
    config: Config, tracker: Tracker | None, logs: Path, storage: Path, mine: DriverFolder
) -> Iterator[dict[str, float]]:
    """Yields the resources of a cluster that can do the sweep; raises before anything is placed on one that cannot."""
    resources = cluster.connect(log_folder=logs)
    try:
        mine.note(session=cluster.own_session())
        nodes = cluster.nodes()
        if not growth(config):
            check_room(nodes, per_worker(config, resources), scale=config.sweep.scale)
        if tracker is not None:
            check_database(tracker.uri, len({node["address"] for node in nodes}))
        if os.environ.get("RAY_ADDRESS"):
            check_shared(storage, cluster.on_every_node)
        yield resources
    except RayLost:
        _print_last_words(cluster.own_session())
        raise
    finally:
        cluster.disconnect()


def _print_last_words(session: str) -> None:
    """Prints the end of what Ray's processes wrote, into the driver's log: their folder does not last."""
    for name in ("raylet", "gcs_server"):
        for log in sorted(Path(session).glob(f"logs/{name}*")) if session else []:
            print(f"--- {log.name}")
            print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]), flush=True)


@contextlib.contextmanager
def cluster_resources(config: Config, logs: Path, storage: Path, mine: DriverFolder) -> Iterator[dict[str, float]]:
    """Yields the resources of a cluster for work that is not tracked."""
    resources = cluster.connect(log_folder=logs)
    try:
        mine.note(session=cluster.own_session())
        if os.environ.get("RAY_ADDRESS"):
            check_shared(storage, cluster.on_every_node)
        yield resources
    finally:
        cluster.disconnect()


@contextlib.contextmanager
def parent_run(
    config: Config,
    tracker: Tracker | None,
    name: str,
    description: str,
    *,
    tags: Mapping[str, str],
    key: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Yields the run that the experiments' runs are children of, "" without a `tracker`.

    One with the same `key` is continued.
    """
    if tracker is None:
        yield ""
        return
    try:
        parent = tracker.start_parent(name, {**origin(), **tags}, description, key=key)
    except Exception as error:  # it answered a moment ago
        raise EnvironmentFailure(
            "E_TRACKING", "MLflow takes no new run", where=tracker.address, found=first_line(error)
        ) from None
    try:
        tracker.set_parameters(parent, parameters or {})
        tracker.text_artifact(parent, "config.json", json.dumps(redacted(to_dict(config)), indent=1, sort_keys=True))
        tracker.text_artifact(parent, DIFF_ARTIFACT, lineage().diff)
        yield parent
    except BaseException:
        finish_parent(tracker, parent, failed=True, stopped=False)
        raise


def send_unsent(config: Config, planned: Sequence[Planned]) -> None:
    """Sends finished experiments that the tracking server does not have, and proofs that are newer than what it has.

    It was away, or it is a new one, or a replay has shown since that the present code computes them.

    Ends the runs of drivers that died after their last experiment, too: no other driver may come.
    """
    try:
        tracker = open_tracker(config.tracking, resolve("."))
        clear_dead(resolve(config.storage.checkpoints), tracker)
        if tracker is not None:
            _send_unsent(config, planned, tracker)
    except (EnvironmentFailure, InputError) as error:
        print(f"{error}: run the same command again to send what is missing there")


def _send_unsent(config: Config, planned: Sequence[Planned], tracker: Tracker) -> None:
    found = tracker.runs("attributes.status = 'FINISHED'")
    tracked = {run.tags[IDENTITY_TAG]: run for run in found if IDENTITY_TAG in run.tags}
    if proofs := send_proofs(tracker, [entry for entry in planned if entry.state_now()[0] == "done"], tracked):
        print(f"sent {proofs} proofs to MLflow")
    unsent = [e for e in planned if e.identity not in tracked and e.state_now()[0] == "done"]
    if unsent:
        parent = tracker.start_parent("records sent later", origin(), "Experiments trained earlier.", key="later")
        send_records(tracker, parent, unsent, register=config.tracking.register_models)
        tracker.finish(parent)
        print(f"sent {len(unsent)} records to MLflow")
