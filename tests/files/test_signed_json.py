"""A record that carries the hash of its own text: the same bytes each time, and no edit that goes unnoticed."""

import hashlib
import json
import random
from typing import Any

import pytest

from setr.files.signed_json import SIGNATURE, dumps_signed, loads_signed

RECORD = {"name": "Straße 7", "list": [1, 2.5, None, True], "inner": {"b": 1, "a": 2}}


def test_it_is_read_back_and_the_same_record_gives_the_same_bytes() -> None:
    data = dumps_signed(RECORD)
    assert loads_signed(data) == RECORD
    assert list(loads_signed(data)["inner"]) == ["b", "a"]
    assert dumps_signed(json.loads(json.dumps(RECORD))) == data
    body = data[: data.index(f',\n "{SIGNATURE}"'.encode())]
    assert json.loads(data)[SIGNATURE] == hashlib.sha256(body).hexdigest(), "anybody can check it"


def test_every_changed_byte_is_noticed() -> None:
    data, chance = dumps_signed(RECORD), random.Random(0)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises(ValueError, match="does not match"):
            loads_signed(bytes(changed))


@pytest.mark.parametrize(
    "edit", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b"", lambda data: b"{}"]
)
def test_what_is_cut_off_lengthened_or_unsigned_is_refused(edit: Any) -> None:
    with pytest.raises(ValueError, match="missing or does not match"):
        loads_signed(edit(dumps_signed(RECORD)))


def test_a_sound_signature_of_something_else_than_a_record_is_refused() -> None:
    def signed(body: bytes) -> bytes:
        return body + f',\n "{SIGNATURE}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()

    assert loads_signed(signed(b'{\n "a": 1')) == {"a": 1}
    with pytest.raises(ValueError, match=r"."):
        loads_signed(signed(b"[1"))
    with pytest.raises(ValueError, match="nested too deeply"):
        loads_signed(signed(b'{"a": ' + b"[" * 200_000))


def test_numbers_that_json_has_not_are_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps_signed({"a": float("nan")})
