"""Encoders of timm's inside a Segmenter: every family trains and is scored at sizes that are no default of its own."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from setr.data.loading.transforms import MEAN, STD
from setr.errors import InputError
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.encoder_facts import encoder_facts
from setr.models.segmenter import Segmenter, build_segmenter
from setr.models.specification import SegmenterSpec, TimmSpec
from setr.models.timm_encoder import TimmEncoder
from setr.models.timm_miniatures import miniature_options

CROP = (64, 128)  # pixels, no family's default
NAMES = [
    line for line in Path(__file__).with_name("timm_names.txt").read_text().splitlines() if not line.startswith("#")
]
# One of each family, the smallest.
VIT = "vit_small_patch14_reg4_dinov2.lvd142m"
CLIP = "vit_base_patch16_clip_224.openai"
EVA = "eva02_tiny_patch14_224.mim_in22k"
BEIT = "beit_base_patch16_224.in22k_ft_in22k"
SWIN = "swin_tiny_patch4_window7_224.ms_in22k"
CONVNEXT = "convnext_tiny.dinov3_lvd1689m"
HIERA = "hiera_tiny_224.mae"
RESNET = "resnet50c.gluon_in1k"
ANY_SIZE = (
    VIT,
    CLIP,
    EVA,
    "naflexvit_base_patch16_siglip.v2_webli",
    SWIN,
    CONVNEXT,
    "sam2_hiera_tiny.fb_r896_2pt1",
    RESNET,
)
ONE_SIZE = (BEIT, HIERA)


def timm_spec(name: str, *, taps: Sequence[int] = (3,), frozen: bool = False, **changes: object) -> SegmenterSpec:
    encoder = TimmSpec(name, miniature_options(name))
    channels = encoder_facts(encoder).channels
    head = UpHeadSpec(channels[taps[-1]], 16)
    auxiliary = tuple(UpHeadSpec(channels[tap], 16) for tap in taps[:-1])
    values = {"auxiliary": auxiliary, "auxiliary_taps": tuple(taps[:-1]), "frozen": frozen, **changes}
    return SegmenterSpec(encoder, CROP, 5, head, tuple(taps[-1:]), **values)


def body_of(model: Segmenter) -> TimmEncoder:
    assert isinstance(model.encoder, TimmEncoder)
    return model.encoder


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_list_takes_a_step_and_is_scored(name: str) -> None:
    model = build_segmenter(timm_spec(name, taps=(1, 3))).train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    main, auxiliary = model(torch.randn(2, 3, *CROP))
    assert main.shape == auxiliary[0].shape == (2, 5, *CROP)
    (main.square().mean() + auxiliary[0].square().mean()).backward()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    optimizer.step()
    waiting = [key for key, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert waiting == []  # a group of processes would wait for them for ever
    assert any(not torch.equal(before[key], value) for key, value in model.encoder.named_parameters("encoder"))
    with torch.no_grad():
        logits = model.eval()(torch.randn(1, 3, 50, 101))
    assert logits.shape == (1, 5, 50, 101)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [*ANY_SIZE, *ONE_SIZE])
def test_maps_have_the_strides_and_widths_of_the_facts_at_any_size(name: str) -> None:
    encoder = body_of(build_segmenter(timm_spec(name, taps=(0, 1, 2, 3)))).eval()
    facts = encoder.facts
    with torch.no_grad():
        maps = encoder(torch.randn(1, 3, 61, 99), (2, 0, 3))
    for tap, found in zip((2, 0, 3), maps, strict=True):
        stride = facts.strides[tap]
        assert found.shape == (1, facts.channels[tap], -(-61 // stride), -(-99 // stride))


@pytest.mark.parametrize("name", ANY_SIZE)
def test_filling_up_changes_nothing_that_fits(name: str) -> None:
    encoder = body_of(build_segmenter(timm_spec(name))).eval()
    images = torch.randn(1, 3, 50, 101)
    with torch.no_grad():
        filled = encoder._prepared(images)
        found, whole = (
            encoder(images, (3,))[0],
            encoder._cut(encoder(_reversed(encoder, filled), (3,))[0], 1, 10**6, 10**6),
        )
    h, w = found.shape[-2:]
    torch.testing.assert_close(whole[..., :h, :w], found, rtol=1e-4, atol=1e-5)


def _reversed(encoder: TimmEncoder, prepared: Tensor) -> Tensor:
    """Returns the images, in the loader's colours, that `encoder` prepares to these."""
    return (prepared - encoder.shift) / encoder.scale if hasattr(encoder, "scale") else prepared


