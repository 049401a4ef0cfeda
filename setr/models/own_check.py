"""Heads of a user's own tried out before anything trains: on the meta device, where nothing is computed or allocated.

Who needs values in `forward` (numpy, .item()) is tried on the CPU instead, on maps of a few pixels.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.own_code import OwnCode, error_line, load, text_of
from setr.models.own_head import OwnHeadSpec, own_heads, without_own_code
from setr.models.own_output import require_logits
from setr.models.segmenter import Segmenter
from setr.models.specification import SegmenterSpec
from setr.settings.choices import require_choice

BATCH = 2
_SMALL = 8  # pixels of the smallest map on the CPU
_DEVICE_WORDS = ("NVIDIA", "CUDA", "expected device", "same device", "Torch not compiled with")
_MAP_WORDS = ("unpack", "zip()", "out of range")
_NO_VALUES = ("meta", "data-independent", "Tensor.item()")


@dataclass(frozen=True)
class _Tried:
    """A head with what it is given."""

    spec: OwnHeadSpec
    num_classes: int
    shapes: tuple[tuple[int, int, int], ...]  # C, h, w of each map at the crop
    image_size: tuple[int, int]  # H, W pixels

    def smaller(self) -> "_Tried":
        """Returns the same with maps of a few pixels."""
        factor = max(1, min(side for _, *sides in self.shapes for side in sides) // _SMALL)
        shapes = tuple((c, math.ceil(h / factor), math.ceil(w / factor)) for c, h, w in self.shapes)
        return _Tried(self.spec, self.num_classes, shapes, (self.image_size[0] // factor, self.image_size[1] // factor))

    def problem(self, what: str, **parts: Any) -> InputError:
        """Returns the error that says what is wrong with the head."""
        return InputError("E_OWN_CODE", f"{self.spec.source} {what}", **parts)

    def raised(self, error: BaseException) -> InputError:
        """Returns what an error in the forward pass means."""
        said, maps = str(error), ", ".join("x".join(map(str, shape)) for shape in self.shapes)
        remedy = ""
        if any(word in said for word in _DEVICE_WORDS):
            remedy = "hard-code no device: register_buffer what it keeps, make tensors with device=features[0].device"
        elif any(word in said for word in _MAP_WORDS):
            remedy = f"it is given {len(self.shapes)} maps: `layers` in the study says which"
        where = error_line(error, OwnCode(self.spec.source, text_of(load(self.spec.source))))
        found = f"maps {maps} (C x h x w)"
        return self.problem(f"raises {type(error).__name__}: {said}", where=where, found=found, remedy=remedy)


def check_own(spec: SegmenterSpec) -> tuple[str, ...]:
    """Returns warnings on the model's heads that are of a user's own, () if there is none; their sources are allowed.

    Each is made and run forwards and backwards in train mode on two crops. Raises InputError (E_OWN_CODE), one line
    that says what is wrong and where: options, number of maps, logits' shape, classes, gradients, devices.
    """
    notes: list[str] = []
    for tried in _heads(spec):
        _require_options(tried)
        _require_forward(tried)
        notes += _checked(tried)
    return tuple(dict.fromkeys(notes))


def needs_values(spec: SegmenterSpec) -> bool:
    """Returns whether a head of a user's own cannot run on the meta device, where all others do."""
    if not own_heads(spec):
        return False
    with torch.device("meta"):
        model, images = Segmenter(spec).train(), torch.empty(BATCH, 3, *spec.image_size)
    try:
        model(images)
    except (Exception, SystemExit) as error:
        return _for_want_of_values(error)
    return False


def _heads(spec: SegmenterSpec) -> Iterator[_Tried]:
    """Yields the heads with the shapes of what they read, which the encoder tells."""
    with torch.device("meta"):
        model, images = Segmenter(without_own_code(spec)).train(), torch.empty(BATCH, 3, *spec.image_size)
    features = model.encoder(images, spec.main_taps + spec.auxiliary_taps)
    main, auxiliary = features[: len(spec.main_taps)], features[len(spec.main_taps) :]
    if model.neck is not None:
        main = model.neck(main)
    sources = [main, *([one] for one in (auxiliary if spec.auxiliary_taps else main))]
    for head, maps in zip((spec.decoder, *spec.auxiliary), sources, strict=False):
        if not isinstance(head, OwnHeadSpec):
            continue
        tried = _Tried(
            head, spec.num_classes, tuple((one.shape[1], one.shape[2], one.shape[3]) for one in maps), spec.image_size
        )
        widths = tuple(one[0] for one in tried.shapes)
        if head.channels_in != widths:
            raise tried.problem("reads other maps", found=f"channels_in {head.channels_in}", expected=widths)
        yield tried


