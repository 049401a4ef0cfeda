"""A head that is a class of the user's own: the record that stands for it in a model's structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from setr.errors import InputError
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.own_code import OwnCode, error_line, load, text_of
from setr.models.own_source import is_source
from setr.models.specification import HeadSpec, SegmenterSpec

if TYPE_CHECKING:
    from torch import nn

GIVEN = ("channels_in", "num_classes")  # what every such class is called with, besides its own options


@dataclass(frozen=True)
class OwnHeadSpec(HeadSpec):
    """A class of the user's own, by its source: as the decode head, or as an auxiliary head (then of one map).

    What it computes is in the code of its experiments (setr.study.code), not here.
    """

    source: str  # mine.py:ConcatHead, without folders, or package.module:Name
    channels_in: tuple[int, ...]  # of each map that it reads, shallow first
    options: tuple[tuple[str, Any], ...] = ()  # by name, sorted

    def __post_init__(self) -> None:
        """Raises ValueError for a source that is none: it names a file of a folder, and may come from elsewhere."""
        if not is_source(self.source):
            raise ValueError(f"not a source of one's own: {self.source!r}")

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module, as its own __init__ fills it.

        Raises InputError: E_CODE_NOT_ALLOWED, or E_OWN_CODE where the class cannot be made.
        """
        kind = load(self.source)
        try:
            return self._made(kind, num_classes)
        except Exception as error:
            raise InputError(
                "E_OWN_CODE",
                f"{self.source} cannot be made: {type(error).__name__}: {error}",
                where=error_line(error, OwnCode(self.source, text_of(kind))),
                found=f"channels_in={self.channels_in}, num_classes={num_classes}, options {dict(self.options)}",
            ) from error

    def _made(self, kind: type, num_classes: int) -> "nn.Module":
        import torch

        try:
            made: nn.Module = kind(self.channels_in, num_classes, **dict(self.options))
        except Exception:
            if torch.get_default_device().type != "meta":
                raise
            # What asks for values (.item(), numpy) finds none there.
            with torch.device("cpu"):
                made = kind(self.channels_in, num_classes, **dict(self.options)).to("meta")
        return made


def own_head(source: str, channels_in: Sequence[int], options: Mapping[str, Any] | None = None) -> OwnHeadSpec:
    """Returns the record of a class with its options; raises InputError (E_OWN_CODE) for one that no record can keep.

    An option is a number, a text, a truth value, None, or a list of such.
    """
    given = dict(options or {})
    for name, value in given.items():
        if name in GIVEN or not name.isidentifier():
            expected = "a name that the class is not given anyway"
            raise InputError("E_OWN_CODE", "no option of a class", where=source, found=name, expected=expected)
        if not _is_plain(value):
            expected = "a number, a text, true, false, null, or a list of such"
            raise InputError(
                "E_OWN_CODE", f"no value of an option: {name}", where=source, found=value, expected=expected
            )
    return OwnHeadSpec(source, tuple(channels_in), tuple((name, _frozen(given[name])) for name in sorted(given)))


def own_heads(spec: SegmenterSpec) -> tuple[OwnHeadSpec, ...]:
    """Returns the heads of a structure that are of a user's own: the decoder first."""
    return tuple(head for head in (spec.decoder, *spec.auxiliary) if isinstance(head, OwnHeadSpec))


def own_sources(spec: SegmenterSpec) -> tuple[str, ...]:
    """Returns the sources of code of a user's own that a model runs; each once."""
    return tuple(dict.fromkeys(head.source for head in own_heads(spec)))


def without_own_code(spec: SegmenterSpec) -> SegmenterSpec:
    """Returns a structure with other heads in the place of a user's own: for who asks of the encoder alone."""
    if not own_heads(spec):
        return spec
    heads = [UpHeadSpec(1) if isinstance(head, OwnHeadSpec) else head for head in (spec.decoder, *spec.auxiliary)]
    return replace(spec, decoder=heads[0], auxiliary=tuple(heads[1:]))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    return value is None or isinstance(value, bool | int | str)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list | tuple) else value
