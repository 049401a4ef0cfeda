"""Checks of a data set before anything is trained on it: counts, sizes, modes, label values, copies, leaks, damage.

A check does not stop at the first mistake: it returns a record with all of them, each saying what was found.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from setr.data.checking.findings import Finding, Findings
from setr.data.checking.inspection import Inspection, inspect_all
from setr.data.reading.images import value_ranges
from setr.data.reading.own_labels import LabelFacts, judge, settled
from setr.data.reading.samples import NOT_ALLOWED, Dataset, LabelFamily, Listing, Sample
from setr.errors import SetrError
from setr.settings.config import to_dict

_CLEAR_VALUES = 5  # if none of this many values that only one family has occurs, the labels are surely another's
_MIN_LABELS_FOR_DOUBT = 100  # with fewer labels a single missing value says nothing

Progress = Callable[[int, int], None]  # samples done, samples in all


@dataclass(frozen=True)
class SplitReport:
    """What one split holds."""

    split: str
    images: int
    published: int | None  # images that the data set's authors state
    checked: int  # samples that were read
    labelled: int
    denied: dict[str, str]  # known bad, left out: key -> reason
    junk: int  # files an operating system left behind
    sizes: dict[str, int]  # width x height -> images
    image_modes: dict[str, int]
    label_modes: dict[str, int]
    raw_histogram: dict[int, int]  # label value as stored -> pixels
    out_of_range: dict[int, int]  # those without a meaning in this data set
    class_pixels: tuple[int, ...]  # pixels of each class
    ignored_share: float | None  # of all label pixels; None without labels
    all_ignored: int  # labels without a single class pixel
    one_class: int  # labels with a single class
    rule: str  # what divided the images into splits, in words
    absent: tuple[str, ...]  # classes that no label holds
    outside: int  # images that are in no split
    others: tuple[str, ...]  # files passed over: neither images nor labels by their names


@dataclass(frozen=True)
class CheckReport:
    """The record of a check."""

    dataset: str
    root: str
    classes: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    label_family: str  # as guessed from the values; empty: none fits, or nothing to guess from
    expected_family: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Returns whether no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-able values."""
        return {**to_dict(self), "ok": self.ok}


def check(
    dataset: Dataset,
    root: Path,
    splits: Sequence[str],
    *,
    limit: int | None = None,
    threads: int = 2,
    progress: Progress | None = None,
    source_hashes: Mapping[str, str] | None = None,
) -> CheckReport:
    """Returns the report on a data set's splits; of each split at most `limit` samples, evenly spread, are read.

    `source_hashes` (key -> SHA-256 by images.source_hash, from an earlier build) finds damage that no
    decoder notices, such as a flipped bit in a JPEG.
    """
    started = time.monotonic()
    findings = Findings()
    listings: dict[str, Listing] = {}
    for split in splits:
        try:
            listings[split] = dataset.scan(root, split)
        except SetrError as error:
            findings.add_error(error)
    try:
        labels = [sample.label for listing in listings.values() for sample in listing.samples]
        dataset = settled(dataset, [label for label in labels if label is not None])
    except SetrError as error:
        findings.add_error(error)
    chosen = {split: evenly(listing.samples, limit) for split, listing in listings.items()}
    total, done = sum(map(len, chosen.values())), 0
    tallies: dict[str, _Tally] = {}
    first_with: dict[str, tuple[str, Sample]] = {}  # content -> where it was met first
    for split, samples in chosen.items():
        tally = tallies[split] = _Tally(dataset)
        for inspection in inspect_all(samples, dataset, threads=threads, source_hashes=source_hashes):
            tally.add(inspection)
            for problem in inspection.problems:
                findings.add_error(problem)
            _find_copy(split, inspection, first_with, findings)
            done += 1
            if progress is not None:
                progress(done, total)
        _judge_listing(dataset, split, listings[split], findings)
        tally.judge(split, findings)
    _judge_rest(listings.values(), findings)
    for mistake in judge(dataset, [fact for tally in tallies.values() for fact in tally.facts]):
        findings.add_error(mistake)
    return CheckReport(
        dataset=dataset.name,
        root=str(root),
        classes=dataset.classes,
        splits=tuple(tally.report(split, listings[split]) for split, tally in tallies.items()),
        label_family=_judge_family(dataset, tallies.values(), findings),
        expected_family=dataset.family,
        findings=findings.ordered(),
        seconds=round(time.monotonic() - started, 3),
    )


