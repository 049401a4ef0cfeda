"""What the paper, the published code and a test server say of a data set: part of its record, beside its reader."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Pixels = tuple[int, int]

ANY_LONG_SIDE = 1 << 20  # pixels; as the long side of a size: only the short side counts


@dataclass(frozen=True)
class Geometry:
    """The crops that models are trained on, and the windows of the same size that they are scored in."""

    crop_size: Pixels  # height, width
    stride: Pixels  # height, width; of the released configurations (not in the paper)
    base_size: Pixels | None  # (long, short) of an image before the ratio; None: its own
    mode: str = "slide"  # slide | whole
    single_scale: Pixels | None = None  # (long, short) of an image scored at one scale, where it is not base_size


@dataclass(frozen=True)
class Published:
    """How models are trained and scored on a data set, as published."""

    dataset: str  # by whose recipes and protocols: another's where images are the same and labels stored otherwise
    image_size: Pixels | None  # height, width as published; None: windows are counted as one for each image
    batch_size: int
    setr: Geometry
    # Base learning rates of SETR by flavour and decoder; what is not there nobody published. Heads train at ten times
    # this, which both code bases have and the paper does not mention.
    base_lr: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, Geometry] = field(default_factory=dict)  # by decoder, where not as SETR
    baseline_lr: float = 0.01
    baseline_weight_decay: float = 5.0e-4
    # Decoders, by the rule for the short side, whose released configurations stop at ratio 1.0.
    stop_at_one: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def geometry(self, decoder: str) -> Geometry:
        """Returns crops and windows of a decoder's models."""
        return self.baselines.get(decoder, self.setr)


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
