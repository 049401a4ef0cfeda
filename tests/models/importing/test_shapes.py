"""What names and shapes tell of a model, and that none of them can ask for a model without end."""

import pytest

from setr.errors import InputError
from setr.models.importing.shapes import count, dims, on_resnet, on_transformer

BLOCK = r"encoder\.blocks\.(\d+)\."


def test_a_shape_is_given_where_it_has_its_dimensions() -> None:
    assert dims({"a": (2, 3)}, "a", 2) == (2, 3)


@pytest.mark.parametrize("shapes", [{}, {"a": (2,)}, {"a": (2, 3, 4)}, {"a": (2, 0)}])
def test_a_shape_that_says_nothing_is_named(shapes: dict) -> None:
    with pytest.raises(InputError, match=r"E_CKPT_KEYS.*how large.*a .*2 dimensions"):
        dims(shapes, "a", 2)


def test_modules_are_counted_to_the_last_one_holes_included() -> None:
    shapes = {f"encoder.blocks.{index}.w": (1,) for index in (0, 1, 3)} | {
        "encoder.blocks.x.w": (1,),
        "other.7.w": (1,),
    }
    assert count(shapes, BLOCK) == 4
    assert count({}, BLOCK) == 0


@pytest.mark.parametrize("index", ["5", "999999999", "9" * 5000])
def test_an_index_beyond_the_number_of_weights_is_refused(index: str) -> None:
    with pytest.raises(InputError, match=r"E_CKPT_KEYS.*more modules") as caught:
        count({f"encoder.blocks.{index}.w": (1,), "b": (1,)}, BLOCK)
    assert len(str(caught.value)) < 400


def test_encoders_are_told_apart() -> None:
    resnet = {"encoder.body.layer1.w": (1,), "neck.w": (1,)}
    plain, necked = {"encoder.blocks.0.w": (1,)}, {"encoder.blocks.0.w": (1,), "neck.w": (1,)}
    assert [on_resnet(shapes) for shapes in (resnet, plain, necked)] == [True, False, False]
    assert [on_transformer(shapes) for shapes in (resnet, plain, necked)] == [False, True, False]
    assert [on_transformer(shapes, neck=True) for shapes in (resnet, plain, necked)] == [False, False, True]