def _require_options(tried: _Tried) -> None:
    """Raises InputError for a class that cannot be called with what the study gives it."""
    kind, options = load(tried.spec.source), dict(tried.spec.options)
    taken = inspect.signature(kind).parameters
    named = [name for name, one in taken.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)][2:]
    if not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        for name in options:
            try:
                require_choice(f"option of {tried.spec.source}", name, named)
            except InputError as error:
                raise InputError("E_OWN_CODE", str(error).partition(" | ")[2]) from None
    try:
        inspect.signature(kind).bind(tried.spec.channels_in, tried.num_classes, **options)
    except TypeError as error:
        expected = "__init__(self, channels_in, num_classes, **its_own_options)"
        raise tried.problem(f"cannot be called: {error}", expected=expected) from None


def _require_forward(tried: _Tried) -> None:
    kind: Any = load(tried.spec.source)
    expected = "forward(self, features, image_size)"
    if kind.forward is nn.Module.forward:
        raise tried.problem("has no forward", expected=expected)
    try:
        inspect.signature(kind.forward).bind(None, [], (1, 1))
    except TypeError as error:
        raise tried.problem(f"has another forward: {error}", expected=expected) from None


def _checked(tried: _Tried) -> list[str]:
    """Returns the warnings of one head, tried on the meta device or else on the CPU."""
    try:
        return _run("meta", tried)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if not _for_want_of_values(error):
            raise tried.raised(error) from error
    small = tried.smaller()
    try:
        return _run("cpu", small)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise small.raised(error) from error


def _run(device: str, tried: _Tried) -> list[str]:
    with torch.device(device):
        head = tried.spec.build_head(tried.num_classes).train()
        # Not leaves: what is done to them in place is to be seen, not refused by autograd.
        leaves = [torch.randn(BATCH, *shape, requires_grad=True) for shape in tried.shapes]
    features = [leaf * 1 for leaf in leaves]
    versions = [one._version for one in features]
    logits: Tensor = require_logits(head(list(features), tried.image_size), tried.num_classes, BATCH, tried.problem)
    if [one._version for one in features] != versions:
        raise tried.problem(
            "changes the features in place, which other heads read too", remedy="write x = x + y for x += y"
        )
    if logits.requires_grad:
        logits.float().square().mean().backward()
    trained = {name: one for name, one in head.named_parameters() if one.requires_grad}
    without = [name for name, one in trained.items() if one.grad is None]
    if len(without) == len(trained):
        found = f"no gradient for {', '.join(without[:3])}" if trained else "no parameters"
        raise tried.problem("trains nothing", found=found, remedy="what it learns is a parameter or module of self")
    notes = [f"{tried.spec.source}: {text}" for text in _notes(head, without, leaves)]
    return notes + _at_other_sizes(head, tried, device)


def _notes(head: nn.Module, without: Sequence[str], leaves: Sequence[Tensor]) -> Iterator[str]:
    if without:
        yield f"{len(without)} parameters get no gradient and stay as they begin: {', '.join(without[:3])}"
    if all(leaf.grad is None for leaf in leaves):
        yield "no gradient reaches the encoder, which learns nothing from it"
    for name, module in head.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor):
                place = f"{name}.{attribute}".lstrip(".")
                yield f"{place} is a tensor that goes to no device with the model: register_buffer keeps it"


def _at_other_sizes(head: nn.Module, tried: _Tried, device: str) -> list[str]:
    """Returns warnings of what works at the crop in a batch, and not with one image, or at another size."""
    found = []
    head.zero_grad(set_to_none=True)
    one = [torch.zeros(1, *shape, device=device) for shape in tried.shapes]
    try:
        head(one, tried.image_size)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        found.append(f"{tried.spec.source}: a BatchNorm over one value: two images or more on each worker, at a time")
    larger = [torch.zeros(1, c, 2 * h, 2 * w + 1, device=device) for c, h, w in tried.shapes]
    size = (2 * tried.image_size[0], 2 * tried.image_size[1] + tried.image_size[1] // tried.shapes[0][2])
    try:
        with torch.no_grad():
            head.eval()(larger, size)
    except (Exception, SystemExit) as error:
        found.append(f"{tried.spec.source}: works at the crop alone, not on larger images: {type(error).__name__}")
    return found


def _for_want_of_values(error: BaseException) -> bool:
    """Returns whether an error is that a tensor of the meta device has no values."""
    said = str(error)
    return any(word in said for word in _NO_VALUES) and not any(word in said for word in _DEVICE_WORDS)
