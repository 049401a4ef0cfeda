"""What a folder trains, and which checkpoint in it a training may go on from.

<folder>/identity.json   identity, experiment and library versions, written when a training starts there
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from setr.errors import InputError
from setr.files.atomic import Owner, write_json
from setr.record import checkpoint, checkpoint_names
from setr.record.files import IDENTITY
from setr.record.reading import as_kept, read_identity_file, training_of
from setr.study import spec

Remark = tuple[str, dict[str, Any]]  # an event and its values


@dataclass(frozen=True)
class Found:
    """The checkpoint to go on from (`info` None: there is none), and what there is to report about the search."""

    info: dict[str, Any] | None  # path, step, sha256
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    notes: list[Remark]


def find_checkpoint(
    folder: Path, origin: Mapping[str, Any], *, last_step: int, allow_drift: bool, owner: Owner | None = None
) -> Found:
    """Returns the newest sound checkpoint in `folder` of the training that `origin` describes.

    `origin` holds identity, experiment and environment. Raises InputError with the differences if the folder trains
    something else or was trained by other versions, unless `allow_drift`; EnvironmentFailure (E_LEASE) if `owner` does
    not own the folder any more.
    """
    notes: list[Remark] = []
    identities = _agree(folder, origin, last_step, allow_drift, notes, owner)

    def damaged(path: Path, reason: str) -> None:
        notes.append(("checkpoint_damaged", {"path": path.name, "reason": reason}))

    found = checkpoint.load_latest(folder, identities, on_damaged=damaged, owner=owner)
    if found is None:
        return Found(None, {}, {}, notes)
    info = {"path": str(found.info.path), "step": found.info.step, "sha256": found.info.sha256}
    return Found(info, found.tensors, found.state, notes)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns "key: before -> after" for each value of experiment and environment that differs."""
    old, new = _decisive(before), _decisive(after)
    return [f"{key}: {_said(was)} -> {_said(now)}" for key, was, now in spec.differences(old, new)]


def _decisive(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides a training's numbers: spec, code and library versions."""
    experiment = dict(record.get("experiment", {}))
    if "spec" in experiment:
        experiment = {**experiment["spec"], "code": experiment.get("code", "")}
    return {"experiment": experiment, "environment": record.get("environment", {})}


def _said(value: Any) -> Any:
    return "absent" if value is None else value


def require_same_tensors(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError that names the first of a checkpoint's tensors that has another name or shape in the model."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    different = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if different:
        name = different[0]
        raise InputError(
            "E_CHECKPOINT_KEYS",
            f"the checkpoint is of another model ({len(different)} tensors differ)",
            where=f"{path}, {name}",
            found=found.get(name, "missing"),
            expected=wanted.get(name, "no such tensor"),
        )


def _agree(
    folder: Path,
    origin: Mapping[str, Any],
    last_step: int,
    allow_drift: bool,
    notes: list[Remark],
    owner: Owner | None,
) -> list[str]:
    """Returns the identities whose checkpoints are this training's, and writes down what the folder trains."""
    written = read_identity_file(folder)
    kept = written or _newest_origin(folder)
    if kept is None:
        write_json(folder / IDENTITY, {**origin, "identities": [origin["identity"]]}, owner=owner)
        return [origin["identity"]]
    different = differences(kept, origin)
    if kept["identity"] == origin["identity"] and checkpoint_names.latest_step(folder) == last_step:
        different = []  # finished: other versions have nothing left to compute
    if different and checkpoint_names.steps(folder) and not allow_drift:
        raise InputError(
            "E_DRIFT",
            "this folder holds a training of another kind",
            where=folder,
            found="; ".join(different),
            remedy="use another folder, or insist with --allow-drift",
        )
    identities = sorted({*kept.get("identities", [kept["identity"]]), origin["identity"]})
    if different:
        notes.append(("drift", {"differences": different}))
    if different or not written:
        write_json(folder / IDENTITY, {**origin, "identities": identities}, owner=owner)
    return identities


def _newest_origin(folder: Path) -> dict[str, Any] | None:
    """Returns what the newest checkpoint says that it is of, for a folder that lost its identity.json."""
    found = checkpoint_names.steps(folder)
    return training_of(as_kept(found[-1], checkpoint.STATE)) if found else None
