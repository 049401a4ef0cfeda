"""Sends a command to a Ray cluster with what git knows about its code: `python pipelines/submit.py -- python ...`.

    python pipelines/submit.py --address http://127.0.0.1:8265 -- python pipelines/sweep.py tables=[2]

The rest is `ray job submit`, whose options stand before the `--`: logs come here, the exit status is the job's.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.cluster.address import brings_token
from pipelines.terminal.command import QUIET_ENVIRONMENT, exit_status
from setr.errors import EnvironmentFailure, InputError
from setr.record.lineage import UNKNOWN, write_lineage
from setr.settings.home import PROJECT


def submission(words: list[str]) -> list[str]:
    """Returns the words of the `ray job submit` that runs what stands after `--`.

    Raises InputError if nothing does, EnvironmentFailure if Ray is not installed.
    """
    options, separator, command = _cut(words)
    if not separator or not command:
        raise InputError(
            "E_COMMAND",
            "no command to run on the cluster",
            found=" ".join(words) or "nothing",
            expected="[options of ray job submit] -- python pipelines/sweep.py ...",
        )
    beside = Path(sys.executable).parent / "ray"
    ray = str(beside) if beside.is_file() else shutil.which("ray")
    if ray is None:
        raise EnvironmentFailure("E_CLUSTER", "the command ray is not there", remedy="run `make setup`")
    return [ray, "job", "submit", "--working-dir", str(PROJECT), *options, "--", *command]


def _cut(words: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return words, False, []
    place = words.index("--")
    return words[:place], True, words[place + 1 :]


def address_of(words: list[str]) -> str:
    """Returns the address that `ray job submit` will ask, from its options or the environment."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--address", nargs="?", const="", default=os.environ.get("RAY_ADDRESS") or "localhost")
    return str(parser.parse_known_args(words)[0].address)


def main(words: list[str]) -> int:
    """Becomes `ray job submit`; returns only with an error's exit status."""
    if words in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    return exit_status(lambda: become(words))


def become(words: list[str]) -> int:
    """Writes the lineage and becomes `ray job submit`; raises what `submission` does."""
    command = submission(words)
    sent = write_lineage()
    if sent.commit == UNKNOWN:
        print("no git here: the runs' commit will be unknown", file=sys.stderr)
    # The lineage is ignored by git and goes along all the same: .rayignore alone says what stays here.
    os.environ.update(QUIET_ENVIRONMENT | {"RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1"})
    if brings_token(address_of(words)):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
