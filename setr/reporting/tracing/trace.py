"""The chain from a cell of a table to the bytes its number came from; a link that is missing is named, not skipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setr.reporting.numbers.column_protocols import score_name
from setr.reporting.numbers.results import ELSEWHERE_TAG, Result, hash_of
from setr.reporting.numbers.tables import CellReport, build_table, scales_of
from setr.reporting.numbers.versions import protocol_digest
from setr.reporting.site.layouts import number, ours
from setr.reporting.tracing.commands import score_command, train_command
from setr.study.cells import Cell, find_cell
from setr.study.experiment import canonical_json, identity_of

PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class Link:
    """One link of a chain: what it is, its value, and what is wrong with it, if anything."""

    name: str
    value: str
    broken: str = ""
    url: str = ""
    open: str = ""  # what nothing has shown yet, though nothing contradicts it


@dataclass(frozen=True)
class Chain:
    """Everything between one number and its bytes, for one experiment behind the cell."""

    cell: Cell
    links: tuple[Link, ...]
    result: Result | None = None

    @property
    def whole(self) -> bool:
        """Returns whether no link is broken."""
        return not any(link.broken for link in self.links)


def trace(key: str, results: Sequence[Result]) -> list[Chain]:
    """Returns the chains of a cell, one for each experiment (seed) that its number is the mean of.

    The first scale that results have (paper before miniature) counts. A cell without a number has one chain
    that ends where the reason is. Raises InputError for an unknown cell.
    """
    cell = find_cell(key)
    report = build_table(cell.table, results, scale=scales_of(results)[0], study=cell.study)
    found = next(one for one in report.cells if one.cell.key == key)
    if found.measured is None:
        reason = "" if cell.quoted else f"{found.verdict}: {found.detail}"
        return [Chain(cell, (_paper_link(found, report.scale), Link("score", ours(found) or "quoted", reason)))]
    head = _paper_link(found, report.scale)
    return [Chain(cell, (head, *links(cell, result)), result) for result in found.measured.results]


def _paper_link(report: CellReport, scale: str) -> Link:
    printed = "prints no value" if report.cell.paper is None else f"prints {number(report.cell.paper)}"
    own = f"; ours at {scale} scale {ours(report)}, {report.verdict}" if report.measured else ""
    return Link("cell", f"{report.cell.key} ({report.cell.label}): the paper {printed}{own}")


def links(cell: Cell | None, result: Result) -> tuple[Link, ...]:
    """Returns the links from a result's scores down to the commands that make it again."""
    return (
        *_score_links(cell, result),
        _run_link(result),
        *_code_links(result),
        _configuration_link(result),
        *_spec_link(result),
        _needed("data manifest", str(result.of("manifest")), "no hash of the training data was recorded"),
        _weights_link(result),
        *_checkpoint_links(result),
        *_command_links(cell, result),
    )


def _score_links(cell: Cell | None, result: Result) -> list[Link]:
    names = [score_name(cell)] if cell else sorted(result.scores)
    found = []
    for name in names or [""]:
        values = ", ".join(
            f"{metric} {number(value)}"
            for metric in ("mIoU", "pixel_accuracy", "mean_accuracy")
            if (value := result.score(name, metric)) is not None
        )
        missing = "" if values else f"no finite score under protocol {name}" if name else "not scored"
        found.append(Link(f"score {name}".strip(), values, missing))
        if values:
            found += [_protocol_link(name, result), *_scored_links(name, result)]
    return found


def _protocol_link(name: str, result: Result) -> Link:
    record, digest = result.scores[name].get("protocol"), protocol_digest(result, name)
    if not isinstance(record, Mapping):
        return Link(f"protocol {name}", digest, "the protocol itself was not recorded")
    broken = "" if digest == hash_of(record) else f"its hash is {hash_of(record)[:12]}, recorded was {digest[:12]}"
    return Link(f"protocol {name}", f"{digest[:12]} {canonical_json(record)}", broken)


def _scored_links(name: str, result: Result) -> list[Link]:
    manifest, code = (str(result.scores[name].get(key, "")) for key in ("manifest", "scoring"))
    return [
        _needed(f"scored on {name}", manifest, "no hash of the images that it was scored on was recorded"),
        _needed("scoring code", code, "the hash of the code that scored it was not recorded"),
        *_scored_by(result.scores[name].get("tags")),
    ]


