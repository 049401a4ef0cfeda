"""Each tensor of a file goes to its place once: fitted where the rules allow it, refused where it does not fit."""

import pytest
import torch
import torch.nn.functional as F

from setr.errors import InputError
from setr.models.importing.filling import CLASSIFIER, POSITIONS, Placement, place, require_encoder, square_grid
from setr.models.importing.receipt import TensorEntry


def test_a_value_is_copied_and_accounted_for() -> None:
    stored = torch.arange(6.0).reshape(3, 2).T  # not contiguous, as a file's views may be
    parameters = {
        "head.weight": torch.zeros(2, 3),
        "head.bias": torch.zeros(2),
        "bn.num_batches_tracked": torch.zeros(()),
    }
    values, entries = place(parameters, {"w": stored}, Placement({"head.weight": "w"}), where="file")
    assert values["head.weight"].tolist() == stored.tolist()
    assert values["head.weight"].is_contiguous()
    values["head.weight"].zero_()
    assert stored.sum() == 15, "the file's own memory"
    assert [(entry.status, entry.parameter, entry.key) for entry in entries] == [
        ("mapped", "head.weight", "w"),
        ("missing", "head.bias", ""),
        ("missing", "bn.num_batches_tracked", ""),
    ]
    assert "at random" in entries[1].detail
    assert "starts at 0" in entries[2].detail


def test_another_precision_is_converted_and_another_kind_of_number_refused() -> None:
    parameters = {"a": torch.zeros(2)}
    values, [entry] = place(parameters, {"a": torch.ones(2).half()}, Placement({"a": "a"}), where="file")
    assert values["a"].dtype == torch.float32
    assert (entry.status, entry.detail) == ("converted", "float16 to float32")
    with pytest.raises(InputError, match=r"E_CKPT_SHAPE.*a is torch\.int64"):
        place(parameters, {"a": torch.ones(2, dtype=torch.int64)}, Placement({"a": "a"}), where="file")


def test_streams_that_the_file_has_deepest_first_are_turned_round() -> None:
    stored = torch.arange(8.0).reshape(1, 8, 1, 1)
    values, [entry] = place(
        {CLASSIFIER: torch.zeros(1, 8, 1, 1)}, {"c": stored}, Placement({CLASSIFIER: "c"}, reversed_streams=4), where=""
    )
    assert values[CLASSIFIER].flatten().tolist() == [6, 7, 4, 5, 2, 3, 0, 1]
    assert entry.status == "permuted"


@pytest.mark.parametrize("extra", [1, 2])
def test_positions_are_resized_without_the_class_token_and_a_distillation_tokens_entry_goes(extra: int) -> None:
    table = torch.randn(1, extra + 4, 5)
    plan = Placement({POSITIONS: "p"}, grid=(3, 4))
    values, [entry] = place({POSITIONS: torch.zeros(1, 13, 5)}, {"p": table}, plan, where="")
    grid = table[:, extra:].reshape(1, 2, 2, 5).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(3, 4), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(values[POSITIONS], torch.cat([table[:, :1], expected], 1))
    assert entry.status == "resized"
    assert ("distillation" in entry.detail) == (extra == 2)


def test_positions_of_the_same_grid_are_mapped_and_another_grid_needs_a_way() -> None:
    table = torch.randn(1, 5, 3)
    plan = Placement({POSITIONS: "p"}, grid=(2, 2), interpolation=None)
    values, [entry] = place({POSITIONS: torch.zeros(1, 5, 3)}, {"p": table}, plan, where="")
    assert entry.status == "mapped"
    assert torch.equal(values[POSITIONS], table)
    with pytest.raises(InputError, match=r"E_PRETRAINED_SHAPE.*2x2.*3x3"):
        place(
            {POSITIONS: torch.zeros(1, 10, 3)},
            {"p": table},
            Placement({POSITIONS: "p"}, (3, 3), interpolation=None),
            where="",
        )


def test_all_that_does_not_fit_is_in_one_line() -> None:
    parameters = {name: torch.zeros(2) for name in "abcde"}
    tensors = {name: torch.zeros(3) for name in "abcde"}
    with pytest.raises(InputError, match=r"E_CKPT_SHAPE.*a \(3,\) for \(2,\).*and 2 more"):
        place(parameters, tensors, Placement({name: name for name in "abcde"}), where="file")


def test_a_weight_that_is_not_finite_is_named_with_how_much_of_it() -> None:
    tensors = {"a": torch.tensor([1.0, float("nan"), float("inf")])}
    with pytest.raises(InputError, match=r"E_CKPT_NONFINITE.*file: a.*2 of 3"):
        place({"a": torch.zeros(3)}, tensors, Placement({"a": "a"}), where="file")


def test_only_the_encoders_weights_are_asked_for() -> None:
    fine = [
        TensorEntry("missing", "decode_head.weight"),
        TensorEntry("missing", "encoder.bn.num_batches_tracked"),
        TensorEntry("mapped", "encoder.a", "a"),
    ]
    require_encoder(fine, "file")
    with pytest.raises(InputError, match=r"E_CKPT_KEYS.*1 tensors of the encoder.*encoder\.b"):
        require_encoder([*fine, TensorEntry("missing", "encoder.b")], "file")


@pytest.mark.parametrize(
    ("tokens", "grid"), [(0, None), (1, None), (2, (1, 1)), (197, (14, 14)), (198, (14, 14)), (199, None)]
)
def test_a_square_table_is_told_by_its_length(tokens: int, grid: tuple[int, int] | None) -> None:
    assert square_grid(tokens) == grid
