"""Models of a column are compared on the same images alone; what cannot be read is noted and costs its row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from setr.reporting.numbers.results import Note, Result
from setr.reporting.numbers.significance import Differences, differences_of
from setr.reporting.numbers.tables import build_table
from setr.study.cells import find_cell

Make = Callable[..., Result]
IMAGES = 40
LABEL = np.full((IMAGES, 2), 100)


def stored(path: Path, hits: float, *, images: int = IMAGES, keys: str = "val") -> Path:
    """Writes areas of two classes, of which a share is hit in every image, more in some."""
    chance = np.random.default_rng(int(hits * 100))
    hit = (LABEL[:images] * hits + chance.integers(-9, 10, (images, 2))).clip(0, 100).astype(np.int64)
    areas = np.stack([hit, LABEL[:images], LABEL[:images]], axis=1)
    np.savez(path, keys=np.array([f"{keys}/{number}" for number in range(images)]), areas=areas)
    return path


def compared(result_of: Make, files: dict[str, Path]) -> tuple[list[Differences], list[Note]]:
    results = [
        result_of([find_cell(f"table2/{variant}/80k")], per_image={"ss": file}) for variant, file in files.items()
    ]
    notes: list[Note] = []
    return differences_of(build_table(2, results, scale="miniature"), notes), notes


def test_the_best_is_compared_with_each_other_one(result_of: Make, tmp_path: Path) -> None:
    files = {
        "setr-pup": stored(tmp_path / "a.npz", 0.5),
        "setr-mla": stored(tmp_path / "b.npz", 0.8),
        "fcn": stored(tmp_path / "c.npz", 0.3),
    }
    [found], notes = compared(result_of, files)
    assert not notes
    assert found.images == IMAGES
    assert "MLA" in found.best
    assert [("PUP" in row.second, "FCN" in row.second) for row in found.rows] == [(True, False), (False, True)]
    assert all(row.significant and row.difference > 0 for row in found.rows)
    assert found.rows[0].difference < found.rows[1].difference


def test_one_model_has_nothing_to_be_compared_with(result_of: Make, tmp_path: Path) -> None:
    assert compared(result_of, {"setr-pup": stored(tmp_path / "a.npz", 0.5)}) == ([], [])


def test_other_images_are_no_comparison(result_of: Make, tmp_path: Path) -> None:
    first = stored(tmp_path / "a.npz", 0.5)
    for number, other in enumerate(({"keys": "test"}, {"images": IMAGES - 1})):
        files = {"setr-pup": first, "setr-mla": stored(tmp_path / f"b{number}.npz", 0.8, **other)}  # type: ignore[arg-type]
        assert compared(result_of, files) == ([], [])


def test_a_file_that_cannot_be_read_is_noted_and_the_others_are_compared(result_of: Make, tmp_path: Path) -> None:
    files = {
        "setr-pup": stored(tmp_path / "a.npz", 0.5),
        "setr-mla": stored(tmp_path / "b.npz", 0.8),
        "fcn": tmp_path / "c.npz",
    }
    files["fcn"].write_bytes(b"no archive")
    [found], [note] = compared(result_of, files)
    assert len(found.rows) == 1
    assert "E_RESULTS" in note.text
