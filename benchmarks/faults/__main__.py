"""Faults on purpose, with real signals, and what they cost: `python -m benchmarks.faults <which>`.

    kills      the driver of a sweep of 12 short experiments, 50 times; --zero-state empties Ray's files after each
    node       one of two nodes, in mid-training
    server     the tracking server stopped for a minute
    overhead   what of a sweep's wall clock is neither training nor evaluation
    soak       everything of a sweep killed and stopped at random for --minutes, in changing company, on full disks
    suspend    a sweep for --seconds (180), with all its processes, while another machine's takes its work over
    history    the plan and the tracking server's answer with 500 finished experiments

Each works in a temporary folder and ends with status 1 if it misses its aim.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults import history, kills, node, overhead, server, soak, suspend
from benchmarks.faults.home import prepare

OVERHEAD_AIM = 0.25
HISTORY_AIM_SECONDS = 5.0
SLOWER_AIM = 1.01  # the 99th percentile of a step while the server is stopped, against before and after


def main() -> int:
    """Runs one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "node", "server", "overhead", "soak", "history", "suspend"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--zero-state", action="store_true", help="kills: empty Ray's own files after each")
    parser.add_argument("--within", type=float, default=30.0, help="kills: seconds from a driver's start, at most")
    parser.add_argument("--experiments", type=int, default=12)
    parser.add_argument(
        "--seconds", type=float, help="server: it is away (60); overhead: an experiment takes (20); suspend: (180)"
    )
    parser.add_argument("--around", type=float, default=30.0, help="server: seconds before and after")
    parser.add_argument("--rounds", type=int, default=1, help="server: stops")
    parser.add_argument("--runs", type=int, default=500, help="history: finished experiments")
    parser.add_argument("--minutes", type=float, default=60.0, help="soak: that faults go on for, at most")
    parser.add_argument("--hang", type=float, default=soak.HANG_SECONDS, help="soak: seconds without an event, at most")
    parser.add_argument("--no-disks", action="store_true", help="soak: leave the full disks out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="setr-faults-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        prepare(home)
        begun = time.monotonic()
        good = globals()[f"_{arguments.what}"](home, arguments)
        print(f"{arguments.what}: {'reached' if good else 'MISSED'} in {time.monotonic() - begun:.0f} s")
    return 0 if good else 1


def _kills(home: Path, arguments: argparse.Namespace) -> bool:
    rounds = kills.kill_drivers(
        home,
        arguments.kills,
        experiments=arguments.experiments,
        within=arguments.within,
        zero_state=arguments.zero_state,
        seed=arguments.seed,
    )
    audits = [one.audit for one in rounds]
    total = {
        name: sum(getattr(found, name) for found in audits)
        for name in ("lost", "trained_twice", "duplicate_runs", "duplicate_steps", "missing_steps")
    }
    print(f"{sum(one.kills for one in rounds)} kills, {len(rounds)} sweeps of {arguments.experiments}: {total}")
    return all(found.clean for found in audits)


def _node(home: Path, arguments: argparse.Namespace) -> bool:
    found = node.lose_a_node(home)
    print(found)
    return found.interrupted > 0 and found.same_weights and found.audit.clean


def _server(home: Path, arguments: argparse.Namespace) -> bool:
    found = server.stop_server(
        home, seconds=arguments.seconds or 60.0, around=arguments.around, rounds=arguments.rounds
    )
    slower = found.p99["down"] / found.p99["up"]
    print(found)
    print(f"99th percentile of a step while it was away: {slower:.3f} of what it is otherwise (aim {SLOWER_AIM})")
    return found.lost == found.doubled == 0 and slower <= SLOWER_AIM


def _overhead(home: Path, arguments: argparse.Namespace) -> bool:
    found = overhead.measure(home, experiments=arguments.experiments, seconds=arguments.seconds or 20.0)
    share = found.share(2)
    print(found)
    print(f"{100 * share:.1f} % of the wall clock is neither training nor evaluation (aim {100 * OVERHEAD_AIM:.0f} %)")
    return share <= OVERHEAD_AIM


def _soak(home: Path, arguments: argparse.Namespace) -> bool:
    found = soak.soak(
        home,
        minutes=arguments.minutes,
        seed=arguments.seed,
        disks=not arguments.no_disks,
        hang_seconds=arguments.hang,
    )
    print(f"seed {arguments.seed}: {found}")
    return found.clean


def _suspend(home: Path, arguments: argparse.Namespace) -> bool:
    found = suspend.suspend(home, arguments.seconds or 180.0)
    print(found)
    return found.clean


def _history(home: Path, arguments: argparse.Namespace) -> bool:
    found = history.measure(home, arguments.runs)
    print(found)
    return max(found.plan, found.query) <= HISTORY_AIM_SECONDS


if __name__ == "__main__":
    sys.exit(main())
