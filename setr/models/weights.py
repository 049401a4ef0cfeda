"""Released checkpoints become models, published encoder weights become a model's start, each with a receipt.

`import_checkpoint` needs a file alone: decoder, sizes, class count and auxiliary heads are inferred from its keys and
shapes. `load_pretrained` fills the encoder of a model that exists. Both refuse a file that leaves a part of the encoder
without values: people have trained from scratch without knowing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setr.errors import InputError, SetrError
from setr.files.hashing import file_sha256
from setr.models.encoder import TappedVisionTransformer
from setr.models.hybrid import ResNetEncoder
from setr.models.importing.checkpoint_file import CheckpointFile, read_checkpoint
from setr.models.importing.filling import INTERPOLATIONS, Placement, place, require_encoder
from setr.models.importing.inferred_spec import Inferred, infer_encoder, infer_spec
from setr.models.importing.key_maps import OWN, KeyMap, map_keys, name_architecture
from setr.models.importing.pretrained_files import fetch_pretrained
from setr.models.importing.receipt import Receipt, TensorEntry, joined
from setr.models.importing.stored_config import stored_config_in
from setr.models.importing.timm_file import TIMM, fill_timm
from setr.models.importing.weight_files import is_file_name
from setr.models.own_code import OwnCode, opened, own_codes
from setr.models.own_head import own_heads, own_sources, without_own_code
from setr.models.segmenter import Segmenter, build_segmenter
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, SegmenterSpec
from setr.models.tensor_hash import tensors_sha256
from setr.models.timm_encoder import TimmEncoder
from setr.models.variants import variant_spec

__all__ = ["SPEC_KEY", "Receipt", "file_sha256", "import_checkpoint", "load_pretrained"]

SPEC_KEY = "setr.spec"  # in the header of a safetensors file: the model's structure as JSON
OWN_KEY = "setr.own"  # and the code of a user's own that it runs, {source: text} as JSON
PROJECTION = "encoder.patch_embed.proj."
PATCH_BIAS = PROJECTION + "bias"
CNN_PREFIX = "encoder.body."
HYBRID_CNN_PREFIX = "encoder.patch_embed.backbone.body."


def import_checkpoint(
    path: str | Path,
    *,
    num_heads: int | None = None,
    taps: Sequence[int] | None = None,
    align_corners: bool | None = None,
    decoder: str = "naive",
    num_classes: int = 19,
    allow_code: bool = False,
) -> tuple[Segmenter, Receipt]:
    """Returns the model that a checkpoint holds, in eval mode, and the receipt of its import.

    Reads the authors' checkpoints, mmsegmentation's (0.x, 1.x; SETR, dilated FCN, Semantic FPN) and this project's own
    exports. The model maps normalised images (B, 3, H, W), any H and W, to logits (B, K, H, W); in train mode it adds
    the auxiliary logits, shallow layer first. `num_heads` is width / 64 and `taps` (block indices from 0, shallow
    first) floor(layer x depth / 24) - 1 unless given here or by the training config in the file. `align_corners`, of
    the last resize, is False where all published models have it so; for an FCN with 19 classes it must be said.

    A timm or DeiT file holds an encoder alone: only then do `decoder` (naive, pup, mla) and `num_classes` count; that
    decoder starts at random and is `missing` in the receipt. A missing tensor of an encoder is an InputError, as are
    keys of another architecture, shapes that make no model, and values that are not finite.

    An export of a model with code of a user's own carries it; nothing of it runs without `allow_code`
    (E_CODE_NOT_ALLOWED), unless this process uses the same code anyway.
    """
    file = read_checkpoint(path)
    with opened(_brought_code(file), allow_code=allow_code, where=f"{file.path} ({OWN_KEY} in its header)"):
        return _imported(str(path), file, num_heads, taps, align_corners, decoder, num_classes)


def _imported(
    source: str,
    file: CheckpointFile,
    num_heads: int | None,
    taps: Sequence[int] | None,
    align_corners: bool | None,
    decoder: str,
    num_classes: int,
) -> tuple[Segmenter, Receipt]:
    """Returns the model of a file that was read, and the receipt of its import."""
    key_map = _own_keys(file) or map_keys(file.tensors)
    if key_map is None or key_map.format.holds == "cnn":
        raise _other_architecture(file)
    if key_map.unknown:
        raise _other_architecture(file, key_map.unknown)
    inferred = _infer(file, key_map, num_heads, taps, align_corners, decoder, num_classes)
    spec = inferred.spec
    # Built without memory first: sizes that a file claims are compared with the tensors it has before any are made.
    model = _without_memory(spec, file) if key_map.format is OWN else _on_meta(spec)
    expected = model.state_dict()
    _refuse_unknown(file, key_map, expected)
    plan = Placement(
        key_map.keys,
        grid=_grid(spec),
        source_grid=_grid(spec),
        reversed_streams=len(spec.main_taps) if key_map.format.deepest_first else 0,
    )
    values, entries = place(expected, file.tensors, plan, where=file.path)
    if key_map.format.name == "mmsegmentation" and PATCH_BIAS in expected and PATCH_BIAS not in values:
        values[PATCH_BIAS], entries = torch.zeros(expected[PATCH_BIAS].shape), _zero_bias(entries)
    require_encoder(entries, file.path)
    # A head of one's own may keep more than what is stored.
    if len(values) == len(expected) and not own_heads(spec) and not _computed_buffers(model):
        model.load_state_dict(values, assign=True)
    else:
        model = build_segmenter(spec)
        model.load_state_dict(values, strict=False)
    receipt = _receipt(source, file, key_map, entries, inferred.settings, spec)
    return model.eval(), receipt


def _computed_buffers(model: torch.nn.Module) -> bool:
    """Returns whether a model has tensors that are in no file: without memory it has no values for them."""
    return bool({name for name, _ in model.named_buffers()} - model.state_dict().keys())


def _infer(
    file: CheckpointFile,
    key_map: KeyMap,
    num_heads: int | None,
    taps: Sequence[int] | None,
    align_corners: bool | None,
    decoder: str,
    num_classes: int,
) -> Inferred:
    """Returns the model that import_checkpoint() makes of a file, and what decided it."""
    if align_corners is not None and key_map.format.holds != "segmenter":
        what = "align_corners belongs to a decoder; the file holds an encoder alone"
        raise InputError("E_CKPT_ALIGN", what, where=file.path)
    if align_corners is not None and key_map.format is OWN:
        raise InputError("E_CKPT_ALIGN", "the file's header says whether corners are aligned", where=file.path)
    if key_map.format is OWN:
        return Inferred(_own_spec(file), {"spec_from": "the file's header"})
    shapes = {parameter: tuple(file.tensors[key].shape) for parameter, key in key_map.keys.items()}
    settings = stored_config_in(file.metadata)
    if key_map.format.holds != "transformer":
        return infer_spec(
            shapes,
            flavour="authors" if key_map.format.name == "authors" else "mmseg",
            settings=settings,
            num_heads=num_heads,
            taps=taps,
            align_corners=align_corners,
        )
    if taps is not None:
        raise InputError("E_CKPT_TAPS", "taps belong to a decoder; the file holds an encoder alone", where=file.path)
    decisions: dict[str, Any] = {"decoder": decoder, "num_classes": num_classes}
    size, image_size = infer_encoder(shapes, settings, num_heads, decisions)
    spec = variant_spec(f"setr-{decoder}", num_classes=num_classes, crop_size=image_size, sizes=size)
    return Inferred(spec, decisions)


def load_pretrained(model: Segmenter, *sources: str | Path, interpolation: str | None = "bilinear") -> Receipt:
    """Returns the receipt of filling the model's encoder from files, or from timm's weights of those names.

    A file of timm's fills an encoder of timm's as timm itself would (its own resizing, not `interpolation`).
    ViT and DeiT files fill a transformer, ResNet files the baselines' backbone or the CNN of Hybrid, which may have one
    of each. The position table is resized in two dimensions to the model's grid by `interpolation` (bilinear as the
    authors; bicubic; None: not at all), always without antialias. The file's final norm and classifier are unused:
    every head has its own norm. Raises InputError where depth or width differ or a tensor of the encoder is missing.
    """
    values, receipt = published_values(model, *sources, interpolation=interpolation)
    model.load_state_dict(values, strict=False)
    return receipt


def loaded_sha256(spec: SegmenterSpec, *sources: str | Path) -> str:
    """Returns the hash (setr.models.tensor_hash) of the tensors with which the files start a model of `spec`."""
    model = _on_meta(without_own_code(spec))
    return tensors_sha256(published_values(model, *sources)[0])


def published_values(
    model: Segmenter, *sources: str | Path, interpolation: str | None = "bilinear"
) -> tuple[dict[str, Tensor], Receipt]:
    """Returns what load_pretrained puts into the model: {parameter: value}, and the receipt.

    Of the model the structure counts alone: it may be on the meta device.
    """
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise InputError("E_INTERPOLATION", "no such interpolation", found=interpolation, expected=INTERPOLATIONS)
    assert sources, "name a file or one of timm's weights"
    values: dict[str, Tensor] = {}
    receipts: list[Receipt] = []
    for source in sources:
        found, receipt = _values_of(model, source, interpolation)
        values |= found
        receipts.append(receipt)
    return values, joined(receipts)


def _values_of(model: Segmenter, source: str | Path, interpolation: str | None) -> tuple[dict[str, Tensor], Receipt]:
    file = read_checkpoint(source if is_file_name(source) else fetch_pretrained(str(source)))
    if isinstance(model.encoder, TimmEncoder):
        return _timm_values(model, model.encoder, file, str(source))
    key_map = map_keys(file.tensors)
    if key_map is None:
        raise _other_architecture(file)
    holds, keys = key_map.format.holds, dict(key_map.keys)
    unused = dict(key_map.unused)
    expected = _encoder_part(model, holds, file)
    if holds == "transformer":
        _require_same_size(model, file, keys)
        if model.spec.cnn is not None:
            reason = "Hybrid's CNN takes the patch projection's place"
            unused |= {key: reason for name, key in keys.items() if name.startswith("encoder.patch_embed.")}
            keys = {name: key for name, key in keys.items() if not name.startswith("encoder.patch_embed.")}
    elif model.spec.cnn is not None:
        keys = {name.replace(CNN_PREFIX, HYBRID_CNN_PREFIX, 1): key for name, key in keys.items()}
    key_map = KeyMap(key_map.format, keys, unused, key_map.unknown)
    _refuse_unknown(file, key_map, expected)
    plan = Placement(keys, grid=_grid(model.spec), interpolation=interpolation)
    values, entries = place(expected, file.tensors, plan, where=file.path)
    require_encoder(entries, file.path)
    if model.spec.cnn is not None and holds == "transformer":
        detail = "Hybrid's projection from the CNN: no published weights, initialised at random"
        projection = {name: value for name, value in model.state_dict().items() if name.startswith(PROJECTION)}
        entries += [TensorEntry("missing", name, "", tuple(value.shape), detail) for name, value in projection.items()]
    settings = {"interpolation": interpolation, "part": holds}
    return values, _receipt(str(source), file, key_map, entries, settings, model.spec)


def _timm_values(
    model: Segmenter, encoder: TimmEncoder, file: CheckpointFile, source: str
) -> tuple[dict[str, Tensor], Receipt]:
    expected = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    filling = fill_timm(encoder, expected, file)
    settings = {"interpolation": "timm's own, as its checkpoint filter resizes", "part": "encoder"}
    key_map = KeyMap(TIMM, filling.keys, filling.unused, ())
    return filling.values, _receipt(source, file, key_map, filling.entries, settings, model.spec)


def _receipt(
    source: str,
    file: CheckpointFile,
    key_map: KeyMap,
    entries: list[TensorEntry],
    settings: dict[str, Any],
    spec: SegmenterSpec,
) -> Receipt:
    unused = [
        TensorEntry("unused", key=key, shape=tuple(file.tensors[key].shape), detail=reason)
        for key, reason in key_map.unused.items()
    ]
    unused += [TensorEntry("unused", key=key, detail=f"not a tensor: {kind}") for key, kind in file.not_tensors.items()]
    return Receipt(
        source=source,
        path=str(file.path),
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        opened_with=file.opened_with,
        format=key_map.format.name,
        settings=settings,
        tensors=(*entries, *unused),
        spec=spec_to_json(spec),
        placeholders=file.placeholders,
    )


def _encoder_part(model: Segmenter, holds: str, file: CheckpointFile) -> dict[str, Tensor]:
    """Returns the parameters that a file holding a transformer or a CNN must fill."""
    hybrid = model.spec.cnn is not None
    prefix = ""
    if holds == "transformer" and isinstance(model.encoder, TappedVisionTransformer):
        prefix = "encoder."
    elif holds == "cnn" and isinstance(model.encoder, ResNetEncoder):
        prefix = CNN_PREFIX
    elif holds == "cnn" and hybrid:
        prefix = HYBRID_CNN_PREFIX
    if not prefix:
        wanted = "a ViT" if isinstance(model.encoder, TappedVisionTransformer) else "a ResNet"
        found = {"transformer": "a ViT", "cnn": "a ResNet"}.get(holds, "a whole segmentation model")
        raise InputError(
            "E_PRETRAINED_ARCHITECTURE",
            "the weights are not for this encoder",
            where=file.path,
            found=found,
            expected=wanted + (" or a ResNet" if hybrid else ""),
            remedy="a released segmentation model is opened with import_checkpoint" if holds == "segmenter" else "",
        )
    state = {name: value for name, value in model.state_dict().items() if name.startswith(prefix)}
    if holds == "transformer" and hybrid:
        state = {name: value for name, value in state.items() if not name.startswith("encoder.patch_embed.")}
    return state


def _require_same_size(model: Segmenter, file: CheckpointFile, keys: Mapping[str, str]) -> None:
    size = model.spec.encoder
    assert isinstance(size, EncoderSize)
    depth = len({name.split(".")[2] for name in keys if name.startswith("encoder.blocks.")})
    width = file.tensors[keys["encoder.pos_embed"]].shape[-1] if "encoder.pos_embed" in keys else 0
    patch = size.patch_size
    if model.spec.cnn is None and "encoder.patch_embed.proj.weight" in keys:
        patch = file.tensors[keys["encoder.patch_embed.proj.weight"]].shape[-1]
    if (depth, width, patch) != (size.depth, size.embed_dim, size.patch_size):
        raise InputError(
            "E_PRETRAINED_SHAPE",
            "the weights are of an encoder of another size",
            where=file.path,
            found=f"{depth} layers of width {width}, patch {patch}",
            expected=f"{size.depth} layers of width {size.embed_dim}, patch {size.patch_size}",
            remedy="choose the variant or the weights that go with it",
        )


def _refuse_unknown(file: CheckpointFile, key_map: KeyMap, expected: Mapping[str, Tensor]) -> None:
    """Raises InputError for keys that the model has no place for: leaving them out would compute something else."""
    unknown = [*key_map.unknown, *(key for name, key in key_map.keys.items() if name not in expected)]
    if unknown:
        raise _other_architecture(file, unknown)


def _other_architecture(file: CheckpointFile, unknown: Sequence[str] = ()) -> InputError:
    keys = list(unknown) or list(file.tensors)
    architecture, nearest = name_architecture(keys)
    if unknown:
        found = f"{len(keys)} keys that it has not ({', '.join(keys[:3])}); they look like {architecture}"
    else:
        found = f"{architecture} ({', '.join(keys[:3])}, ...)"
    return InputError(
        "E_CKPT_ARCHITECTURE",
        "the keys are not those of a model that can be built here",
        where=file.path,
        found=found,
        expected="SETR of the authors or mmsegmentation, a timm ViT or DeiT",
        remedy=f"nearest here: {nearest}",
    )


def _own_keys(file: CheckpointFile) -> KeyMap | None:
    if SPEC_KEY not in file.metadata:
        return None
    return KeyMap(OWN, {key: key for key in file.tensors}, {}, ())


def _own_spec(file: CheckpointFile) -> SegmenterSpec:
    """Returns the structure in the header; raises InputError where it is none, or larger than the file's weights."""
    try:
        spec = spec_from_json(json.loads(file.metadata[SPEC_KEY]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        spec = error
    if not isinstance(spec, SegmenterSpec):
        raise _no_structure(file, spec)
    modules = _modules(spec)
    if modules > len(file.tensors):
        raise _no_structure(file, f"a model of {modules} parts in a file of {len(file.tensors)} tensors")
    return spec


def _brought_code(file: CheckpointFile) -> list[OwnCode]:
    """Returns the code of a user's own that an export brings and its structure names."""
    if SPEC_KEY not in file.metadata:
        return []
    sources = own_sources(_own_spec(file))
    try:
        texts = json.loads(file.metadata.get(OWN_KEY, "{}"))
        return own_codes({source: str(texts[source]) for source in sources})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "E_OWN_CODE", "the code that this model runs is not in the file", where=file.path, found=error
        ) from None


def _modules(spec: Any) -> int:
    """Returns how many layers, blocks, stages and heads a structure asks for, at least."""
    values = [getattr(spec, field.name) for field in fields(spec)]
    count = sum(getattr(spec, name, 0) for name in ("depth", "levels", "num_convs"))
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            count += _modules(part) if is_dataclass(part) else 0
    return count + sum(getattr(spec, "blocks", ())) + len(getattr(spec, "up_scales", ()))


def _without_memory(spec: SegmenterSpec, file: CheckpointFile) -> Segmenter:
    """Returns the model of a header's structure on the meta device; raises InputError where its values make none."""
    try:
        return _on_meta(spec)
    except SetrError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise _no_structure(file, error) from None


def _on_meta(spec: SegmenterSpec) -> Segmenter:
    with torch.device("meta"):
        return Segmenter(spec)


def _no_structure(file: CheckpointFile, found: object) -> InputError:
    return InputError("E_CKPT_FORMAT", "the header's structure cannot be read", where=file.path, found=found)


def _grid(spec: SegmenterSpec) -> tuple[int, int]:
    if not isinstance(spec.encoder, EncoderSize):
        return (0, 0)
    return spec.image_size[0] // spec.encoder.patch_size, spec.image_size[1] // spec.encoder.patch_size


def _zero_bias(entries: list[TensorEntry]) -> list[TensorEntry]:
    detail = "zeros: mmsegmentation 1.2 makes the patch projection without a bias"
    return [
        TensorEntry(**{**asdict(entry), "status": "converted", "detail": detail})
        if entry.parameter == PATCH_BIAS
        else entry
        for entry in entries
    ]
