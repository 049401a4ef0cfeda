"""A sweep on a simulated cluster whose nodes fail: discrete events, the same for the same seed.

Nodes fail independently, after times that are exponentially distributed; a failure costs every experiment on the node
what it did since its last checkpoint. The node comes back after `repair`, and the experiment goes on elsewhere, first
in the queue, after `restart`.
"""

import heapq
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from setr.errors import InputError

MAX_EVENTS = 50_000  # of one replay: a cluster that needs more fails all the time
FILES_PER_CHECKPOINT = 6  # two of tensors, state, manifest, the rename and the deletion of an older one
FLUSH_SECONDS = 3.0  # between two requests to the tracking server for one experiment


@dataclass(frozen=True)
class Cluster:
    """The machines; times in seconds."""

    nodes: int
    gpus: int  # of one node
    mtbf: float = 0.0  # mean time between failures of one node; 0: none
    repair: float = 0.0
    restart: float = 0.0  # of an experiment, also for its first start


@dataclass(frozen=True)
class Task:
    """One experiment; times in seconds."""

    name: str
    seconds: float  # of work on `width` GPUs
    width: int = 1
    checkpoint: float = math.inf  # of work between two checkpoints
    checkpoint_bytes: int = 0
    points: float = 0.0  # metric points a second


@dataclass(frozen=True)
class Replay:
    """What happened; seconds, and GPU-seconds for `lost` and `restarts`."""

    makespan: float
    utilisation: float  # GPU-seconds of work that counts, over all there were
    lost: float  # work that was done again
    restarts: float
    failures: int
    hits: int  # failures that met an experiment, counted once for each of them
    points_rate: float  # at the tracking server, mean over the makespan, a second
    requests_rate: float
    bytes_rate: float  # at the storage
    files_rate: float


@dataclass
class _Run:
    task: Task
    places: dict[int, int]  # node -> GPUs
    begun: float  # when training (not restarting) begins
    done: float  # seconds of work that were on disk at `begun`
    attempt: int


@dataclass
class _State:
    free: list[int]
    up: list[bool]
    waiting: list[tuple[int, Task]]  # by place in the queue
    done: dict[str, float] = field(default_factory=dict)  # seconds of work on disk
    running: dict[str, _Run] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    lost: float = 0.0  # GPU-seconds of work that was done again
    restarts: float = 0.0  # GPU-seconds until an experiment trained again
    failures: int = 0  # of nodes
    hits: int = 0  # of experiments by them


def replay(tasks: Sequence[Task], cluster: Cluster, *, seed: int = 0) -> Replay:
    """Returns how the tasks, started in the order given, fare on the cluster.

    Raises InputError for a task that is wider than the whole cluster, and for failures that leave no time to work.
    """
    _require_width(tasks, cluster)
    chance = random.Random(seed)
    state = _State([cluster.gpus] * cluster.nodes, [True] * cluster.nodes, list(enumerate(tasks)))
    order = {task.name: place for place, task in state.waiting}
    events: list[tuple[float, int, str, int, str]] = []  # time, tie-break, kind, node or attempt, task
    ticket = 0

    def schedule(at: float, kind: str, number: int, name: str = "") -> None:
        nonlocal ticket
        ticket += 1
        heapq.heappush(events, (at, ticket, kind, number, name))

    if cluster.mtbf:
        for node in range(cluster.nodes):
            schedule(chance.expovariate(1 / cluster.mtbf), "fail", node)
    now = 0.0
    _start(state, cluster, now, schedule)
    while state.waiting or state.running:
        now, _, kind, number, name = heapq.heappop(events)
        if ticket > MAX_EVENTS:
            raise InputError(
                "E_PLAN",
                "nodes fail faster than the experiments get on",
                where="simulate",
                found=f"a failure every {cluster.mtbf / 3600:g} h on each of {cluster.nodes} nodes",
                remedy="a longer simulate.mtbf_hours, a shorter simulate.checkpoint_minutes, or fewer nodes",
            )
        if kind == "end":
            run = state.running.get(name)
            if run is None or run.attempt != number:
                continue
            state.restarts += run.task.width * cluster.restart
            _release(state, state.running.pop(name))
        elif kind == "fail":
            _fail(state, cluster, now, number, order)
            schedule(now + cluster.repair, "repair", number)
        else:
            state.up[number] = True
            schedule(now + chance.expovariate(1 / cluster.mtbf), "fail", number)
        _start(state, cluster, now, schedule)
    work = sum(task.width * task.seconds for task in tasks)
    points = sum(task.points * task.seconds for task in tasks)
    saves = [(task, task.seconds / task.checkpoint) for task in tasks]
    wall = max(now, 1e-9)
    return Replay(
        makespan=now,
        utilisation=work / (cluster.nodes * cluster.gpus * wall),
        lost=state.lost,
        restarts=state.restarts,
        failures=state.failures,
        hits=state.hits,
        points_rate=points / wall,
        requests_rate=sum(task.seconds / FLUSH_SECONDS for task in tasks) / wall,
        bytes_rate=sum(count * task.checkpoint_bytes for task, count in saves) / wall,
        files_rate=sum(count * FILES_PER_CHECKPOINT for _, count in saves) / wall,
    )