def report_lines(report: CheckReport) -> Iterator[str]:
    """Yields the report as lines of text for a terminal."""
    for split in report.splits:
        published = "" if split.published is None else f" (published: {split.published})"
        yield f"{report.dataset}/{split.split}: {split.images} images{published}, {split.labelled} with labels"
        yield f"  sizes {_most(split.sizes)}; images {_most(split.image_modes)}; labels {_most(split.label_modes)}"
        yield f"  split {split.rule}" + (f"; {split.outside} images in no split" if split.outside else "")
        yield f"  {split.checked} read; known bad left out: {len(split.denied)}; junk files passed over: {split.junk}"
        if split.ignored_share is not None:
            yield f"  label values {value_ranges(sorted(split.raw_histogram))}; ignored {split.ignored_share:.2%}"
            pixels = max(sum(split.class_pixels), 1)
            ranked = sorted(zip(split.class_pixels, report.classes, strict=True), reverse=True)
            yield "  classes " + ", ".join(f"{name} {count / pixels:.2%}" for count, name in ranked if count)
    if report.expected_family:
        yield f"label family: {report.label_family or 'unknown'}; read as {report.expected_family}"
    yield from (finding.line() for finding in report.findings)
    errors = sum(finding.severity == "error" for finding in report.findings)
    yield f"{errors} errors, {len(report.findings) - errors} warnings, {report.seconds:.1f} s"


