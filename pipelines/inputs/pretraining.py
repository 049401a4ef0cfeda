"""The miniature encoders pre-trained on a proxy task, side by side."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save

from pipelines.terminal.command import check_writable
from setr.data.reading.datasets import DATASETS
from setr.files.atomic import write_file, write_json
from setr.files.hashing import file_sha256
from setr.scenes.scenes import render_scene
from setr.settings.config import WeightsConfig, to_dict
from setr.training.pretraining import TASK, pretrain
from setr.training.proxies import PROXIES, Proxy

HEIGHT, WIDTH = 128, 256  # pixels of the scenes that windows are cut from


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
