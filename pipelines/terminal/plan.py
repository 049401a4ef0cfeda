"""The plan of a sweep, without training: states, memory, GPUs, hours, cost, disk, and when it would be done."""

import dataclasses
import functools
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipelines.terminal.progress import clock, weekday
from setr.data.locations import below, manifest_at
from setr.data.reading.datasets import DATASETS
from setr.errors import InputError
from setr.planning.hardware import gpu_count
from setr.planning.measured import measurements
from setr.planning.plan import Estimate, Ways, estimate, modelled_seconds, remedies
from setr.planning.planned import Planned, workers_of
from setr.planning.schedule import Piece, list_schedule, longest_first, table_ends
from setr.planning.simulate import Cluster, Replay, Task, replay
from setr.planning.throughput import Clock, Machine
from setr.record.earlier import shelf
from setr.record.equivalences import told_damage
from setr.record.ledger import why_to_score
from setr.settings.config import Config, SimulateConfig
from setr.settings.home import resolve, resolve_location

CPU_TFLOPS = 0.04  # of one thread, while nothing is measured
CPU_UTILISATION = 1.0
REPLAYED_STEPS = 10  # of a result whose code has changed: the first ones, and some behind each kept checkpoint
_MORE = re.compile(r" and \d+ more\b")
REASONS = 8  # that are printed why experiments are not done


