"""The structure of a released model, inferred from its weights' names and shapes and the settings beside them.

What shapes cannot tell has a rule: heads are width / 64, layers floor(layer x depth / 24) - 1, the position table's
grid is square, and the resizes between convolutions are those of the format's source. A training config stored in the
file (mmcv and mmengine do) goes before the rule; what the caller gives goes before both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from setr.errors import InputError
from setr.models.aligned_corners import aligned_corners
from setr.models.layout import MAIN_LAYERS, taps_of
from setr.models.placement import square_grid
from setr.models.specification import EncoderSize, FCNHeadSpec, FPNSpec, MLASpec, ResNetSpec, SegmenterSpec, UpHeadSpec
from setr.models.stored_settings import Settings
from setr.models.variants import ENCODERS

Shapes = Mapping[str, tuple[int, ...]]
AUXILIARY_DEFAULT = (10, 15, 20, 24)  # layers of T-Large; PUP's, of which Naive has the first three


@dataclass(frozen=True)
class Inferred:
    """A structure, and for each value that shapes do not tell, where it came from."""

    spec: SegmenterSpec
    settings: dict[str, Any]


def infer_spec(
    shapes: Shapes,
    *,
    flavour: str,
    settings: Settings,
    num_heads: int | None,
    taps: Sequence[int] | None,
    align_corners: bool | None = None,
) -> Inferred:
    """Returns the structure of the model whose parameters (named as here) have these shapes.

    `taps` are block indices from 0, shallow first: the last is what a Naive or PUP head reads, the first ones what
    the auxiliary heads read; MLA reads all. Raises InputError where names or shapes do not make a model.
    """
    if any(name.startswith("encoder.body.") for name in shapes):
        if num_heads is not None or taps is not None:
            raise InputError("E_CKPT_HEADS", "num_heads and taps are for transformers; the file holds a ResNet")
        return _infer_baseline(shapes, settings, align_corners)
    decisions: dict[str, Any] = {}
    size, image_size = infer_encoder(shapes, settings, num_heads, decisions)
    auxiliary_count = _count(shapes, r"auxiliary_heads\.(\d+)\.")
    num_classes = _dims(shapes, "decode_head.classifier.weight", 4)[0]
    head: MLASpec | UpHeadSpec
    if any(name.startswith("neck.") for name in shapes):
        head = _mla(shapes, size.embed_dim, flavour)
        kind = "mla"
    else:
        stages = _count(shapes, r"decode_head\.convs\.(\d+)\.")
        kind = "pup" if stages > 2 else "naive"
        head = _up_head(shapes, "decode_head", _main_scales(stages, flavour, settings), size.embed_dim)
    auxiliary = tuple(
        _auxiliary_head(shapes, f"auxiliary_heads.{index}", kind, flavour, settings, size.embed_dim)
        for index in range(auxiliary_count)
    )
    main_taps, auxiliary_taps = _taps(kind, size.depth, auxiliary_count, settings, taps, decisions)
    if kind == "mla" and all(not spec.norm for spec in auxiliary):
        auxiliary_taps = ()  # they read the neck's outputs
    decisions |= {"decoder": kind, "num_classes": num_classes, "taps": list(main_taps)}
    decisions["auxiliary_taps"] = list(auxiliary_taps)
    aligned = _aligned(kind, num_classes, settings, align_corners, decisions)
    spec = SegmenterSpec(
        encoder=size,
        image_size=image_size,
        num_classes=num_classes,
        decoder=head,
        main_taps=main_taps,
        auxiliary=auxiliary,
        auxiliary_taps=auxiliary_taps,
        flavour=flavour,
        align_corners=aligned,
    )
    return Inferred(spec, decisions)


def infer_encoder(
    shapes: Shapes, settings: Settings, num_heads: int | None, decisions: dict[str, Any]
) -> tuple[EncoderSize, tuple[int, int]]:
    """Returns the transformer's size and the image size (H, W pixels) of its position table; fills `decisions`."""
    _, tokens, width = _dims(shapes, "encoder.pos_embed", 3)
    patch_shape = _dims(shapes, "encoder.patch_embed.proj.weight", 4)
    depth = _count(shapes, r"encoder\.blocks\.(\d+)\.")
    hidden = _dims(shapes, "encoder.blocks.0.mlp.fc1.weight", 2)[0]
    patch = patch_shape[-1]
    if patch_shape[:3] != (width, 3, patch) or depth == 0 or patch == 0:
        raise InputError(
            "E_CKPT_SHAPE",
            "the patch projection does not belong to this encoder",
            where="patch_embed.proj.weight",
            found=patch_shape,
            expected=f"({width}, 3, P, P)",
        )
    heads, said = _first(("given", num_heads), ("config in the file", settings.num_heads), ("width / 64", width / 64))
    if heads != int(heads) or heads < 1 or width % int(heads):
        raise InputError(
            "E_CKPT_HEADS",
            "the number of attention heads does not divide the width",
            found=f"{heads:g} ({said}) for width {width}",
            remedy="pass num_heads=<the number it was trained with>",
        )
    grid, grid_said = _grid(tokens, patch, settings)
    classifier = "decode_head.classifier.weight"
    channels = _dims(shapes, classifier, 4)[1] if classifier in shapes else 256
    name = next((name for name, row in ENCODERS.items() if (row.embed_dim, row.depth) == (width, depth)), "imported")
    size = EncoderSize(name, width, depth, int(heads), patch, hidden / width, decoder_channels=channels)
    decisions |= {"width": width, "depth": depth, "num_heads": int(heads), "num_heads_from": said}
    decisions |= {"patch_size": patch, "grid": list(grid), "grid_from": grid_said}
    return size, (grid[0] * patch, grid[1] * patch)


