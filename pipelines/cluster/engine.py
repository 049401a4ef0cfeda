"""Ray, and the only file that imports it: starts or joins a cluster and runs experiments on it.

Single-worker experiments run side by side in Ray Tune's reused trial processes; an experiment with several workers
runs through Ray Train. Both call the same function with the same loop inside. Nothing of Ray's own state is needed to
go on after a kill: the experiment's folder is.
"""

import contextlib
import json
import logging
import os
import shlex
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.cluster.address import brings_token, is_local, token_file

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A call by a thread that has not heard of the Ray it worked with being lost would start another one, left to nobody.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
# Seconds between polls of the workers; the default of 2 delays every report and the end.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")  # Tune's own state is not what a restart reads
if brings_token(os.environ.get("RAY_ADDRESS", "")):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is imported

import ray
import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster.processes import Family
from pipelines.cluster.socket_folder import ray_folder
from setr.errors import EnvironmentFailure
from setr.files.atomic import make_folder
from setr.settings.home import PROJECT, SNAPSHOT
from setr.training.distributed import Context

# A job is a plain dictionary; work runs it and returns {"status": "finished" | "failed" | "stopped", ...}.
JobRecord = dict[str, Any]
Work = Callable[[JobRecord, Context], dict[str, Any]]

# What a search may draw a value from: ("choice", [values of any kind]), ("uniform", [low, high]), ("loguniform", ...).
Domain = tuple[str, list[Any]]

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in a submitted job's driver
ANSWER_SECONDS = 5.0
LEAVING = "ray leaves"  # the thread's name
LEAVE_SECONDS = 20.0


def connect(*, log_folder: Path) -> dict[str, float]:
    """Starts Ray in this process, or joins $RAY_ADDRESS; returns the cluster's CPUs and GPUs.

    Raises EnvironmentFailure for a cluster that does not answer, or one beyond this machine without a login token.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith(("http://", "https://")):
        raise EnvironmentFailure(
            "E_CLUSTER",
            "RAY_ADDRESS is where jobs are submitted, not where a driver joins",
            where=address,
            expected="<host>:<port> of the cluster, such as 10.0.0.5:6379",
            remedy="set it so on a machine of the cluster, or submit with pipelines/submit.py",
        )
    if not is_local(address) and os.environ.get("RAY_AUTH_MODE") != "token":
        raise EnvironmentFailure(
            "E_CLUSTER",
            "a Ray cluster beyond this machine needs a login token",
            where=address,
            found=f"RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', '')}",
            expected="RAY_AUTH_MODE=token",
            remedy="start the cluster with a token and export RAY_AUTH_MODE=token",
        )
    _require_answer(address)
    runtime: dict[str, Any] = {"env_vars": worker_environment(), "worker_process_setup_hook": _import_from(PROJECT)}
    options: dict[str, Any] = {}
    if not address:
        options["include_dashboard"] = False
        if folder := ray_folder():
            options["_temp_dir"] = folder
        # Ray puts the interpreter's path into a shell command as it is; one with a space would never start a worker.
        if shlex.quote(sys.executable) != sys.executable:
            runtime["py_executable"] = shlex.quote(sys.executable)
    elif JOB_VARIABLE not in os.environ:
        # A submitted job has brought its code; here every node gets this driver's, whatever its image holds.
        runtime["py_modules"] = [str(PROJECT / "setr"), str(PROJECT / "pipelines")]
    try:
        # Ray puts the driver's working folder before all else on its workers' path: it may be another copy's.
        with contextlib.chdir(PROJECT):
            ray.init(
                address=address or "local",  # without it Ray would join whatever head runs on this machine
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=runtime,
                ignore_reinit_error=True,
                **options,
            )
    except Exception as error:  # Ray raises several unrelated kinds here
        remedy = "unset RAY_ADDRESS to run on this machine, or start the cluster"
        if os.environ.get("RAY_AUTH_MODE") != "token":
            remedy += "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise EnvironmentFailure(
            "E_CLUSTER", "cannot start or join Ray", where=address or "this machine", found=error, remedy=remedy
        ) from None
    _protect_token()
    make_folder(log_folder)
    resources = ray.cluster_resources()
    return {"CPU": resources.get("CPU", 0.0), "GPU": resources.get("GPU", 0.0)}


def _import_from(project: Path) -> Callable[[], None]:
    """Returns what a worker does before anything else: it takes the project's packages from this folder.

    Once a package is imported its modules come from beside it, whatever is put on the path later. It has no effect on a
    node that does not see the folder.
    """
    folder, manifest = str(project), str(project / SNAPSHOT)

    def hook() -> None:  # travels as it is: it must not import what it is about
        import importlib
        import pathlib
        import sys

        if pathlib.Path(manifest).is_file():
            sys.path.insert(0, folder)
            for name in ("setr", "pipelines"):
                importlib.import_module(name)

    return hook


def _require_answer(address: str) -> None:
    """Raises EnvironmentFailure if nobody listens at <host>:<port>: Ray itself would ask for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise EnvironmentFailure(
            "E_CLUSTER",
            "no Ray cluster answers",
            where=address,
            found=error.strerror or error,
            remedy="start the cluster, or unset RAY_ADDRESS to run on this machine",
        ) from None


