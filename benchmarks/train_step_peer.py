"""The published implementation for the training step's benchmark: mmsegmentation, installed beside this environment.

The functions that run it import mmsegmentation themselves: they work in the environment that `environment` makes.
"""

import hashlib
import subprocess
import sys
import sysconfig
import types
import venv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setr.models.specification import EncoderSize

# mmsegmentation, its two foundations, and those of their requirements that the shared packages may lack. Installed
# without dependencies: those would bring a second torch, and an OpenCV with a user interface.
REQUIREMENTS = (
    "mmsegmentation==1.2.2",
    "mmengine==0.10.7",
    "mmcv-lite==2.1.0",
    "addict==2.4.0",
    "ftfy==6.3.1",
    "platformdirs==4.14.7",
    "prettytable==3.18.0",
    "regex==2026.11.15",
    "termcolor==3.3.0",
    "wcwidth==0.9.4",
    "yapf==0.43.0",
)
CONFIGS = {
    "naive": "setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py",
    "naive-ade20k": "setr/setr_vit-l_naive_8xb2-160k_ade20k-512x512.py",
    "pup": "setr/setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py",
    "mla": "setr/setr_vit-l_mla_8xb1-80k_cityscapes-768x768.py",
    "naive-512": "setr/setr_vit-l_naive_8xb2-160k_ade20k-512x512.py",
    "mla-512": "setr/setr_vit-l_mla_8xb2-160k_ade20k-512x512.py",
}
SHIPPED_DEPTH = 24  # layers of the encoder in those files

Step = Callable[[], float]


def environment(folder: Path) -> Path:
    """Returns the Python of the environment at `folder`, made there unless it exists; all else is this one's."""
    python = folder / "bin" / "python"
    shared = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    made_of = hashlib.sha256("\n".join((sys.version, *shared, *REQUIREMENTS)).encode()).hexdigest()
    stamp = folder / "made-of"
    if stamp.is_file() and stamp.read_text() == made_of:
        return python
    if folder.is_dir() and any(folder.iterdir()) and not stamp.is_file():
        sys.exit(f"{folder} is not an environment made by this benchmark; name another folder, or remove it")
    print(f"installing {', '.join(REQUIREMENTS[:3])} into {folder}", file=sys.stderr)
    venv.EnvBuilder(clear=True, with_pip=True).create(folder)
    stamp.touch()
    install(python)
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    # Paths named in a .pth file come after the environment's own: its packages win, torch is found here.
    Path(own, "shared_environment.pth").write_text("\n".join(shared) + "\n")
    stamp.write_text(made_of)
    return python


def install(python: Path) -> None:
    """Installs the requirements, and nothing else, for that Python."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([python, "-m", "pip", "install", *options, *REQUIREMENTS], check=True)


def published_model(case: str, size: EncoderSize, *, num_classes: int, side: int) -> tuple[Any, Any]:
    """Returns mmsegmentation's EncoderDecoder of a shipped SETR config, and the config, with another encoder size.

    The config's layers are taken at the same share of the depth; BatchNorm stands for SyncBN, as on one device. The
    classifiers start ten times as large as shipped: else all logits are near 0, and so is what a loss can tell.
    """
    _import_registry()
    import mmseg
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmseg.registry import MODELS

    MMLogger.get_instance("published", log_level="WARNING")  # a line for every parameter otherwise
    config = Config.fromfile(Path(mmseg.__file__).parent / ".mim" / "configs" / CONFIGS[case])
    model = config.model
    model.pretrained = model.backbone.init_cfg = None
    taps = tuple((index + 1) * size.depth // SHIPPED_DEPTH - 1 for index in model.backbone.out_indices)
    model.backbone.update(embed_dims=size.embed_dim, num_layers=size.depth, num_heads=size.num_heads)
    model.backbone.update(img_size=(side, side), out_indices=taps)
    model.data_preprocessor.size = (side, side)
    _set_everywhere(model, lambda value: "BN" if value == "SyncBN" else value)
    for head in (model.decode_head, *model.auxiliary_head):
        head.num_classes = num_classes
        if "neck" not in model:
            head.in_channels = size.embed_dim
    if "neck" in model:
        model.neck.in_channels = [size.embed_dim] * len(model.neck.in_channels)
    built = MODELS.build(model)
    built.init_weights()
    with torch.no_grad():
        for head in (built.decode_head, *built.auxiliary_head):
            head.conv_seg.weight.mul_(10)
    return built.train(), config


def published_step(model: Any, config: Any, images: Tensor, labels: Tensor) -> Step:
    """Returns its training step on images uint8 (B,H,W,3) RGB and labels (B,H,W); the step returns the summed loss.

    It is the step that its Runner takes: preprocessing, forward, losses and accuracies, backward, optimiser.
    """
    from mmengine.optim import build_optim_wrapper
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    bgr = images.flip(-1).permute(0, 3, 1, 2).contiguous()

    def step() -> float:
        samples = []
        for label in labels:
            sample = SegDataSample(metainfo={"img_shape": tuple(label.shape)})
            sample.gt_sem_seg = PixelData(data=label[None].long())
            samples.append(sample)
        return float(model.train_step({"inputs": list(bgr), "data_samples": samples}, optimizer)["loss"])

    return step


def _import_registry() -> None:
    """Registers mmsegmentation's models; mmcv-lite has no compiled operators, and SETR uses none."""
    sys.modules.setdefault("mmcv.ops", _NoOperators("mmcv.ops"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmseg.utils import register_all_modules

        register_all_modules()


def _set_everywhere(node: Any, change: Callable[[Any], Any]) -> None:
    """Replaces each plain value in nested dictionaries and lists by change(value)."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        if isinstance(value, dict | list):
            _set_everywhere(value, change)
        else:
            node[key] = change(value)


class _NoOperators(types.ModuleType):
    """Stands for a module whose names are imported but not used here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
