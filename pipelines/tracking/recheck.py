"""Everything behind one number read again: files hashed, tracked run compared, sample of images scored anew."""

import contextlib
import hashlib
import math
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from pipelines.tracking.tracker import RECORD_ARTIFACT, Tracker
from setr.data.locations import below, is_uri, local_folder
from setr.data.shards import open_shards
from setr.errors import InputError, SetrError
from setr.evaluation.areas import read_areas, read_matrix
from setr.evaluation.evaluate import Evaluation, evaluate
from setr.evaluation.subject import choose_protocols, open_checkpoint
from setr.models.variants import Variant
from setr.planning.experiments import plan_training
from setr.planning.inputs import LOADED, manifest_hash, weight_files
from setr.record.equivalences import comparisons, is_equivalent, told_damage
from setr.record.files import EQUIVALENCES, SCORES, TRACE
from setr.record.lineage import DIFF_ARTIFACT
from setr.record.reading import as_kept
from setr.record.snapshot import CODE
from setr.record.trace import read_trace
from setr.redaction import first_line
from setr.reporting.numbers.column_protocols import score_name
from setr.reporting.numbers.results import ELSEWHERE_TAG, EXACT, Result, hash_of
from setr.reporting.tracing.commands import train_command
from setr.reporting.tracing.rehash import compare_images, sums_to_score, verify_bytes, verify_validation
from setr.reporting.tracing.trace import PARENT_TAG, Chain, Link
from setr.settings.config import Config, load_config
from setr.settings.home import PROJECT, resolve, resolve_location
from setr.study.cells import find_cell
from setr.study.code import scoring_code
from setr.study.shelf import setr_study

_ROUNDING = 1e-6  # percentage points


def verify_chain(
    config: Config, chain: Chain, tracker: Tracker | None, *, images: int, allow_code: bool = False
) -> list[Link]:
    """Returns a link for each thing that was read again; about `images` validation images are scored again (0: all).

    `tracker` is None where the tracking server cannot be reached: then what it holds is named as not checked.
    """
    result = chain.result
    if result is None:
        return []
    protocol = score_name(chain.cell)
    return [
        *_weights_and_bytes(config, result),
        _guarded("validation bytes", lambda: verify_validation(result, protocol, _shards(config, result, "val"))),
        *_tracked(result, protocol, tracker),
        *_trace_and_proofs(result),
        _guarded("train again", lambda: _train_again(config, result)),
        *_scored_again(config, result, protocol, images, allow_code=allow_code),
    ]


def _shards(config: Config, result: Result, split: str) -> Path:
    shards = below(resolve_location(config.data.shards), str(result.of("dataset")))
    location = below(shards, split)
    if split == "train":  # or two splits joined: the one that the manifest is of
        joined = sorted(Path(shards).glob("*+*")) if not is_uri(shards) else []
        location = next((str(one) for one in joined if _is_of(one, result)), location)
    return local_folder(location, config.data.local_copy)


def _is_of(folder: Path, result: Result) -> bool:
    with contextlib.suppress(SetrError):
        return manifest_hash(str(folder)) == result.of("manifest")
    return False


def _weights_and_bytes(config: Config, result: Result) -> list[Link]:
    try:
        shards = _shards(config, result, "train")
    except SetrError as error:
        return [Link("data bytes", "", str(error))]
    try:
        weights = weight_files(_model_of(result), result.of("scale"), resolve(config.weights.folder))
    except SetrError as error:
        return [*verify_bytes(result, shards=shards)[:2], Link("weights bytes", "", str(error))]
    return verify_bytes(result, shards=shards, weights=weights)


def _model_of(result: Result) -> Variant:
    """Returns the model of a result: that of its first cell, else SETR's of that name."""
    for key in result.cells:
        with contextlib.suppress(InputError):
            return find_cell(key).model
    return setr_study().model(str(result.of("variant")))