def _require_width(tasks: Sequence[Task], cluster: Cluster) -> None:
    total = cluster.nodes * cluster.gpus
    widest = max((task.width for task in tasks), default=0)
    if widest > total:
        raise InputError(
            "E_PLAN",
            "an experiment is wider than the simulated cluster",
            where="simulate",
            found=f"{cluster.nodes} nodes of {cluster.gpus} GPUs",
            expected=f"{widest} GPUs",
            remedy="more simulate.nodes or simulate.gpus, or fewer training.workers",
        )


def _fail(state: _State, cluster: Cluster, now: float, node: int, order: Mapping[str, int]) -> None:
    """A node is gone: what ran on it waits again, at its place in the queue, and goes on from its last checkpoint."""
    state.failures += 1
    state.up[node] = False
    for run in [one for one in state.running.values() if node in one.places]:
        state.hits += 1
        reached = run.done + max(0.0, now - run.begun)
        kept = max(run.done, math.floor(reached / run.task.checkpoint) * run.task.checkpoint)
        state.done[run.task.name] = kept
        state.lost += run.task.width * (reached - kept)
        state.restarts += run.task.width * min(cluster.restart, cluster.restart + now - run.begun)
        _release(state, state.running.pop(run.task.name))
        state.waiting.append((order[run.task.name], run.task))
    state.waiting.sort(key=lambda entry: entry[0])


def _start(state: _State, cluster: Cluster, now: float, schedule: Callable[..., None]) -> None:
    """Starts what fits, in the order of the queue."""
    left = []
    for place, task in state.waiting:
        places = _places(state, task.width, cluster.gpus) if any(state.free) else None
        if places is None:
            left.append((place, task))
            continue
        for node, count in places.items():
            state.free[node] -= count
        attempt = state.attempts[task.name] = state.attempts.get(task.name, 0) + 1
        done = state.done.get(task.name, 0.0)
        begun = now + cluster.restart
        state.running[task.name] = _Run(task, places, begun, done, attempt)
        schedule(begun + task.seconds - done, "end", attempt, task.name)
    state.waiting = left


def _places(state: _State, width: int, node_gpus: int) -> dict[int, int] | None:
    """Returns the GPUs for a task: all on the fullest node that has them; on several only if it is wider than one."""
    rooms = sorted((free, node) for node, free in enumerate(state.free) if free and state.up[node])
    if width <= node_gpus:
        return next(({node: width} for free, node in rooms if free >= width), None)
    if sum(free for free, _ in rooms) < width:
        return None
    found: dict[int, int] = {}
    for free, node in reversed(rooms):
        found[node] = min(free, width - sum(found.values()))
        if sum(found.values()) == width:
            break
    return found


def _release(state: _State, run: _Run) -> None:
    for node, count in run.places.items():
        state.free[node] += count
