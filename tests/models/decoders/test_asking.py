"""Every decoder on every kind of encoder, with options, layers and auxiliary heads; and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from setr.errors import InputError
from setr.models.decoders.asking import heads_for
from setr.models.decoders.decoder import Asked, Heads, spread
from setr.models.decoders.dpt import DPTSpec
from setr.models.decoders.fcn import FCNHeadSpec
from setr.models.decoders.mla import MLASpec
from setr.models.decoders.options import FOLLOWING, options_of
from setr.models.decoders.segformer import SegFormerSpec
from setr.models.decoders.segmenter_mask import SegmenterMaskSpec
from setr.models.decoders.table import DECODERS
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.decoders.upernet import UPerNetSpec
from setr.models.flavours import FLAVOURS, flavour_rules
from setr.models.specification import EncoderSize, ResNetSpec, TimmSpec
from setr.models.variants import ENCODERS, MINIATURES, R101, VARIANTS, variant_spec

VIT = (("depth", 4), ("embed_dim", 64), ("num_heads", 1))
KINDS: dict[str, EncoderSize | ResNetSpec | TimmSpec] = {
    "t-large": ENCODERS["t-large"],
    "t-base": MINIATURES["t-base"],
    "r-101": R101,
    "patch 14": TimmSpec("vit_small_patch14_dinov2.lvd142m", VIT),
    "patch 32": TimmSpec("vit_small_patch32_224.augreg_in21k", VIT),
    "swin": TimmSpec(
        "swin_tiny_patch4_window7_224", (("depths", (1, 1, 1, 1)), ("embed_dim", 32), ("num_heads", (1, 2, 4, 8)))
    ),
}
PYRAMIDS = ("r-101", "swin")
IMAGE = (64, 96)


def asked(kind: str = "t-large", flavour: str = "authors", *, miniature: bool = False) -> Asked:
    return Asked(kind, KINDS[kind], flavour_rules(flavour), 7, IMAGE, miniature)


def heads(
    decoder: str,
    kind: str = "t-large",
    *,
    flavour: str = "authors",
    layers: Any = None,
    auxiliary: Any = None,
    **options: Any,
) -> tuple[Heads, tuple[int, ...]]:
    return heads_for(decoder, asked(kind, flavour), options=options, layers=layers, auxiliary=auxiliary)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_of_setr_gets_what_it_has(variant: str, flavour: str) -> None:
    row = VARIANTS[variant]
    spec = variant_spec(variant, num_classes=19, crop_size=(64, 96), flavour=flavour)
    made, taps = heads_for(
        row.decoder,
        Asked(row.encoder, spec.encoder, flavour_rules(flavour), 19, (64, 96)),
        options={},
        layers=None,
        auxiliary=None,
    )
    assert (made.decoder, made.auxiliary, made.auxiliary_taps) == (spec.decoder, spec.auxiliary, spec.auxiliary_taps)
    assert (taps, made.align_corners) == (spec.main_taps, spec.align_corners)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_stands_on_every_encoder(kind: str, decoder: str) -> None:
    """Or says in one line why it cannot: MLA sums layers of one size, Semantic FPN reads falling ones."""
    asking = asked(kind)
    if decoder == ("mla" if kind in PYRAMIDS else "semantic-fpn"):
        with pytest.raises(InputError, match="E_DECODER"):
            heads(decoder, kind)
        return
    made, taps = heads(decoder, kind)
    facts = asking.facts
    assert taps[-1] == len(facts.channels) - 1
    assert list(taps) == sorted(set(taps))
    with torch.device("meta"):
        _forward(made, asking, taps)


def _forward(made: Heads, asking: Asked, taps: tuple[int, ...]) -> None:
    def maps(wanted: tuple[int, ...]) -> list[torch.Tensor]:
        facts = asking.facts
        sides = [tuple(-(-side // facts.strides[tap]) for side in IMAGE) for tap in wanted]
        return [torch.empty(2, facts.channels[tap], *side) for tap, side in zip(wanted, sides, strict=True)]

    neck = made.decoder.build_neck()
    read = maps(taps) if neck is None else neck(maps(taps))
    assert made.decoder.build_head(7)(read, IMAGE).shape[:2] == (2, 7)
    sources = read if made.reads_neck else maps(made.auxiliary_taps)
    assert len(sources) == len(made.auxiliary) or not made.auxiliary
    for head, source in zip(made.auxiliary, sources, strict=False):
        assert head.build_head(7)([source], IMAGE).shape[:2] == (2, 7)


@pytest.mark.parametrize(
    ("kind", "four"),
    [
        ("t-large", (5, 11, 17, 23)),
        ("patch 14", (0, 1, 2, 3)),
        ("swin", (0, 1, 2, 3)),
        ("r-101", (0, 1, 2, 3)),
    ],
)
def test_four_maps_are_quarters_of_the_depth_or_all_stages(kind: str, four: tuple[int, ...]) -> None:
    for decoder in ("upernet", "dpt", "segformer"):
        assert heads(decoder, kind)[1] == four
    for decoder in ("linear", "segmenter-linear", "segmenter-mask"):
        assert heads(decoder, kind)[1] == four[-1:]


@pytest.mark.parametrize(
    ("depth", "pyramid", "one", "four"),
    [
        (5, True, (4,), (1, 2, 3, 4)),
        (3, True, (2,), (0, 1, 2)),
        (27, False, (26,), (5, 12, 19, 26)),
        (12, False, (11,), (2, 5, 8, 11)),
    ],
)
def test_what_is_read_follows_the_depth(depth: int, pyramid: bool, one: tuple[int, ...], four: tuple[int, ...]) -> None:
    facts = replace(asked().facts, channels=(8,) * depth, strides=(4,) * depth, pyramid=pyramid)
    assert (spread(facts, 1), spread(facts, 4)) == (one, four)


@pytest.mark.parametrize(("kind", "stages", "to_4"), [("patch 14", 4, 3), ("patch 32", 5, 8), ("t-base", 3, 2)])
def test_setrs_decoders_follow_depth_and_patch(kind: str, stages: int, to_4: int) -> None:
    pup, _ = heads("pup", kind)
    mla, taps = heads("mla", kind)
    assert isinstance(pup.decoder, UpHeadSpec)
    assert isinstance(mla.decoder, MLASpec)
    assert len(pup.decoder.up_scales) == stages
    assert pup.auxiliary[0].up_scales == (to_4,)  # type: ignore[attr-defined]
    assert mla.decoder.up_scale == to_4
    assert mla.decoder.in_channels == asked(kind).facts.channels[-1]
    assert taps == (0, 1, 2, 3)


def test_widths_follow_the_encoder() -> None:
    assert heads("dpt", "t-large")[0].decoder.reassemble_channels == (256, 512, 1024, 1024)  # type: ignore[attr-defined]
    base = heads_for(
        "dpt",
        Asked("b", ENCODERS["t-base"], flavour_rules("authors"), 7, IMAGE),
        options={},
        layers=None,
        auxiliary=None,
    )[0].decoder
    assert base == DPTSpec((768,) * 4)
    assert heads("dpt", "swin")[0].decoder == DPTSpec((32, 64, 128, 256), (1.0,) * 4, (32, 64, 128, 256))
    small = heads_for("upernet", asked("swin", miniature=True), options={}, layers=None, auxiliary=None)[0]
    assert (small.decoder.channels, small.auxiliary[0].channels) == (64, 32)  # type: ignore[attr-defined]


def test_a_pyramid_is_made_where_there_is_none() -> None:
    for decoder in ("upernet", "segformer"):
        assert heads(decoder, "t-large")[0].decoder.pyramid == "feature2pyramid"  # type: ignore[attr-defined]
        assert heads(decoder, "swin")[0].decoder.pyramid == "none"  # type: ignore[attr-defined]
        two = heads(decoder, "t-large", layers=[12, 24])[0].decoder
        assert (two.pyramid, len(two.channels_in)) == ("none", 2)  # type: ignore[attr-defined]


def test_flavours_differ_where_the_sources_do() -> None:
    theirs, ours = (heads("segmenter-mask", flavour=flavour)[0].decoder for flavour in ("mmseg", "authors"))
    assert isinstance(theirs, SegmenterMaskSpec)
    assert isinstance(ours, SegmenterMaskSpec)
    assert (theirs.dropout, theirs.drop_path, theirs.start, theirs.norm_eps) == (0.0, 0.1, "mmseg", 1e-6)
    assert (ours.dropout, ours.drop_path, ours.start, ours.norm_eps) == (0.1, 0.0, "repository", 1e-5)
    assert (ours.depth, ours.heads) == (2, 16)
    assert SegmenterMaskSpec((200,), 200).heads == 2  # 3 would be one per 64, and does not divide
    forms = [heads("segformer", flavour=flavour)[0].decoder for flavour in ("mmseg", "authors")]
    assert [spec.form for spec in forms if isinstance(spec, SegFormerSpec)] == ["mmseg", "original"]
    assert [heads("dpt", flavour=flavour)[0].align_corners for flavour in ("mmseg", "authors")] == [False, True]


def test_options_stand_in_the_spec() -> None:
    upernet, _ = heads("upernet", channels=768, dropout=0, pool_scales=[1, 2], pyramid="multi_level", norm=False)
    assert upernet.decoder == UPerNetSpec((1024,) * 4, 768, (1, 2), 0.0, norm=False, pyramid="multi_level")
    mask, _ = heads("segmenter-mask", channels=192, depth=1, mlp_ratio=2)
    assert isinstance(mask.decoder, SegmenterMaskSpec)
    assert (mask.decoder.heads, mask.decoder.mlp_ratio, mask.decoder.depth) == (3, 2.0, 1)
    assert isinstance(mask.decoder.mlp_ratio, float)  # 2 and 2.0 are one model
    pup, _ = heads("pup", channels=64)
    assert pup.decoder.channels == 64  # type: ignore[attr-defined]


def test_mlas_auxiliary_heads_are_as_wide_as_its_neck() -> None:
    made, taps = heads("mla", "patch 14", neck_channels=48)
    assert {(head.in_channels, head.channels) for head in made.auxiliary} == {(48, 48)}  # type: ignore[attr-defined]
    with torch.device("meta"):
        _forward(made, asked("patch 14"), taps)


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_unknown_option_is_named_with_the_nearest_and_all_others(decoder: str) -> None:
    kind = "r-101" if decoder == "semantic-fpn" else "t-large"
    known = options_of(heads(decoder, kind)[0].decoder)
    assert not set(known) & set(FOLLOWING)
    nearest = next(iter(known))
    with pytest.raises(InputError, match=f"did you mean {nearest}") as caught:
        heads(decoder, kind, **{nearest + "s": 1})
    assert all(name in str(caught.value) for name in known)
    for name in FOLLOWING:
        with pytest.raises(InputError, match="unknown option"):
            heads(decoder, kind, **{name: 1})


@pytest.mark.parametrize("value", [None, "x", [], [1, "x"], -1, 1.5, float("nan"), float("inf"), {}, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_an_option_of_another_kind_is_refused(decoder: str, value: Any) -> None:
    kind = "r-101" if decoder == "semantic-fpn" else "t-large"
    for name, now in options_of(heads(decoder, kind)[0].decoder).items():
        number = value == 1.5 and isinstance(now, float) and "drop" not in name
        if number or (value is True and isinstance(now, bool)):
            heads(decoder, kind, **{name: value})
            continue
        with pytest.raises(InputError, match=name):
            heads(decoder, kind, **{name: value})


@pytest.mark.parametrize(
    ("decoder", "options", "said"),
    [
        ("linear", {"dropout": 1}, "less than 1"),
        ("pup", {"kernel": 2}, "odd"),
        ("pup", {"up_scales": [2]}, "another decoder"),
        ("upernet", {"pyramid": "fpn"}, "feature2pyramid, multi_level, none"),
        ("segformer", {"form": "orginal"}, "did you mean original"),
        ("segmenter-mask", {"num_heads": 5}, "5 for 1024"),
        ("segmenter-mask", {"depth": 0}, "1 or more"),
        ("segmenter-mask", {"mlp_ratio": 0}, "above 0"),
        ("dpt", {"reassemble_channels": [8, 8]}, "found 2, expected 4"),
    ],
)
def test_a_value_out_of_range_is_refused(decoder: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        heads(decoder, **options)


def test_a_pyramid_on_a_pyramid_is_refused() -> None:
    with pytest.raises(InputError, match="has stages"):
        heads("upernet", "swin", pyramid="multi_level")
    with pytest.raises(InputError, match="four maps"):
        heads("upernet", layers=[12, 24], pyramid="multi_level")


def test_an_unknown_decoder_is_named() -> None:
    with pytest.raises(InputError, match="did you mean upernet"):
        heads("uppernet")


def test_layers_count_from_one() -> None:
    assert heads("pup", layers=[12])[1] == (11,)
    assert heads("linear", layers=[21, 22, 23, 24])[0].decoder.channels_in == (1024,) * 4  # type: ignore[attr-defined]
    mla, taps = heads("mla", layers=[8, 16, 24])
    assert (mla.decoder.levels, len(mla.auxiliary), taps) == (3, 3, (7, 15, 23))  # type: ignore[attr-defined]
    assert heads("upernet", "swin", layers=[2, 4])[0].decoder.channels_in == (64, 256)  # type: ignore[attr-defined]


def test_auxiliary_heads_end_where_the_decoder_reads() -> None:
    made, _ = heads("pup", layers=[16])
    assert (made.auxiliary_taps, len(made.auxiliary)) == ((9, 14), 2)


@pytest.mark.parametrize(
    ("decoder", "kind", "layers"),
    [
        ("pup", "t-large", [12, 24]),
        ("dpt", "t-large", [8, 16, 24]),
        ("pup", "t-large", [0]),
        ("pup", "t-large", [25]),
        ("pup", "t-large", []),
        ("pup", "t-large", ["12"]),
        ("pup", "t-large", [True]),
        ("upernet", "swin", [5]),
        ("upernet", "t-large", [12, 6, 18, 24]),
        ("upernet", "t-large", [6, 6, 18, 24]),
    ],
)
def test_layers_that_cannot_be_read_are_refused(decoder: str, kind: str, layers: list[Any]) -> None:
    with pytest.raises(InputError, match=rf"E_LAYERS.*{decoder}.*1 to {len(asked(kind).facts.channels)}"):
        heads(decoder, kind, layers=layers)


def test_auxiliary_heads_are_the_decoders_own_none_or_given() -> None:
    own = heads("upernet")[0]
    assert (own.auxiliary, own.auxiliary_taps) == ((FCNHeadSpec(1024, 256, 1, concatenate=False),), (17,))
    assert heads("upernet", auxiliary=True)[0] == own
    for decoder in ("mla", "pup", "upernet"):
        without = heads(decoder, auxiliary=False)[0]
        assert (without.auxiliary, without.auxiliary_taps, without.reads_neck) == ((), (), False)
    given = heads("mla", auxiliary=[{"layer": 20, "decoder": "naive", "channels": 8}, {"layer": 9, "channels": 16}])[0]
    assert given.auxiliary_taps == (8, 19)
    assert given.auxiliary[0] == FCNHeadSpec(1024, 16, 1, concatenate=False)
    assert given.auxiliary[1] == UpHeadSpec(1024, 8)
    assert not given.reads_neck
    assert heads("linear", "swin", auxiliary=[{"layer": 2}])[0].auxiliary[0].in_channels == 64  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("auxiliary", "said"),
    [
        (True, "no auxiliary heads of its own"),
        ([{}], "without a layer"),
        ([{"layer": 25}], "E_LAYERS"),
        ([{"layer": 9, "decoder": "upernet"}], "unknown decoder of an auxiliary head"),
        ([{"layer": 9, "chanels": 8}], "did you mean channels"),
        ([9], "auxiliary heads that are none"),
        ({"layer": 9}, "auxiliary heads that are none"),
        ("yes", "auxiliary heads that are none"),
    ],
)
def test_auxiliary_heads_that_cannot_be_are_refused(auxiliary: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        heads("dpt", auxiliary=auxiliary)
