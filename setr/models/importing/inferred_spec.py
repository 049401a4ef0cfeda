"""The structure of a released model, inferred from its weights' names and shapes and the settings beside them.

What shapes cannot tell has a rule: heads are width / 64, layers floor(layer x depth / 24) - 1, the position table's
grid is square, and the resizes between convolutions are those of the format's source. A training config stored in the
file (mmcv and mmengine do) goes before the rule; what the caller gives goes before both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from setr.errors import InputError
from setr.models.decoders.decoder import Decoder, Tensors, taps_of
from setr.models.decoders.table import DECODERS
from setr.models.importing.aligned_corners import aligned_corners
from setr.models.importing.filling import square_grid
from setr.models.importing.shapes import Shapes, count, dims, on_resnet
from setr.models.importing.stored_config import StoredConfig
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec
from setr.models.variants import ENCODERS

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
    settings: StoredConfig,
    num_heads: int | None,
    taps: Sequence[int] | None,
    align_corners: bool | None = None,
) -> Inferred:
    """Returns the structure of the model whose parameters (named as here) have these shapes.

    `taps` are block indices from 0, shallow first: the last is what a Naive or PUP head reads, the first ones what
    the auxiliary heads read; MLA reads all. Raises InputError where names or shapes do not make a model.
    """
    decoder = next(row for row in DECODERS.values() if row.recognised is not None and row.recognised(shapes))
    assert decoder.inferred is not None
    decisions: dict[str, Any] = {}
    encoder: EncoderSize | ResNetSpec
    if on_resnet(shapes):
        if num_heads is not None or taps is not None:
            raise InputError("E_CKPT_HEADS", "num_heads and taps are for transformers; the file holds a ResNet")
        encoder, image_size = _infer_resnet(shapes, settings, decoder), settings.image_size or (512, 512)
    else:
        encoder, image_size = infer_encoder(shapes, settings, num_heads, decisions)
    num_classes = dims(shapes, "decode_head.classifier.weight", 4)[0]
    aligned, from_what = aligned_corners(decoder.name, num_classes, settings, align_corners)
    decisions |= {"align_corners": aligned, "align_corners_from": from_what}
    if decoder.output_stride:
        _require_undilated(settings)
    heads = decoder.inferred(Tensors(shapes, flavour, settings, encoder))
    decisions |= {"decoder": decoder.name, "num_classes": num_classes}
    if isinstance(encoder, ResNetSpec):
        main_taps, auxiliary_taps = decoder.taps(len(encoder.blocks)), heads.auxiliary_taps
        said = "config in the file" if settings.output_stride else "the published configs"
        decisions |= {"output_stride": encoder.output_stride, "output_stride_from": said}
    else:
        main_taps, auxiliary_taps = _taps(decoder, encoder.depth, len(heads.auxiliary), settings, taps, decisions)
        auxiliary_taps = () if heads.reads_neck else auxiliary_taps
        decisions |= {"taps": list(main_taps), "auxiliary_taps": list(auxiliary_taps)}
    spec = SegmenterSpec(
        encoder=encoder,
        image_size=image_size,
        num_classes=num_classes,
        decoder=heads.decoder,
        main_taps=main_taps,
        auxiliary=heads.auxiliary,
        auxiliary_taps=auxiliary_taps,
        flavour="mmseg" if isinstance(encoder, ResNetSpec) else flavour,
        align_corners=aligned,
    )
    return Inferred(spec, decisions)


def infer_encoder(
    shapes: Shapes, settings: StoredConfig, num_heads: int | None, decisions: dict[str, Any]
) -> tuple[EncoderSize, tuple[int, int]]:
    """Returns the transformer's size and the image size (H, W pixels) of its position table; fills `decisions`."""
    _, tokens, width = dims(shapes, "encoder.pos_embed", 3)
    patch_shape = dims(shapes, "encoder.patch_embed.proj.weight", 4)
    depth = count(shapes, r"encoder\.blocks\.(\d+)\.")
    hidden = dims(shapes, "encoder.blocks.0.mlp.fc1.weight", 2)[0]
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
    channels = dims(shapes, classifier, 4)[1] if classifier in shapes else 256
    name = next((name for name, row in ENCODERS.items() if (row.embed_dim, row.depth) == (width, depth)), "imported")
    size = EncoderSize(name, width, depth, int(heads), patch, hidden / width, decoder_channels=channels)
    decisions |= {"width": width, "depth": depth, "num_heads": int(heads), "num_heads_from": said}
    decisions |= {"patch_size": patch, "grid": list(grid), "grid_from": grid_said}
    return size, (grid[0] * patch, grid[1] * patch)


def _grid(tokens: int, patch: int, settings: StoredConfig) -> tuple[tuple[int, int], str]:
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
    decoder: Decoder,
    depth: int,
    auxiliary: int,
    settings: StoredConfig,
    given: Sequence[int] | None,
    decisions: dict[str, Any],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the block indices that the decoder and the auxiliary heads read."""
    wanted = len(decoder.layers)
    reads_all = wanted > 1
    if given is not None:
        main = tuple(given) if reads_all else tuple(given)[-1:]
        extra, said = tuple(given)[:auxiliary], "given"
    elif settings.main_taps is not None:
        main = settings.main_taps if reads_all else settings.main_taps[-1:]
        extra = settings.auxiliary_taps or settings.main_taps
        said = "config in the file"
    else:
        main = decoder.taps(depth)
        extra = main[:auxiliary] if reads_all else taps_of(AUXILIARY_DEFAULT, depth)[:auxiliary]
        said = "floor(layer x depth / 24) - 1"
    decisions["taps_from"] = said
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


def _infer_resnet(shapes: Shapes, settings: StoredConfig, decoder: Decoder) -> ResNetSpec:
    first, second, third, fourth = (count(shapes, rf"encoder\.body\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    blocks = (first, second, third, fourth)
    width = dims(shapes, "encoder.body.layer1.0.conv1.weight", 4)[0]
    stride = settings.output_stride or decoder.output_stride
    return ResNetSpec(f"resnet-{sum(blocks) * 3 + 2}", blocks, stride, width)


def _require_undilated(settings: StoredConfig) -> None:
    """Raises InputError for FCN-D6, whose weights have FCN's names and shapes and whose head dilates."""
    if settings.head_dilation not in (None, 1):
        raise InputError(
            "E_CKPT_ARCHITECTURE",
            "the decode head's convolutions dilate, which no model here does",
            where="decode_head.dilation of the config in the file",
            found=settings.head_dilation,
            expected=1,
        )


def _first(*choices: tuple[str, float | None]) -> tuple[float, str]:
    return next((value, said) for said, value in choices if value is not None)
