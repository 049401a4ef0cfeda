"""Files like those of the miniatures' pre-training, of models that were never trained."""

import functools
from pathlib import Path

import torch
from safetensors.torch import save

from setr.training.pretraining import ProxyResNet, ProxyTransformer
from setr.training.proxies import PROXIES, Proxy


def write_untrained(folder: Path) -> None:
    """Writes a file for each miniature encoder that is not there yet."""
    folder.mkdir(exist_ok=True)
    for proxy in PROXIES:
        path = folder / f"{proxy.name}.safetensors"
        if not path.exists():
            path.write_bytes(_file(proxy))


@functools.cache
def _file(proxy: Proxy) -> bytes:
    torch.manual_seed(0)
    model = ProxyTransformer(proxy, 32) if proxy.encoder.startswith("t-") else ProxyResNet(proxy)
    return save({name: value.contiguous() for name, value in model.published_tensors().items()})
