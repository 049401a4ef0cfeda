"""Sizes and windows: those of mmsegmentation, and the short sides that the released code gives."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setr.data.loading.sizes import keep_ratio_size
from setr.errors import InputError
from setr.evaluation.windows import coverage, multi_scale_sizes, short_side_size, windows
from setr.study.protocols import Protocol
from setr.study.published import protocol


def test_windows_are_those_of_mmsegmentation(reference: Path) -> None:
    cases = json.loads((reference / "eval_slide_windows.json").read_text())
    assert len(cases) == 13
    for case in cases:
        found = windows(*case["image"], tuple(case["crop"]), tuple(case["stride"]))
        assert [list(window) for window in found] == case["windows"]


def test_sizes_are_those_of_mmsegmentation(reference: Path) -> None:
    cases = json.loads((reference / "eval_resize_sizes.json").read_text())
    for case in cases["test_resize"]:
        assert list(keep_ratio_size(tuple(case["image"]), tuple(case["scale_wh"]))) == case["resized"]
    for case in cases["tta_resize"]:
        views = Protocol(
            "ms", None, "whole", (8, 8), (8, 8), (case["ratio"],), flip=True, short_side="mmseg", num_classes=2
        )
        assert [list(size) for size in multi_scale_sizes(tuple(case["image"]), views)] == [case["resized"]]


@pytest.mark.parametrize(
    ("dataset", "image", "rule", "short_sides"),
    [
        ("cityscapes", (1024, 2048), "authors-2021-03", [768, 1536, 2049, 2561, 3073, 3585]),
        ("cityscapes", (1024, 2048), "authors-head", [768, 768, 1025, 1281, 1537, 1793]),
        ("ade20k", (512, 683), "authors-2021-03", [512, 512, 2048]),
        ("ade20k", (683, 512), "authors-head", [512, 512, 512, 640, 768, 896]),
        ("pascal_context", (375, 500), "authors-2021-03", [480, 480, 520, 650, 780, 910]),
        ("pascal_context", (500, 375), "authors-head", [480, 480, 520, 650, 780, 910]),
        # The paper's text: the plain multiples, enlarged to the window where they are smaller.
        ("cityscapes", (1024, 2048), "paper", [768, 768, 1025, 1281, 1537, 1793]),
        ("pascal_context", (375, 500), "paper", [480, 480, 480, 488, 585, 683]),
        ("ade20k", (300, 400), "mmseg", [150, 225, 300, 375, 450, 525]),
    ],
)
def test_short_sides_of_each_rule(dataset: str, image: tuple[int, int], rule: str, short_sides: list[int]) -> None:
    sizes = multi_scale_sizes(image, protocol(dataset, "pup", "ms", short_side=rule))
    assert [min(size) for size in sizes] == short_sides
    for height, width in sizes:  # the aspect is kept to half a pixel
        assert abs(height * image[1] - width * image[0]) <= max(image)


@pytest.mark.parametrize(
    ("dataset", "decoder", "image", "size"),
    [
        ("cityscapes", "pup", (1024, 2048), (1025, 2049)),
        ("ade20k", "mla", (480, 640), (512, 683)),
        ("pascal_context", "naive", (375, 500), (520, 693)),
        ("pascal_context", "fcn", (375, 500), (390, 520)),
        ("camvid", "naive", (360, 480), (360, 480)),
    ],
)
def test_single_scale_resize(dataset: str, decoder: str, image: tuple[int, int], size: tuple[int, int]) -> None:
    assert multi_scale_sizes(image, protocol(dataset, decoder, "ss")) == [size]


def test_short_side_size_keeps_the_aspect() -> None:
    assert short_side_size((1024, 2048), 768) == (768, 1536)
    assert short_side_size((683, 512), 640) == (854, 640)


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="E_STRIDE"):
        windows(100, 100, (32, 32), (33, 32))


@given(st.data())
def test_windows_cover_every_pixel(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    window = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    stride = (data.draw(st.integers(1, window[0])), data.draw(st.integers(1, window[1])))
    found = windows(height, width, window, stride)
    assert len(set(found)) == len(found)
    assert {(y2 - y1, x2 - x1) for y1, x1, y2, x2 in found} == {(min(window[0], height), min(window[1], width))}
    counts = [[0] * width for _ in range(height)]
    for y1, x1, y2, x2 in found:
        for row in counts[y1:y2]:
            row[x1:x2] = [count + 1 for count in row[x1:x2]]
    rows = coverage([(y1, y2) for y1, x1, y2, _ in found if x1 == 0])
    columns = coverage([(x1, x2) for y1, x1, _, x2 in found if y1 == 0])
    for top, bottom, vertical in rows:
        for start, end, horizontal in columns:
            assert {counts[y][x] for y in range(top, bottom) for x in range(start, end)} == {vertical * horizontal}
    assert min(map(min, counts)) >= 1