def _scored_by(tags: Any) -> list[Link]:
    """Returns where the code that scored came from; the training, below, may have been by another commit."""
    if not isinstance(tags, Mapping) or not tags.get("git.commit"):
        return []
    changed = {
        "true": f", changed: diff {tags.get('git.diff_sha256', 'not kept')}",
        "false": ", the commit is the code",
    }
    snapshot = f", snapshot {tags['setr.snapshot']}" if tags.get("setr.snapshot") else ""
    return [Link("scored by", f"commit {tags['git.commit']}{changed.get(str(tags.get('git.dirty')), '')}{snapshot}")]


def _run_link(result: Result) -> Link:
    broken = "" if result.run_id else "no tracked run is known for this identity"
    return Link("run", result.run_id, broken, result.run_url)


def _code_links(result: Result) -> list[Link]:
    commit, dirty = result.tag("commit"), result.tag("dirty")
    known = commit not in ("", "unknown")
    found = [Link("commit", commit, "" if known else "the commit was not recorded")]
    parent = result.tags.get(PARENT_TAG, "")
    if dirty == "true":
        kept = result.tag("diff") or (f"code.diff of run {parent}" if parent else "")
        broken = "" if kept else "the code was changed after the commit, and the change was not kept"
        found.append(Link("diff", kept, broken))
    elif dirty == "false":
        found.append(Link("diff", "none: the commit is the code"))
    else:
        found.append(Link("diff", "", "whether the code was changed after the commit was not recorded"))
    if snapshot := result.tag("snapshot"):  # none: not trained by a command of this project
        found.append(Link("snapshot", f"{snapshot}, below storage.checkpoints in code/"))
    code = str(result.of("code"))
    found.append(_needed("code hash", code, "the hash of the code that trained it was not recorded"))
    return [*found, *_proof_links(result)]


def _proof_links(result: Result) -> list[Link]:
    """Returns how the result is known to be that of newer code, if it was trained by older."""
    if not result.proof:
        return []
    text = "{code}: replayed {when} on {host}, {how}".format_map({"when": "", "host": "", "how": "", **result.proof})
    return [Link("same under code", text)]


def _configuration_link(result: Result) -> Link:
    found = identity_of(result.experiment)
    broken = "" if found == result.identity else f"identity {result.short} is not the hash of the configuration"
    words = " ".join(f"{name}={result.of(name)}" for name in ("dataset", "variant", "schedule", "scale", "seed"))
    return Link("configuration", f"{words}, identity {result.identity}", broken)


def _spec_link(result: Result) -> list[Link]:
    record = result.of("spec", None)
    if not isinstance(record, Mapping):
        return []  # a record of the first version
    return [Link("spec", f"{hash_of(record)} {canonical_json(record)}")]


def _weights_link(result: Result) -> Link:
    weights = str(result.of("weights"))
    return Link("weights", weights or "none: random initialisation")


def _checkpoint_links(result: Result) -> list[Link]:
    recorded = result.checkpoint_sha256 or result.tag("checkpoint")
    found = [_needed("checkpoint SHA-256", recorded, "no hash of the checkpoint was recorded")]
    tagged = result.tag("checkpoint")
    if tagged and result.checkpoint_sha256 and tagged != result.checkpoint_sha256:
        broken = f"the run says {tagged[:12]}, the record {result.checkpoint_sha256[:12]}"
        found = [Link("checkpoint SHA-256", recorded, broken)]
    place = result.checkpoint
    if elsewhere := result.tags.get(ELSEWHERE_TAG):
        broken = "outside this project and its storage.checkpoints: not what is verified here"
        return [*found, Link("checkpoint", elsewhere, broken)]
    if place is None:
        return [*found, Link("checkpoint", "", "where the checkpoint lies is not known")]
    gone = "" if "://" in place or Path(place).is_dir() else "the folder is not there"
    return [*found, Link("checkpoint", place, gone)]


def _command_links(cell: Cell | None, result: Result) -> list[Link]:
    train, score = train_command(result), score_command(result, score_name(cell) if cell else "")
    lost = "no cell or data set from which the command follows"
    return [_needed("train again", train, lost), _needed("score again", score, "no checkpoint to score")]


def as_text(chains: Sequence[Chain]) -> str:
    """Returns chains for a terminal, one line for each link, broken ones marked."""
    lines = []
    for chain in chains:
        for link in chain.links:
            broken = f"{'  ' if link.value else ''}BROKEN: {one_line(link.broken)}" if link.broken else ""
            lines.append(f"{link.name:<20}{one_line(link.value)}{broken}")
            if link.url:
                lines.append(f"{'':<20}{one_line(link.url)}")
        lines.append("")
    return "\n".join(lines)


def _needed(name: str, value: str, otherwise: str) -> Link:
    return Link(name, value, "" if value else otherwise)


def one_line(text: str) -> str:
    """Returns text that cannot bring control characters into a terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
