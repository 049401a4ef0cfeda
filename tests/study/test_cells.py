from collections import Counter

import pytest

from setr.errors import InputError
from setr.study.cells import by_training, cells, find_cell, select_cells
from setr.study.shelf import setr_study


def test_number_of_printed_values_in_each_table() -> None:
    printed = Counter(cell.table for cell in cells() if cell.paper is not None)
    assert printed == {2: 28, 3: 12, 4: 18, 5: 18, 6: 15, 7: 11}


def test_table_2_has_15_rows_and_28_numbers_19_of_them_setr() -> None:
    table = cells([2])
    assert len({cell.row for cell in table}) == 15
    runnable = [cell for cell in table if cell.runnable]
    assert len(runnable) == 28
    assert sum(cell.variant.startswith("setr-") for cell in runnable) == 19
    assert {cell.key for cell in table if cell.paper is None} == {
        "table2/semantic-fpn/40k",
        "table2/setr-pup-random/80k",
    }


def test_keys_are_unique() -> None:
    assert max(Counter(cell.key for cell in cells()).values()) == 1


@pytest.mark.parametrize(
    ("key", "value", "training", "protocol"),
    [
        ("table2/setr-pup/80k", 79.34, ("cityscapes", "setr-pup", "80k"), "ss"),
        ("table2/setr-pup-random/40k", 42.27, ("cityscapes", "setr-pup-random", "40k"), "ss"),
        ("table3/setr-mla-deit/cityscapes", 78.98, ("cityscapes", "setr-mla-deit", "80k"), "ss"),
        ("table3/setr-mla/cityscapes", 76.65, ("cityscapes", "setr-mla", "40k"), "ss"),
        ("table4/setr-mla/160k-ms", 50.28, ("ade20k", "setr-mla", "160k"), "ms"),
        ("table5/setr-pup/80k-ss", 54.4, ("pascal_context", "setr-pup", "80k"), "ss"),
        ("table6/setr-pup/80k-ms", 82.15, ("cityscapes", "setr-pup", "80k"), "ms"),
        ("table7/setr-pup/test", 81.08, ("cityscapes", "setr-pup", "100k"), "ms"),
    ],
)
def test_cell_names_its_training_and_protocol(
    key: str, value: float, training: tuple[str, str, str], protocol: str
) -> None:
    cell = find_cell(key)
    assert (cell.key, cell.paper, cell.protocol) == (key, value, protocol)
    assert (cell.training.dataset, cell.training.variant, cell.training.schedule) == training


def test_cells_share_trainings() -> None:
    groups = by_training(cells([2, 6]))
    shared = next(members for members in groups.values() if members[0].key == "table2/setr-pup/80k")
    assert [cell.key for cell in shared] == [
        "table2/setr-pup/80k",
        "table6/setr-pup/80k-ss",
        "table6/setr-pup/80k-ms",
    ]
    assert len(groups) == 28


def test_competitors_are_quoted_and_not_trained() -> None:
    competitor = find_cell("table6/pspnet/quoted")
    assert competitor.quoted
    assert not competitor.runnable
    assert competitor.paper == 78.5
    assert not find_cell("table7/setr-pup-coarse/quoted").runnable


def test_columns_never_mix_protocols() -> None:
    for table in setr_study().tables:
        for column in table.columns:
            kinds = {cell.protocol for cell in cells([table.number]) if cell.column == column.id}
            assert len(kinds) == 1, (table.number, column.id)


def test_promised_pixel_accuracy_stands_in_table_4_without_another_training() -> None:
    cell = find_cell("table4/setr-pup/160k-ss-pixel-accuracy")
    assert (cell.metric, cell.paper, cell.runnable) == ("pixel_accuracy", None, True)
    assert cell.training == find_cell("table4/setr-pup/160k-ss").training


def test_every_runnable_cell_has_a_recipe_and_a_protocol() -> None:
    for cell in cells():
        if cell.runnable:
            assert cell.published_recipe().iterations == int(cell.schedule[:-1]) * 1000
            assert cell.published_protocol().name == cell.protocol


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean table2/setr-pup/80k"):
        find_cell("table2/setr-pub/80k")
    with pytest.raises(InputError, match="no such table"):
        cells([9])
    assert [cell.key for cell in select_cells(["table2/fcn/40k"])] == ["table2/fcn/40k"]