def _tracked(result: Result, protocol: str, tracker: Tracker | None) -> list[Link]:
    """Returns whether run, record and code change are in the tracking server as the chain says."""
    if tracker is None:
        return [Link("run", "", "the tracking server cannot be reached")]
    found = [_guarded("run", lambda: _run(result, protocol, tracker))]
    if result.tag("dirty") == "true":
        found.append(_guarded("diff", lambda: _diff(result, tracker)))
    return found


def _run(result: Result, protocol: str, tracker: Tracker) -> Link:
    runs = [run for run in tracker.find(result.identity) if run.run_id == result.run_id]
    if not runs:
        return Link("run", "", f"the tracking server has no run {result.run_id or 'of this identity'}")
    if tracker.fetch_artifact(result.run_id, RECORD_ARTIFACT) is None:
        return Link("run", "", f"artifact {RECORD_ARTIFACT} is missing")
    shown, recorded = runs[0].metrics.get(f"final/{protocol}/mIoU"), result.score(protocol, "mIoU")
    if shown is None or recorded is None or not math.isclose(shown, recorded, abs_tol=_ROUNDING):
        return Link("run", "", f"its metric final/{protocol}/mIoU is {shown}, the record says {recorded}")
    return Link("run", f"{result.run_id}, final/{protocol}/mIoU {shown:.4f}")


def _diff(result: Result, tracker: Tracker) -> Link:
    parent, recorded = result.tags.get(PARENT_TAG, ""), result.tag("diff")
    # The run has the diff of its training; its parent, that of the sweep that looked at it last, which may have scored.
    data = tracker.fetch_artifact(result.run_id, f"{recorded}.diff") if recorded else None
    data = data or (tracker.fetch_artifact(parent, DIFF_ARTIFACT) if parent else None)
    if data is None:
        return Link("diff", "", f"{DIFF_ARTIFACT} of run {parent or 'unknown'} is missing")
    found = hashlib.sha256(data).hexdigest()
    return Link("diff", found, "" if found == recorded else f"recorded was {recorded or 'no hash'}")


def _trace_and_proofs(result: Result) -> list[Link]:
    """Returns whether what a replay compares with, and what replays have found, is as it was written."""
    folder = _folder_of(result)
    if folder is None or not (trace := str(as_kept(folder, SCORES).get("trace", ""))):
        return []  # trained without a trace

    def read() -> Link:
        found = read_trace(folder / TRACE, identity=result.identity, sha256=trace)
        return Link("trace of its steps", f"{trace[:12]}, {len(found.steps)} steps")

    found = [_guarded("trace of its steps", read)]
    if (folder / EQUIVALENCES).exists():
        found.append(Link("replays", f"{len(comparisons(folder))} recorded", told_damage(folder)))
    return found


def _folder_of(result: Result) -> Path | None:
    return Path(result.checkpoint).parent if result.checkpoint and "://" not in result.checkpoint else None


def _train_again(config: Config, result: Result) -> Link:
    """Returns whether the command that trains again would train this very experiment, with what lies here now."""
    words = [word for word in shlex.split(train_command(result)) if "=" in word and not word.startswith("--")]
    with tempfile.TemporaryDirectory() as storage:  # what a plan keeps for the next one; a check writes nothing here
        loaded = resolve(config.storage.checkpoints) / LOADED
        if loaded.is_file():
            shutil.copy(loaded, storage)
        words = [word for word in words if not word.startswith("storage.checkpoints=")]
        words.append(f"storage.checkpoints={storage}")
        planned = plan_training(load_config(PROJECT / "params.yaml", words, section="training"))
    here, recorded = planned.experiment.as_dict(), dict(result.experiment)
    if planned.experiment.spec == hash_of(recorded.get("spec", {})):
        spec = f"gives spec {planned.experiment.spec[:12]}"
        if planned.code == recorded.get("code"):
            return Link("train again", f"{spec} and this code")
        if how := _shown_equal(result, planned.code):
            return Link("train again", f"{spec}; the code here is another, and {how}")
        # Not a broken chain: the commit is recorded, and the code has moved on since.
        return Link("train again", spec, open=_other_code(config, result))
    differing = sorted(name for name in here.keys() | recorded.keys() if here.get(name) != recorded.get(name))
    return Link("train again", "", f"the command gives another experiment: {', '.join(differing)} differ")


