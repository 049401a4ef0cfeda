"""A cluster of three raylets on this machine, of which one is killed while its two workers train. For test_engine.

    PYTHONPATH=<project> python -m tests.helpers.node_loss FOLDER

Trains tiny_training's model below FOLDER; ends with status 0 if the training finished on the node that was left.
"""

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

KILL_AT = 8  # steps; the checkpoint before is that of step 6


def work(job, context):
    """What each worker runs: at step KILL_AT of the first attempt both wait for the end of their node."""
    import torch

    from tests.helpers.tiny_training import recording, run

    torch.set_num_threads(1)
    folder = Path(job["folder"])
    marker = folder / f"here-{context.rank}"
    record = recording(folder, context.rank, context.world_size).report

    def report(event):
        record(event)
        if event["event"] == "metrics" and event["step"] == KILL_AT and not marker.exists():
            import ray

            marker.write_text(ray.get_runtime_context().get_node_id())
            time.sleep(600)

    run(folder, context=replace(context, report=report))
    return {"status": "finished"}


def main(folder: Path) -> int:
    """Starts the cluster, trains, kills the raylet of the node that the workers are on; returns the exit status."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    others = [nodes.add_node(num_cpus=2) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = nodes.address
    from pipelines.cluster import engine as cluster

    cluster.connect(log_folder=folder / "logs")
    job = {"folder": str(folder / "run")}

    def lose_the_node() -> None:
        markers = [folder / "run" / f"here-{rank}" for rank in range(2)]
        while not all(marker.exists() and marker.read_text() for marker in markers):
            time.sleep(0.05)
        (used,) = {marker.read_text() for marker in markers}
        [node] = [node for node in others if node.node_id == used]
        [raylet] = node.all_processes["raylet"]
        raylet.process.kill()  # SIGKILL: what a node that is gone looks like to all others
        raylet.process.wait()
        print("killed", flush=True)

    threading.Thread(target=lose_the_node, daemon=True).start()
    began = time.monotonic()
    outcome = cluster.run_on_workers(
        work, job, workers=2, resources={"CPU": 1.0}, max_failures=3, storage=folder / "ray", name="node-loss"
    )
    print(outcome, f"{time.monotonic() - began:.1f} s", flush=True)
    cluster.disconnect()
    nodes.shutdown()
    return 0 if outcome["status"] == "finished" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
