"""Pre-trains the miniature encoders on a proxy task over other generated scenes: `python pipelines/weights.py`.

With `sweep.scale=paper` it fetches the published weights instead.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save

from pipelines.command import check_writable, resolve, run_command
from setr.config import Config, WeightsConfig, to_dict
from setr.data.atomic import write_file, write_json
from setr.data.datasets import DATASETS
from setr.data.file_hash import file_sha256
from setr.models.pretrained_files import fetch_pretrained
from setr.models.variants import VARIANTS
from setr.models.weight_files import stored_file
from setr.scenes.scenes import render_scene
from setr.training.pretraining import TASK, pretrain
from setr.training.proxies import PROXIES, Proxy

HEIGHT, WIDTH = 128, 256  # pixels of the scenes that windows are cut from


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Writes one safetensors file and one receipt for each miniature encoder."""
    folder = resolve(config.weights.folder)
    if config.sweep.scale == "paper":
        fetch_weights(folder)
    else:
        make_weights(config.weights, folder, workers=os.cpu_count() or 1)


def fetch_weights(folder: Path) -> None:
    """Fetches the published weights of every variant through timm unless they are there; a receipt holds each hash."""
    check_writable(folder, need_bytes=3_000_000_000)
    rows = [entry for variant in VARIANTS.values() for entry in (variant.pretrained, variant.cnn_pretrained) if entry]
    for published in dict.fromkeys(rows):
        path = stored_file(folder, published.timm_name)
        if not path.is_file():
            path = fetch_pretrained(published.timm_name, folder)
        receipt = {"name": published.timm_name, "file": path.name, "sha256": file_sha256(path), "note": published.note}
        write_json(folder / f"{published.timm_name}.json", receipt)
        print(f"{path.name}: {receipt['sha256'][:12]}{'' if published.exact else ' (' + published.note + ')'}")


def make_weights(settings: WeightsConfig, folder: Path, *, workers: int) -> None:
    """Renders the scenes and trains every encoder, `workers` at a time; each file appears when it is whole."""
    check_writable(folder, need_bytes=50_000_000)
    # One process per encoder, started afresh: threads of a parent that already ran torch would hang a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rendered = pool.map(_render, [(settings.seed, index) for index in range(settings.images)], chunksize=20)
        pairs = list(track(rendered, "scenes for pre-training", total=settings.images))
        images = np.stack([image for image, _ in pairs])
        labels = np.stack([label for _, label in pairs])
        np.savez(folder / ".scenes.npz", images=images, labels=labels)
        tasks = [pool.submit(_train, proxy, to_dict(settings), folder) for proxy in PROXIES]
        for task in track(tasks, "pre-training"):
            name, loss = task.result()
            print(f"{name}: proxy loss {loss:.3f}")
    (folder / ".scenes.npz").unlink()


def _render(place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    seed, index = place
    image, ids = render_scene(seed=seed, split="train", index=index, height=HEIGHT, width=WIDTH)
    table = np.asarray(DATASETS["scenes"].label_map)
    return image, np.where(table < 0, 255, table)[ids].astype(np.uint8)


def _train(proxy: Proxy, values: dict[str, Any], folder: Path) -> tuple[str, float]:
    torch.set_num_threads(1)
    settings = WeightsConfig(**values)
    with np.load(folder / ".scenes.npz") as scenes:
        images, labels = scenes["images"], scenes["labels"]
    tensors, loss = pretrain(
        proxy,
        images,
        labels,
        size=settings.size,
        steps=settings.steps,
        batch_size=settings.batch_size,
        base_lr=settings.base_lr,
        seed=settings.seed,
    )
    path = folder / f"{proxy.name}.safetensors"
    write_file(path, save(tensors), read_only=False)
    receipt = {
        "name": proxy.name,
        "stands_for": proxy.stands_for,
        "task": TASK,
        "images": round(settings.images * proxy.share),
        "settings": values,
        "final_loss": loss,
        "sha256": file_sha256(path),
    }
    write_json(path.with_suffix(".json"), receipt)
    return proxy.name, loss


if __name__ == "__main__":
    run_command("Pre-train the miniature encoders on a proxy task.", "weights", work)
