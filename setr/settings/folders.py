"""Folders that commands write: apart from one another, from the data sets as published, and from the project's own."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from setr.errors import InputError
from setr.settings.config import Config
from setr.settings.home import PROJECT, SNAPSHOT, home, resolve

# Of the project: nothing that a command makes or removes may come to lie in them, nor they in it.
OWN = (".ci", ".dvc", ".git", ".venv", "benchmarks", "docs", "infra", "pipelines", "setr", "studies", "tests")


def check_folders(config: Config) -> None:
    """Raises InputError for folders to be written that lie in one another, in a data set, or with the project's code.

    One that holds the other is as bad as the same one: a command clears, counts and lists what lies in its folder.
    """
    written = dict(_written(config))
    # A snapshot of the code lies in the storage path; what is to be kept apart is where it was taken from.
    project = home() if (PROJECT / SNAPSHOT).is_file() else PROJECT
    for name, path in written.items():
        for own in (*(project / folder for folder in OWN), home() / "mlartifacts", home() / "mlflow.db"):
            if path.is_relative_to(own) or own.is_relative_to(path):
                raise _refused(name, path, f"with the project's own {own}")
    names = list(written)
    for index, name in enumerate(names):
        for other in names[:index]:
            if written[name].is_relative_to(written[other]) or written[other].is_relative_to(written[name]):
                raise _refused(name, written[name], f"with {other} ({written[other]})")
    for source, root in _read(config):
        for name, path in written.items():
            # Prepared shards may lie below the data set that they are made from, and everything below a root that
            # holds the whole home.
            inside = path.is_relative_to(root) and name != "data.shards" and not home().is_relative_to(root)
            if root.is_relative_to(path) or inside:
                raise _refused(name, path, f"with {source} ({root})")


def _refused(name: str, path: Path, mixed: str) -> InputError:
    return InputError(
        "E_CONFIG",
        f"key {name} would mix what a command writes {mixed}",
        found=path,
        expected="a folder of its own",
        remedy=f"leave {name} out, or name another folder",
    )


def _written(config: Config) -> Iterator[tuple[str, Path]]:
    storage: Mapping[str, str] = {
        f"storage.{name}": getattr(config.storage, name) for name in ("checkpoints", "results", "report", "logs")
    }
    for name, path in {"data.shards": config.data.shards, "weights.folder": config.weights.folder, **storage}.items():
        if "://" not in path:
            yield name, _real(path)
        elif name != "data.shards":  # which are read from object stores too
            raise InputError("E_CONFIG", f"key {name}", found=path, expected="a folder, not an address")


def _read(config: Config) -> Iterator[tuple[str, Path]]:
    yield "data.root", _real(config.data.root)
    for name, path in config.datasets.items():
        yield f"datasets.{name}", _real(path)


def _real(path: str) -> Path:
    return resolve(path).resolve()
