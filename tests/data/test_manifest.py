"""The manifest says what lies beside it, in JSON that anybody can read."""

import hashlib
import json
from pathlib import Path

from setr.data.manifest import MANIFEST_NAME, Manifest, read_manifest


def test_the_manifest_reads_as_json(folder: Path) -> None:
    record = json.loads((folder / MANIFEST_NAME).read_text())
    assert record["dataset"] == "camvid"
    assert record["rows"] == 10
    assert set(record["shards"][0]) == {"file", "rows", "bytes", "sha256", "index_sha256"}
    manifest, digest = read_manifest(folder)
    assert isinstance(manifest, Manifest)
    assert digest == hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    assert manifest.shards[0].sha256 == hashlib.sha256((folder / "00000.arrow").read_bytes()).hexdigest()
