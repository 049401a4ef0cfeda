"""What the labels of one's own hold, judged over all files together: nobody has published what they should hold.

Recognised: masks of 0 and 255, of 0 and 1 beside more class names, numbers shifted by one, files of two kinds in one
data set, and palettes that a program has sorted anew. Each is an error that names the setting that would be right.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from setr.data.reading.image_file import read_header
from setr.data.reading.images import decode_raw_label, histogram, parse_raw_label, to_train_ids, value_ranges
from setr.data.reading.label_colors import unpack, used_palette
from setr.data.reading.samples import NOT_ALLOWED, Dataset, Sample
from setr.data.reading.sources import Source, read_bytes
from setr.errors import InputError, SetrError

IGNORED = 255
_BLACK_AND_WHITE = "data.palette=[[0,0,0],[255,255,255]]"


@dataclass(frozen=True)
class LabelFacts:
    """What one label file holds."""

    key: str
    kind: str  # grey | palette | RGB | ...
    bits: int  # per channel
    values: frozenset[int]  # as read: class numbers of coloured labels, else the file's own
    palette: tuple[tuple[int, int], ...] = ()  # of a PNG with a palette: index that occurs, its colour in 24 bits


def settled(dataset: Dataset, labels: Sequence[Source]) -> Dataset:
    """Returns the data set as its labels are to be read, where a palette is given: by colour, or (grey) by number.

    Grey files alone leave it open whether the palette is only for display; the first file that holds a class number
    which is no class's grey decides. Raises E_PALETTE and E_CONFIG for settings that coloured labels contradict.
    """
    if not dataset.own or not dataset.color_labels:
        return dataset
    if _are_numbers(dataset, labels):
        return replace(dataset, shown_colors=True)
    dataset = replace(dataset, family="", families=())  # ways to number classes
    if len(set(dataset.palette)) < len(dataset.palette):
        repeated = next(color for color in dataset.palette if dataset.palette.count(color) > 1)
        raise InputError(
            "E_PALETTE",
            "two classes have the same colour",
            where="data.palette",
            found=list(repeated),
            remedy="give each class the colour that it has in the labels",
        )
    if dataset.label_map[0] == IGNORED:
        raise InputError(
            "E_CONFIG",
            "coloured labels have no number 0",
            where="data.zero_ignored",
            found="true, with data.palette",
            remedy="leave it out: black that is no class's colour is ignored",
        )
    return dataset


def check_labels(samples: Sequence[Sample], dataset: Dataset, *, threads: int = 2) -> None:
    """Raise what is wrong with the labels of one's own before a shard is written: E_LABEL_* and E_IMAGE_*."""
    if not dataset.own:
        return
    labels = [(sample.key, sample.label) for sample in samples if sample.label is not None]
    with ThreadPoolExecutor(threads) as pool:
        facts = list(pool.map(lambda pair: _facts(pair[0], pair[1], dataset), labels))
    for error in judge(dataset, facts):
        raise error
    for fact, (_, label) in zip(facts, labels, strict=True):
        if dataset.read_colors is None and not _allowed(dataset, fact.values):
            to_train_ids(parse_raw_label(read_bytes(label), label, dataset), dataset, label)


def facts_of(key: str, data: bytes, values: np.ndarray, dataset: Dataset, where: object) -> LabelFacts:
    """Returns the facts of a label file's bytes and the values read from it."""
    found = frozenset(histogram(values))
    if str(where).lower().endswith(".mat"):
        return LabelFacts(key, "MATLAB", 8 * values.itemsize, found)
    header = read_header(data, where)
    colors = {}
    if header.kind == "palette" and dataset.read_colors is None:
        colors = used_palette(found, data, where)
    return LabelFacts(key, header.kind, header.bits, found, tuple(sorted(colors.items())))


def judge(dataset: Dataset, facts: Sequence[LabelFacts]) -> list[InputError]:
    """Returns what is wrong with the labels of a data set of one's own as a whole; the likeliest cause comes first."""
    if not dataset.own or not facts:
        return []
    errors = [_family(dataset, frozenset().union(*(fact.values for fact in facts)))]
    if dataset.read_colors is None:
        errors += [_mixed_binary(dataset, facts), _mixed_depth(dataset, facts), _sorted_palette(dataset, facts)]
    return [error for error in errors if error is not None]


