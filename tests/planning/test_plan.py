"""Memory, remedies and durations: they grow with what they should, and measurements come first."""

import dataclasses

import pytest

from setr.planning.plan import Ways, estimate, modelled_seconds, remedies
from setr.planning.throughput import Clock, Machine, Measurement, evaluations_of, kind_of, views_per_image
from setr.study.experiment import Experiment
from setr.study.published import protocol, recipe


def experiment(variant: str = "setr-pup", decoder: str = "pup", **changes: object) -> Experiment:
    made = dataclasses.replace(recipe("cityscapes", decoder, "80k"), **changes)
    return Experiment("cityscapes", variant, "80k", "paper", 0, made, manifest="", weights="", code="")


PROTOCOL = protocol("cityscapes", "pup", "ss")
BIG = Machine(memory=1000e9)


def memory(given: Experiment, ways: Ways | None = None) -> int:
    return estimate(given, [PROTOCOL], ways or Ways(), Clock(BIG), images=500).memory


def test_memory_grows_with_images_crop_precision_and_optimiser() -> None:
    usual = memory(experiment())
    assert memory(experiment(batch_size=16)) > usual
    assert memory(experiment(crop_size=(512, 512))) < usual
    assert memory(experiment(precision="bfloat16")) < usual
    assert memory(experiment(optimizer="adamw")) > usual
    assert memory(experiment(ema_decay=0.999)) > usual
    assert memory(experiment("setr-pup-base")) < usual
    by_images = [memory(experiment(), Ways(micro_batch=images)) for images in range(1, 9)]
    assert by_images == sorted(by_images)
    assert by_images[0] < by_images[-1] == usual
    assert memory(experiment(), Ways(checkpointing=True)) < usual
    assert memory(experiment(), Ways(workers=4)) < usual


def test_memory_of_the_large_model_on_paper() -> None:
    """A published run of SETR-PUP at 768x768, float32, one image a GPU, with maps of attention kept, took 28 GB."""
    assert 8e9 < memory(experiment(), Ways(workers=8)) < 28e9


def test_accumulation_makes_up_the_batch() -> None:
    found = estimate(experiment(), [PROTOCOL], Ways(workers=2, micro_batch=3), Clock(BIG), images=500)
    assert (found.images, found.accumulation) == (3, 2)


def test_remedies_make_it_fit() -> None:
    given = experiment()
    ways = Ways()
    for gigabytes in (12.0, 20.0, 30.0, 40.0):
        clock = Clock(Machine(memory=gigabytes * 1e9))
        assert estimate(given, [PROTOCOL], ways, clock, images=500).memory > clock.machine.memory
        for words in remedies(given, [PROTOCOL], ways, clock):
            changed = ways
            if "activation_checkpointing" in words:
                changed = dataclasses.replace(changed, checkpointing=True)
            for name in ("workers", "micro_batch"):
                if f"training.{name}=" in words:
                    value = int(words.partition(f"training.{name}=")[2].split()[0])
                    changed = dataclasses.replace(changed, **{name: value})
            assert estimate(given, [PROTOCOL], changed, clock, images=500).memory <= clock.machine.memory, words
    [hopeless] = remedies(given, [PROTOCOL], ways, Clock(Machine(memory=3e9)))
    assert hopeless.startswith("a GPU of")


def test_hours_by_hand() -> None:
    given = experiment()
    clock = Clock(Machine(tflops={"float32": 100.0}, utilisation=0.5))
    found = estimate(given, [PROTOCOL], Ways(), clock, images=500)
    step, evaluation = modelled_seconds(given, [PROTOCOL], Ways(), clock, 500)
    # 1102 G multiply-adds forward with the auxiliary heads, twice that backward
    assert step == pytest.approx(3 * 2 * 1102e9 * 8 / 50e12, rel=0.01)
    assert evaluations_of(given.recipe) == 10
    assert views_per_image(PROTOCOL, "cityscapes") == 8
    assert found.seconds == pytest.approx(80_000 * step + 10 * evaluation)
    half = estimate(given, [PROTOCOL], Ways(), clock, images=500, step=40_000)
    assert half.seconds == pytest.approx(found.seconds / 2)
    two = estimate(given, [PROTOCOL], Ways(workers=2), clock, images=500)
    assert found.seconds / 2 < two.seconds < found.seconds
    assert two.gpu_hours > found.gpu_hours


def test_what_was_measured_comes_first_and_scales_the_rest() -> None:
    machine = Machine()
    given, other = experiment(), experiment("setr-mla")
    key = kind_of(
        variant="setr-pup",
        scale="paper",
        recipe=given.recipe,
        workers=1,
        images=8,
        checkpointing=False,
        device="cuda:0",
    )
    clock = Clock(machine, [Measurement(key, step=2.0, evaluation=30.0, other=5.0, memory=int(40e9))])
    step, _ = modelled_seconds(given, [PROTOCOL], Ways(), clock, 500)
    found = estimate(given, [PROTOCOL], Ways(), clock, images=500)
    assert (found.seconds_source, found.memory_source) == ("measured", "measured")
    assert found.seconds == pytest.approx(80_000 * 2.0 + 10 * 30.0 + 5.0)
    assert found.memory > 40e9
    scaled = estimate(other, [PROTOCOL], Ways(), clock, images=500)
    assert (scaled.seconds_source, scaled.memory_source) == ("scaled", "model")
    assert scaled.step_seconds == pytest.approx(modelled_seconds(other, [PROTOCOL], Ways(), clock, 500)[0] * 2.0 / step)
    lower = estimate(experiment("setr-mla", precision="bfloat16"), [PROTOCOL], Ways(), clock, images=500)
    assert lower.seconds_source == "model"  # another precision says nothing
