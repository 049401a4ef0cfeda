"""What every command shares: overrides and --help, one-line errors with an exit status, folders."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from pipelines.terminal.unexpected import PIPE_STATUS, reader_is_gone, tell
from setr.errors import EnvironmentFailure, InputError, SetrError, syntax_failure
from setr.files.atomic import make_folder
from setr.redaction import redacted
from setr.settings.config import Config, load_config, to_dict
from setr.settings.home import PROJECT, home

# Nothing phones home, and no library decides on a login by itself (each engine's own switch).
QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def run_command(
    description: str,
    section: str,
    work: Callable[[Config, argparse.Namespace], int | None],
    *,
    sections: tuple[str, ...] | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    words: bool = False,
    unused: Mapping[str, str] | None = None,
    rewrite: Callable[[Sequence[str]], list[str]] = list,
) -> None:
    """Parses the command line, prints the resolved `sections` of the settings, runs `work` and exits.

    `rewrite` makes the words of the command line what the parser understands. With `words`, arguments without `=` are
    the command's own and come as `arguments.words`. `unused` are settings that the command does not read, each with
    what to do instead: given on its command line, they are a mistake. The exit status is what `work` returns (None: 0),
    else as `exit_status` has it.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(
        description=description, epilog="Every setting of params.yaml can be given as section.key=value."
    )
    if add_arguments:
        add_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help=f"e.g. {section}.<key>=<value>")
    arguments = parser.parse_intermixed_args(rewrite(sys.argv[1:]))
    if words:
        arguments.words, arguments.overrides = split_words(arguments.overrides)

    def run() -> int | None:
        config = read_settings(arguments.overrides, section=section, unused=unused)
        print_config(config, (section,) if sections is None else sections)
        return work(config, arguments)

    sys.exit(exit_status(run, interrupted="interrupted: run the same command again to go on"))


def split_words(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the plain words of a command line, and its settings (`key=value`); what is there as a file is a word."""
    settings = [text for text in texts if "=" in text and not os.path.lexists(text)]
    return [text for text in texts if text not in settings], settings


def read_settings(overrides: Sequence[str], *, section: str = "", unused: Mapping[str, str] | None = None) -> Config:
    """Returns the project's settings with overrides; raises InputError for what makes no sense in any command."""
    from setr.settings.folders import check_folders  # which asks this module where the home is

    for key, _, value in (override.partition("=") for override in overrides):
        if key in (unused or {}):
            raise InputError("E_CONFIG", f"key {key} does nothing here", found=value, remedy=(unused or {})[key])
    config = load_config(PROJECT / "params.yaml", overrides, section=section)
    check_folders(config)
    return config


def exit_status(run: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """Returns what `run` returns (None: 0), or the status of how it ended, after one line on stderr.

    2 to 4 for an error the user can mend, 5 for one that nobody foresaw (its traceback is in a file that the line
    names), 130 after Ctrl-C, and, without a line, 141 where nobody reads the output any more.
    """
    try:
        status = run() or 0
        return PIPE_STATUS if reader_is_gone() else status
    except SetrError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr, flush=True)
        return error.exit_status
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr, flush=True)
        return 130
    except SyntaxError as error:  # of code that is imported where it is used
        own = error.filename is not None and Path(error.filename).is_relative_to(PROJECT)
        if not own:
            return tell(error, home() / "logs")
        print(f"error: {(mistake := syntax_failure(error))}", file=sys.stderr, flush=True)
        return mistake.exit_status
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return PIPE_STATUS
        return tell(error, home() / "logs")


def print_config(config: Config, sections: tuple[str, ...]) -> None:
    """Prints the named sections as they were resolved, one line a section."""
    values = redacted(to_dict(config))
    for name in sections:
        print(f"{name}: {yaml.safe_dump(values[name], default_flow_style=True, width=10_000, sort_keys=False).strip()}")


def check_writable(folder: Path, *, need_bytes: int = 0) -> None:
    """Raises EnvironmentFailure unless a file can be written below `folder` and `need_bytes` are free there."""
    try:
        make_folder(folder)
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