def evenly(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """Returns at most `limit` of the samples, evenly spread over their order."""
    if limit is None or limit >= len(samples):
        return samples
    return [samples[index * len(samples) // limit] for index in range(limit)]


def families_of(dataset: Dataset, values: set[int]) -> list[LabelFamily]:
    """Returns the known families of the data set's labels in which all of these raw values occur."""
    return [family for family in dataset.families if family.values >= values]


class _Tally:
    """Adds up the inspections of one split."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.checked = self.labels = 0
        self.sizes: Counter[str] = Counter()
        self.image_modes: Counter[str] = Counter()
        self.label_modes: Counter[str] = Counter()
        self.raw: Counter[int] = Counter()
        self.family_values: set[int] = set()
        self.out_of_range: Counter[int] = Counter()
        self.pixels = np.zeros(256, dtype=np.int64)
        self.all_ignored: list[str] = []
        self.one_class: list[str] = []
        self.facts: list[LabelFacts] = []

    def add(self, inspection: Inspection) -> None:
        """Add one sample."""
        self.checked += 1
        self.facts += [] if inspection.facts is None else [inspection.facts]
        self.sizes.update([inspection.size] if inspection.size else [])
        self.image_modes.update([inspection.image_mode] if inspection.image_mode else [])
        self.label_modes.update([inspection.label_mode] if inspection.label_mode else [])
        self.raw.update(inspection.raw)
        table = self.dataset.wide_label_map if inspection.wide else self.dataset.label_map
        for value, count in inspection.raw.items() if self.dataset.read_colors is None else ():
            if not 0 <= value < len(table) or table[value] == NOT_ALLOWED:
                self.out_of_range[value] += count
        if inspection.raw and not inspection.wide:
            self.labels += 1
            self.family_values.update(inspection.raw)
        if inspection.class_pixels is not None:
            self.pixels += inspection.class_pixels
            present = np.count_nonzero(inspection.class_pixels[: self.dataset.num_classes])
            if present == 0:
                self.all_ignored.append(inspection.sample.key)
            elif present == 1:
                self.one_class.append(inspection.sample.key)

    def judge(self, split: str, findings: Findings) -> None:
        """Add what the sums show."""
        for keys, what in ((self.all_ignored, "only ignored pixels"), (self.one_class, "a single class")):
            if keys:
                findings.add("W_LABEL_EMPTY", "warning", f"{split}: labels with {what}", keys, count=len(keys))
        if absent := self.absent():
            what = f"{split}: never occurs in a label that was read: {', '.join(absent)}"
            if self.dataset.own and self.dataset.label_map[0] == 0 and absent[0] == self.dataset.classes[0]:
                what += "; if labels count from 1, set data.zero_ignored=true"
            findings.add("W_CLASS_ABSENT", "warning", what, count=len(absent))

    def absent(self) -> tuple[str, ...]:
        """Returns the names of the classes without a pixel, where there were labels."""
        if not self.pixels.any():
            return ()
        return tuple(name for name, pixels in zip(self.dataset.classes, self.pixels, strict=False) if not pixels)

    def report(self, split: str, listing: Listing) -> SplitReport:
        """Returns the split's record."""
        pixels = int(self.pixels.sum())
        return SplitReport(
            split=split,
            images=len(listing.samples) + len(listing.denied) + len(listing.unlabelled),
            published=self.dataset.published_count(split),
            checked=self.checked,
            labelled=sum(sample.label is not None for sample in listing.samples),
            denied=dict(listing.denied),
            junk=listing.junk,
            sizes=dict(self.sizes.most_common()),
            image_modes=dict(self.image_modes.most_common()),
            label_modes=dict(self.label_modes.most_common()),
            raw_histogram=dict(sorted(self.raw.items())),
            out_of_range=dict(sorted(self.out_of_range.items())),
            class_pixels=tuple(self.pixels[: self.dataset.num_classes].tolist()),
            ignored_share=float(self.pixels[self.dataset.ignore_index] / pixels) if pixels else None,
            all_ignored=len(self.all_ignored),
            one_class=len(self.one_class),
            rule=listing.rule,
            absent=self.absent(),
            outside=len(listing.outside),
            others=listing.others,
        )


def _judge_listing(dataset: Dataset, split: str, listing: Listing, findings: Findings) -> None:
    """Add what the names of the files show."""
    if not listing.samples:
        findings.add("E_DATA_EMPTY", "error", f"{split}: no image with its label")
    for keys, what in ((listing.unlabelled, "images without a label"), (listing.orphans, "labels without an image")):
        if keys:
            findings.add("E_PAIR_MISSING", "error", f"{split}: {what}", keys, count=len(keys))
    if remark := dataset.count_remark(split, listing):
        findings.add("W_COUNT", "warning", remark)
    for key, reason in listing.denied:
        findings.add("W_DENIED", "warning", f"{split}: left out: {reason}", [key])
    if listing.junk:
        findings.add("W_JUNK", "warning", f"{split}: junk files passed over", count=listing.junk)


def _judge_rest(listings: Iterable[Listing], findings: Findings) -> None:
    """Add what lies there and is in none of the splits; each split's listing names it all."""
    outside = sorted({key for listing in listings for key in listing.outside})
    others = sorted({name for listing in listings for name in listing.others})
    for code, names, what in (
        ("W_SPLIT_REST", outside, "images in no split"),
        ("W_OTHER_FILES", others, "files passed over: neither image nor label by their names"),
    ):
        if names:
            findings.add(code, "warning", what, names, count=len(names))


def _find_copy(
    split: str, inspection: Inspection, first_with: dict[str, tuple[str, Sample]], findings: Findings
) -> None:
    """Add a leak or a duplicate when the same pixels were met before in another file."""
    if not inspection.content:
        return
    sample = inspection.sample
    first_split, first = first_with.setdefault(inspection.content, (split, sample))
    if first.image == sample.image:
        return
    example = [f"{first_split}/{first.key} = {split}/{sample.key}"]
    if first_split != split:
        what = f"the same picture is in {first_split} and in {split}"
        findings.add("E_SPLIT_LEAK", "error", what, example)
    else:
        findings.add("W_DUPLICATE", "warning", f"{split}: the same picture twice", example)


def _judge_family(dataset: Dataset, tallies: Iterable[_Tally], findings: Findings) -> str:
    """Returns the name of the family that the label values show; adds an error when it is not the one that is read."""
    tallies = list(tallies)
    values = set().union(*(tally.family_values for tally in tallies))
    labels = sum(tally.labels for tally in tallies)
    if not values or not dataset.families:
        return ""
    if dataset.own:  # judged with all that is known of each file
        fitting = families_of(dataset, values)
        return (
            dataset.family
            if dataset.family in [family.name for family in fitting]
            else "".join(family.name for family in fitting[:1])
        )
    fitting = families_of(dataset, values)
    expected = next((family for family in fitting if family.name == dataset.family), None)
    others = [family for family in fitting if family.name != dataset.family]
    found = f"values {value_ranges(sorted(values))} in {labels} labels"
    if expected is None:
        if others:
            what = f"the labels are {others[0].name}, read as {dataset.family}: {others[0].setting}"
            findings.add("E_LABEL_FAMILY", "error", what, [found])
            return others[0].name
        return ""  # of no known kind: the values out of range are reported already
    for other in others:
        own = expected.values - other.values - {dataset.ignore_index}
        if not own or own & values:
            continue
        what = f"none of the values {value_ranges(sorted(own))} occurs: perhaps the labels are {other.name}"
        if len(own) >= _CLEAR_VALUES and len(values) >= 3:
            findings.add("E_LABEL_FAMILY", "error", f"{what}; {other.setting}", [found])
            return other.name
        if labels >= _MIN_LABELS_FOR_DOUBT:
            findings.add("W_LABEL_FAMILY", "warning", f"{what}; {other.setting}", [found])
    return expected.name


def _most(counts: Mapping[str, int], shown: int = 3) -> str:
    listed = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:shown])
    return (listed or "none") + (f" and {len(counts) - shown} more" if len(counts) > shown else "")
