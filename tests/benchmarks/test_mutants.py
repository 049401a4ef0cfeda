"""Changes of single expressions: drawn by seed, and judged by the changed room's own tests."""

import ast
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import HUNG, KILLED, SURVIVED, Point, Sources


def test_a_seed_draws_the_same_changes_and_each_is_another_program() -> None:
    sources = Sources(mutants.PROJECT)
    drawn = mutants.mutants(sources, "setr/study", seed=3, count=6)
    assert [point.key for point in drawn] == [
        point.key for point in mutants.mutants(sources, "setr/study", seed=3, count=6)
    ]
    assert [point.key for point in drawn] != [
        point.key for point in mutants.mutants(sources, "setr/study", seed=4, count=6)
    ]
    assert len({point.key for point in drawn}) == 6
    for point in drawn:
        [(file, text)] = mutants.changed(sources, "at once", point).files.items()
        assert ast.dump(ast.parse(text)) != ast.dump(sources.tree(file))


def test_a_room_is_judged_by_its_own_tests() -> None:
    assert mutants.tests_of("setr/models/weights.py") == "tests/models"
    assert mutants.tests_of("setr/models/deeper/module.py") == "tests/models"
    assert mutants.tests_of("setr/errors.py") == "tests/test_errors.py"
    assert mutants.tests_of("setr/nothing.py") == ""
    assert mutants.tests_of("pipelines/cluster/watch.py") == "tests/pipelines/cluster"
    assert mutants.tests_of("pipelines/predict.py") == "tests/pipelines/test_predict.py"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("assert area(2, 3) == 6", KILLED),
        ("assert area(2, 2) == 6 or area(2, 2) == 4", SURVIVED),
        ("import time; time.sleep(60) if area(2, 3) != 6 else None", HUNG),
    ],
)
def test_what_becomes_of_a_change(tmp_path: Path, test: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes.py").write_text("def area(width, height):\n    return width * height\n")
    (tmp_path / "test_shapes.py").write_text(f"from shapes import area\n\ndef test_area():\n    {test}\n")
    monkeypatch.setattr(mutants, "tests_of", lambda file: "test_shapes.py")
    sources = Sources(tmp_path)
    [product] = [node for node in ast.walk(sources.tree("shapes.py")) if isinstance(node, ast.BinOp)]
    line = "return width * height"
    point = Point("shapes.py", "area", line, product, "width * height", "(width + 2 * height)", repeated=False)
    assert mutants.run_tests(tmp_path, "test_shapes.py", 60)[0] == SURVIVED
    assert mutants.try_out(tmp_path, sources, point, 10 if said == HUNG else 60).said == said
    assert (tmp_path / "shapes.py").read_text().endswith("width * height\n")
