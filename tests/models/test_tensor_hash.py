"""Tensors have one hash: by name, type, shape and bytes, however they lie in memory."""

import hashlib

import pytest
import torch

from setr.models.tensor_hash import tensors_sha256

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}


def test_it_is_the_hash_of_names_types_shapes_and_bytes_in_the_order_of_the_names() -> None:
    text = b"a torch.int64 (2,)\n" + TENSORS["a"].numpy().tobytes()
    text += b"b torch.float32 (2, 3)\n" + TENSORS["b"].numpy().tobytes()
    assert tensors_sha256(TENSORS) == hashlib.sha256(text).hexdigest()
    assert tensors_sha256(dict(reversed(TENSORS.items()))) == tensors_sha256(TENSORS)
    assert tensors_sha256({}) == ""


def test_how_they_lie_in_memory_does_not_count() -> None:
    turned = TENSORS["b"].T.contiguous().T
    assert not turned.is_contiguous()
    assert tensors_sha256({**TENSORS, "b": turned.requires_grad_()}) == tensors_sha256(TENSORS)


@pytest.mark.parametrize(
    "other",
    [
        {"b": TENSORS["b"]},
        {"c": TENSORS["b"], "a": TENSORS["a"]},
        {**TENSORS, "b": TENSORS["b"].reshape(3, 2)},
        {**TENSORS, "a": TENSORS["a"].int()},
        {**TENSORS, "b": TENSORS["b"].bfloat16()},
        {**TENSORS, "b": TENSORS["b"] * torch.tensor([1, 1, -1])},
    ],
)
def test_whatever_differs_is_another_hash(other: dict) -> None:
    assert tensors_sha256(other) != tensors_sha256(TENSORS)
