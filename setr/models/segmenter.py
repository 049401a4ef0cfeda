"""Every model of the paper's tables by name: VARIANTS (rows), build_model (name -> model), Segmenter (what it is).

`build_segmenter` builds any SegmenterSpec: a checkpoint of another size or an export is a spec too (`model.spec`).
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.baselines import FCNHead, FCNHeadSpec, FPNNeck, FPNSpec, SemanticFPNHead
from setr.models.decoders import MLAHead, MLANeck, MLASpec, UpHead, UpHeadSpec, initialise_head
from setr.models.encoder import ENCODERS, MINIATURES, EncoderSize, TappedVisionTransformer, initialise_encoder
from setr.models.flavours import flavour_rules
from setr.models.hybrid import R50, HybridPatchEmbed, ResNetEncoder, ResNetSpec
from setr.models.layout import MAIN_LAYERS, baseline_spec, resnet, setr_heads, taps_of
from setr.models.specification import SegmenterSpec
from setr.paper.choices import FLAVOURS, require_choice

SCALES = ("paper", "miniature")


@dataclass(frozen=True)
class Pretrained:
    """Published weights an encoder or CNN starts from: timm's name and, where it differs, the file used at the time."""

    timm_name: str
    file: str = ""  # the published file, with the start of its SHA-256
    exact: bool = True  # False: the nearest that timm has by name; `file` is what the paper's authors used
    note: str = ""


VIT_BASE_21K = Pretrained("vit_base_patch16_384.orig_in21k_ft_in1k", "jx_vit_base_p16_384-83fb41ba.pth")
VIT_LARGE_21K = Pretrained(
    "vit_large_patch16_384.augreg_in21k_ft_in1k",
    "jx_vit_large_p16_384-b3be5167.pth",
    exact=False,
    note="timm names only the AugReg weights of this size; the authors' file is given by path",
)
DEIT_BASE_1K = Pretrained("deit_base_distilled_patch16_384.fb_in1k", "deit_base_distilled_patch16_384-d0272ac0.pth")
RESNET50_1K = Pretrained("resnet50c.gluon_in1k", "gluon_resnet50_v1c-48092f55.pth")
RESNET101_1K = Pretrained("resnet101c.gluon_in1k", "gluon_resnet101_v1c-1f26822a.pth")
RESNET101_21K = Pretrained(
    "resnetv2_101x1_bit.goog_in21k",
    exact=False,
    note="the paper's own ResNet-101 21k weights are not released; Big Transfer's are the nearest",
)


