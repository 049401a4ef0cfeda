"""What a training's rounding depends on: processor, device, threads, workers, versions, and how it was carried out."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch

from setr.training.computation import Computation

Machine = dict[str, Any]

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_LINES = ("model name", "cpu family", "model", "cache size")  # libraries choose kernels and block sizes by these
_CPU_FLAGS = ("amx", "avx", "f16c", "fma", "sse4")  # and by these: names that begin so


def describe_machine(computation: Computation) -> Machine:
    """Returns JSON-able values; where all are equal, and the device is a CPU, results are equal to the bit."""
    context = computation.context
    device = torch.device(context.device)
    return {
        **_processor(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "threads": torch.get_num_threads(),
        "world_size": context.world_size,
        "forward_images": computation.forward_images,
        "distort_later": computation.loader.distort_later,
        "execution": computation.settings.execution(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": version("timm"),
            "numpy": version("numpy"),
            "opencv": cv2.__version__,
        },
    }


def machine_differences(before: Machine, now: Machine) -> list[str]:
    """Returns "threads 2 -> 1" for each value that differs; what only one of them knows is passed over.

    So a value more asks for no less: machines that seem the same are compared to the bit.
    """
    old, new = _flat(before), _flat(now)
    return [f"{name} {old[name]} -> {new[name]}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]


def _processor() -> dict[str, str]:
    """Returns processor and instruction sets; of the first core, as machines of two kinds of cores are not for this."""
    values: dict[str, str] = {}
    if _CPU_INFO.is_file():
        first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
        values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    known = [values[key] for key in _CPU_LINES if key in values]
    flags = sorted(flag for flag in values.get("flags", "").split() if flag.startswith(_CPU_FLAGS))
    return {
        "cpu": ", ".join(known) or f"{platform.machine()} {platform.processor()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": " ".join(flags),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