def worker_environment() -> dict[str, str]:
    """Returns the variables that workers get from this driver."""
    passed = ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "SETR_HOME", "PYTHONHASHSEED")
    environment = {name: os.environ[name] for name in passed if name in os.environ}
    # One thread unless a job asks for more: processes side by side must not fight over the cores.
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    # Ray refuses a variable that the job was submitted with already: that one holds.
    submitted = json.loads(os.environ.get(JOB_VARIABLE) or "{}").get("runtime_env") or {}
    return {name: value for name, value in environment.items() if name not in (submitted.get("env_vars") or {})}


def nodes() -> list[dict[str, Any]]:
    """Returns address, CPUs and GPUs of each node that is alive."""
    return [
        {"address": node["NodeManagerAddress"], **{kind: node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU")}}
        for node in ray.nodes()
        if node["Alive"]
    ]


def on_every_node(function: Callable[..., Any], *arguments: Any, seconds: float = 120.0) -> dict[str, Any]:
    """Returns {node's address: what `function` returned there}, or the text of what it raised, within `seconds`.

    Takes no CPU: a node that is full answers too.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"] = task.options(
                scheduling_strategy=there
            ).remote(*arguments)
    answers: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    for address, reference in asked.items():
        try:
            answers[address] = ray.get(reference, timeout=max(0.1, deadline - time.monotonic()))
        except Exception as error:  # the node, its worker or the function failed: the caller says which matters
            answers[address] = last_line(error)
    return answers


def own_daemons() -> dict[str, int]:
    """Returns {name: process} of the Ray that connect() started; nothing of a cluster that it joined."""
    node: Any = ray._private.worker._global_node
    started = {} if node is None else node.all_processes
    return {name: infos[0].process.pid for name, infos in started.items() if infos}


def own_session() -> str:
    """Returns the folder of the Ray that connect() started, "" of a cluster that it joined."""
    node: Any = ray._private.worker._global_node
    return str(node.get_session_dir_path()) if own_daemons() else ""


def trouble() -> str:
    """Returns why this driver cannot go on with its cluster, "" if it can; does not return while the cluster hangs."""
    node: Any = ray._private.worker._global_node
    if node is None:
        return "Ray is not running"
    try:
        with socket.socket(socket.AF_UNIX) as raylet:
            raylet.settimeout(ANSWER_SECONDS)
            raylet.connect(node.raylet_socket_name)
    except TimeoutError:
        return "this machine's raylet does not answer"
    except OSError:
        return "this machine's raylet is gone"
    mine = ray.get_runtime_context().get_node_id()
    if not any(found["Alive"] for found in ray.nodes() if found["NodeID"] == mine):
        return "the cluster has given this machine's node up"
    return ""


def disconnect() -> None:
    """Leaves the cluster; one that connect() started ends, also where Ray itself does not get there."""
    family = Family(own_daemons())
    leaving = threading.Thread(target=ray.shutdown, name=LEAVING, daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)
    family.kill()


class Room:
    """How many single-worker jobs run side by side; may grow while they do."""

    def __init__(self, slots: int) -> None:
        """Start with room for `slots` jobs; without any, none must be run before there is more."""
        self.generator = BasicVariantGenerator(max_concurrent=slots)

    def grow(self, slots: int) -> None:
        """Makes room for more."""
        self.generator.max_concurrent += slots


def run_side_by_side(
    work: Work,
    jobs: Sequence[JobRecord],
    *,
    resources: Mapping[str, float],
    room: Room,
    max_failures: int,
    storage: Path,
) -> list[dict[str, Any]]:
    """Runs single-worker jobs, as many at a time as there is room, in reused processes; returns outcomes in order.

    A process that dies is started again up to `max_failures` times; its work goes on from the job's own checkpoint.
    """
    if not jobs:
        return []

    def trial(parameters: dict[str, Any]) -> None:
        tune.report(work(parameters["job"], _single_process_context()))

    tuner = tune.Tuner(
        tune.with_resources(trial, dict(resources)),
        param_space={"job": tune.grid_search(list(jobs))},
        tune_config=tune.TuneConfig(search_alg=room.generator, reuse_actors=True),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=max_failures),
        ),
    )
    outcomes = []
    grid = tuner.fit()
    for result in (grid[index] for index in range(len(grid))):
        if result.error is not None:
            outcomes.append({"status": "failed", "cause": last_line(result.error)})
        else:
            metrics = result.metrics or {}
            outcomes.append({key: metrics[key] for key in ("status", "cause", "seconds") if key in metrics})
    return outcomes


_told_of_trials: list[Callable[[dict[str, Any]], None]] = []  # of what was drawn; aside: Tune pickles its callbacks


class _Starts(tune.Callback):
    """Tells this process which trials start."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        for tell in _told_of_trials:
            tell(trial.config["drawn"])


def run_search(
    trial: Callable[[dict[str, Any], Context, Callable[[dict[str, Any]], None]], None],
    space: Mapping[str, Domain],
    *,
    method: str,
    samples: int,
    metric: str,
    seed: int,
    rungs: tuple[int, int, int],
    resources: Mapping[str, float],
    concurrent: int,
    storage: Path,
    started: Callable[[dict[str, Any]], None],
    max_failures: int = 0,
) -> None:
    """Runs `trial(values, context, report)` for values that `method` draws from the space.

    Methods are grid, random, asha and bayesian. `report` takes {"step": ..., metric: ...}; under asha it does not
    return in a trial that is to stop. `rungs` are asha's: the first step at which it judges, the last, and the factor
    between. `started(values)` is called in this process as trials start. What became of them is in their own records.
    """

    def run(parameters: dict[str, Any]) -> None:
        trial(_meant(space, parameters["drawn"]), _single_process_context(), tune.report)

    searcher: Any = BasicVariantGenerator(max_concurrent=concurrent, random_state=seed)
    if method == "bayesian":
        from ray.tune.search.optuna import OptunaSearch

        searcher = OptunaSearch(metric=metric, mode="max", seed=seed)
    _told_of_trials[:] = [lambda drawn: started(_meant(space, drawn))]
    first, last, factor = rungs
    scheduler = None
    if method == "asha":
        scheduler = tune.schedulers.ASHAScheduler(
            time_attr="step",
            metric=metric,
            mode="max",
            grace_period=first,
            max_t=last,
            reduction_factor=factor,
            stop_last_trials=False,
        )
    tune.Tuner(
        tune.with_resources(run, dict(resources)),
        param_space={"drawn": {name: _domain(domain, method) for name, domain in space.items()}},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=1 if method == "grid" else samples,
            max_concurrent_trials=concurrent if method == "bayesian" else None,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            callbacks=[_Starts()],
            failure_config=tune.FailureConfig(max_failures=max_failures),
        ),
    ).fit()


def _domain(domain: Domain, method: str) -> Any:
    """Returns a domain as Tune has it: of choices their places, since not every searcher takes lists as values."""
    kind, values = domain
    if kind == "choice":
        places = list(range(len(values)))
        return tune.grid_search(places) if method == "grid" else tune.choice(places)
    return tune.loguniform(*values) if kind == "loguniform" else tune.uniform(*values)


def _meant(space: Mapping[str, Domain], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that Tune has drawn, of choices the one at its place."""
    return {name: space[name][1][value] if space[name][0] == "choice" else value for name, value in drawn.items()}


def run_on_workers(
    work: Work,
    job: JobRecord,
    *,
    workers: int,
    resources: Mapping[str, float],
    max_failures: int,
    storage: Path,
    name: str,
) -> dict[str, Any]:
    """Runs one job on several workers through Ray Train (gloo on CPUs, NCCL on GPUs); returns rank 0's outcome.

    Workers that die are started again by Train up to `max_failures` times; Train's own controller, which nobody starts
    again if it dies, as often from here.
    """

    def loop(parameters: dict[str, Any]) -> None:
        place = ray.train.get_context()
        device = str(ray.train.torch.get_device())
        context = Context(
            rank=place.get_world_rank(),
            world_size=place.get_world_size(),
            local_rank=place.get_local_rank(),
            device=device,
            versions={"ray": ray.__version__},
        )
        outcome = work(parameters, context)
        # Ray Train waits for every rank's report, and drops metrics that come without a checkpoint folder: what the
        # driver needs is in the experiment's own record.
        ray.train.report({"status": outcome["status"]})

    for attempt in range(max_failures + 1):
        trainer = TorchTrainer(
            loop,
            train_loop_config=job,
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=resources.get("GPU", 0) > 0, resources_per_worker=dict(resources)
            ),
            run_config=RunConfig(
                # A new name: of what the controller before has left Train would make nothing good.
                name=f"{name}-{attempt}",
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=max_failures),
            ),
        )
        try:
            trainer.fit()
        except ray.exceptions.RayActorError as error:  # the controller itself, not what it controls
            cause = last_line(error)
        except Exception as error:  # WorkerGroupError, ControllerError and what a worker raised
            return {"status": "failed", "cause": last_line(error)}
        else:
            return {"status": "finished"}
    return {"status": "failed", "cause": cause}


def _single_process_context() -> Context:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Context(device=device, versions={"ray": ray.__version__})


def last_line(error: BaseException) -> str:
    """Returns the last line that an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else type(error).__name__


def _protect_token() -> None:
    """Takes other users' right to read the login token that Ray wrote."""
    token = token_file()
    if token.is_file() and token.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) and sys.platform != "win32":
        token.chmod(0o600)
