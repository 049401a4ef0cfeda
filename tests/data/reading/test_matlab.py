"""Label maps in MATLAB files."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from setr.data.reading.matlab import decode_label_map
from setr.errors import EnvironmentFailure, InputError

savemat = pytest.importorskip("scipy.io").savemat


def matlab(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint16, np.float64, np.uint8])
def test_label_map_is_read_as_wide_integers(dtype: type) -> None:
    values = np.array([[0, 2], [118, 200]], dtype=dtype)
    found = decode_label_map(matlab(LabelMap=values, other=np.ones(3)), "a file")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, values.astype(np.int64))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_IMAGE_DECODE"),
        (b"<html>moved</html>", "E_IMAGE_DECODE"),
        (matlab(LabelMap=np.ones((40, 40), dtype=np.uint16))[:170], "E_IMAGE_DECODE"),
        (matlab(Labels=np.ones((4, 4))), "E_LABEL_MODE"),
        (matlab(LabelMap=np.ones((2, 2, 2))), "E_LABEL_MODE"),
        (matlab(LabelMap=np.full((2, 2), 0.5)), "E_LABEL_DTYPE"),
        (matlab(LabelMap="text"), "E_LABEL_MODE"),
    ],
)
def test_what_is_no_label_map_is_a_one_line_error(data: bytes, code: str) -> None:
    with pytest.raises(InputError, match=f"^{code} .*a file") as caught:
        decode_label_map(data, "a file")
    assert "\n" not in str(caught.value)


def test_random_damage_never_escapes_as_another_error() -> None:
    generator = np.random.default_rng(4)
    data = matlab(LabelMap=generator.integers(0, 459, (30, 20)).astype(np.uint16))
    for _ in range(200):
        damaged = bytearray(data)
        start = int(generator.integers(len(data)))
        damaged[start : start + 4] = generator.bytes(4)
        try:
            decode_label_map(bytes(damaged), "a file")
        except InputError as error:
            assert error.code in ("E_IMAGE_DECODE", "E_LABEL_MODE", "E_LABEL_DTYPE")  # noqa: PT017 - some pass


def test_without_scipy_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real_import = builtins.__import__

    def no_scipy(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", no_scipy)
    with pytest.raises(EnvironmentFailure, match=r"E_SCIPY.*pip install"):
        decode_label_map(b"", "a file")
