"""Whether what stands behind a number is still what it was: bytes hashed again, recorded images compared with new."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from setr.errors import InputError, SetrError
from setr.files.hashing import file_sha256
from setr.reporting.numbers.results import ELSEWHERE_TAG, Result
from setr.reporting.numbers.statistics import mean_iou
from setr.reporting.tracing.trace import Link, one_line

# Of all pixels: another device or library version adds in another order and tips a tie here and there, no more.
TOLERATED_PIXELS = 1e-3
_ROUNDING = 1e-6  # percentage points


def verify_bytes(result: Result, *, shards: Path, weights: Sequence[Path] = ()) -> list[Link]:
    """Returns a link for checkpoint, training data and weights: every file is read and hashed again.

    `shards` is the folder of the training split, `weights` the files the encoder started from.
    """
    found = [
        _hashed("checkpoint bytes", lambda: _checkpoint_now(result), result.checkpoint_sha256),
        _hashed("data bytes", lambda: _shards_sha256(shards), str(result.of("manifest"))),
    ]
    if weights or result.of("weights"):
        expected = str(result.of("weights"))
        found.append(_hashed("weights bytes", lambda: "+".join(file_sha256(path) for path in weights), expected))
    return found


def verify_validation(result: Result, protocol: str, folder: Path) -> Link:
    """Returns the link of the bytes of the data that a protocol's score was made on, in the folder of that split."""
    recorded = str(result.scores.get(protocol, {}).get("manifest", ""))
    return _hashed("validation bytes", lambda: _shards_sha256(folder), recorded)


def sums_to_score(result: Result, protocol: str, areas: np.ndarray, matrix: np.ndarray) -> Link:
    """Returns whether the recorded mIoU follows from the recorded images' areas (N,3,K) and their sum, (K,K).

    The evaluation's own code makes the score of the sum: whatever a metric is here, a table has the same.
    """
    from setr.evaluation.metrics import image_areas, scores  # with torch, which a report does without
    from setr.study.code import scoring_code

    name, recorded = "score of its images", result.score(protocol, "mIoU")
    if not np.array_equal(image_areas(matrix), areas.sum(0)):
        return Link(name, "", "the images' counts are not those of the sum beside them")
    summed = scores(matrix).mIoU
    text = f"mIoU {summed:.4f} from {len(areas)} images"
    if recorded is not None and abs(recorded - summed) < _ROUNDING:
        return Link(name, text)
    by = str(result.scores[protocol].get("scoring", ""))
    other = f", by other scoring code ({by[:12]}): a sweep scores it again" if by != scoring_code() else ""
    return Link(name, text, f"recorded was {recorded}{other}")


def compare_images(keys: Sequence[str], areas: np.ndarray, now_keys: Sequence[str], now: np.ndarray) -> Link:
    """Returns whether images that were scored again got what is recorded; `areas`, `now`: (N,3,K), (M,3,K)."""
    name = "images scored again"
    places = {key: index for index, key in enumerate(keys)}
    unknown = [key for key in now_keys if key not in places]
    if unknown:
        return Link(name, "", f"image {unknown[0]} has no recorded score")
    if areas.shape[2] != now.shape[2]:
        return Link(name, "", f"{now.shape[2]} classes, recorded were {areas.shape[2]}")
    before = areas[[places[key] for key in now_keys]]
    relabelled = (before[:, 2] != now[:, 2]).any(-1)
    if relabelled.any():
        return Link(name, "", f"image {now_keys[int(relabelled.argmax())]} has another label than the recorded one")
    text = f"{len(now_keys)} of {len(keys)}, mIoU {float(mean_iou(now.sum(0))):.4f}"
    # A pixel that changes its class leaves one sum and enters another.
    changed = np.abs(before[:, :2] - now[:, :2]).sum(-1).max(-1)
    if not changed.any():
        return Link(name, f"{text}: every count as recorded")
    share = float(changed.sum()) / max(1, int(now[:, 2].sum()))
    worst = now_keys[int(changed.argmax())]
    said = f"{share:.4%} of the pixels differ, most in {worst}; mIoU recorded {float(mean_iou(before.sum(0))):.4f}"
    if share <= TOLERATED_PIXELS:
        return Link(name, f"{text}: {said} (within {TOLERATED_PIXELS:.1%}: another device or library version)")
    return Link(name, text, said)


def verified_text(links: Sequence[Link]) -> str:
    """Returns what was verified for a terminal, one line for each link."""
    lines = []
    for link in links:
        state = f"BROKEN: {link.broken}" if link.broken else f"not shown: {link.open}" if link.open else "ok"
        said = [state, *([link.value] if link.value else [])]
        lines.append(f"verify {link.name}: {one_line('; '.join(said))}")
    return "\n".join(lines)


def _hashed(name: str, hash_now: Callable[[], str], expected: str) -> Link:
    try:
        found = hash_now()
    except (SetrError, OSError) as error:
        return Link(name, "", str(error))
    if not expected:
        return Link(name, found, "no hash was recorded to compare with")
    return Link(name, found, "" if found == expected else f"recorded was {expected}")


def _checkpoint_now(result: Result) -> str:
    # Imported here: a report needs no torch, only this check of a checkpoint's tensors does.
    from setr.record.checkpoint import load

    if not result.checkpoint:
        elsewhere = result.tags.get(ELSEWHERE_TAG, "")
        what = "the checkpoint lies outside this project" if elsewhere else "where the checkpoint lies is not known"
        raise InputError("E_CHECKPOINT_FOLDER", what, found=elsewhere)
    return load(Path(result.checkpoint)).info.sha256


def _shards_sha256(folder: Path) -> str:
    """Returns the hash of a manifest after every shard file was hashed against it."""
    from setr.data.manifest import read_manifest

    manifest, sha256 = read_manifest(folder)
    for entry in manifest.shards:
        if (found := file_sha256(folder / entry.file)) != entry.sha256:
            raise OSError(f"{folder / entry.file} has SHA-256 {found}, the manifest says {entry.sha256}")
    return sha256
