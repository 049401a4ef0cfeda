"""Whether corners are aligned is what is given, else what the file says, else what is published, else asked for."""

import pytest

from setr.errors import InputError
from setr.models.importing.aligned_corners import UNALIGNED_CLASSES, aligned_corners
from setr.models.importing.stored_config import StoredConfig


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("stored", [True, False, None])
def test_what_is_given_comes_first(given: bool, stored: bool | None) -> None:
    assert aligned_corners("fcn", 19, StoredConfig(align_corners=stored), given) == (given, "given")


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("classes", [19, 150])
def test_then_what_the_file_says(stored: bool, classes: int) -> None:
    found = aligned_corners("fcn", classes, StoredConfig(align_corners=stored), None)
    assert found == (stored, "config in the file")


@pytest.mark.parametrize(("kind", "classes"), [*(("fcn", classes) for classes in UNALIGNED_CLASSES), ("fpn", 19)])
def test_then_what_is_published(kind: str, classes: int) -> None:
    assert aligned_corners(kind, classes, StoredConfig(), None) == (False, "the published configs")


@pytest.mark.parametrize("classes", [19, 2, 151])
def test_an_fcn_of_which_both_or_none_are_published_must_be_told(classes: int) -> None:
    with pytest.raises(InputError, match=rf"E_CKPT_ALIGN.*FCN with {classes} classes.*--no-align-corners"):
        aligned_corners("fcn", classes, StoredConfig(), None)
