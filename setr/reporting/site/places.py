"""Where a result's files lie: written relative to the project's home, and looked for there alone when they are read.

A project that was moved or copied takes its files along. A record that still names the place they were in must lead
neither to the original's files nor, if a stranger wrote it, to any other file of this machine.
"""

from dataclasses import replace
from pathlib import Path

from setr.reporting.numbers.results import ELSEWHERE_TAG, Result


def relative(result: Result, home: Path) -> Result:
    """Returns the result with the places that are below `home` as paths relative to it."""

    def inside(path: Path) -> Path:
        return path.relative_to(home) if path.is_relative_to(home) else path

    return replace(
        result,
        checkpoint=None if result.checkpoint is None else str(inside(Path(result.checkpoint))),
        pictures=tuple(inside(path) for path in result.pictures),
        per_image={name: inside(path) for name, path in result.per_image.items()},
    )


def located(result: Result, home: Path, storage: Path) -> Result:
    """Returns the result with its files as absolute paths: in the experiment's folder of `storage`, else below `home`.

    A checkpoint that is in neither is no longer the result's own: ELSEWHERE_TAG says where it was recorded. Pictures
    and scores of single images that are not there are left out.
    """

    def found(path: Path) -> Path | None:
        own = storage / result.identity / path.name
        if own.exists():
            return own
        here = home / path  # an absolute path stays what it is
        return here if any(here.is_relative_to(root) for root in (home, storage)) else None

    checkpoint = None if result.checkpoint is None else found(Path(result.checkpoint))
    tags = {name: value for name, value in result.tags.items() if name != ELSEWHERE_TAG}
    if result.checkpoint is not None and checkpoint is None:
        tags[ELSEWHERE_TAG] = result.checkpoint
    files = {name: place for name, path in result.per_image.items() if (place := found(path)) and place.is_file()}
    return replace(
        result,
        checkpoint=None if checkpoint is None else str(checkpoint),
        pictures=tuple(place for path in result.pictures if (place := found(path)) and place.is_file()),
        per_image=files,
        tags=tags,
    )
