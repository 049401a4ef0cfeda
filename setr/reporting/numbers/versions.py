"""Which results may stand in one column and be averaged: one code version, one data set, one manifest, one setting."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from setr.reporting.numbers.results import EXACT, Result
from setr.study.code import CHOSEN_TABLES
from setr.study.experiment import canonical_json
from setr.study.protocols import Protocol

_VERSION = ("data set", "data manifest", "flavour")
_CHOSEN = {f"{module.replace('.', '/')}.py: {name}" for module, name in (table.split(":") for table in CHOSEN_TABLES)}
_SETTINGS = ("iterations", "batch size", "crop size")


@dataclass(frozen=True)
class MainVersion:
    """What most results of a column share."""

    version: tuple[str, ...]  # values of _VERSION
    code: Mapping[str, str]  # definition -> hash; two models run through different code, but for what they share
    settings: Mapping[str, tuple[str, ...]]  # schedule -> values of _SETTINGS; compared in miniature only


def main_version(results: Sequence[Result]) -> MainVersion | None:
    """Returns what most of a column's results share, the latest breaking a tie; None if there are no results."""
    if not results:
        return None
    version = _most((_version(one), one.started) for one in results)
    schedules = {str(one.of("schedule")) for one in results}
    settings = {}
    for schedule in sorted(schedules):
        same = [one for one in results if one.of("schedule") == schedule]
        of_version = [one for one in same if _version(one) == version] or same
        settings[schedule] = _most((_settings(one), one.started) for one in of_version)
    return MainVersion(version, _main_code(results), settings)


def choose(candidates: Sequence[Result], main: MainVersion, score: str) -> tuple[list[Result], list[str]]:
    """Returns the results of one cell to average (they differ in the seed only), and remarks on what else there is.

    `score` names the score in the results. The column's version comes first, then the most seeds, then the latest.
    """
    groups: dict[tuple[object, ...], list[Result]] = {}
    for one in candidates:
        recipe = canonical_json(one.of("recipe", {}))
        model = (one.of("variant"), one.of("schedule"), one.of("weights"))
        groups.setdefault((one.code, _version(one), recipe, model, protocol_digest(one, score)), []).append(one)
    order = sorted(groups.values(), key=lambda group: _rank(group, main), reverse=True)
    chosen = sorted(order[0], key=lambda one: (str(one.of("seed")).zfill(9), one.identity))
    remarks = []
    if differs := _differences(chosen[0], main):
        remarks.append(f"Not as the rest of the column: {', '.join(differs)}.")
    if count := sum(len(group) for group in order[1:]):
        results = "result was" if count == 1 else "results were"
        remarks.append(f"{count} more {results} made with other settings or another version, and not averaged in.")
    hows = {str(one.proof.get("how", "")) for one in chosen if one.proof}
    remarks += [f"Trained by earlier code and {how}." for how in sorted(hows - {EXACT})]
    return chosen, remarks


def protocol_digest(result: Result, score: str) -> str:
    """Returns the digest of the protocol that a score was made with, "" if none was recorded."""
    record = result.scores.get(score, {})
    if record.get("digest"):
        return str(record["digest"])
    try:
        return Protocol(**record["protocol"]).digest()
    except (KeyError, TypeError, ValueError):
        return ""


def _rank(group: Sequence[Result], main: MainVersion) -> tuple[object, ...]:
    return not _differences(group[0], main), len(group), max(one.started for one in group), group[0].identity


def _differences(result: Result, main: MainVersion) -> list[str]:
    """Returns in words what a result does not share with its column."""
    pairs = [*zip(_VERSION, _version(result), main.version, strict=True)]
    expected = main.settings.get(str(result.of("schedule")))
    if result.of("scale") != "paper" and expected is not None:
        pairs += zip(_SETTINGS, _settings(result), expected, strict=True)
    found = [
        f"{what} {mine[:12] or 'none'} instead of {most[:12] or 'none'}" for what, mine, most in pairs if mine != most
    ]
    return [*_other_code(result, main), *found]


def _other_code(result: Result, main: MainVersion) -> list[str]:
    own = _code(result)
    other = sorted(name for name, value in own.items() if main.code.get(name, value) != value)
    if not other:
        return []
    where = f" ({', '.join(other[:3])})" if other[0] else ""
    return [f"code version {result.code[:12] or 'none'}{where}"]


def _code(result: Result) -> dict[str, str]:
    """Returns {definition: hash} of the code that the result stands for; {"": its hash} where no more is known."""
    modules = result.proof.get("modules") or result.of("modules", {})
    found = {f"{file}: {name}": str(value) for file, part in modules.items() for name, value in part.items()}
    # Of these a model uses the entries that it is made of: two models of other parts do not share them.
    found = {name: value for name, value in found.items() if name not in _CHOSEN}
    return found or {"": result.code}


def _main_code(results: Sequence[Result]) -> dict[str, str]:
    """Returns the hash that most results have for each definition, the latest breaking a tie."""
    items: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for one in results:
        for name, value in _code(one).items():
            items[name].append(((value,), one.started))
    return {name: _most(found)[0] for name, found in items.items()}


def _version(result: Result) -> tuple[str, ...]:
    names = (result.of("dataset"), result.of("manifest"), result.of("recipe", {}).get("flavour", ""))
    return tuple(str(name) for name in names)


def _settings(result: Result) -> tuple[str, ...]:
    recipe = result.of("recipe", {})
    crop = " x ".join(str(side) for side in recipe.get("crop_size", ()))
    return str(recipe.get("iterations", "")), str(recipe.get("batch_size", "")), crop


def _most(items: Iterable[tuple[tuple[str, ...], float]]) -> tuple[str, ...]:
    """Returns the key that occurs most often, the latest of those, the last in order of those."""
    count: Counter[tuple[str, ...]] = Counter()
    latest: dict[tuple[str, ...], float] = {}
    for key, started in items:
        count[key] += 1
        latest[key] = max(latest.get(key, 0.0), started)
    return max(count, key=lambda key: (count[key], latest[key], key))
