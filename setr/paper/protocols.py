"""How a checkpoint is scored: protocols by data set, decoder and kind; their hash is part of every score."""

import hashlib
from dataclasses import asdict, dataclass, field

from setr.paper.choices import DATASETS, DECODERS, PROTOCOL_KINDS
from setr.paper.experiment import canonical_json
from setr.settings.choices import require_choice

ANY_LONG_SIDE = 1 << 20  # pixels; as the long side of `resize`: only the short side counts

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


NUM_CLASSES = {"cityscapes": 19, "ade20k": 150, "pascal_context": 60, "camvid": 11, "scenes": 19}

_SIX_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_THREE_RATIOS = (0.5, 0.75, 1.0)

# Window and stride of the SETR models: the crop, and the strides of the released configurations (not in the paper).
_WINDOW = {
    "cityscapes": (768, 512),
    "scenes": (768, 512),
    "ade20k": (512, 341),
    "pascal_context": (480, 320),
}
_RESIZE = {"cityscapes": (2049, 1025), "scenes": (2049, 1025), "ade20k": (2048, 512)}


def protocol(dataset: str, decoder: str, kind: str, *, short_side: str = "authors-2021-03") -> Protocol:
    """Returns the protocol by which the paper's number of this kind (ss | ms) was, as far as is known, scored.

    `short_side` matters for the multi-scale scores of the SETR models only; the name is "ss", or "ms" for the reading
    of the tables and "ms-<rule>" for another one.
    """
    require_choice("data set", dataset, DATASETS)
    require_choice("decoder", decoder, DECODERS)
    require_choice("protocol kind", kind, PROTOCOL_KINDS)
    require_choice("short_side rule", short_side, SHORT_SIDE_RULES)
    multi = kind == "ms"
    baseline = decoder in ("fcn", "semantic-fpn")
    rule = ("mmseg-0.6" if baseline else short_side) if multi else "authors-head"
    resize, mode, window, stride = _geometry(dataset, decoder)
    if dataset == "pascal_context":
        # The authors score single scale at short side 520; (520, 520) bounds the long side, as the baselines have it.
        resize = (520, 520) if multi or baseline else (ANY_LONG_SIDE, 520)
    return Protocol(
        name="ms-" + short_side if multi and not baseline and short_side != "authors-2021-03" else kind,
        resize=resize,
        mode=mode,
        window=window,
        stride=stride,
        ratios=_ratios(dataset, decoder, rule) if multi else (1.0,),
        flip=multi,
        short_side=rule,
        num_classes=NUM_CLASSES[dataset],
    )


def _geometry(dataset: str, decoder: str) -> tuple[tuple[int, int] | None, str, tuple[int, int], tuple[int, int]]:
    """Returns resize, mode, window and stride of a decoder on a data set."""
    if dataset == "camvid":  # not in the paper: windows of the crop over the image's own 480 x 360 pixels
        return None, "slide", (352, 480), (235, 320)
    resize, (window, stride) = _RESIZE.get(dataset), _WINDOW[dataset]
    if decoder in ("naive", "pup", "mla") or dataset == "pascal_context":
        return resize, "slide", (window, window), (stride, stride)
    if dataset == "ade20k":
        return resize, "whole", (window, window), (window, window)
    if decoder == "fcn":
        return resize, "slide", (769, 769), (513, 513)
    return (2048, 1024), "whole", (512, 1024), (512, 1024)


def _ratios(dataset: str, decoder: str, rule: str) -> tuple[float, ...]:
    """Returns the multi-scale ratios; on ADE20K the released configurations stop at 1.0, PUP's until May 2021."""
    if dataset != "ade20k" or rule not in ("authors-2021-03", "authors-head"):
        return _SIX_RATIOS
    return _SIX_RATIOS if decoder == "pup" and rule == "authors-head" else _THREE_RATIOS
