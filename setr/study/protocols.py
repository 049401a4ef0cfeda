"""How a checkpoint is scored; a protocol's hash is part of every score."""

import hashlib
from dataclasses import asdict, dataclass, field

from setr.settings.choices import require_choice
from setr.study.experiment import canonical_json

ANY_LONG_SIDE = 1 << 20  # pixels; as the long side of a size: only the short side counts
SHORT_SIDE_RULES = ("authors-2021-03", "authors-head", "paper", "mmseg-0.6", "mmseg")


@dataclass(frozen=True)
class Protocol:
    """How a checkpoint is scored.

    `resize` keeps the aspect: factor = min(long / max(h, w), short / min(h, w)), sizes rounded half up. With other
    ratios than (1.0,) or with flip, `short_side` says which size an image has at a ratio:

    - authors-2021-03: short side = the window's if the smaller number of resize x ratio is below the window, otherwise
      the *larger* number of resize x ratio (the first release; the tables' printed numbers probably come from it).
    - authors-head: the same, otherwise the *smaller* number (since May 2021).
    - paper: resize x ratio, enlarged until the short side is the window's where it is below.
    - mmseg-0.6: resize x ratio, nothing enlarged (the paper's baselines).
    - mmseg: the original image x ratio, whatever `resize` is (mmsegmentation 1.2.2).
    """

    name: str
    resize: tuple[int, int] | None  # (long, short) pixels, aspect kept | None: as is
    mode: str  # whole | slide
    window: tuple[int, int]  # height, width in pixels
    stride: tuple[int, int]  # height, width in pixels
    ratios: tuple[float, ...] = (1.0,)
    flip: bool = False
    short_side: str = "authors-head"  # one of SHORT_SIDE_RULES
    num_classes: int = field(kw_only=True)
    ignore_index: int = 255

    def __post_init__(self) -> None:
        """Brings equal values to one form, so that they give one digest; checks words."""
        for name, number in (("resize", int), ("window", int), ("stride", int), ("ratios", float)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(number(item) for item in value))
        require_choice("protocol mode", self.mode, ("whole", "slide"))
        require_choice("short_side rule", self.short_side, SHORT_SIDE_RULES)

    def digest(self) -> str:
        """Returns the SHA-256 of the protocol's canonical JSON, in hex."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()


RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def overlapping(window: tuple[int, int]) -> tuple[int, int]:
    """Returns the stride of windows (height, width) that nobody published one for: two thirds of a window."""
    return max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3)
