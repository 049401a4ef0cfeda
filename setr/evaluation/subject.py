"""A checkpoint that is to be scored: opened, checked against the data, and the protocols that go with it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setr.data.manifest import MANIFEST_NAME
from setr.data.shards import Shards
from setr.errors import InputError
from setr.evaluation.opened import open_model
from setr.evaluation.protocol_names import named_protocol
from setr.files.hashing import file_sha256
from setr.models.importing.receipt import Receipt
from setr.models.segmenter import Segmenter
from setr.models.weights import import_checkpoint
from setr.record.checkpoint_names import steps
from setr.record.files import EXPERIMENT, SCORES
from setr.record.reading import read_experiment_file, read_scores_file
from setr.settings.config import Config, EvaluationConfig
from setr.settings.home import resolve
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is ready to be scored, and what is known of where it comes from."""

    model: Segmenter
    source: Path
    sha256: str  # of a step folder: its manifest's, which holds the hashes of everything else
    receipt: Receipt | None = None  # of an imported file
    experiment: Experiment | None = None  # of a checkpoint trained here
    protocols: tuple[Protocol, ...] = ()  # that it was scored with when its training ended
    classes: tuple[str, ...] = ()  # by name, where it says so
    threads: int = 0  # that it was scored with; sums in float32 depend on them
    recorded: Mapping[str, Any] = field(default_factory=dict)  # its scores by protocol


def open_checkpoint(settings: EvaluationConfig, *, allow_code: bool = False) -> Subject:
    """Returns the model of `settings.checkpoint`; a relative path is below the working folder, else the project's.

    Code of a user's own that it brings runs only with `allow_code`. Raises InputError for a file that does not exist or
    holds no decoder, and all that importing one raises.
    """
    path = Path(settings.checkpoint).expanduser()
    path = path if path.exists() else resolve(settings.checkpoint)
    if path.is_dir():
        return _own_checkpoint(path, allow_code=allow_code)
    model, receipt = import_checkpoint(
        path, num_heads=settings.num_heads or None, taps=settings.taps or None, allow_code=allow_code
    )
    random = [entry.parameter for entry in receipt.with_status("missing") if "random" in entry.detail]
    if random:
        raise InputError(
            "E_CKPT_KEYS",
            f"{len(random)} tensors of the model are not in the file, its scores would be random",
            where=path,
            found=f"no {random[0]}",
            remedy="score a whole segmentation model",
        )
    return Subject(model, path, receipt.sha256, receipt)


def _own_checkpoint(path: Path, *, allow_code: bool) -> Subject:
    folder = (steps(path) or [path])[-1]
    model = open_model(folder, allow_code=allow_code).model
    root = folder if (folder / EXPERIMENT).is_file() else folder.parent
    record = read_experiment_file(root)
    job, stored = record["job"], read_scores_file(root) if (root / SCORES).is_file() else {}
    sha256 = file_sha256(folder / MANIFEST_NAME)
    return Subject(
        model,
        folder,
        sha256,
        experiment=Experiment.from_dict(record["experiment"]),
        protocols=tuple(Protocol(**protocol) for protocol in job.get("protocols", ())),
        classes=tuple(stored.get("classes", ())),
        threads=job.get("threads", 0),
        recorded=stored.get("scores", {}) if stored.get("checkpoint") == sha256 else {},
    )


def require_same_classes(subject: Subject, shards: Shards) -> None:
    """Raises InputError where checkpoint and data set have as many classes, but others."""
    ours, theirs = subject.classes, shards.manifest.classes
    different = [index for index, names in enumerate(zip(ours, theirs, strict=False)) if names[0] != names[1]]
    if different and len(ours) == len(theirs):
        raise InputError(
            "E_CLASS_NAMES",
            f"the checkpoint was trained on other classes ({len(different)} differ)",
            where=f"{shards.manifest.dataset}/{shards.manifest.split}, class {different[0]}",
            found=theirs[different[0]],
            expected=ours[different[0]],
            remedy="score a checkpoint on the data set that it was trained for",
        )


def choose_protocols(config: Config, subject: Subject, shards: Shards) -> list[Protocol]:
    """Returns the protocols that the settings name; without any, those the checkpoint was scored with, else `ss`."""
    own = subject.experiment
    known = (
        {protocol.name: protocol for protocol in subject.protocols} if own and own.dataset == config.data.name else {}
    )
    miniature = None
    if own and own.scale == "miniature":
        miniature = dataclasses.replace(config.miniature, crop_size=own.recipe.crop_size)
    return [
        known[name]
        if name in known
        else named_protocol(
            name,
            subject.model.spec,
            config.data.name,
            num_classes=shards.manifest.num_classes,
            miniature=miniature,
            known=known.get("ss"),
        )
        for name in config.evaluation.protocol or tuple(known) or ("ss",)
    ]
