"""Which results may stand in one column and be averaged: one code version, one data set, one manifest, one setting."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    scoring: Mapping[str, str] = field(default_factory=dict)  # score -> hash of the code that scored it


def main_version(results: Sequence[Result]) -> MainVersion | None:
    """Returns what most of a column's results share, the latest breaking a tie; None if there are no results.

    Where some are what the last sweep calls done, these alone decide: others were trained by code that was undone.
    """
    if not results:
        return None
    results = [one for one in results if one.done] or results
    version = _most((_version(one), one.started) for one in results)
    schedules = {str(one.of("schedule")) for one in results}
    settings = {}
    for schedule in sorted(schedules):
        same = [one for one in results if one.of("schedule") == schedule]
        of_version = [one for one in same if _version(one) == version] or same
        settings[schedule] = _most((_settings(one), one.started) for one in of_version)
    return MainVersion(version, _main_code(results), settings, _main_scoring(results))


def choose(candidates: Sequence[Result], main: MainVersion, score: str) -> tuple[list[Result], list[str]]:
    """Returns the results of one cell to average (they differ in the seed only), and remarks on what else there is.

    `score` names the score in the results. What the last sweep calls done comes first, then the column's version, then
    the most seeds, then the latest. Each seed counts once.
    """
    groups: dict[tuple[object, ...], list[Result]] = {}
    for one in candidates:
        recipe = canonical_json(one.of("recipe", {}))
        model = (one.of("variant"), one.of("schedule"), one.of("weights"))
        scored = (protocol_digest(one, score), scoring_of(one, score))
        groups.setdefault((one.code, _version(one), recipe, model, *scored), []).append(one)
    order = sorted(groups.values(), key=lambda group: _rank(group, main, score), reverse=True)
    chosen, again = _once_each_seed(order[0])
    remarks = []
    if differs := _differences(chosen[0], main):
        remarks.append(f"Not as the rest of the column: {', '.join(differs)}.")
    usual = main.scoring.get(score, "")
    if (scoring := scoring_of(chosen[0], score)) != usual:
        remarks.append(
            f"Scored by other code than the rest of the column: {scoring[:12] or 'none recorded'} instead of "
            f"{usual[:12] or 'none recorded'}; `python pipelines/sweep.py` scores it again."
        )
    if again:
        names = ", ".join(f"{one.short} (seed {one.of('seed')})" for one in again)
        remarks.append(f"A seed that was trained more than once counts once, by its newest result: not {names}.")
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


def scoring_of(result: Result, score: str) -> str:
    """Returns the hash of the code that made a score, "" if none was recorded."""
    return str(result.scores.get(score, {}).get("scoring") or "")


def _once_each_seed(group: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Returns, in order of the seeds, the result of each that counts, and the others: the last sweep's, else newest."""
    by_seed: dict[str, list[Result]] = {}
    for one in sorted(group, key=lambda one: (one.done, one.started, one.identity), reverse=True):
        by_seed.setdefault(str(one.of("seed")), []).append(one)
    ordered = [by_seed[seed] for seed in sorted(by_seed, key=lambda seed: seed.zfill(9))]
    return [same[0] for same in ordered], [one for same in ordered for one in same[1:]]


def _rank(group: Sequence[Result], main: MainVersion, score: str) -> tuple[object, ...]:
    usual = not _differences(group[0], main) and scoring_of(group[0], score) == main.scoring.get(score, "")
    seeds = len({one.of("seed") for one in group})
    done = any(one.done for one in group)
    return done, usual, seeds, max(one.started for one in group), min(one.identity for one in group)


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


def _main_scoring(results: Sequence[Result]) -> dict[str, str]:
    """Returns for each score the hash of the code that made most results', the latest breaking a tie."""
    items: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for one in results:
        for name in one.scores:
            items[name].append(((scoring_of(one, name),), one.started))
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
