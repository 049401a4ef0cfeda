"""The hash of tensors by their names, types, shapes and bytes."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256, in hex, of the tensors in the order of their names; "" for none."""
    if not tensors:
        return ""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
