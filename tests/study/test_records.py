import pytest

from setr.errors import InputError
from setr.models.variants import decoder_of_variant
from setr.study.cells import cells
from setr.study.shelf import setr_study


def test_seven_tables_in_order() -> None:
    assert [table.number for table in setr_study().tables] == [1, 2, 3, 4, 5, 6, 7]


def test_every_row_fits_its_table() -> None:
    for table in setr_study().tables:
        columns = {column.id for column in table.columns}
        for row in table.rows:
            assert len(row.texts) == len(table.texts)
            assert set(row.values) <= columns
            assert set(row.facts) == set(table.facts)
            assert set(row.unconfirmed) <= columns | set(table.facts)
            assert {*row.inferred, *row.schedules} <= columns
            if row.variant:
                decoder_of_variant(row.variant)


def test_parameter_counts_agree_with_the_printed_ones() -> None:
    counts = setr_study().parameter_counts
    assert sum(count.count is not None for count in counts) == 8
    for count in counts:
        if count.count is not None:
            assert round(count.count / 1e6, 2) == count.paper


def test_reproductions_name_trained_variants_and_cover_the_main_cells() -> None:
    reproductions = setr_study().reproductions
    assert len(reproductions) == 71
    assert {entry.variant for entry in reproductions} <= {cell.variant for cell in cells()}
    pup = [
        entry.ss
        for entry in reproductions
        if (entry.dataset, entry.variant, entry.schedule) == ("cityscapes", "setr-pup", "80k") and entry.independent
    ]
    assert sorted(value for value in pup if value) == [78.81, 79.21]


def test_unknown_table_is_refused() -> None:
    with pytest.raises(InputError, match="1, 2, 3, 4, 5, 6, 7"):
        setr_study().table(8)
