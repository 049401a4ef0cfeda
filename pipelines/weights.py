"""Pre-trains the miniature encoders on a proxy task over other generated scenes: `python pipelines/weights.py`.

With `sweep.scale=paper` it fetches the published weights instead.
"""

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed


from pipelines.inputs.pretraining import make_weights
from pipelines.terminal.command import check_writable, run_command
from setr.files.atomic import write_json
from setr.files.hashing import file_sha256
from setr.models.encoder_facts import encoder_facts
from setr.models.importing.pretrained_files import fetch_pretrained
from setr.models.importing.weight_files import stored_file
from setr.models.specification import TimmSpec
from setr.settings.config import Config
from setr.settings.home import resolve
from setr.study.records import Study
from setr.study.shelf import open_study


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Writes one safetensors file and one receipt for each miniature encoder."""
    folder = resolve(config.weights.folder)
    if config.sweep.scale == "paper":
        fetch_weights(folder, open_study(config.study))
    else:
        make_weights(config.weights, folder, workers=os.cpu_count() or 1)


def fetch_weights(folder: Path, study: Study) -> None:
    """Fetches the published weights of a study's models through timm unless they are there; receipts hold hashes."""
    check_writable(folder, need_bytes=3_000_000_000)
    rows = [
        entry for variant in study.models.values() for entry in (variant.pretrained, variant.cnn_pretrained) if entry
    ]
    for published in dict.fromkeys(rows):
        path = stored_file(folder, published.timm_name)
        if not path.is_file():
            path = fetch_pretrained(published.timm_name, folder)
        licence = encoder_facts(TimmSpec(published.timm_name)).licence
        receipt = {
            "name": published.timm_name,
            "file": path.name,
            "sha256": file_sha256(path),
            "note": published.note,
            "licence": licence,
        }
        write_json(folder / f"{published.timm_name}.json", receipt)
        said = "; ".join(filter(None, (licence, "" if published.exact else published.note)))
        print(f"{path.name}: {receipt['sha256'][:12]}{f' ({said})' if said else ''}")


if __name__ == "__main__":
    run_command("Pre-train the miniature encoders on a proxy task.", "weights", work)