def machine_of(config: Config) -> Machine:
    """Returns the hardware that is planned for: GPUs as set or seen, else this machine's cores in miniature."""
    sweep = config.sweep
    seen = sweep.gpus or gpu_count()
    if seen or sweep.scale == "paper":
        return Machine(
            device="cuda",
            slots=max(1, seen),
            memory=sweep.gpu_memory_gb * 1e9,
            tflops={"float32": sweep.gpu_tflops_float32, "bfloat16": sweep.gpu_tflops_bfloat16},
            utilisation=sweep.utilisation,
        )
    rate = CPU_TFLOPS * config.training.threads
    return Machine(
        device="cpu",
        slots=sweep.concurrent or max(1, (os.cpu_count() or 1) // config.training.threads),
        memory=0.0,
        tflops={"float32": rate, "bfloat16": rate},
        utilisation=CPU_UTILISATION,
    )


class Plan:
    """The experiments of a sweep with what each will take."""

    def __init__(self, config: Config, planned: Sequence[Planned]) -> None:
        """Estimate every experiment, by what earlier ones measured where there are such."""
        self.config, self.planned = config, list(planned)
        self.machine = machine_of(config)
        storage, results = resolve(config.storage.checkpoints), resolve(config.storage.results)
        self.clock = Clock(self.machine, measurements(storage, results))
        for entry in self.planned:  # the clock compares the model with what was measured before it answers
            images = validation_images(config, entry.experiment.dataset)
            modelled_seconds(entry.experiment, entry.protocols, self._ways(entry), self.clock, images)
        self.estimates = {entry.identity: self._estimate(entry) for entry in self.planned}

    def _ways(self, entry: Planned) -> Ways:
        training = self.config.training
        return Ways(
            workers_of(self.config, entry),
            training.micro_batch,
            training.activation_checkpointing,
            training.keep_checkpoints,
        )

    def _estimate(self, entry: Planned) -> Estimate:
        found = estimate(
            entry.experiment,
            entry.protocols,
            self._ways(entry),
            self.clock,
            images=validation_images(self.config, entry.experiment.dataset),
            step=entry.step,
        )
        if entry.state == "done":
            return dataclasses.replace(found, seconds=0.0)
        if entry.state == "changed":
            return dataclasses.replace(
                found, seconds=REPLAYED_STEPS * found.step_seconds + found.evaluation_seconds / 10
            )
        return found

    @property
    def missing(self) -> list[Planned]:
        """Returns the experiments that are not done."""
        return [entry for entry in self.planned if entry.state != "done"]

    def piece(self, entry: Planned) -> Piece:
        """Returns the experiment as work to be scheduled."""
        found = self.estimates[entry.identity]
        return Piece(entry.identity, found.seconds, found.ways.workers, tables_of(entry))

    def ends(self) -> dict[str, float]:
        """Returns {table: seconds from now until its last experiment ends}."""
        pieces = longest_first(self.piece(entry) for entry in self.missing)
        return table_ends(pieces, list_schedule(pieces, self.machine.slots))

    @property
    def gpu_hours(self) -> float:
        """Returns the GPU-hours (or core-hours) that are left."""
        return sum(self.estimates[entry.identity].gpu_hours for entry in self.missing)

    def check(self) -> None:
        """Raises InputError if an experiment that is not done cannot run on these GPUs; it names what would help."""
        if self.machine.device == "cpu":
            return
        refused = []
        for entry in self.missing:
            found = self.estimates[entry.identity]
            if found.memory > self.machine.memory:
                helps = remedies(entry.experiment, entry.protocols, found.ways, self.clock)
                refused.append((entry.name, f"{found.memory / 1e9:.1f} GB of GPU memory", " or ".join(helps)))
            elif self.config.sweep.gpus and found.ways.workers > self.config.sweep.gpus:
                refused.append((entry.name, f"{found.ways.workers} GPUs", f"training.workers={self.config.sweep.gpus}"))
        if refused:
            name, needs, remedy = refused[0]
            raise InputError(
                "E_PLAN",
                f"{len(refused)} of {len(self.missing)} experiments cannot run on these GPUs",
                where=name,
                found=needs,
                expected=f"{self.config.sweep.gpu_memory_gb:g} GB on each of {self.machine.slots}",
                remedy=remedy,
            )


UNKNOWN_IMAGES = 500  # that are taken to validate, where nobody says


def tables_of(entry: Planned) -> tuple[str, ...]:
    """Returns the tables that an experiment's numbers stand in: 2, decoders."""
    tables = {key.split("/")[-3].removeprefix("table") for key in entry.cells}
    return tuple(sorted(tables, key=lambda name: (not name.isdigit(), name.zfill(4))))


def validation_images(config: Config, dataset: str) -> int:
    """Returns how many images validate: of the prepared shards, else of the data set as published."""
    published = DATASETS[dataset].splits["val"] if dataset in DATASETS else None
    return _rows(below(resolve_location(config.data.shards), dataset, "val")) or published or UNKNOWN_IMAGES


@functools.lru_cache(maxsize=64)
def _rows(location: str) -> int:
    try:
        return manifest_at(location)[0].rows
    except InputError:
        return 0


def print_plan(plan: Plan) -> None:
    """Prints every experiment with what it takes, then the tables' ends, the sums and what they rest on."""
    gpu = plan.machine.device == "cuda"
    price = plan.config.sweep.price_per_gpu_hour if gpu else 0.0
    table = Table(box=None, pad_edge=False)
    numbers = ("steps", "GPUs" if gpu else "cores", "batch", "memory GB", "hours", "GPU-h" if gpu else "core-h", "cost")
    titles = ("experiment", "state", *numbers, "by", "identity", "cells")
    for title in titles:
        if title != "cost" or price:
            table.add_column(title, no_wrap=title != "cells", justify="right" if title in numbers else "left")
    for entry in plan.planned:
        found = plan.estimates[entry.identity]
        at = f" at {entry.step}" if entry.state == "resumable" else ""
        left = entry.state != "done"
        table.add_row(
            entry.name,
            entry.state + at,
            str(entry.experiment.recipe.iterations),
            str(found.ways.workers),
            f"{found.images} x {found.accumulation}",
            f"{found.memory / 1e9:.1f} {found.memory_source}",
            _hours(found.seconds / 3600) if left else "",
            _hours(found.gpu_hours) if left else "",
            *([f"{found.gpu_hours * price:.2f}" if left else ""] if price else []),
            found.seconds_source if left else "",
            entry.identity[:12],
            " ".join(entry.cells),
        )
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
    counts = Counter(entry.state for entry in plan.planned)
    count = "1 experiment" if len(plan.planned) == 1 else f"{len(plan.planned)} experiments"
    print(f"{count}: " + ", ".join(f"{counts[state]} {state}" for state in counts))
    print_reasons(plan)
    print_sums(plan, price)


def print_reasons(plan: Plan) -> None:
    """Prints why experiments are not done although something near them is finished, each reason once."""
    groups: dict[tuple[str, str], list[Planned]] = {}
    for entry in plan.planned:
        if entry.state == "to score":
            entry = dataclasses.replace(entry, why=why_to_score(entry.folder, entry.protocols, entry.validation))
        if entry.why:
            groups.setdefault((entry.state, _MORE.sub(" and more", entry.why)), []).append(entry)
    for (state, why), entries in list(groups.items())[:REASONS]:
        who = entries[0].name if len(entries) == 1 else f"{len(entries)} experiments"
        told = {entry.why for entry in entries}  # models of several parts have unlike many modules in common
        print(f"{who} {state}: {why if len(told) > 1 else told.pop()}")
    if len(groups) > REASONS:
        print(f"and {len(groups) - REASONS} more reasons")
    damaged = [(entry, text) for entry in plan.planned if (text := told_damage(entry.folder))]
    for entry, text in damaged[:REASONS]:
        print(f"note: {entry.name}: {text}: {entry.folder}")
    left = any(entry.state == "to do" for entry in plan.planned)
    old = shelf(resolve(plan.config.storage.checkpoints)).first_version if left else 0
    if old:
        print(f"{old} results of the first version lie there: they have no trace to replay, so what they were is to do")


def print_sums(plan: Plan, price: float) -> None:
    """Prints when each table is complete, hours, cost and disk, and what was assumed."""
    gpu, sweep, machine = plan.machine.device == "cuda", plan.config.sweep, plan.machine
    disk = sum(found.disk for found in plan.estimates.values())
    if plan.missing:
        ends = plan.ends()
        now = time.time()
        print("if started now: " + ", ".join(f"Table {table} {weekday(now + left)}" for table, left in ends.items()))
        cost = f", cost {plan.gpu_hours * price:.2f}" if price else ""
        longest = clock(max(ends.values(), default=0.0))
        print(
            f"left: {_hours(plan.gpu_hours)} {'GPU' if gpu else 'core'}-hours{cost}, {longest} on {machine.slots} slots"
        )
    print(f"disk: {disk / 1e9:.2f} GB of checkpoints when all is done")
    rates = f"{sweep.gpu_tflops_float32:g} / {sweep.gpu_tflops_bfloat16:g} TFLOP/s in float32 / bfloat16"
    if gpu:
        print(
            f"assumed: {machine.slots} GPUs of {sweep.gpu_memory_gb:g} GB, {rates}, utilisation {sweep.utilisation:g}"
        )
    missing = sorted({what for entry in plan.planned for what in entry.missing})
    if missing:
        print(f"not here yet, so identities are not final: {', '.join(missing)}")


def print_simulation(plan: Plan, settings: SimulateConfig) -> None:
    """Prints what a cluster with failures would make of the plan: means over the repeats, and the worst."""
    cluster = Cluster(
        nodes=settings.nodes,
        gpus=settings.gpus,
        mtbf=settings.mtbf_hours * 3600,
        repair=settings.repair_minutes * 60,
        restart=settings.restart_seconds,
    )
    tasks = [task_of(plan, entry, settings) for entry in plan.missing]
    tasks.sort(key=lambda task: (-task.width, -task.seconds))
    seeds = range(settings.seed, settings.seed + (settings.repeats if cluster.mtbf else 1))
    replays = [replay(tasks, cluster, seed=seed) for seed in seeds]

    def mean(name: str) -> float:
        return sum(getattr(one, name) for one in replays) / len(replays)

    worst: Replay = max(replays, key=lambda one: one.makespan)
    failures = f"a node fails every {settings.mtbf_hours:g} h" if cluster.mtbf else "no failures"
    print(f"simulated: {settings.nodes} nodes of {settings.gpus} GPUs, {failures}, {len(replays)} replays")
    print(f"  makespan         {clock(mean('makespan'))} (longest {clock(worst.makespan)})")
    print(f"  utilisation      {100 * mean('utilisation'):.1f} % of the GPUs' time spent on work that counts")
    print(f"  failures         {mean('failures'):.1f}, of which {mean('hits'):.1f} hit an experiment")
    lost, restarts = mean("lost") / 3600, mean("restarts") / 3600
    print(f"  lost work        {lost:.2f} GPU-hours trained again, {restarts:.2f} restarting")
    print(f"  at MLflow        {mean('points_rate'):.1f} points/s in {mean('requests_rate'):.2f} requests/s")
    print(f"  at the storage   {mean('bytes_rate') / 1e6:.1f} MB/s, {mean('files_rate'):.2f} files/s")


def task_of(plan: Plan, entry: Planned, settings: SimulateConfig) -> Task:
    """Returns the experiment as the simulator takes it."""
    found = plan.estimates[entry.identity]
    width = found.ways.workers
    return Task(
        name=entry.identity,
        seconds=found.seconds,
        width=width,
        checkpoint=settings.checkpoint_minutes * 60 or found.checkpoint_seconds,
        checkpoint_bytes=found.checkpoint_bytes,
        points=_points_per_second(plan.config, found),
    )


def _points_per_second(config: Config, found: Estimate) -> float:
    """Returns the metric points a training sends: losses, rate, norm and speed at every log."""
    return 8 / max(1e-9, found.step_seconds * config.training.log_every)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}"
