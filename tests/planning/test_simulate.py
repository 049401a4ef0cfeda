"""The simulator against closed forms: list scheduling without failures, the renewal argument with them."""

import math
import statistics

import pytest

from setr.planning.schedule import Piece, list_schedule
from setr.planning.simulate import Cluster, Task, replay


def test_without_failures_it_is_list_scheduling() -> None:
    lengths = [50.0, 31.0, 30.0, 22.0, 21.0, 20.0, 13.0, 8.0, 5.0, 1.0]
    tasks = [Task(str(number), seconds) for number, seconds in enumerate(lengths)]
    expected = list_schedule([Piece(task.name, task.seconds) for task in tasks], 3)
    found = replay(tasks, Cluster(nodes=3, gpus=1))
    assert found.makespan == max(expected.values())
    assert found.utilisation == pytest.approx(sum(lengths) / (3 * found.makespan))
    assert (found.lost, found.failures) == (0, 0)


def test_wide_tasks_stay_on_one_node_and_wider_ones_span_them() -> None:
    cluster = Cluster(nodes=2, gpus=4)
    three = [Task(name, 10, width=3) for name in "abc"]  # one GPU is left on each node: no room for the third
    assert replay(three, cluster).makespan == 20
    assert replay([Task("a", 10, width=8)], cluster).makespan == 10
    with pytest.raises(ValueError, match="wider than the simulated cluster"):
        replay([Task("a", 10, width=9)], cluster)


@pytest.mark.parametrize(("mtbf", "checkpoint", "repair"), [(200.0, 50.0, 0.0), (100.0, 100.0, 30.0)])
def test_expected_makespan_and_loss_of_one_gpu(mtbf: float, checkpoint: float, repair: float) -> None:
    """A stretch of t seconds between checkpoints takes (m + repair)(exp(t/m) - 1), and loses m(exp(t/m) - 1) - t."""
    stretches, repeats = 40, 300
    task = Task("a", stretches * checkpoint, checkpoint=checkpoint)
    cluster = Cluster(nodes=1, gpus=1, mtbf=mtbf, repair=repair)
    replays = [replay([task], cluster, seed=seed) for seed in range(repeats)]
    tries = math.expm1(checkpoint / mtbf)
    makespans, losses = [one.makespan for one in replays], [one.lost for one in replays]
    for values, expected in (
        (makespans, stretches * (mtbf + repair) * tries),
        (losses, stretches * (mtbf * tries - checkpoint)),
    ):
        error = statistics.stdev(values) / math.sqrt(repeats)
        assert abs(statistics.mean(values) - expected) < 4 * error
        assert 4 * error < 0.1 * expected  # the check could tell


def test_shorter_checkpoint_intervals_lose_less_and_restarts_cost() -> None:
    cluster = Cluster(nodes=8, gpus=8, mtbf=3600 * 24, repair=1800, restart=60)

    def mean(name: str, interval: float, cluster: Cluster = cluster) -> float:
        tasks = [Task(str(number), 40_000, checkpoint=interval) for number in range(128)]
        return statistics.mean(getattr(replay(tasks, cluster, seed=seed), name) for seed in range(5))

    assert mean("lost", 600) < mean("lost", 6000) < mean("lost", 40_000)
    assert mean("makespan", 600) > 80_000
    assert mean("restarts", 600) >= 128 * 60


def test_the_same_seed_gives_the_same_replay() -> None:
    tasks = [Task(str(number), 1000, checkpoint=100, points=1.0, checkpoint_bytes=10) for number in range(20)]
    cluster = Cluster(nodes=2, gpus=2, mtbf=2000, repair=10, restart=5)
    assert replay(tasks, cluster, seed=3) == replay(tasks, cluster, seed=3)
    assert replay(tasks, cluster, seed=3) != replay(tasks, cluster, seed=4)
    calm = replay(tasks, Cluster(nodes=2, gpus=2))
    assert calm.points_rate == pytest.approx(20 * 1000 / calm.makespan)
    assert calm.bytes_rate == pytest.approx(20 * 10 * 10 / calm.makespan)
