"""Files of weights, before they are opened: which names mean a file, and where one is stored."""

from pathlib import Path

FILE_SUFFIXES = {".bin", ".pt", ".pth", ".safetensors", ".tar"}


def is_file_name(source: str | Path) -> bool:
    """Returns whether `source` means a file rather than one of timm's names."""
    path = Path(source)
    return isinstance(source, Path) or path.exists() or path.suffix in FILE_SUFFIXES or len(path.parts) > 1


def stored_file(folder: Path, name: str) -> Path:
    """Returns the file of these weights in the folder, whatever its suffix; where there is none, the one to make."""
    found = (folder / f"{name}{suffix}" for suffix in (".safetensors", *sorted(FILE_SUFFIXES)))
    return next((path for path in found if path.is_file()), folder / f"{name}.safetensors")
