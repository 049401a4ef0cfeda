"""What every command shares: overrides and --help, one-line errors with an exit status, folders."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from setr.config import Config, load_config, to_dict
from setr.errors import EnvironmentFailure, InputError, SetrError

PROJECT = Path(__file__).resolve().parent.parent
SNAPSHOT = ".snapshot.json"  # in the project's folder: it is a snapshot of code (pipelines.snapshot)

# Nothing phones home, and no library decides on a login by itself (each engine's own switch).
QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def home() -> Path:
    """Returns the folder that relative paths are below: $SETR_HOME, else the project's folder.

    In a submitted Ray job the project is a throw-away copy, so there the default is ~/setr-tables on the head node.
    Raises InputError in a snapshot of the code: nothing is written into one.
    """
    if "SETR_HOME" in os.environ:
        return Path(os.environ["SETR_HOME"]).expanduser().resolve()
    if (PROJECT / SNAPSHOT).is_file():
        raise InputError(
            "E_CONFIG",
            "a snapshot of the code has no data and results of its own",
            where=PROJECT,
            remedy="set SETR_HOME to the folder that has them",
        )
    if "runtime_resources" in PROJECT.parts:
        return Path.home() / "setr-tables"
    return PROJECT


def resolve(path: str) -> Path:
    """Returns `path` as an absolute path below home()."""
    return (home() / Path(path).expanduser()).absolute()


def resolve_location(location: str) -> str:
    """Returns an absolute path below home() for a path, and a URI (s3://bucket/prefix) as it is."""
    return location if "://" in location else str(resolve(location))


def run_command(
    description: str,
    section: str,
    work: Callable[[Config, argparse.Namespace], int | None],
    *,
    sections: tuple[str, ...] | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    words: bool = False,
) -> None:
    """Parses the command line, prints the resolved `sections` of the settings, runs `work` and exits.

    With `words`, arguments without `=` are the command's own and come as `arguments.words`. The exit status is what
    `work` returns (None: 0), 2 to 4 for an error the user can mend, 130 after Ctrl-C.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(
        description=description, epilog="Every setting of params.yaml can be given as section.key=value."
    )
    if add_arguments:
        add_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help=f"e.g. {section}.<key>=<value>")
    arguments = parser.parse_intermixed_args()
    if words:
        arguments.words = [text for text in arguments.overrides if "=" not in text]
        arguments.overrides = [text for text in arguments.overrides if "=" in text]

    def run() -> int | None:
        config = load_config(PROJECT / "params.yaml", arguments.overrides, section=section)
        print_config(config, (section,) if sections is None else sections)
        return work(config, arguments)

    sys.exit(exit_status(run, interrupted="interrupted: run the same command again to go on"))


def exit_status(run: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """Returns what `run` returns (None: 0); 2 to 4 and one line after an error the user can mend, 130 after Ctrl-C."""
    try:
        return run() or 0
    except SetrError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr, flush=True)
        return 130


def print_config(config: Config, sections: tuple[str, ...]) -> None:
    """Prints the named sections as they were resolved, one line a section."""
    values = to_dict(config)
    for name in sections:
        print(f"{name}: {yaml.safe_dump(values[name], default_flow_style=True, width=10_000, sort_keys=False).strip()}")


def write_json(path: Path, value: object) -> None:
    """Writes `value` as JSON by way of a temporary name, so that a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text` by way of a temporary name; raises EnvironmentFailure for no space or no permission."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentFailure("E_STORAGE", "cannot write", where=path, found=error.strerror or error) from None


def check_writable(folder: Path, *, need_bytes: int = 0) -> None:
    """Raises EnvironmentFailure unless a file can be written below `folder` and `need_bytes` are free there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise EnvironmentFailure(
            "E_STORAGE",
            "cannot write in the folder",
            where=folder,
            found=error.strerror or error,
            remedy="choose another folder or mend its permissions",
        ) from None
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise EnvironmentFailure(
            "E_STORAGE",
            "not enough space",
            where=folder,
            found=f"{free / 1e9:.2f} GB free",
            expected=f"{need_bytes / 1e9:.2f} GB",
            remedy="free some space or choose another folder",
        )