def _shown_equal(result: Result, code: str) -> str:
    """Returns how a replay has shown that a code computes the result, "" where none has."""
    folder = _folder_of(result)
    if folder is None:
        return ""
    trace = str(as_kept(folder, SCORES).get("trace", ""))
    trained = str(result.of("code"))
    found = is_equivalent(folder, trained=trained, code=code, trace_sha256=trace, scoring=scoring_code())
    return f"a replay on {found.host} has found it {found.verdict.footnote or EXACT}" if found else ""


def _other_code(config: Config, result: Result) -> str:
    """Returns what to do where the code here is not shown to compute what was trained."""
    ways = [f"git checkout {commit[:12]}"] if (commit := result.tag("commit")) not in ("", "unknown") else []
    snapshot = result.tag("snapshot")
    if snapshot and (resolve(config.storage.checkpoints) / CODE / snapshot).is_dir():
        ways.append(f"run pipelines/train.py of {config.storage.checkpoints}/{CODE}/{snapshot} with SETR_HOME set")
    first = f"; to train by its own code, {', or '.join(ways)}" if ways else ""
    return f"the code here is another: `python pipelines/sweep.py --prove` would show whether it is the same{first}"


def _scored_again(config: Config, result: Result, protocol: str, images: int, *, allow_code: bool) -> list[Link]:
    name = "images scored again"
    try:
        recorded = read_areas(result.per_image[protocol]) if protocol in result.per_image else None
        matrix = None if recorded is None else read_matrix(result.per_image[protocol])
        evaluation, total = _evaluate(config, result, protocol, 0 if recorded is None else images, allow_code)
    except (SetrError, OSError) as error:
        return [Link(name, "", str(error))]
    if recorded is None or matrix is None:
        return [Link("score of its images", "", "no scores of single images were kept"), _whole(result, evaluation)]
    keys, areas = recorded
    if len(keys) != total:
        return [Link(name, "", f"{len(keys)} images are recorded, the validation data has {total}")]
    now = [row.key for row in evaluation.rows]
    return [sums_to_score(result, protocol, areas, matrix), compare_images(keys, areas, now, evaluation.areas)]


def _whole(result: Result, evaluation: Evaluation) -> Link:
    recorded, now = result.score(evaluation.protocol.name, "mIoU"), evaluation.scores.as_dict()["mIoU"]
    same = recorded is not None and now is not None and abs(recorded - now) < 0.01
    text = f"all {evaluation.images}, mIoU {now:.4f}"
    return Link("images scored again", text, "" if same else f"recorded was {recorded}")


def _evaluate(config: Config, result: Result, protocol: str, images: int, allow_code: bool) -> tuple[Evaluation, int]:
    """Returns the evaluation of about `images` images (0: all), spread over the data, and how many there are."""
    if not result.checkpoint:
        elsewhere = result.tags.get(ELSEWHERE_TAG, "")
        what = "the checkpoint lies outside this project" if elsewhere else "where the checkpoint lies is not known"
        raise InputError("E_CHECKPOINT_FOLDER", what, found=elsewhere)
    words = [f"checkpoint={result.checkpoint}", f"protocol={protocol}", f"data.name={result.of('dataset')}"]
    chosen = load_config(PROJECT / "params.yaml", words, section="evaluation")
    shards = open_shards(_shards(config, result, "val"))
    subject = open_checkpoint(chosen.evaluation, allow_code=allow_code)
    [rules] = choose_protocols(chosen, subject, shards)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if subject.threads and device == "cpu":
        torch.set_num_threads(subject.threads)
    precision = str(result.of("recipe", {}).get("precision", "float32"))
    found = evaluate(subject.model, shards, rules, device=device, sample=images or None, precision=precision)
    return found, len(shards)


def _guarded(name: str, check: Callable[[], Link]) -> Link:
    """Returns check(), or a broken link that says why it could not be done."""
    try:
        return check()
    except SetrError as error:
        return Link(name, "", str(error))
    except Exception as error:  # the server's answer must not end the other checks
        return Link(name, "", first_line(error))
