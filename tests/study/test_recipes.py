import dataclasses

import pytest

from setr.errors import InputError
from setr.models.flavours import FLAVOURS
from setr.models.variants import decoder_of_variant
from setr.study.published import DATASETS, DECODERS, recipe
from setr.study.recipes import Recipe, iterations


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
    assert decoder_of_variant(variant) == decoder


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(InputError, match="setr-pupp"):
        decoder_of_variant("setr-pupp")


# The released configurations (github.com/fudan-zvg/SETR, configs/SETR and configs/_base_/schedules): base rate by data
# set. The papers' own: section 4.1, "0.001 on ADE20K and Pascal Context, 0.01 on Cityscapes". mmsegmentation 1.2.2:
# configs/setr. Crop, batch and base size: section 4.1 and configs/_base_/datasets, the same in all three.
SETR_RATES = {
    ("authors", "cityscapes"): {"naive": 0.01, "pup": 0.01, "mla": 0.002},
    ("authors", "ade20k"): {"naive": 0.01, "pup": 0.001, "mla": 0.001},
    ("authors", "pascal_context"): {"naive": 0.01, "pup": 0.001, "mla": 0.001},
    ("paper", "cityscapes"): {"naive": 0.01, "pup": 0.01, "mla": 0.01},
    ("paper", "ade20k"): {"naive": 0.001, "pup": 0.001, "mla": 0.001},
    ("paper", "pascal_context"): {"naive": 0.001, "pup": 0.001, "mla": 0.001},
    ("mmseg", "cityscapes"): {"naive": 0.01, "pup": 0.01, "mla": 0.002},
    ("mmseg", "ade20k"): {"naive": 0.01, "pup": 0.001, "mla": 0.001},
}
SETR_DATA = {
    "cityscapes": {"crop_size": (768, 768), "batch_size": 8, "base_size": (2049, 1025)},
    "ade20k": {"crop_size": (512, 512), "batch_size": 16, "base_size": (2048, 512)},
    "pascal_context": {"crop_size": (480, 480), "batch_size": 16, "base_size": (520, 520)},
}
# Polynomial decay with power 0.9 to 1e-4, SGD with momentum 0.9 and no weight decay, heads at ten times the rate,
# auxiliary losses at 0.4 (section 4.1; the floor, the factor and the last four of augmentation: configurations alone).
SETR_COMMON = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "poly_power": 0.9,
    "min_lr": 1e-4,
    "warmup_steps": 0,
    "head_lr_multiplier": 10.0,
    "layer_decay": 1.0,
    "auxiliary_weight": 0.4,
    "loss_denominator": "all",
    "class_weights": "none",
    "ohem_threshold": 0.0,
    "ema_decay": 0.0,
    "drop_path": 0.0,
    "ratio_range": (0.5, 2.0),
    "cat_max_ratio": 0.75,
    "flip_probability": 0.5,
    "photometric": True,
    "precision": "float32",
}
# Iterations, evaluation and checkpoint interval: configs/_base_/schedules/schedule_{40k,80k,160k}.py.
SCHEDULES = {"40k": (40_000, 4_000), "80k": (80_000, 8_000), "160k": (160_000, 16_000)}
# mmsegmentation 0.6, which the paper copied its baselines from: configs/fcn and configs/sem_fpn.
BASELINES = {
    ("cityscapes", "fcn"): ((769, 769), 8, (2049, 1025), 0.01, 5e-4, 0.4),
    ("cityscapes", "semantic-fpn"): ((512, 1024), 8, (2048, 1024), 0.01, 5e-4, 0.0),
    ("ade20k", "fcn"): ((512, 512), 16, (2048, 512), 0.01, 5e-4, 0.4),
    ("ade20k", "semantic-fpn"): ((512, 512), 16, (2048, 512), 0.01, 5e-4, 0.0),
    ("pascal_context", "fcn"): ((480, 480), 16, (520, 520), 0.004, 1e-4, 0.4),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("flavour", "dataset", "decoder", "rate"),
    [(*key, decoder, rate) for key, rates in SETR_RATES.items() for decoder, rate in rates.items()],
)
def test_every_number_of_a_setr_recipe(flavour: str, dataset: str, decoder: str, rate: float, schedule: str) -> None:
    steps, every = SCHEDULES[schedule]
    published = {
        **SETR_COMMON,
        **SETR_DATA[dataset],
        "flavour": flavour,
        "base_lr": rate,
        "iterations": steps,
        "evaluate_every": every,
        "checkpoint_every": every,
        "poly_end": "iterations_minus_one" if flavour == "mmseg" else "iterations",
    }
    assert dataclasses.asdict(recipe(dataset, decoder, schedule, flavour=flavour)) == published


@pytest.mark.parametrize(("dataset", "decoder"), BASELINES)
def test_every_number_of_a_baselines_recipe(dataset: str, decoder: str) -> None:
    crop, batch, base, rate, decay, auxiliary = BASELINES[dataset, decoder]
    found = dataclasses.asdict(recipe(dataset, decoder, "80k"))
    published = {
        **SETR_COMMON,
        "flavour": "authors",
        "crop_size": crop,
        "batch_size": batch,
        "base_size": base,
        "base_lr": rate,
        "weight_decay": decay,
        "auxiliary_weight": auxiliary,
        "head_lr_multiplier": 1.0,
        "iterations": 80_000,
        "evaluate_every": 8_000,
        "checkpoint_every": 8_000,
        "poly_end": "iterations",
    }
    assert found == published
