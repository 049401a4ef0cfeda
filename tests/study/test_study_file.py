"""Studies as files: what they come to, and every mistake in one go, each with its line."""

import textwrap
from pathlib import Path

import pytest

from setr.errors import InputError, InputErrors
from setr.study.cells import by_training, cells, find_cell
from setr.study.records import Study
from setr.study.shelf import open_study

SMALL = """
    title: Decoders
    models:
      pup: {encoder: t-base, weights: 21K, decoder: pup}
      naive: {encoder: t-base, weights: R, decoder: naive}
    recipe: {from: setr/ade20k, iterations: 20000}
    tables:
      decoders:
        rows: [pup, naive]
        columns:
          low: {data: damage, recipe: {base_lr: 1.0e-3}}
          high: {data: damage, recipe: {base_lr: 1.0e-2}}
        seeds: 3
"""
LOW, HIGH = (line + "\n" for line in SMALL.splitlines() if "base_lr" in line)
MANY = ", ".join(f"0.{number:04}" for number in range(1, 1700))


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def study_of(folder: Path, text: str) -> Study:
    return open_study(str(write(folder, text)))


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputErrors) as caught:
        study_of(folder, text)
    return str(caught.value).splitlines()


def test_a_study_of_ones_own_has_a_cell_for_each_row_and_column(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    found = cells(study=study)
    assert [cell.key for cell in found] == [
        "mine/decoders/pup/low",
        "mine/decoders/pup/high",
        "mine/decoders/naive/low",
        "mine/decoders/naive/high",
    ]
    assert all(cell.runnable and cell.paper is None for cell in found)
    assert len(by_training(found)) == 4
    assert find_cell("mine/decoders/naive/high") == found[3]
    assert study.table("decoders").seeds == 3


def test_recipes_go_from_the_one_named_over_the_studys_to_the_columns(tmp_path: Path) -> None:
    low, high = cells(study=study_of(tmp_path, SMALL))[:2]
    made = low.published_recipe()
    assert (made.crop_size, made.batch_size, made.iterations) == ((512, 512), 16, 20_000)
    assert (made.base_lr, high.published_recipe().base_lr) == (1e-3, 1e-2)
    assert (low.schedule, made.evaluate_every) == ("20k", 2000)
    scored = low.published_protocol(classes=4)
    assert (scored.name, scored.window, scored.stride, scored.num_classes) == ("ss", (512, 512), (341, 341), 4)


def test_a_recipe_of_ones_own_data_leaves_images_at_their_size(tmp_path: Path) -> None:
    text = SMALL.replace("recipe: {from: setr/ade20k, iterations: 20000}", "")
    assert cells(study=study_of(tmp_path, text))[0].published_recipe().base_size is None


def test_a_grid_makes_a_model_of_each_choice_of_parts_and_recipes(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        """
        tables:
          parts:
            grid: {decoder: [naive, pup, mla], encoder: [t-base, t-large], weights: [R, 1K], base_lr: [0.01, 0.02]}
            columns: {s: {data: scenes}}
          hybrids:
            grid: {model: {encoder: t-large, decoder: mla, cnn: r-50}, weights: [R, 21K]}
            columns: {s: {data: scenes}}
        """,
    )
    parts, hybrids = study.tables
    assert (len(parts.rows), len(hybrids.rows)) == (24, 2)
    cell = next(cell for cell in cells(study=study) if cell.row == "mla-t-large-1K-0.02")
    assert (cell.model.decoder, cell.model.encoder, cell.model.pre) == ("mla", "t-large", "1K")
    assert cell.published_recipe().base_lr == 0.02
    assert study.models["21K"].cnn == "r-50"


def test_ten_mistakes_are_ten_lines_each_with_its_place(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        """\
        titel: x
        models:
          a: {encoder: t-base, weights: 22K, decoder: pup}
          b: {encoder: t-bse, decoder: pup}
          c: {encoder: t-base, decoder: pupp}
        recipe: {from: setr/ade, base_lt: 0.1}
        tables:
          one:
            rows: [a, d]
            columns:
              x: {recipe: {optimizer: adam}}
              y: {data: scenes, schedule: 20q}
        """,
    )
    lines = {line.split("mine.yaml:")[1].split(" | ")[0]: line for line in found}
    assert list(lines) == [
        "1 titel",
        "3 models.a",
        "4 models.b",
        "5 models.c",
        "6 recipe.from",
        "6 recipe.base_lt",
        "11 tables.one.columns.x",
        "11 tables.one.columns.x.recipe.optimizer",
        "12 tables.one.columns.y.schedule",
        "9 tables.one.rows[1]",
    ]
    for place, nearest in {
        "1 titel": "title",
        "3 models.a": "21K",
        "4 models.b": "t-base",
        "5 models.c": "pup",
        "6 recipe.from": "ade20k",
        "6 recipe.base_lt": "base_lr",
        "11 tables.one.columns.x.recipe.optimizer": "adamw",
    }.items():
        assert f"did you mean {nearest}?" in lines[place]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rows: [pup, naive]", "rows: [pup, pup]"), "rows of one name"),
        (("data: damage, recipe: {base_lr: 1.0e-3}", "title: Low"), "a column without data"),
        ((LOW + HIGH, "          low: {quoted: true}\n"), "no column trains"),
        (("weights: 21K", "weights: 9K"), "unknown weights of t-base"),
        (("seeds: 3", "seeds: 100000"), "not such a number"),
        (("rows: [pup, naive]", "rows: []"), "a table without rows"),
        (("title: Decoders", "title: Decoders\n    include: [mine.yaml]"), "includes itself"),
        (("rows: [pup, naive]", f"grid: {{base_lr: [{MANY}]}}"), "very many"),
        (("pup: {encoder", "p/p: {encoder"), "cannot be called that"),
        (("rows: [pup, naive]", "rows: [{model: pup, values: {lo: 3}}]"), "unknown column"),
        (("title: Decoders", "title: Decoders\n    begin_with: [decoder]"), "did you mean decoders?"),
    ],
)
def test_nonsense_is_refused_in_words(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = SMALL.replace(*change)
    assert text != SMALL
    assert any(said in line for line in mistakes(tmp_path, text))


def test_a_condition_that_never_fits_is_refused(tmp_path: Path) -> None:
    """Protocols know no flavour: such a rule would hold nowhere, in silence."""
    rules = "protocols: {ss: [{when: {flavour: mmseg}, stride: [8, 8]}]}"
    found = mistakes(tmp_path, SMALL.replace("title: Decoders", f"title: Decoders\n    {rules}"))
    assert any("unknown word" in line and "flavour" in line for line in found)


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    text = "title: x\nmodels: &a [1]\ntables: {one: *a}\n"
    with pytest.raises(InputError, match=r"an alias in YAML.*line 3"):
        study_of(tmp_path, text)


def test_studies_share_models_and_recipes_by_include(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "base.yaml")
    study = study_of(
        tmp_path,
        """
        include: base.yaml
        tables:
          more: {rows: [pup], columns: {x: {data: scenes, recipe: setr/cityscapes}}}
        """,
    )
    [cell] = cells(study=study)
    assert (cell.key, cell.published_recipe().crop_size) == ("mine/more/pup/x", (768, 768))


def test_a_name_of_one_that_comes_with_the_project_is_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes with the project"):
        open_study(str(write(tmp_path, SMALL, "setr.yaml")))
    with pytest.raises(InputError, match=r"no such study.*one of setr"):
        open_study("nothing-here")


def test_printed_values_decide_what_a_papers_study_asks_for(tmp_path: Path) -> None:
    text = SMALL.replace(
        "rows: [pup, naive]", "rows: [{model: pup, values: {low: 40.5}}, {model: naive, not_found: [high]}]"
    )
    found = {cell.key: cell for cell in cells(study=study_of(tmp_path, text))}
    assert list(found) == ["mine/decoders/pup/low", "mine/decoders/naive/high"]
    assert found["mine/decoders/naive/high"].runnable
    assert found["mine/decoders/naive/high"].not_found


def test_rows_of_one_name_in_two_grids_are_two_models(tmp_path: Path) -> None:
    """Else the one read last would be trained in the place of both."""
    study = study_of(
        tmp_path,
        """
        models: {R: {decoder: naive}}
        tables:
          one: {grid: {model: {decoder: pup}, weights: [R, 21K]}, columns: {x: {data: scenes}}}
          two: {grid: {model: {decoder: mla}, weights: [R, 21K]}, columns: {x: {data: scenes}}}
          three: {rows: [R], columns: {x: {data: scenes}}}
        """,
    )
    found = {cell.key: cell.model.decoder for cell in cells(study=study)}
    assert found == {
        "mine/one/R/x": "pup",
        "mine/one/21K/x": "pup",
        "mine/two/R/x": "mla",
        "mine/two/21K/x": "mla",
        "mine/three/R/x": "naive",
    }


def test_steps_are_those_of_the_recipe_as_it_holds_for_the_cell(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        """
        models: {pup: {decoder: pup}, mla: {decoder: mla}}
        recipes:
          long: [{iterations: 8000}, {when: {decoder: mla}, iterations: 9000}]
        tables:
          one:
            rows: [pup, mla, {model: pup, id: own, recipe: {iterations: 1500}}]
            columns: {x: {data: scenes, recipe: long}, y: {data: scenes, schedule: 20k}}
        """,
    )
    made = cells(study=study)
    found = {(cell.row, cell.column): (cell.schedule, cell.published_recipe().iterations) for cell in made}
    assert found == {
        ("pup", "x"): ("8k", 8000),
        ("pup", "y"): ("20k", 20_000),
        ("mla", "x"): ("9k", 9000),
        ("mla", "y"): ("20k", 20_000),
        ("own", "x"): ("1500", 1500),
        ("own", "y"): ("1500", 1500),
    }
    before, after = "recipe: {base_lr: 1.0e-3}", "schedule: 2k, recipe: {iterations: 3}"
    text = SMALL.replace(before, after)
    assert any("two numbers of steps" in line for line in mistakes(tmp_path, text))


def test_the_studys_recipe_comes_before_an_included_one_of_the_data_sets_name(tmp_path: Path) -> None:
    tables = "tables: {one: {rows: [setr-pup], columns: {x: {data: cityscapes}}}}"
    [cell] = cells(study=study_of(tmp_path, f"include: setr\nrecipe: {{batch_size: 3}}\n{tables}\n"))
    assert cell.published_recipe().batch_size == 3
    [cell] = cells(study=study_of(tmp_path, f"include: setr\n{tables}\n"))
    assert (cell.published_recipe().batch_size, cell.published_recipe().crop_size) == (8, (768, 768))
