"""What is published of a data set, and what a test server expects: part of its record, beside its reader."""

from dataclasses import dataclass

Pixels = tuple[int, int]


@dataclass(frozen=True)
class Published:
    """A data set that studies know by name. How models are trained and scored on it, they say (studies/setr.yaml)."""

    dataset: str  # by whose recipes and protocols: another's where images are the same and labels stored otherwise
    image_size: Pixels | None  # height, width as published; None: windows are counted as one for each image


@dataclass(frozen=True)
class Server:
    """What a test server expects."""

    name: str
    ids: tuple[int, ...]  # class -> value in the files
    name_pattern: str  # of a file, without folders
    name_suffix: str  # after the key's last part
    images: int  # in the test split
    image_size: Pixels | None  # height, width; None: each image has its own
    remedy: str  # for wrong values
