"""The model table: what it prints for a row, and that the paper's numbers stand beside equal ones of ours."""

from dataclasses import replace

import pytest

from pipelines.models import HEADINGS, Selection, crop_size, markdown, notes, row
from setr.errors import InputError
from setr.models.decoders.decoder import Decoder
from setr.models.decoders.naive import NAIVE
from setr.models.decoders.table import DECODERS
from setr.models.specification import HeadSpec
from setr.models.variants import VARIANTS

PAPER = Selection("cityscapes", "paper", "authors", (128, 128))
MINIATURE = Selection("scenes", "miniature", "authors", (64, 128))


def cells(variant: str, choice: Selection) -> dict[str, str]:
    return dict(zip(HEADINGS, row(VARIANTS[variant], choice), strict=True))


@pytest.mark.parametrize("variant", ["setr-pup", "setr-mla-deit", "fcn", "semantic-fpn"])
def test_ours_counted_the_papers_way_is_what_it_prints(variant: str) -> None:
    printed = cells(variant, PAPER)
    assert printed["the paper's way (M)"] == printed["printed (M)"] != ""


def test_a_row_says_crop_weights_and_layers() -> None:
    fcn, pup = cells("fcn", PAPER), cells("setr-pup", PAPER)
    assert (fcn["crop"], pup["crop"]) == ("769x769", "768x768")
    assert pup["layers"] == "24; auxiliary 10,15,20,24"
    assert pup["weights"] == "21K: vit_large_patch16_384.augreg_in21k_ft_in1k *"
    assert cells("setr-pup-random", PAPER)["weights"] == "R: random"
    assert float(pup["GFLOPs"]) == pytest.approx(2158.7, abs=0.1)


def test_a_miniature_has_no_printed_number() -> None:
    printed = cells("setr-naive", MINIATURE)
    assert printed["crop"] == "64x128"
    assert printed["printed (M)"] == printed["the paper's way (M)"] == ""
    assert len(notes(MINIATURE)) == 1


def test_notes_state_hybrids_numbers() -> None:
    text = " ".join(notes(PAPER))
    assert "112.20M here, 112.59M printed" in text
    assert "Big Transfer" in text


def test_markdown_has_one_line_a_row() -> None:
    lines = markdown([tuple("abcdefgh")])
    assert len(lines) == 3
    assert lines[2] == "| a | b | c | d | e | f | g | h |"


def test_a_decoder_without_a_recipe_has_the_others_crop_and_one_of_no_row_is_named() -> None:
    own = replace(VARIANTS["setr-naive-base"], decoder="concat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECODERS, "concat", Decoder("concat", HeadSpec, (24,), NAIVE.heads, NAIVE.cost))
        assert crop_size(own, PAPER) == (768, 768)
    with pytest.raises(InputError, match=r"unknown decoder \| found concat"):
        crop_size(own, PAPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, own.name, own)
        with pytest.raises(InputError, match=r"unknown decoder \| found concat, expected naive, pup, mla"):
            row(own, MINIATURE)