def _grid(tokens: int, patch: int, settings: Settings) -> tuple[tuple[int, int], str]:
    if settings.image_size is not None:
        grid = (settings.image_size[0] // patch, settings.image_size[1] // patch)
        if grid[0] * grid[1] + 1 == tokens:
            return grid, "config in the file"
    square = square_grid(tokens)
    if square is not None:
        return square, "square"
    raise InputError(
        "E_CKPT_GRID",
        "the position table has no square grid",
        where="pos_embed",
        found=f"{tokens} entries",
        expected="1 + n x n, or a config in the file that says img_size",
    )


def _taps(
    kind: str,
    depth: int,
    auxiliary: int,
    settings: Settings,
    given: Sequence[int] | None,
    decisions: dict[str, Any],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the block indices that the decoder and the auxiliary heads read."""
    reads_all = kind == "mla"
    if given is not None:
        main = tuple(given) if reads_all else tuple(given)[-1:]
        extra, said = tuple(given)[:auxiliary], "given"
    elif settings.main_taps is not None:
        main = settings.main_taps if reads_all else settings.main_taps[-1:]
        extra = settings.auxiliary_taps or settings.main_taps
        said = "config in the file"
    else:
        main = taps_of(MAIN_LAYERS[kind], depth)
        extra = main[:auxiliary] if reads_all else taps_of(AUXILIARY_DEFAULT, depth)[:auxiliary]
        said = "floor(layer x depth / 24) - 1"
    decisions["taps_from"] = said
    wanted = len(MAIN_LAYERS[kind])
    right = len(main) == wanted and len(extra) >= auxiliary and list(main) == sorted(set(main))
    if not right or any(not 0 <= tap < depth for tap in main + extra):
        raise InputError(
            "E_CKPT_TAPS",
            "the layers to read do not fit the model",
            found=f"{main} and {extra} ({said})",
            expected=f"{wanted} for the decoder, {auxiliary} for auxiliary heads, each 0 to {depth - 1}, shallow first",
            remedy="pass taps=(...)",
        )
    return main, extra[:auxiliary]


def _main_scales(stages: int, flavour: str, settings: Settings) -> tuple[int, ...]:
    if flavour == "mmseg":
        # Naive ships with one stage and PUP with four; a factor of 4 for up to two keeps the product within the patch.
        return (settings.up_scale or (4 if stages <= 2 else 2),) * stages
    return (2,) * (stages - 1) + (1,)


def _auxiliary_head(shapes: Shapes, prefix: str, kind: str, flavour: str, settings: Settings, width: int) -> UpHeadSpec:
    stages = _count(shapes, re.escape(prefix) + r"\.convs\.(\d+)\.")
    if flavour == "mmseg":
        scales = (settings.auxiliary_up_scale or 4,) * stages
    else:
        # The authors' PUP configs resize twice (num_upsampe_layer=2), their Naive ones once.
        kernel = shapes.get(f"{prefix}.convs.0.conv.weight", (0, 0, 0, 1))[-1]
        scales = (4 if kind == "pup" and kernel == 3 else 1,) * stages
    return _up_head(shapes, prefix, scales, width)


def _up_head(shapes: Shapes, prefix: str, scales: tuple[int, ...], width: int) -> UpHeadSpec:
    channels, kernel = _dims(shapes, f"{prefix}.classifier.weight", 4)[1], 1
    if scales:
        kernel = _dims(shapes, f"{prefix}.convs.0.conv.weight", 4)[-1]
    norm = f"{prefix}.norm.weight" in shapes
    return UpHeadSpec(
        in_channels=width if norm or scales else channels,
        channels=channels,
        kernel=kernel,
        up_scales=scales,
        norm=norm,
        convolution_bias=f"{prefix}.convs.0.conv.bias" in shapes,
        classifier_bias=f"{prefix}.classifier.bias" in shapes,
    )


def _mla(shapes: Shapes, width: int, flavour: str) -> MLASpec:
    return MLASpec(
        in_channels=width,
        levels=_count(shapes, r"neck\.norms\.(\d+)\."),
        neck_channels=_dims(shapes, "neck.projections.0.conv.weight", 4)[0],
        inner_channels=_dims(shapes, "decode_head.branches.0.0.conv.weight", 4)[0],
        head_channels=_dims(shapes, "decode_head.branches.0.1.conv.weight", 4)[0],
        classifier_kernel=_dims(shapes, "decode_head.classifier.weight", 4)[-1],
        align_corners=flavour == "authors",
    )


def _infer_baseline(shapes: Shapes, settings: Settings, align_corners: bool | None) -> Inferred:
    first, second, third, fourth = (_count(shapes, rf"encoder\.body\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    blocks = (first, second, third, fourth)
    width = _dims(shapes, "encoder.body.layer1.0.conv1.weight", 4)[0]
    num_classes = _dims(shapes, "decode_head.classifier.weight", 4)[0]
    pyramid = "neck.laterals.0.weight" in shapes
    kind = "semantic-fpn" if pyramid else "fcn"
    said = "config in the file" if settings.output_stride else "the published configs"
    stride = settings.output_stride or (32 if pyramid else 8)
    decisions = {"decoder": kind, "num_classes": num_classes, "output_stride": stride, "output_stride_from": said}
    aligned = _aligned(kind, num_classes, settings, align_corners, decisions)
    _require_undilated(settings)
    encoder = ResNetSpec(f"resnet-{sum(blocks) * 3 + 2}", blocks, stride, width)
    head: FPNSpec | FCNHeadSpec
    main_taps: tuple[int, ...]
    auxiliary: tuple[FCNHeadSpec, ...] = ()
    if pyramid:
        channels = _dims(shapes, "neck.laterals.0.weight", 4)[0]
        head_channels = _dims(shapes, "decode_head.branches.0.0.conv.weight", 4)[0]
        head, main_taps = FPNSpec(encoder.stage_channels, channels, head_channels), (0, 1, 2, 3)
    else:
        head, main_taps = _fcn(shapes, "decode_head"), (3,)
        if any(name.startswith("auxiliary_heads.0.") for name in shapes):
            auxiliary = (_fcn(shapes, "auxiliary_heads.0"),)
    spec = SegmenterSpec(
        encoder=encoder,
        image_size=settings.image_size or (512, 512),
        num_classes=num_classes,
        decoder=head,
        main_taps=main_taps,
        auxiliary=auxiliary,
        auxiliary_taps=(2,) if auxiliary else (),
        flavour="mmseg",
        align_corners=aligned,
    )
    return Inferred(spec, decisions)


def _aligned(kind: str, num_classes: int, settings: Settings, given: bool | None, decisions: dict[str, Any]) -> bool:
    aligned, said = aligned_corners(kind, num_classes, settings, given)
    decisions |= {"align_corners": aligned, "align_corners_from": said}
    return aligned


def _require_undilated(settings: Settings) -> None:
    """Raises InputError for FCN-D6, whose weights have FCN's names and shapes and whose head dilates."""
    if settings.head_dilation not in (None, 1):
        raise InputError(
            "E_CKPT_ARCHITECTURE",
            "the decode head's convolutions dilate, which no model here does",
            where="decode_head.dilation of the config in the file",
            found=settings.head_dilation,
            expected=1,
        )


def _fcn(shapes: Shapes, prefix: str) -> FCNHeadSpec:
    channels, in_channels = _dims(shapes, f"{prefix}.convs.0.conv.weight", 4)[:2]
    convs = _count(shapes, re.escape(prefix) + r"\.convs\.(\d+)\.")
    return FCNHeadSpec(in_channels, channels, convs, concatenate=f"{prefix}.fuse.conv.weight" in shapes)


def _first(*choices: tuple[str, float | None]) -> tuple[float, str]:
    return next((value, said) for said, value in choices if value is not None)


def _dims(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions or 0 in shape:
        raise InputError(
            "E_CKPT_KEYS",
            "a weight that says how large the model is",
            where=name,
            found="none" if shape is None else shape,
            expected=f"{dimensions} dimensions",
        )
    return shape


def _count(shapes: Shapes, pattern: str) -> int:
    """Returns how many modules a list has: the largest index + 1, so that a hole in it shows as missing weights.

    Raises InputError for an index beyond the number of weights: a single name could ask for a billion modules.
    """
    indices = {found[1]: name for name in shapes if (found := re.match(pattern, name))}
    for index, name in indices.items():
        if len(index) > len(str(len(shapes))) or int(index) >= len(shapes):
            raise InputError(
                "E_CKPT_KEYS",
                "a weight counts more modules than the file has weights",
                where=name[:80],
                found=f"{len(shapes)} weights",
            )
    return max((int(index) + 1 for index in indices), default=0)
