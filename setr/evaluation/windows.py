"""Sizes and windows of an evaluation, as pure functions: H and W always in that order, all in pixels."""

from itertools import pairwise

from setr.data.loading.sizes import keep_ratio_size
from setr.errors import InputError
from setr.study.protocols import Protocol

Size = tuple[int, int]  # height, width
Window = tuple[int, int, int, int]  # y1, x1, y2, x2; the ends are outside


def short_side_size(size: Size, short: float) -> Size:
    """Returns the size (h, w) whose shorter side is `short`, aspect kept."""
    return keep_ratio_size(size, (short * max(size) / min(size), short))


def multi_scale_sizes(size: Size, protocol: Protocol) -> list[Size]:
    """Returns the size (h, w) that an image of `size` is resized to, one for each of the protocol's ratios.

    With the single ratio 1.0 and no flip that is the single-scale resize; otherwise the `short_side` rule decides (its
    readings are told apart in Protocol's text). Products with a ratio are cut to whole pixels, as in the released code.
    """
    if protocol.ratios == (1.0,) and not protocol.flip:
        return [size if protocol.resize is None else keep_ratio_size(size, protocol.resize)]
    return [_size_at_ratio(size, ratio, protocol) for ratio in protocol.ratios]


def _size_at_ratio(size: Size, ratio: float, protocol: Protocol) -> Size:
    if protocol.short_side == "mmseg":
        return keep_ratio_size(size, (int(size[0] * ratio + 0.5), int(size[1] * ratio + 0.5)))
    resize = protocol.resize or size
    long, short = int(max(resize) * ratio), int(min(resize) * ratio)
    window = min(protocol.window)
    if protocol.short_side in ("mmseg-0.6", "paper"):
        scaled = keep_ratio_size(size, (long, short))
        enlarge = protocol.short_side == "paper" and min(scaled) < window
        return short_side_size(size, window) if enlarge else scaled
    if short < window:
        return short_side_size(size, window)
    return short_side_size(size, long if protocol.short_side == "authors-2021-03" else short)


def windows(height: int, width: int, window: Size, stride: Size) -> list[Window]:
    """Returns the windows of an image in row-major order, as mmsegmentation places them.

    max(ceil((side - window) / stride), 0) + 1 in each direction; the last one is shifted back inside and keeps its
    size. A side shorter than the window gets one window of that side.

    Raises InputError E_STRIDE for a stride that would leave pixels out.
    """
    if min(stride) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        raise InputError("E_STRIDE", "stride does not fit the window", found=stride, expected=f"1 to {window}")
    return [
        (y1, x1, y2, x2)
        for y1, y2 in _spans(height, window[0], stride[0])
        for x1, x2 in _spans(width, window[1], stride[1])
    ]


def _spans(side: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Returns the starts and ends of the windows along one side."""
    count = max(side - window + stride - 1, 0) // stride + 1
    ends = [min(index * stride + window, side) for index in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def coverage(spans: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Returns (start, end, count) intervals: how many of the spans lie over each part of a side."""
    edges = sorted({edge for span in spans for edge in span})
    return [
        (start, end, sum(first <= start and end <= last for first, last in spans)) for start, end in pairwise(edges)
    ]
