"""What has to be right before a GPU is held: storage, tracking, cluster. Each mistake is one line, at once."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from setr.errors import EnvironmentFailure
from setr.planning.plan import checkpoint_bytes
from setr.planning.planned import Planned

# File systems on which SQLite's locks do not hold, or cost a round trip each.
NETWORK_FILE_SYSTEMS = ("afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3")
LOCAL_FUSE = ("fuse.fuse-overlayfs", "fuse.overlayfs")  # a container's own disk
EXTRA_BYTES = 20_000_000  # an experiment's record, areas by image, picture

# Runs a function with these arguments on every node: {node's address: what it returned, or the error it raised}.
Everywhere = Callable[..., Mapping[str, Any]]


def storage_bytes(planned: Sequence[Planned], keep_last: int) -> int:
    """Returns what the experiments' folders take at most: checkpoints that are kept, and one that is being written."""
    return sum(checkpoint_bytes(entry.experiment, entry.protocols) * (keep_last + 2) + EXTRA_BYTES for entry in planned)


def check_shared(folder: Path, everywhere: Everywhere) -> None:
    """Raises EnvironmentFailure unless every node reads what this process wrote in `folder`, and can write there."""
    token = uuid.uuid4().hex
    marker = folder / f".marker-{token}"
    marker.write_text(token, encoding="utf-8")
    try:
        answers = everywhere(_read_and_write, str(marker))
    finally:
        for path in folder.glob(f".marker-{token}*"):
            path.unlink(missing_ok=True)
    for address, answer in answers.items():
        if answer != token:
            raise EnvironmentFailure(
                "E_STORAGE",
                "the storage path is not shared: a node cannot use what was written here",
                where=f"{folder} on node {address}",
                found=answer,
                expected="a folder that every node sees and may write in",
                remedy="set SETR_HOME or storage.checkpoints to one",
            )


def _read_and_write(marker: str) -> str:
    """Returns the marker's text as this node reads it, after a write beside it."""
    path = Path(marker)
    try:
        text = path.read_text(encoding="utf-8")
        path.with_name(f"{path.name}-{uuid.uuid4().hex}").write_text(text, encoding="utf-8")
    except OSError as error:
        return error.strerror or str(error)
    return text


def check_database(uri: str, nodes: int, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Raises EnvironmentFailure for an SQLite database on a network file system, or on a cluster of several nodes."""
    if not uri.startswith("sqlite:"):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    kind = file_system(path, mounts)
    network = kind.partition(".")[0] in NETWORK_FILE_SYSTEMS and kind not in LOCAL_FUSE
    if not network and nodes < 2:
        return
    raise EnvironmentFailure(
        "E_TRACKING",
        "SQLite is for one machine and its own disk",
        where=path,
        found=f"file system {kind}" if network else f"a cluster of {nodes} nodes",
        remedy="set MLFLOW_TRACKING_URI to a server's address, or to offline and use pipelines/track_import.py later",
    )


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Returns the type of the file system that `path` is or will be on, as the kernel calls it; "" if unknown."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    place = path.resolve()
    found, length = "", -1
    for _, point, kind, *_ in (line for line in lines if len(line) >= 3):
        folder = Path(point.replace("\\040", " "))
        # The last mount on a folder hides the ones before.
        if place.is_relative_to(folder) and len(folder.parts) >= length:
            found, length = kind, len(folder.parts)
    return found


def check_room(nodes: Sequence[Mapping[str, Any]], per_worker: Mapping[str, float], *, scale: str) -> None:
    """Raises EnvironmentFailure if no experiment of the sweep could ever get the CPUs and GPUs it needs.

    `nodes` as cluster.nodes() returns them; `per_worker` is what one process of a training asks for.
    """
    wanted = {**per_worker, **({"GPU": 1.0} if scale == "paper" else {})}
    if any(all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in nodes):
        return
    largest = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in wanted}
    raise EnvironmentFailure(
        "E_CLUSTER",
        f"no experiment at {scale} scale fits on any node",
        where=f"{len(nodes)} nodes",
        found="at most " + _amounts(largest),
        expected=_amounts(wanted) + " for one worker",
        remedy="add nodes, or change training.threads or sweep.scale",
    )


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