@pytest.mark.parametrize("name", ONE_SIZE)
def test_larger_images_are_refused_in_one_line_where_the_family_takes_one_size(name: str) -> None:
    model = build_segmenter(timm_spec(name)).eval()
    assert not body_of(model).facts.any_size
    with pytest.raises(InputError, match=r"E_IMAGE_SIZE.*96x128.*up to 64x128.*sliding windows") as caught:
        model(torch.randn(1, 3, 96, 128))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_other_families_take_larger_images(name: str) -> None:
    model = build_segmenter(timm_spec(name)).eval()
    assert body_of(model).facts.any_size
    with torch.no_grad():
        assert model(torch.randn(1, 3, 97, 160)).shape == (1, 5, 97, 160)


@pytest.mark.parametrize("name", [CLIP, BEIT, VIT])
def test_images_are_brought_to_the_models_own_colours(name: str) -> None:
    encoder = body_of(build_segmenter(timm_spec(name)))
    levels = torch.randint(0, 256, (1, 3, *CROP)).float()
    column = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    own = [torch.tensor(values).view(3, 1, 1) for values in (encoder.facts.mean, encoder.facts.std)]
    torch.testing.assert_close(
        encoder._prepared((levels - column[0]) / column[1]), (levels / 255 - own[0]) / own[1], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", [VIT, EVA, BEIT, SWIN, CONVNEXT, HIERA, RESNET])
def test_recomputed_layers_give_the_same_gradients(name: str) -> None:
    encoder = body_of(build_segmenter(timm_spec(name)))
    images, found = torch.randn(2, 3, *CROP), []
    for checkpointing in (False, True):
        encoder.set_grad_checkpointing(checkpointing)
        encoder.train().zero_grad()
        encoder(images, (3,))[0].square().mean().backward()
        found.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_what_stands_after_the_last_layer_read_is_not_built() -> None:
    names = body_of(build_segmenter(timm_spec(VIT, taps=(0, 1)))).state_dict().keys()
    assert {name.split(".")[2] for name in names if name.startswith("body.blocks.")} == {"0", "1"}
    assert not [name for name in names if name.startswith(("body.norm.", "body.head", "body.fc_norm"))]


def test_stochastic_depth_is_the_recipes_alone() -> None:
    """timm's Swin has a rate of its own, 0.1, where none is said."""
    rates = [getattr(module, "drop_prob", 0.0) for module in build_segmenter(timm_spec(SWIN)).encoder.modules()]
    assert max(rates) == 0.0
    asked = build_segmenter(timm_spec(SWIN, drop_path=0.3)).encoder
    assert max(getattr(module, "drop_prob", 0.0) for module in asked.modules()) == pytest.approx(0.3)


@pytest.mark.parametrize("taps", [(4,), (-1,)])
def test_layers_that_there_are_not_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"E_ENCODER_LAYERS.*0 to 3"):
        TimmEncoder(TimmSpec(VIT, miniature_options(VIT)), CROP, taps=taps)


def test_the_random_start_follows_the_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_segmenter(timm_spec(EVA)).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_a_family_without_a_miniature_is_named() -> None:
    with pytest.raises(InputError, match=r"E_ENCODER_MINIATURE.*VGG"):
        miniature_options("vgg11")