def _family(dataset: Dataset, found: frozenset[int]) -> InputError | None:
    """Returns the error for values, over all labels, that are those of another kind of mask."""
    count, shifted = dataset.num_classes, dataset.read_colors is None and dataset.label_map[0] == IGNORED
    values = found - {IGNORED}
    first = dataset.classes[0]
    two = f"data.classes=[background,{first}]" if count == 1 or shifted else "two names in data.classes"
    if dataset.read_colors is not None:
        if not values:
            return _error(dataset, found, "every pixel is ignored: black is no class's colour", "complete data.palette")
        return _one_class(dataset, found, two)
    if IGNORED in found and not values - {0}:
        reads = f"reads white as {dataset.classes[-1]!r}" if count == 2 and not shifted else f"needs {two}"
        setting = f"set {_BLACK_AND_WHITE}, which {reads}" + (" and no data.zero_ignored" if shifted else "")
        return _error(dataset, found, "masks of 0 and 255: 255 would be read as ignored", setting)
    if count == 1:
        return _one_class(dataset, found, two)
    if shifted and not values - {0}:
        return _error(dataset, found, "every pixel is ignored", "leave out data.zero_ignored")
    if shifted and values == frozenset(range(count)):
        what = f"class numbers from 0: 0 would be ignored, and {dataset.classes[-1]!r} never occurs"
        return _error(dataset, found, what, "leave out data.zero_ignored, or the names that never occur")
    if values == {0, 1} and count > 2:
        names = f"data.classes=[background,{first}] without data.zero_ignored" if shifted else _first_two(dataset)
        return _error(dataset, found, f"masks of 0 and 1, for {count} class names", f"set {names}")
    other = next((family for family in dataset.families if family.name != dataset.family), None)
    if other is not None and not _allowed(dataset, found) and other.values >= found:
        setting = other.setting if 0 in found or shifted else "set data.zero_ignored=true"
        return _error(dataset, found, f"the labels are {other.name}, read as {dataset.family}", setting)
    if len(found) == count > 1 and max(found) < 256 and not _allowed(dataset, found):
        greys = ",".join(f"[{value},{value},{value}]" for value in sorted(found))
        return _error(
            dataset, found, "as many numbers as classes, but others", f"set data.palette=[{greys}] to read them"
        )
    return None


def _one_class(dataset: Dataset, found: frozenset[int], two: str) -> InputError | None:
    if dataset.num_classes > 1:
        return None
    return _error(dataset, found, "a single class leaves nothing to tell apart", f"name the rest too: {two}")


def _mixed_binary(dataset: Dataset, facts: Sequence[LabelFacts]) -> InputError | None:
    """Returns the error for masks of two classes of which some hold 0 and 1, and others 0 and 255."""
    ones = [fact for fact in facts if 1 in fact.values]
    whites = [fact for fact in facts if IGNORED in fact.values]
    if (
        dataset.num_classes != 2
        or dataset.label_map[0] == IGNORED
        or not ones
        or not whites
        or any(1 in fact.values for fact in whites)
    ):
        return None
    what = "some labels hold 0 and 255 and others 0 and 1"
    setting = f"save all with the same numbers, or all in black and white and set {_BLACK_AND_WHITE}"
    return _error(dataset, None, what, setting, examples=(whites[0], ones[0]))


def _mixed_depth(dataset: Dataset, facts: Sequence[LabelFacts]) -> InputError | None:
    """Returns the error for grey labels of fewer bits, perhaps 0 and 255 once, beside 8-bit ones that hold 255."""
    white = next((fact for fact in facts if fact.bits == 8 and fact.kind == "grey" and IGNORED in fact.values), None)
    if white is None:
        return None
    for fact in facts:
        shown = _shown_greys(fact)
        if shown is not None and shown != fact.values and _allowed(dataset, shown):
            what = (
                f"a label of {fact.bits} bit ({fact.kind}) beside 8-bit ones with 255: its white may stand for either"
            )
            setting = (
                "save all labels as 8-bit grey PNG (ImageMagick: -define png:color-type=0 -define png:bit-depth=8)"
            )
            return _error(dataset, None, what, setting, examples=(fact, white))
    return None


