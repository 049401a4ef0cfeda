import numpy as np
import pytest

from setr.reporting.numbers.statistics import compare_with_best, mean_and_spread, mean_iou, paired_bootstrap


def areas(quality: float, *, images: int = 80, seed: int = 0) -> np.ndarray:
    """Returns areas (N,3,4) of a model that gets about `quality` of each class's pixels right."""
    generator = np.random.default_rng(seed)
    label = generator.integers(200, 400, (images, 4))
    hits = (label * np.clip(quality + generator.normal(0, 0.1, label.shape), 0, 1)).astype(np.int64)
    return np.stack([hits, label, label], 1)


def test_mean_and_spread_over_seeds() -> None:
    assert mean_and_spread([70.0]) == (70.0, None)
    mean, spread = mean_and_spread([70.0, 72.0])
    assert mean == 71.0
    assert spread == pytest.approx(2**0.5)


def test_mean_iou_leaves_absent_classes_out() -> None:
    found = mean_iou(np.array([[50, 0, 0], [100, 0, 10], [50, 0, 0]]))
    assert float(found) == pytest.approx((50 + 0) / 2)


def test_clear_difference_is_significant_and_its_interval_holds_it() -> None:
    found = paired_bootstrap(areas(0.8), areas(0.6, seed=1))
    assert found.significant
    assert found.low < found.difference < found.high
    assert found.low > 0
    assert found.images == 80


def test_equal_models_differ_by_chance_only() -> None:
    one = areas(0.7)
    found = paired_bootstrap(one, one)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not found.significant


def test_images_are_paired() -> None:
    # A model that is a little better on every image, although images differ a lot from one another.
    base = areas(0.6, images=40)
    scale = np.linspace(0.2, 1.0, 40)[:, None]
    weak = np.stack([base[:, 0] * scale, base[:, 1], base[:, 2]], 1).astype(np.int64)
    strong = weak.copy()
    strong[:, 0] += 4
    assert paired_bootstrap(strong, weak).significant


def test_same_seed_gives_the_same_numbers() -> None:
    assert paired_bootstrap(areas(0.7), areas(0.69, seed=2)) == paired_bootstrap(areas(0.7), areas(0.69, seed=2))


@pytest.mark.parametrize("other", [np.zeros((3, 3, 4)), np.zeros((80, 2, 4)), np.zeros((80, 3))])
def test_other_images_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(areas(0.7), other)


def test_best_model_is_compared_with_each_other_one_and_corrected() -> None:
    models = {"weak": areas(0.5, seed=1), "best": areas(0.8), "near": areas(0.79, seed=0)}
    found = compare_with_best(models)
    assert [(one.first, one.second) for one in found] == [("best", "near"), ("best", "weak")]
    plain = paired_bootstrap(models["best"], models["weak"])
    assert found[1].p_value == pytest.approx(min(1.0, 2 * plain.p_value))
    assert compare_with_best({"alone": areas(0.5)}) == []