@dataclass(frozen=True)
class Variant:
    """One row of the tables: which decoder on which encoder from which weights."""

    name: str
    decoder: str  # naive | pup | mla | fcn | semantic-fpn
    encoder: str  # t-base | t-large | r-101 | r-101-bit
    pre: str  # R | 1K | 21K: pre-training of the transformer part (of the ResNet in the baselines), as printed
    pretrained: Pretrained | None = None
    cnn_pretrained: Pretrained | None = None  # Hybrid only: its ResNet-50 always starts from ImageNet-1k


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("fcn", "fcn", "r-101", "1K", RESNET101_1K),
        Variant("fcn-21k", "fcn", "r-101-bit", "21K", RESNET101_21K),
        Variant("semantic-fpn", "semantic-fpn", "r-101", "1K", RESNET101_1K),
        Variant("hybrid-base-random", "naive", "t-base", "R", None, RESNET50_1K),
        Variant("hybrid-base", "naive", "t-base", "21K", VIT_BASE_21K, RESNET50_1K),
        # Printed as 21K in Table 2; DeiT's weights are ImageNet-1k everywhere else in the paper.
        Variant("hybrid-deit", "naive", "t-base", "21K", DEIT_BASE_1K, RESNET50_1K),
        Variant("setr-naive", "naive", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-mla", "mla", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-pup", "pup", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-pup-random", "pup", "t-large", "R"),
        Variant("setr-naive-base", "naive", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-mla-base", "mla", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-pup-base", "pup", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-naive-deit", "naive", "t-base", "1K", DEIT_BASE_1K),
        Variant("setr-mla-deit", "mla", "t-base", "1K", DEIT_BASE_1K),
        Variant("setr-pup-deit", "pup", "t-base", "1K", DEIT_BASE_1K),
    )
}


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
        self.encoder = _encoder(spec)
        self.neck: nn.Module | None = None
        self.decode_head: nn.Module
        match spec.decoder:
            case UpHeadSpec():
                self.decode_head = UpHead(spec.decoder, spec.num_classes)
            case MLASpec():
                self.neck = MLANeck(spec.decoder)
                self.decode_head = MLAHead(spec.decoder, spec.num_classes)
            case FCNHeadSpec():
                self.decode_head = FCNHead(spec.decoder, spec.num_classes)
            case FPNSpec():
                self.neck = FPNNeck(spec.decoder)
                self.decode_head = SemanticFPNHead(spec.decoder, spec.num_classes)
        self.auxiliary_heads = nn.ModuleList(
            UpHead(head, spec.num_classes) if isinstance(head, UpHeadSpec) else FCNHead(head, spec.num_classes)
            for head in spec.auxiliary
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Return logits (B, K, H, W) for normalised images (B, 3, H, W) of any H and W.

        In train mode also the auxiliary heads' logits (B, K, H, W), shallow layer first.
        """
        main, auxiliary = self.head_logits(images)
        size = (images.shape[-2], images.shape[-1])
        if not self.training:
            return self._to_image(main, size)
        return self._to_image(main, size), [self._to_image(logits, size) for logits in auxiliary]

    def head_logits(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return main and auxiliary logits (B, K, h, w), each one bilinear resize away from (B, K, H, W).

        The list is empty in eval mode: the auxiliary heads do no work there. Logits come class by class in memory (not
        channels_last), which the resize and the softmax over them want: copied here, while they are small.
        """
        size = (images.shape[-2], images.shape[-1])
        spec = self.spec
        wanted = spec.main_taps + (spec.auxiliary_taps if self.training else ())
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
    model = Segmenter(spec)
    # The baselines are mmsegmentation's own, in the authors' repository too.
    is_setr = isinstance(model.encoder, TappedVisionTransformer)
    style = flavour_rules(spec.flavour).initialisation if is_setr else "mmseg"
    if isinstance(model.encoder, TappedVisionTransformer):
        initialise_encoder(model.encoder, style)
    for part in (model.decode_head, *model.auxiliary_heads):
        initialise_head(part, style)
    if isinstance(model.neck, MLANeck):
        initialise_head(model.neck, style)
    return model


def variant_spec(
    variant: str,
    *,
    num_classes: int,
    crop_size: tuple[int, int],
    scale: str = "paper",
    flavour: str = "authors",
    sizes: EncoderSize | None = None,
    drop_path: float = 0.0,
) -> SegmenterSpec:
    """Return the spec that `build_model` builds."""
    row = VARIANTS[require_choice("variant", variant, VARIANTS)]
    miniature = require_choice("scale", scale, SCALES) == "miniature"
    rules = flavour_rules(require_choice("flavour", flavour, FLAVOURS))
    if num_classes < 2:
        raise InputError("E_CLASSES", "num_classes is too small", found=num_classes, expected="2 or more")
    if row.decoder in ("fcn", "semantic-fpn"):
        return baseline_spec(
            row.decoder, row.encoder, num_classes=num_classes, crop_size=crop_size, miniature=miniature
        )
    require_choice("decoder", row.decoder, MAIN_LAYERS)
    size = sizes or (MINIATURES if miniature else ENCODERS)[row.encoder]
    decoder, auxiliary, auxiliary_taps = setr_heads(row.decoder, row.encoder, size, rules, num_classes)
    cnn = None
    if row.cnn_pretrained is not None:
        cnn = replace(resnet(R50, miniature=miniature), output_stride=size.patch_size)
    return SegmenterSpec(
        encoder=size,
        image_size=crop_size,
        num_classes=num_classes,
        decoder=decoder,
        main_taps=taps_of(MAIN_LAYERS[row.decoder], size.depth),
        auxiliary=auxiliary,
        auxiliary_taps=auxiliary_taps,
        cnn=cnn,
        flavour=flavour,
        drop_path=drop_path,
    )


def _encoder(spec: SegmenterSpec) -> nn.Module:
    if isinstance(spec.encoder, ResNetSpec):
        return ResNetEncoder(spec.encoder)
    encoder = TappedVisionTransformer(
        spec.encoder,
        spec.image_size,
        keep_class_token=not isinstance(spec.decoder, MLASpec),
        last_tap=max(spec.main_taps + spec.auxiliary_taps),
        drop_path=spec.drop_path,
    )
    if spec.cnn is not None:
        encoder.patch_embed = HybridPatchEmbed(spec.cnn, spec.encoder.embed_dim)
    return encoder