def _shown_greys(fact: LabelFacts) -> frozenset[int] | None:
    """Returns the grey levels, 0 to 255, that a label shows; None for colours and for more than 8 bits."""
    if fact.kind == "palette" and len(fact.palette) == len(fact.values):
        colors = [unpack(color) for _, color in fact.palette]
        return frozenset(color[0] for color in colors) if all(len(set(color)) == 1 for color in colors) else None
    if fact.kind != "grey" or fact.bits > 8:
        return None
    return frozenset(value * (255 // (2**fact.bits - 1)) for value in fact.values)


def _sorted_palette(dataset: Dataset, facts: Sequence[LabelFacts]) -> InputError | None:
    """Returns the error for indices that a program gave out anew: one colour with two, greys out of their order."""
    first_with: dict[int, tuple[int, LabelFacts]] = {}
    for fact in facts:
        colors = [color for _, color in fact.palette]
        if _greys_moved(dataset, fact):
            what = "a palette of greys whose order is not that of the indices: a program has sorted it"
            setting = "save the labels as grey PNG; for black and white masks " + _BLACK_AND_WHITE
            return _error(dataset, None, what, setting, examples=(fact,))
        for index, color in fact.palette:
            if colors.count(color) > 1:
                continue
            other, where = first_with.setdefault(color, (index, fact))
            if other != index:
                what = f"colour {unpack(color)} is number {other} in one label and {index} in another"
                setting = "programs sort palettes: set data.palette to the classes' colours, and colours alone count"
                return _error(dataset, None, what, setting, examples=(where, fact))
    return None


def _greys_moved(dataset: Dataset, fact: LabelFacts) -> bool:
    """Returns whether a palette shows nothing but greys, and they are class numbers, or not in the indices' order."""
    greys = [unpack(color)[0] for _, color in fact.palette if len(set(unpack(color))) == 1]
    indices = [index for index, _ in fact.palette]
    if len(greys) < len(indices) or len(set(greys)) < len(greys) or greys == indices:
        return False
    black_and_white = indices == [0, 1] and greys == [0, 255]
    numbers = _allowed(dataset, frozenset(greys)) and not black_and_white
    return len(greys) > 1 and (numbers or greys != sorted(greys))


def _are_numbers(dataset: Dataset, labels: Sequence[Source]) -> bool:
    """Returns whether grey labels hold class numbers, so that the palette is for display; False for any in colour."""
    if any(_kind(label) != "grey" for label in labels):
        return False
    greys = {0} | {color[0] for color in dataset.palette if len(set(color)) == 1}
    for label in labels:
        try:
            data = read_bytes(label)
            values = frozenset(histogram(decode_raw_label(data, label)))
            header = read_header(data, label)
        except SetrError:
            continue  # named when it is read
        shown = frozenset(value * (255 // (2 ** min(header.bits, 8) - 1)) for value in values)
        as_numbers, as_colors = _allowed(dataset, values), shown <= greys
        if as_numbers != as_colors:
            return as_numbers
    return False


def _kind(label: Source) -> str:
    try:
        return "grey" if label.name.lower().endswith(".mat") else read_header(read_bytes(label), label).kind
    except SetrError:
        return "grey"  # named when it is read


def _allowed(dataset: Dataset, values: frozenset[int]) -> bool:
    """Returns whether all values have a meaning as class numbers."""
    return all(0 <= value < 256 and dataset.label_map[value] != NOT_ALLOWED for value in values)


def _first_two(dataset: Dataset) -> str:
    return (
        f"data.classes=[{dataset.classes[0]},{dataset.classes[1]}] (names that never occur go), or correct the labels"
    )


def _facts(key: str, label: Source, dataset: Dataset) -> LabelFacts:
    data = read_bytes(label)
    return facts_of(key, data, parse_raw_label(data, label, dataset), dataset, label)


def _error(
    dataset: Dataset,
    found: frozenset[int] | None,
    what: str,
    setting: str,
    *,
    examples: Sequence[LabelFacts] = (),
) -> InputError:
    shown = "" if found is None else f"the values {value_ranges(sorted(found))} over all labels"
    return InputError(
        "E_LABEL_FAMILY",
        what,
        where=" and ".join(fact.key for fact in examples) or dataset.name,
        found=shown,
        remedy=setting,
    )
