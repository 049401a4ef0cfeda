"""The GPUs of this machine. Torch, which takes longer than a plan, is asked only where there may be one."""

from pathlib import Path

# NVIDIA, AMD, Windows' subsystem for Linux, NVIDIA's boards
DEVICES = ("nvidia[0-9]*", "kfd", "dxg", "nvmap")


def gpu_count() -> int:
    """Returns the number of GPUs that torch can use here."""
    if not may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def has_bfloat16() -> bool:
    """Returns whether a GPU here computes in bfloat16; cards before Ampere emulate it, slower than float32."""
    if not may_have_gpu():
        return False
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Returns whether a device file speaks for a GPU; a container without GPUs has none."""
    return any(True for name in DEVICES for _ in devices.glob(name))
