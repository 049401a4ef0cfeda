"""Files for the test servers of Cityscapes and ADE20K: written, checked, and only then given their name.

Both servers take a zip archive of one 8-bit single-channel PNG for each test image, of the image's size. Cityscapes
wants label ids (7, 8, 11, ...), not train ids, in files that start with `<city>_<sequence>_<frame>`; ADE20K's scene
parsing wants 1 to 150, in files named as the images.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from torch import nn

from setr.data.reading.archives import ArchiveMember, list_members, read_member
from setr.data.reading.datasets import DATASETS
from setr.data.reading.images import decode_raw_label
from setr.data.reading.published import Server
from setr.data.shards import Shards
from setr.errors import InputError
from setr.evaluation.evaluate import check_fit, predictions
from setr.evaluation.windows import Size
from setr.files.atomic import written_aside
from setr.files.hashing import file_sha256
from setr.study.protocols import Protocol


@dataclass(frozen=True)
class Submission:
    """A checked archive."""

    path: Path
    server: str
    files: int
    bytes: int
    sha256: str


def server_for(dataset: str) -> Server:
    """Returns the server that scores a data set; raises InputError where there is none."""
    served = {name: known.server for name, known in DATASETS.items() if known.server is not None}
    if dataset not in served:
        # A server's own data set before those that have its classes under another name.
        names = sorted(served, key=lambda name: served[name].name != name)
        raise InputError("E_NO_SERVER", "this data set has no test server", found=dataset, expected=", ".join(names))
    return served[dataset]


def file_name(key: str, server: Server) -> str:
    """Returns the name of a sample's file; raises InputError where the key is not one of the server's images."""
    name = PurePosixPath(key).name + server.name_suffix
    if not re.fullmatch(server.name_pattern, name):
        raise InputError(
            "E_SUBMISSION_NAME",
            "the server would not know this image",
            where=key,
            found=name,
            expected=server.name_pattern,
        )
    return name


def submit(
    model: nn.Module,
    shards: Shards,
    protocol: Protocol,
    path: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Submission:
    """Writes the model's classes of all images for their data set's server and returns the checked archive."""
    server = server_for(shards.manifest.dataset)
    check_fit(model, shards, protocol)
    sizes: dict[str, Size] = {}  # complete when the last image has been predicted: the check comes after

    def predicted() -> Iterator[tuple[str, np.ndarray]]:
        for index, record, classes in predictions(model, shards, protocol):
            sizes[record.key] = (record.image.shape[0], record.image.shape[1])
            yield record.key, classes.cpu().numpy()
            if progress:
                progress(index + 1, len(shards))

    return write_submission(path, predicted(), server, sizes=sizes)


def write_submission(
    path: Path, predictions: Iterable[tuple[str, np.ndarray]], server: Server, *, sizes: Mapping[str, Size]
) -> Submission:
    """Writes the archive of (key, classes (H,W) uint8) and returns it, checked against `sizes` (key -> height, width).

    An archive that fails its check, or cannot be written, leaves nothing behind. Equal predictions give equal bytes.
    """
    ids = np.zeros(256, np.uint8)
    ids[: len(server.ids)] = server.ids
    with written_aside(path) as draft:
        with zipfile.ZipFile(draft, "w") as archive:
            for key, classes in predictions:
                if classes.size and int(classes.max()) >= len(server.ids):
                    raise InputError(
                        "E_PREDICTION_RANGE",
                        "prediction outside the classes",
                        where=key,
                        found=int(classes.max()),
                        expected=f"0 to {len(server.ids) - 1}",
                    )
                png = cv2.imencode(".png", ids[classes])[1].tobytes()
                # A fixed date: the archive is the same whenever it is made.
                archive.writestr(zipfile.ZipInfo(file_name(key, server), date_time=(1980, 1, 1, 0, 0, 0)), png)
        checked = check_submission(draft, server, sizes=sizes)
    return Submission(path, checked.server, checked.files, checked.bytes, checked.sha256)


def check_submission(path: Path, server: Server, *, sizes: Mapping[str, Size] | None = None) -> Submission:
    """Returns the archive's record if the server would take it: count, names, sizes, ids.

    `sizes` (key -> height, width) says which images are expected; without it, as many as the test split has.
    Raises InputError E_SUBMISSION_COUNT, _NAME, _SIZE, _IDS or E_LABEL_* that names the first file at fault.
    """
    members = list_members(path)
    expected = None if sizes is None else {file_name(key, server): size for key, size in sizes.items()}
    _check_names(path, [PurePosixPath(member).name for member in members], server, expected)
    allowed = np.zeros(256, np.bool_)
    allowed[list(server.ids)] = True
    for member in members:
        where = ArchiveMember(path, member)
        values = decode_raw_label(read_member(where), where)
        size = server.image_size if expected is None else expected[PurePosixPath(member).name]
        if size is not None and values.shape != tuple(size):
            raise InputError(
                "E_SUBMISSION_SIZE",
                "the file has not its image's size (height x width)",
                where=where,
                found="x".join(map(str, values.shape)),
                expected="x".join(map(str, size)),
            )
        if values.dtype != np.uint8 or not allowed[values].all():
            wrong = [value for value in np.unique(values).tolist() if value > 255 or not allowed[value]]
            raise InputError(
                "E_SUBMISSION_IDS",
                "the file holds values that the server does not score",
                where=where,
                found=", ".join(map(str, wrong[:8])),
                expected=f"{len(server.ids)} ids from {min(server.ids)} to {max(server.ids)}",
                remedy=server.remedy,
            )
    return Submission(path, server.name, len(members), path.stat().st_size, file_sha256(path))


def _check_names(path: Path, names: list[str], server: Server, expected: Mapping[str, Size] | None) -> None:
    strange = [name for name in names if not re.fullmatch(server.name_pattern, name)]
    if expected is not None:
        strange += [name for name in names if name not in expected and name not in strange]
    if strange or len(set(names)) < len(names):
        raise InputError(
            "E_SUBMISSION_NAME",
            "names that the server does not know, or twice",
            where=path,
            found=", ".join((strange or names)[:5]),
            expected=server.name_pattern,
        )
    count = server.images if expected is None else len(expected)
    if len(names) != count:
        missing = sorted(set(expected or ()) - set(names))
        raise InputError(
            "E_SUBMISSION_COUNT",
            "the archive has not one file for each test image",
            where=path,
            found=f"{len(names)}" + (f", missing {', '.join(missing[:5])}" if missing else ""),
            expected=count,
        )
