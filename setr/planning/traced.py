"""A model's training pass counted from the model itself: run without memory, with what autograd keeps added up.

For encoders and heads that have no count on paper (setr.planning.footprint). Nothing is allocated (meta device), and
what the device would do instead is put in its place: attention by a kernel that keeps no map, and autocast.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from setr.models.segmenter import Segmenter
from setr.models.specification import SegmenterSpec

IMAGES = (2, 3)  # that go through: their difference is an image's share, and norms want more than one value
# Names of the layers that activation checkpointing recomputes one at a time.
_LAYER = re.compile(r"(.*\.)?(blocks|layer\d+)\.\d+")
_IN_BFLOAT16 = (
    F.linear,
    F.conv2d,
    F.conv_transpose2d,
    torch.matmul,
    torch.bmm,
    torch.baddbmm,
    torch.addmm,
    Tensor.matmul,
    Tensor.__matmul__,
    F.scaled_dot_product_attention,
)
# Of a GPU's autocast; that of a CPU leaves norms as they come.
_IN_FLOAT32 = (F.layer_norm, F.group_norm, F.softmax, F.normalize, torch.softmax, Tensor.softmax)


@dataclass(frozen=True)
class CountedPass:
    """What one training pass of a model takes but for its loss; bytes and operations of one image unless said."""

    parameters: int
    trainable: int
    saved: int
    saved_checkpointed: int
    fixed: int
    largest: int
    flops: int
    flops_inference: int
    flops_encoder: int
    logits: tuple[tuple[int, int, int, int], ...]  # main, then auxiliary: channels, height, width, bytes an element


@dataclass
class _Kept:
    """Storages that autograd keeps, each once; parameters and buffers are not among them."""

    own: set[int]
    total: int = 0
    seen: dict[int, Tensor] = field(default_factory=dict)  # alive, so that no address is used twice
    layers: list[int] = field(default_factory=list)  # bytes that each layer adds

    def pack(self, tensor: Tensor) -> Tensor:
        """Counts what is kept and hands it on."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own and storage._cdata not in self.seen:
            self.seen[storage._cdata] = tensor
            self.total += storage.nbytes()
        return tensor


def trace(spec: SegmenterSpec, size: tuple[int, int], precision: str = "float32", device: str = "cuda") -> CountedPass:
    """Returns the counts of a model of `spec` for images of H x W pixels; `device` is what it would train on."""
    with torch.device("meta"):
        model = Segmenter(spec).train()
    few, more = (_pass(model, images, size, precision, device) for images in IMAGES)
    saved = more.kept.total - few.kept.total
    fixed = max(0, few.kept.total - IMAGES[0] * saved)
    checkpointed = saved
    recomputes: Any = getattr(model.encoder, "set_grad_checkpointing", None)
    if recomputes is not None and few.kept.layers:
        recomputes(True)
        inputs = _pass(model, IMAGES[0], size, precision, device).kept.total - fixed
        checkpointed = min(saved, max(inputs, 0) // IMAGES[0] + max(few.kept.layers) // IMAGES[0])
    encoder = few.counter.get_flop_counts().get(type(model.encoder).__name__, {})
    if recomputes is not None:
        recomputes(False)
    with torch.no_grad(), _AsOnDevice(precision, device), FlopCounterMode(display=False) as inference:
        model.eval().head_logits(torch.empty(IMAGES[0], 3, *size, device="meta"))
    return CountedPass(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        saved=saved,
        saved_checkpointed=checkpointed,
        fixed=fixed,
        largest=few.largest // IMAGES[0],
        flops=few.counter.get_total_flops() // IMAGES[0],
        flops_inference=inference.get_total_flops() // IMAGES[0],
        flops_encoder=sum(encoder.values()) // IMAGES[0],
        logits=tuple((x.shape[1], x.shape[2], x.shape[3], x.element_size()) for x in few.logits),
    )


@dataclass
class _Pass:
    kept: _Kept
    counter: FlopCounterMode
    largest: int
    logits: list[Tensor]


def _pass(model: Segmenter, images: int, size: tuple[int, int], precision: str, device: str) -> _Pass:
    kept = _Kept({tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())})
    batch = torch.empty(images, 3, *size, device="meta")
    counter, largest = FlopCounterMode(display=False), _Largest()
    hooks = torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor)
    # Also where the caller is in a block without gradients: a training pass is counted.
    with torch.enable_grad(), hooks, _by_layer(model.encoder, kept), _AsOnDevice(precision, device), largest, counter:
        main, auxiliary = model.head_logits(batch)
    return _Pass(kept, counter, largest.bytes, [main, *auxiliary])


@contextmanager
def _by_layer(encoder: nn.Module, kept: _Kept) -> Iterator[None]:
    """Counts in the block what each of the encoder's layers adds to what is kept."""
    starts: list[int] = []

    def begin(module: nn.Module, arguments: Any) -> None:
        starts.append(kept.total)

    def end(module: nn.Module, arguments: Any, output: Any) -> None:
        kept.layers.append(kept.total - starts.pop())

    layers = [module for name, module in encoder.named_modules() if _LAYER.fullmatch(name)]
    handles = [module.register_forward_pre_hook(begin) for module in layers]
    handles += [module.register_forward_hook(end) for module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Largest(TorchDispatchMode):
    """Finds the bytes of the largest tensor that an operation gives."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return out


class _AsOnDevice(TorchFunctionMode):
    """Runs functions on the meta device as they run on another: fused attention, and the casts of autocast."""

    def __init__(self, precision: str, device: str) -> None:
        super().__init__()
        self.low = torch.bfloat16 if precision == "bfloat16" else None
        self.device = device
        self.cast: dict[int, Tensor] = {}  # parameters, which autocast casts once a pass

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = dict(kwargs or {})
        if self.low is not None and func in _IN_BFLOAT16:
            args, arguments = self._to(self.low, args, arguments)
        elif self.low is not None and self.device == "cuda" and func in _IN_FLOAT32:
            args, arguments = self._to(torch.float32, args, arguments)
        if func is F.scaled_dot_product_attention:
            return self._attention(func, *args, **arguments)
        return func(*args, **arguments)

    def _to(self, dtype: torch.dtype, args: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        def cast(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
                return value
            if not isinstance(value, nn.Parameter):
                return value.to(dtype)
            if id(value) not in self.cast:
                self.cast[id(value)] = value.to(dtype)
            return self.cast[id(value)]

        return tuple(cast(value) for value in args), {name: cast(value) for name, value in arguments.items()}

    def _attention(
        self,
        func: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **more: Any,
    ) -> Tensor:
        """Returns the attention by the kernel that would be taken, of which no map is kept."""
        learnt = attn_mask is not None and attn_mask.requires_grad  # a CPU's kernel gives a mask no gradient
        if query.ndim != 4 or dropout_p or (learnt and self.device == "cpu") or more.get("enable_gqa"):
            return func(query, key, value, attn_mask, dropout_p, is_causal, **more)
        mask = attn_mask
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.detach().to(query.dtype)  # kept as it is; this stand-in gives it no gradient either
        out, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=mask, scale=more.get("scale")
        )
        return out
