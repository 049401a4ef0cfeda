"""JSON records that carry the SHA-256 of their own text, so that a flipped byte or an edit is noticed on reading."""

import hashlib
import json
from typing import Any

SIGNATURE = "sha256_of_the_text_above"
_MAX_BYTES = 256 * 2**20
_SIGNATURE_BYTES = len(f',\n "{SIGNATURE}": "{"0" * 64}"\n}}\n')


def dumps_signed(record: dict[str, Any]) -> bytes:
    """Returns the record as indented UTF-8 JSON, the signature its last line; the same record, the same bytes."""
    body = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}").encode()
    return body + _signature(body)


def loads_signed(data: bytes) -> dict[str, Any]:
    """Returns the record without its signature; raises ValueError, saying why, when it is not as it was written."""
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{len(data)} bytes are too many")
    body = data[:-_SIGNATURE_BYTES]
    if data[len(body) :] != _signature(body):
        raise ValueError("its own SHA-256 is missing or does not match: damaged or edited")
    try:
        record = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    del record[SIGNATURE]
    return record


def _signature(body: bytes) -> bytes:
    return f',\n "{SIGNATURE}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()
