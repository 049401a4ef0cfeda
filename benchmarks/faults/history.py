"""Many finished experiments: how long the plan and the tracking server's answer take."""

import dataclasses
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.home import command, environment, settings, sweep_words, working_in
from pipelines.tracking.recording import send_records
from pipelines.tracking.tracker import Tracker
from setr.planning.experiments import plan_sweep


@dataclass(frozen=True)
class History:
    """Times in seconds."""

    runs: int
    send: float  # all records, once
    first_plan: float  # hashes every checkpoint: the copies are new files
    plan: float
    query: float  # every run of the experiment with tags and metrics


def measure(home: Path, runs: int = 500, steps: int = 4) -> History:
    """Returns the times with `runs` finished experiments: one that is trained, and copies of it with other seeds."""
    words = sweep_words(1, steps, "history")
    subprocess.run(command("sweep", *words), env=environment(home), cwd=home, check=True, capture_output=True)
    words = sweep_words(runs, steps, "history")
    with working_in(home):
        planned = plan_sweep(settings(*words))
        [original] = [entry for entry in planned if entry.state == "done"]
        for entry in planned:
            if entry is original:
                continue
            shutil.copytree(original.folder, entry.folder, copy_function=os.link)
            for name in ("scores.json", "experiment.json", "events.jsonl"):
                text = (original.folder / name).read_text().replace(original.identity, entry.identity)
                (entry.folder / name).unlink()
                (entry.folder / name).write_text(text)
            record = json.loads((entry.folder / "experiment.json").read_text())
            record["experiment"] = entry.experiment.as_dict()
            (entry.folder / "experiment.json").write_text(json.dumps(record))
        entries = [dataclasses.replace(entry, state="done") for entry in planned]
        config = settings(*words)
        tracker = Tracker(config.tracking, home)
        begun = time.perf_counter()
        send_records(tracker, tracker.start_parent("history", {}, ""), entries)
        sent = time.perf_counter() - begun
        begun = time.perf_counter()
        found = sum("setr.identity" in run.tags for run in tracker.runs())
        query = time.perf_counter() - begun
        if found != runs:
            raise RuntimeError(f"MLflow has {found} of {runs} runs")
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        done = subprocess.run(
            command("sweep", "--plan", *words),
            env=environment(home),
            cwd=home,
            check=True,
            capture_output=True,
            text=True,
        )
        times.append(time.perf_counter() - begun)
        if f"{runs} done" not in done.stdout:
            raise RuntimeError(done.stdout[-2000:])
    return History(runs, sent, times[0], times[1], query)
