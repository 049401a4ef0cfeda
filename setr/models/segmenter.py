"""Models: build_model (a row of `variants` by name -> model), Segmenter (what it is).

`build_segmenter` builds any SegmenterSpec: a checkpoint of another size or an export is a spec too (`model.spec`).
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import initialise_head
from setr.models.encoder import TappedVisionTransformer, initialise_encoder
from setr.models.flavours import flavour_rules
from setr.models.hybrid import HybridPatchEmbed, ResNetEncoder
from setr.models.own_code import text_of
from setr.models.own_head import OwnHeadSpec, own_heads
from setr.models.specification import EncoderSize, SegmenterSpec, TimmSpec
from setr.models.timm_encoder import TimmEncoder
from setr.models.variants import variant_spec


class Segmenter(nn.Module):
    """Encoder, optional neck, decode head and auxiliary heads: images to logits.

    Parameters named `decode_head.` or `auxiliary_heads.` learn at the head's rate; `encoder.` and `neck.` do not.
    """

    def __init__(self, spec: SegmenterSpec) -> None:
        """Build the modules of `spec`; parameters have PyTorch's and timm's defaults until initialised."""
        super().__init__()
        self.spec = spec
        self.num_classes = spec.num_classes
        self.align_corners = spec.align_corners
        self.encoder = ENCODERS[type(spec.encoder).__name__].build(spec)
        if spec.frozen:
            self.encoder.requires_grad_(False)
        self.neck = spec.decoder.build_neck()
        self.decode_head = spec.decoder.build_head(spec.num_classes)
        self.auxiliary_heads = nn.ModuleList(head.build_head(spec.num_classes) for head in spec.auxiliary)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Return logits (B, K, H, W) for normalised images (B, 3, H, W) of any H and W.

        In train mode also the auxiliary heads' logits (B, K, H, W), shallow layer first.
        """
        main, auxiliary = self.head_logits(images)
        size = (images.shape[-2], images.shape[-1])
        if not self.training:
            return self._to_image(main, size)
        return self._to_image(main, size), [self._to_image(logits, size) for logits in auxiliary]

    def train(self, mode: bool = True) -> "Segmenter":
        """Return the model in train mode, or in eval mode, in which a frozen encoder always is."""
        super().train(mode)
        if self.spec.frozen:
            self.encoder.eval()
        return self

    def head_logits(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return main and auxiliary logits (B, K, h, w), each one bilinear resize away from (B, K, H, W).

        The list is empty in eval mode: the auxiliary heads do no work there. Logits come class by class in memory (not
        channels_last), which the resize and the softmax over them want: copied here, while they are small.
        """
        size = (images.shape[-2], images.shape[-1])
        spec = self.spec
        wanted = spec.main_taps + (spec.auxiliary_taps if self.training else ())
        # A frozen encoder's features need no gradient, so nothing of what it computes is kept.
        with torch.no_grad() if spec.frozen else nullcontext():
            features = self.encoder(images, wanted)
        main_features, auxiliary_features = features[: len(spec.main_taps)], features[len(spec.main_taps) :]
        if self.neck is not None:
            main_features = self.neck(main_features)
        main = self.decode_head(main_features, size)
        main = main.contiguous()
        if not self.training or not self.auxiliary_heads:
            return main, []
        sources = auxiliary_features if spec.auxiliary_taps else main_features
        heads = zip(self.auxiliary_heads, sources, strict=True)
        return main, [head([source], size).contiguous() for head, source in heads]

    def _to_image(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if not torch.compiler.is_exporting() and tuple(logits.shape[-2:]) == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)


def build_model(
    variant: str,
    *,
    num_classes: int,
    crop_size: tuple[int, int],
    scale: str = "paper",
    flavour: str = "authors",
    sizes: EncoderSize | None = None,
    drop_path: float = 0.0,
) -> Segmenter:
    """Return the model of a VARIANTS row with random weights (PyTorch's generator), for crops of H x W pixels.

    `sizes` puts another encoder size in the place of the row's. Raises InputError for a name that is not known.
    """
    return build_segmenter(
        variant_spec(
            variant,
            num_classes=num_classes,
            crop_size=crop_size,
            scale=scale,
            flavour=flavour,
            sizes=sizes,
            drop_path=drop_path,
        )
    )


def build_segmenter(spec: SegmenterSpec) -> Segmenter:
    """Return the model of `spec`, initialised at random as its flavour does (PyTorch's generator)."""
    style = flavour_rules(spec.flavour).initialisation
    model = Segmenter(spec)
    return initialised_but_own(model, style) if own_heads(spec) else initialised(model, style)


def seeded_segmenter(spec: SegmenterSpec, initialisation: str, seed: int) -> Segmenter:
    """Return the model of `spec` as a training with that seed begins with it, before any weights are loaded.

    Sets PyTorch's generator. `initialisation` is authors | mmseg.
    """
    torch.manual_seed(seed)
    return initialised(Segmenter(spec), initialisation)


def seeded_own_segmenter(spec: SegmenterSpec, initialisation: str, seed: int) -> Segmenter:
    """Return what seeded_segmenter() does, of a model with heads of a user's own.

    It is a function of its own so that the code of models without such heads is not touched by it.
    """
    torch.manual_seed(seed)
    return initialised_but_own(Segmenter(spec), initialisation)


def initialised_but_own(model: Segmenter, style: str) -> Segmenter:
    """Return what initialised() does, with the values that a user's own heads have given themselves."""
    decode_head, auxiliary = model.decode_head, model.auxiliary_heads
    others = [
        head for head, spec in zip(auxiliary, model.spec.auxiliary, strict=True) if not isinstance(spec, OwnHeadSpec)
    ]
    model.auxiliary_heads = nn.ModuleList(others)
    if isinstance(model.spec.decoder, OwnHeadSpec):
        model.decode_head = nn.Identity()
    initialised(model, style)
    model.decode_head, model.auxiliary_heads = decode_head, auxiliary
    return model


def own_texts(model: Segmenter) -> dict[str, str]:
    """Return the code of a user's own that the model runs: {source: text of its file}."""
    heads = zip((model.spec.decoder, *model.spec.auxiliary), (model.decode_head, *model.auxiliary_heads), strict=True)
    return {spec.source: text_of(type(head)) for spec, head in heads if isinstance(spec, OwnHeadSpec)}


def initialised(model: Segmenter, style: str) -> Segmenter:
    """Return the model filled with random values, by the style of its flavour: authors | mmseg."""
    encoder = ENCODERS[type(model.spec.encoder).__name__]
    style = encoder.style or style
    encoder.initialise(model.encoder, style)
    for part in (model.decode_head, *model.auxiliary_heads):
        initialise_head(part, style)
    if model.neck is not None and model.spec.decoder.initialises_neck:
        initialise_head(model.neck, style)
    return model


@dataclass(frozen=True)
class EncoderParts:
    """What an encoder's record stands for."""

    build: Callable[[SegmenterSpec], nn.Module]
    initialise: Callable[[Any, str], None]
    style: str = ""  # of the whole model's random values, whatever its flavour


def _transformer(spec: SegmenterSpec) -> nn.Module:
    assert isinstance(spec.encoder, EncoderSize)
    encoder = TappedVisionTransformer(
        spec.encoder,
        spec.image_size,
        keep_class_token=spec.decoder.keeps_class_token,
        last_tap=max(spec.main_taps + spec.auxiliary_taps),
        drop_path=spec.drop_path,
    )
    if spec.cnn is not None:
        encoder.patch_embed = STEMS[type(spec.cnn).__name__](spec.cnn, spec.encoder.embed_dim)
    return encoder


def _resnet(spec: SegmenterSpec) -> nn.Module:
    return ResNetEncoder(spec.encoder)  # type: ignore[arg-type]  # ENCODERS gives it nothing else


def _timm(spec: SegmenterSpec) -> nn.Module:
    assert isinstance(spec.encoder, TimmSpec)
    taps = spec.main_taps + spec.auxiliary_taps
    return TimmEncoder(spec.encoder, spec.image_size, taps=taps, drop_path=spec.drop_path)


def _keep(encoder: nn.Module, style: str) -> None:
    """Leaves PyTorch's and timm's own random values."""


# By the name of the record in a SegmenterSpec. An experiment's code hash takes the entries that its model is made of
# (setr.study.code), so what another decoder computes does not count.
ENCODERS: dict[str, EncoderParts] = {
    "EncoderSize": EncoderParts(_transformer, initialise_encoder),
    # The baselines are mmsegmentation's own, in the authors' repository too.
    "ResNetSpec": EncoderParts(_resnet, _keep, style="mmseg"),
    "TimmSpec": EncoderParts(_timm, _keep),
}
STEMS: dict[str, Callable[[Any, int], nn.Module]] = {"ResNetSpec": HybridPatchEmbed}  # in the patch projection's place
