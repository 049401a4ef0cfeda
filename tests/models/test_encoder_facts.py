"""What is known of an encoder before it is built, and the lines for encoders that there are not."""

import subprocess
import sys

import pytest

from setr.data.loading.transforms import MEAN, STD
from setr.errors import InputError
from setr.models.encoder_facts import IMAGENET_MEAN, IMAGENET_STD, encoder_facts
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, ResNetSpec, TimmSpec


def test_a_plain_encoder_has_one_entry_a_layer() -> None:
    facts = encoder_facts(TimmSpec("vit_small_patch16_dinov3.lvd1689m", (("depth", 3),)))
    assert facts.channels == (384,) * 3
    assert facts.strides == (16,) * 3
    assert not facts.pyramid
    assert facts.prefix_tokens == 5  # class and four registers
    assert facts.licence == "dinov3-license"


def test_mean_and_deviation_are_the_models_own() -> None:
    facts = encoder_facts(TimmSpec("beit_base_patch16_224.in22k_ft_in22k", (("depth", 1),)))
    assert (facts.mean, facts.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "channels", "stem_maps"),
    [
        ("swin_tiny_patch4_window7_224.ms_in22k", (96, 192, 384, 768), 0),
        ("resnet50.a1_in1k", (256, 512, 1024, 2048), 1),  # timm counts the stem's map too
        ("sam2_hiera_tiny.fb_r896_2pt1", (96, 192, 384, 768), 0),
    ],
)
def test_a_pyramid_has_one_entry_a_stage(name: str, channels: tuple[int, ...], stem_maps: int) -> None:
    facts = encoder_facts(TimmSpec(name))
    assert facts.pyramid
    assert facts.channels == channels
    assert facts.strides == (4, 8, 16, 32)
    assert facts.stem_maps == stem_maps


def test_the_patch_may_be_another() -> None:
    assert encoder_facts(TimmSpec("vit_small_patch14_dinov2.lvd142m", (("patch_size", 16),))).strides[0] == 16


def test_encoders_of_the_tables_have_facts_too() -> None:
    plain = encoder_facts(EncoderSize("t", embed_dim=8, depth=3, num_heads=2, patch_size=8))
    assert (plain.channels, plain.strides, plain.pyramid, plain.prefix_tokens) == ((8,) * 3, (8,) * 3, False, 1)
    resnet = encoder_facts(ResNetSpec("r", (1, 1, 1, 1), output_stride=8, base_channels=4))
    assert (resnet.channels, resnet.strides, resnet.pyramid) == ((16, 32, 64, 128), (4, 8, 8, 8), True)


def test_images_come_with_imagenets_colours() -> None:
    assert tuple(255 * value for value in IMAGENET_MEAN) == pytest.approx(MEAN)
    assert tuple(255 * value for value in IMAGENET_STD) == pytest.approx(STD)


def test_encoders_of_the_tables_need_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from setr.models.encoder_facts import encoder_facts; "
        "from setr.models.specification import EncoderSize; encoder_facts(EncoderSize('t', 8, 3, 2)); "
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (TimmSpec("vit_smal_patch16_dinov3"), r"E_ENCODER_NAME.*vit_small_patch16_dinov3"),
        (TimmSpec("vit_small_patch16_224.nobodys"), "E_ENCODER_NAME"),
        (TimmSpec("hf-hub:someone/something"), "E_ENCODER_NAME"),  # nothing is fetched for a structure
        (TimmSpec("local-dir:/tmp/x"), "E_ENCODER_NAME"),
        (TimmSpec("vit_small_patch16_224", (("nonsense", 1),)), r"E_ENCODER_OPTION.*nonsense"),
        (TimmSpec("vit_small_patch16_224", (("num_heads", 7),)), "E_ENCODER_OPTION"),
        (TimmSpec("vit_small_patch16_224", (("pretrained", True),)), r"E_ENCODER_OPTION.*pretrained"),
        (TimmSpec("vit_small_patch16_224", (("checkpoint_path", "x"),)), r"E_ENCODER_OPTION.*checkpoint_path"),
        (TimmSpec("vit_small_patch16_224", (("depth", 10**9),)), r"E_ENCODER_OPTION.*layers"),
        (TimmSpec("swin_tiny_patch4_window7_224", (("depths", (2, 10**9)),)), r"E_ENCODER_OPTION.*layers"),
    ],
)
def test_what_timm_has_not_is_one_line(spec: TimmSpec, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        encoder_facts(spec)
    assert "\n" not in str(caught.value)


def test_a_timm_encoder_is_kept_as_json() -> None:
    spec = TimmSpec("swin_tiny_patch4_window7_224", (("depths", (1, 1, 2, 1)), ("embed_dim", 24)))
    assert spec_from_json(spec_to_json(spec)) == spec
