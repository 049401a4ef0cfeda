"""Published encoder weights by timm's name: the file, downloaded once, or a one-line error within seconds."""

import difflib
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from timm.models import PretrainedCfg

from setr.errors import EnvironmentFailure, InputError
from setr.files.atomic import make_folder, new_file

REACH_SECONDS = 5.0
# timm's own repositories on the hub keep one of these.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_pretrained(name: str, folder: str | Path | None = None) -> Path:
    """Returns the file of timm's pre-trained model `name`, from the cache, else downloaded; in `folder` where given.

    Raises InputError for a name timm has no weights for, EnvironmentFailure where the file cannot be downloaded.
    """
    config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    if config is None:
        near = difflib.get_close_matches(name, timm.list_pretrained(), n=3, cutoff=0.5)
        raise InputError(
            "E_PRETRAINED_NAME",
            "timm has no weights of that name, and there is no such file",
            found=name,
            expected=" or ".join(near) if near else "a name of timm.list_pretrained()",
        )
    cached = _from_hub(name, config) if config.hf_hub_id else _from_url(name, str(config.url))
    if folder is None:
        return cached
    target = Path(folder) / f"{name}{cached.suffix}"
    make_folder(target.parent)
    with cached.open("rb") as source, new_file(target, read_only=False) as file:
        shutil.copyfileobj(source, file)
    return target


def _from_hub(name: str, config: PretrainedCfg) -> Path:
    repository, _, revision = str(config.hf_hub_id).partition("@")
    for filename in HUB_FILES:
        found = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    # The hub's client retries for half a minute where there is no network; asking once takes seconds.
    _reach(name, huggingface_hub.hf_hub_url(repository, HUB_FILES[0], revision=revision or None))
    for filename in HUB_FILES:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision or None))
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise _unreachable(name, repository, error) from None
    raise _unreachable(name, repository, "no weights file in the repository")


def _from_url(name: str, url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        _reach(name, url)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise _unreachable(name, url, error) from None
    return path


def _reach(name: str, url: str) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; the download itself says what is wrong
    except OSError as error:
        raise _unreachable(name, url, error) from None


def _unreachable(name: str, where: str, error: object) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_PRETRAINED_FETCH",
        f"the weights {name} cannot be downloaded",
        where=where,
        found=error,
        remedy="give the path of a file downloaded elsewhere, or run again with a network",
    )
