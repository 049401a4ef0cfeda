"""What state an experiment's folder is in, asked here alone, and whether its checkpoint still holds.

proof.json holds the scored checkpoint's folder and SHA-256, and size and times of its files when they had that hash.

A plan of many finished trainings must not read terabytes each time: bytes that change through the file system change a
file's times, and are hashed again. What a disk does to them by itself shows when a training goes on, or in
`pipelines/report.py trace --verify`: both hash every byte.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from setr.errors import EnvironmentFailure, SetrError
from setr.files.atomic import write_json
from setr.record.checkpoint_names import latest_step
from setr.record.events import read_events
from setr.record.files import EVENTS, PROOF, SCORES
from setr.record.reading import as_kept, value_in
from setr.study.code import scoring_code
from setr.study.protocols import Protocol


def is_scored(score: Mapping[str, Any], protocol: Protocol, manifest: str) -> bool:
    """Returns whether a stored score is what would be found now.

    It is if it was made by the code that scores here, under the protocol, on the images of a manifest (its hash; "":
    any).
    """
    same = score.get("digest") == protocol.digest() and score.get("scoring") == scoring_code()
    return same and manifest in ("", score.get("manifest"))


def state_of(
    folder: Path, protocols: Iterable[Protocol] = (), *, identity: str = "", validation: str = ""
) -> tuple[str, int]:
    """Returns (done | to score | resumable | to do | failed, step) of an experiment's folder.

    Done means a proven checkpoint that was scored under all of `protocols`, on the images of the manifest that
    `validation` is the hash of ("": any), by the code that scores here; to score, that one of these is missing. Where
    the folder is not named by `identity` ("": any), what was scored has to be that experiment.
    """
    finished, _ = _finished(folder, protocols, identity=identity, validation=validation)
    if finished is not None:
        return finished
    step = latest_step(folder)  # where the scores are damaged, it is trained on from the newest checkpoint that holds
    if step > 0:
        return "resumable", step
    events = read_events(folder / EVENTS)
    return ("failed" if events and events[-1]["event"] == "failed" else "to do"), 0


def why_to_score(folder: Path, protocols: Iterable[Protocol], validation: str) -> str:
    """Returns what of a finished experiment's scores is not as they would be made now, "" if nothing is."""
    scores = as_kept(folder, SCORES).get("scores")
    kept = [score for score in scores.values() if isinstance(score, Mapping)] if isinstance(scores, dict) else []
    found = []
    for protocol in protocols:
        if any(is_scored(score, protocol, validation) for score in kept):
            continue
        same = [score for score in kept if score.get("digest") == protocol.digest()]
        if not same:
            found.append(f"no score under protocol {protocol.name} {protocol.digest()[:12]}")
            continue
        now = {"scoring code": ("scoring", scoring_code()), "images, their manifest": ("manifest", validation)}
        for what, (name, expected) in now.items():
            before = str(same[-1].get(name) or "none")
            if expected and before != expected:
                found.append(f"{what} {before[:12]} -> {expected[:12]}")
    return ", ".join(dict.fromkeys(found))


def damage(folder: Path, *, identity: str = "") -> str:
    """Returns why an experiment's final scores do not count although they are there; "" if they do, or are not."""
    return _finished(folder, (), identity=identity, validation="")[1]


def _finished(
    folder: Path, protocols: Iterable[Protocol], *, identity: str, validation: str
) -> tuple[tuple[str, int] | None, str]:
    """Returns (done | to score, step) and "", or None and why scores.json does not count ("": not its own)."""
    if not (folder / SCORES).is_file():
        return None, ""
    try:
        stored = value_in(folder / SCORES)
        scores, step = stored["scores"].values(), stored["step"]
        if type(step) is not int or not 0 <= step < 2**53 or not all(isinstance(score, Mapping) for score in scores):
            return None, f"{SCORES} is damaged: a step or a score that is none"
        asked = all(any(is_scored(score, protocol, validation) for score in scores) for protocol in protocols)
        if identity not in ("", folder.name) and stored.get("identity", folder.name) != identity:
            return None, ""
        if not proven(folder, stored["checkpoint_folder"], stored["checkpoint"]):
            return None, f"{stored['checkpoint_folder']} is not the checkpoint that was scored"
        return ("done" if asked else "to score", step), ""
    except SetrError as error:
        return None, f"the checkpoint that was scored: {error}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return None, f"{SCORES} is damaged: {type(error).__name__}"


def proven(folder: Path, name: str, sha256: str) -> bool:
    """Returns whether the checkpoint `name` in an experiment's folder is whole and has the hash.

    Raises IntegrityError for one that is not whole, ValueError for a name that is none of a checkpoint's.
    """
    if as_kept(folder, PROOF) == _record(folder, name, sha256):
        return True
    from setr.record.checkpoint import verify_checkpoint  # with torch, which a plan seldom needs

    if verify_checkpoint(folder, int(name.removeprefix("step-"))).sha256 != sha256:
        return False
    remember(folder, name, sha256)
    return True


def remember(folder: Path, name: str, sha256: str) -> None:
    """Writes down that the checkpoint `name` had the hash just now."""
    with contextlib.suppress(EnvironmentFailure):  # a folder that may only be read is hashed each time
        write_json(folder / PROOF, _record(folder, name, sha256))


def _record(folder: Path, name: str, sha256: str) -> dict[str, Any]:
    files = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
    found = {path.name: [(stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path in files}
    return {"checkpoint": name, "sha256": sha256, "files": found}
