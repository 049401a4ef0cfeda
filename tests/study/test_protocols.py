import dataclasses

import pytest

from setr.errors import InputError
from setr.study.protocols import ANY_LONG_SIDE, Protocol
from setr.study.published import protocol


def test_single_scale_windows_are_the_released_ones() -> None:
    cityscapes = protocol("cityscapes", "pup", "ss")
    assert (cityscapes.resize, cityscapes.window, cityscapes.stride) == ((2049, 1025), (768, 768), (512, 512))
    ade20k = protocol("ade20k", "mla", "ss")
    assert (ade20k.resize, ade20k.window, ade20k.stride) == ((2048, 512), (512, 512), (341, 341))
    pascal = protocol("pascal_context", "naive", "ss")
    assert (pascal.resize, pascal.window, pascal.stride) == ((ANY_LONG_SIDE, 520), (480, 480), (320, 320))
    assert pascal.num_classes == 60
    assert not pascal.flip


def test_multi_scale_has_three_ratios_on_ade20k_in_the_first_release() -> None:
    assert protocol("ade20k", "pup", "ms").ratios == (0.5, 0.75, 1.0)
    assert protocol("ade20k", "pup", "ms", short_side="authors-head").ratios == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert protocol("ade20k", "mla", "ms", short_side="authors-head").ratios == (0.5, 0.75, 1.0)
    assert len(protocol("ade20k", "mla", "ms", short_side="paper").ratios) == 6
    assert protocol("cityscapes", "mla", "ms").flip


def test_other_readings_have_other_names_and_digests() -> None:
    first, head = protocol("cityscapes", "pup", "ms"), protocol("cityscapes", "pup", "ms", short_side="authors-head")
    assert (first.name, head.name) == ("ms", "ms-authors-head")
    assert first.digest() != head.digest()


def test_baselines_are_scored_as_their_toolbox_did() -> None:
    assert protocol("cityscapes", "fcn", "ss").window == (769, 769)
    assert protocol("ade20k", "fcn", "ss").mode == "whole"
    assert protocol("cityscapes", "semantic-fpn", "ss").resize == (2048, 1024)
    assert protocol("cityscapes", "fcn", "ms").short_side == "mmseg-0.6"
    assert protocol("pascal_context", "fcn", "ss").resize == (520, 520)


def test_digest_depends_on_values_not_on_their_form() -> None:
    first = protocol("camvid", "pup", "ss")
    assert first.digest() == dataclasses.replace(first, window=list(first.window)).digest()  # type: ignore[arg-type]
    assert first.digest() != dataclasses.replace(first, ignore_index=0).digest()
    assert len(first.digest()) == 64


def test_unknown_words_are_refused() -> None:
    with pytest.raises(InputError, match="ss, ms"):
        protocol("ade20k", "pup", "single")
    with pytest.raises(InputError, match="whole, slide"):
        Protocol("x", None, "sliding", (32, 32), (16, 16), num_classes=2)
