"""What becomes of finished results when the code is edited: `python -m benchmarks.identity <which>`.

    rewordings   60 edits that change nothing: all results are to be kept, half of the time without a replay
    changes      60 edits of one expression that change a number, half of them late: all are to be noticed
    replay       what a replay costs beside training and scoring; at the paper's scale, counted from steps and images
    evaluation   another score: results are scored again, and no step is made
    trace        its size at 80,000 steps, and its share of a step's CPU time
    table2       the sweep of Table 2 in miniature and its replay, with all workers; --home: an empty folder to keep

Three small experiments are trained once. Every edit goes into a copy of the project, which then plans, and replays
what has changed. What a change truly changes is found by training everything with it. Status 1 if an aim is missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.identity import figures
from benchmarks.identity.base import Base, prepare
from benchmarks.identity.edits.changes import candidates, changed, points
from benchmarks.identity.edits.editing import Sources
from benchmarks.identity.edits.rewordings import rewordings as listed
from benchmarks.identity.judging import run_changes, run_rewordings
from benchmarks.identity.table2 import table2


def main() -> int:
    """Runs one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rewordings", "changes", "replay", "evaluation", "trace", "table2"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60, help="edits")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--home", type=Path, help="table2: a home whose sweep was measured here, or an empty one")
    arguments = parser.parse_args()
    if arguments.what == "trace":
        return int(not figures.trace())
    with tempfile.TemporaryDirectory(prefix="setr-identity-", ignore_cleanup_errors=True) as name:
        if arguments.what == "table2":
            return int(not table2(Path(name), arguments.home or Path(name, "swept")))
        base = prepare(Path(name), clock=arguments.what == "changes")
        run = {
            "rewordings": rewordings,
            "changes": changes,
            "replay": lambda base, _: figures.replay(base),
            "evaluation": lambda base, _: figures.evaluation(base),
        }
        return int(not run[arguments.what](base, arguments))


def rewordings(base: Base, arguments: argparse.Namespace) -> bool:
    """Judges edits that change nothing."""

    edits = listed(Sources(base.project), base.computing["definitions"], arguments.seed, arguments.count)
    return run_rewordings(base, edits, arguments.jobs)


def changes(base: Base, arguments: argparse.Namespace) -> bool:
    """Judges edits that change something."""

    sources, computing = Sources(base.project), base.computing
    found = points(sources, computing["definitions"], computing["run"], computing["repeated"])
    print(f"{len(found)} expressions could be changed, {sum(point.repeated for point in found)} of them in steps")
    places = candidates(found, arguments.seed, arguments.count)
    edits = [(subject, [changed(sources, *entry) for entry in entries]) for subject, entries in places]
    return run_changes(base, edits, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
