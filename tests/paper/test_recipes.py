import dataclasses

import pytest

from setr.errors import InputError
from setr.paper.choices import DATASETS, DECODERS, FLAVOURS
from setr.paper.recipes import Recipe, decoder_of, iterations, recipe


@pytest.mark.parametrize(
    ("dataset", "decoder", "flavour", "base_lr"),
    [
        ("cityscapes", "pup", "authors", 0.01),
        ("cityscapes", "mla", "authors", 0.002),
        ("cityscapes", "mla", "paper", 0.01),
        ("cityscapes", "mla", "mmseg", 0.002),
        ("ade20k", "naive", "authors", 0.01),
        ("ade20k", "naive", "paper", 0.001),
        ("ade20k", "pup", "authors", 0.001),
        ("pascal_context", "naive", "authors", 0.01),
        ("pascal_context", "mla", "paper", 0.001),
        ("pascal_context", "fcn", "authors", 0.004),
    ],
)
def test_base_lr_depends_on_decoder_dataset_and_source(
    dataset: str, decoder: str, flavour: str, base_lr: float
) -> None:
    assert recipe(dataset, decoder, "80k", flavour=flavour).base_lr == base_lr


def test_cityscapes_pup_is_the_papers_main_recipe() -> None:
    assert recipe("cityscapes", "pup", "80k") == Recipe()
    assert recipe("cityscapes", "pup", "40k") == dataclasses.replace(
        Recipe(), iterations=40_000, evaluate_every=4_000, checkpoint_every=4_000
    )


def test_other_datasets_have_their_crop_batch_and_base_size() -> None:
    ade20k = recipe("ade20k", "mla", "160k")
    assert (ade20k.crop_size, ade20k.batch_size, ade20k.base_size) == ((512, 512), 16, (2048, 512))
    pascal = recipe("pascal_context", "naive", "80k")
    assert (pascal.crop_size, pascal.batch_size, pascal.base_size) == ((480, 480), 16, (520, 520))


def test_mmseg_divides_the_poly_schedule_by_one_step_less() -> None:
    assert recipe("cityscapes", "naive", "80k", flavour="mmseg").poly_end == "iterations_minus_one"
    assert recipe("cityscapes", "naive", "80k").poly_end == "iterations"


def test_baselines_have_weight_decay_and_one_learning_rate() -> None:
    fcn = recipe("cityscapes", "fcn", "40k")
    assert (fcn.crop_size, fcn.weight_decay, fcn.head_lr_multiplier, fcn.auxiliary_weight) == ((769, 769), 5e-4, 1, 0.4)
    fpn = recipe("cityscapes", "semantic-fpn", "80k")
    assert (fpn.crop_size, fpn.base_size, fpn.auxiliary_weight) == ((512, 1024), (2048, 1024), 0.0)
    assert recipe("pascal_context", "fcn", "80k").weight_decay == 1e-4


def test_every_recipe_can_be_built_but_the_one_nobody_published() -> None:
    for dataset in DATASETS:
        for decoder in DECODERS:
            for flavour in FLAVOURS:
                if flavour == "mmseg" and dataset == "pascal_context" and decoder in ("naive", "pup", "mla"):
                    with pytest.raises(InputError, match="Pascal Context"):
                        recipe(dataset, decoder, "80k", flavour=flavour)
                else:
                    assert recipe(dataset, decoder, "80k", flavour=flavour).flavour == flavour


@pytest.mark.parametrize(("schedule", "steps"), [("40k", 40_000), ("160k", 160_000), ("120", 120)])
def test_schedules_are_steps(schedule: str, steps: int) -> None:
    assert iterations(schedule) == steps


@pytest.mark.parametrize("schedule", ["", "0k", "80K", "eighty", "-40k", "4.5k"])
def test_schedule_that_is_no_number_is_refused(schedule: str) -> None:
    with pytest.raises(InputError, match="E_SCHEDULE"):
        iterations(schedule)


def test_unknown_words_name_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean cityscapes"):
        recipe("cityscape", "pup", "80k")
    with pytest.raises(InputError, match="adamw"):
        Recipe(optimizer="adam")


def test_equal_values_have_one_form() -> None:
    assert Recipe(base_lr=1, crop_size=[512, 512], ratio_range=[1, 2]) == Recipe(  # type: ignore[arg-type]
        base_lr=1.0, crop_size=(512, 512), ratio_range=(1.0, 2.0)
    )
    assert hash(Recipe(crop_size=[512, 512])) == hash(Recipe(crop_size=(512, 512)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "decoder"),
    [("setr-pup-random", "pup"), ("hybrid-deit", "naive"), ("fcn-21k", "fcn"), ("semantic-fpn", "semantic-fpn")],
)
def test_a_variants_name_gives_its_decoder(variant: str, decoder: str) -> None:
    assert decoder_of(variant) == decoder


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(InputError, match="setr-pupp"):
        decoder_of("setr-pupp")
