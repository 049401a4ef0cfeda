"""What becomes of finished results when the code is edited: `python -m benchmarks.identity <which>`.

    rewordings   60 edits that change nothing: all results are to be kept, half of the time without a replay
    changes      60 edits of one expression that change a number, half of them late: all are to be noticed

Three small experiments are trained once. Every edit goes into a copy of the project, which then plans, and replays
what has changed. What a change truly changes is found by training everything with it. Status 1 if an aim is missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.identity.base import Base, prepare
from benchmarks.identity.judging import run_changes, run_rewordings


def main() -> int:
    """Runs one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rewordings", "changes"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60, help="edits")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="setr-identity-", ignore_cleanup_errors=True) as name:
        base = prepare(Path(name), clock=arguments.what == "changes")
        run = {"rewordings": rewordings, "changes": changes}[arguments.what]
        return int(not run(base, arguments))


def rewordings(base: Base, arguments: argparse.Namespace) -> bool:
    """Judges edits that change nothing."""
    import rewordings as listed
    from editing import Sources

    edits = listed.rewordings(Sources(base.project), base.computing["definitions"], arguments.seed, arguments.count)
    return run_rewordings(base, edits, arguments.jobs)


def changes(base: Base, arguments: argparse.Namespace) -> bool:
    """Judges edits that change something."""
    import changes as listed
    from editing import Sources

    sources, computing = Sources(base.project), base.computing
    found = listed.points(sources, computing["definitions"], computing["run"], computing["repeated"])
    print(f"{len(found)} expressions could be changed, {sum(point.repeated for point in found)} of them in steps")
    places = listed.candidates(found, arguments.seed, arguments.count)
    edits = [(subject, [listed.changed(sources, *entry) for entry in entries]) for subject, entries in places]
    return run_changes(base, edits, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
