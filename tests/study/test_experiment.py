import dataclasses

import pytest

from setr.errors import InputError
from setr.models.variants import structure_record, variant_spec
from setr.study.experiment import Experiment, canonical_json, identity_of, sha256_of
from setr.study.published import recipe


@pytest.fixture
def pup() -> Experiment:
    made = recipe("cityscapes", "pup", "80k")
    structure = structure_record(variant_spec("setr-pup", num_classes=19, crop_size=made.crop_size))
    return Experiment("cityscapes", "setr-pup", "80k", "paper", 0, made, "m", "w", "c", model=structure)


def test_identity_is_pinned(pup: Experiment) -> None:
    # Another value here means that every experiment of every user trains again: change it on purpose only.
    assert pup.identity == "95a82c8b13e5b9a1aa7e56ab4e019925778c8b5726808613e6c262bd6cc8faae"
    assert pup.identity == sha256_of({"spec": pup.spec, "code": pup.code})


def test_code_and_what_is_in_the_spec_decide_the_identity(pup: Experiment) -> None:
    changes: tuple[dict, ...] = ({"code": "d"}, {"seed": 7}, {"manifest": "n"}, {"tensors": "u"}, {"transform": "x"})
    identities = {dataclasses.replace(pup, **change).identity for change in ({}, *changes)}
    assert len(identities) == 1 + len(changes)


def test_names_and_other_files_with_the_same_tensors_do_not(pup: Experiment) -> None:
    known = dataclasses.replace(pup, tensors="t")
    for change in ({"weights": "other"}, {"variant": "x"}, {"schedule": "x"}, {"dataset": "x"}, {"scale": "x"}):
        assert dataclasses.replace(known, **change).identity == known.identity


def test_until_the_tensors_are_known_the_files_count(pup: Experiment) -> None:
    assert dataclasses.replace(pup, weights="v").identity != pup.identity


def test_without_a_transform_of_ones_own_the_record_has_none(pup: Experiment) -> None:
    assert "transform" not in pup.as_dict()
    own = dataclasses.replace(pup, transform="mine:f#sha256:00")
    assert Experiment.from_dict(own.as_dict()) == own


def test_record_reads_back(pup: Experiment) -> None:
    assert Experiment.from_dict(pup.as_dict()) == pup
    assert canonical_json(pup.as_dict()) == canonical_json(Experiment.from_dict(pup.as_dict()).as_dict())


def test_a_records_identity_follows_from_it_without_the_code(pup: Experiment) -> None:
    assert identity_of(pup.as_dict()) == pup.identity
    assert identity_of({"code": "c", "spec": float("nan")}) == ""


def test_records_of_the_first_version_are_read(pup: Experiment) -> None:
    old = {name: pup.as_dict()[name] for name in ("dataset", "variant", "schedule", "scale", "seed", "recipe")}
    old |= {"manifest": "m", "weights": "w", "code": "c"}
    assert identity_of(old) == sha256_of(old)
    assert Experiment.from_dict(old).variant == "setr-pup"


def test_a_record_whose_spec_is_another_ones_is_refused(pup: Experiment) -> None:
    record = pup.as_dict()
    record["recipe"] = {**record["recipe"], "base_lr": 0.5}
    with pytest.raises(InputError, match="E_EXPERIMENT"):
        Experiment.from_dict(record)


@pytest.mark.parametrize("record", [{}, {"dataset": "a"}, {"recipe": {"speed": 1}}])
def test_damaged_record_is_refused(record: dict) -> None:
    with pytest.raises(InputError, match="E_EXPERIMENT"):
        Experiment.from_dict(record)


def test_canonical_json_has_one_text_and_no_nan() -> None:
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))
