"""What people add to the project: a row, a decoder, a recipe's field at the value that changes nothing, a reader."""

import ast
import random
import re

from benchmarks.identity.edits.editing import (
    Edit,
    Sources,
    definitions,
    module_of,
    with_first_statement,
    with_import,
    with_statement,
)

STUDY, TABLE = "studies/setr.yaml", "setr/models/decoders/table.py"
RECIPES, SPEC, STEP = "setr/study/recipes.py", "setr/study/spec.py", "setr/training/step.py"
READERS = ("ade20k", "camvid", "cityscapes", "pascal_context")
_WORDS = ("wide", "deep", "small", "plain", "double", "twin", "late", "early", "third", "north")


def row(sources: Sources, rng: random.Random) -> Edit:
    """One more model in SETR's study, like one that is there."""
    lines = sources.text(STUDY).splitlines(keepends=True)
    models = [index for index, line in enumerate(lines) if re.match(r"  [\w-]+: \{decoder: ", line)]
    like, place = rng.choice(models), rng.choice(models)
    known, parts = lines[like].strip().split(": ", 1)
    name = f"{known}-{rng.choice(_WORDS)}"
    before = lines[place].strip().split(":")[0]
    lines.insert(place, f"  {name}: {parts}\n")
    return Edit("", f"model {name} before {before}", {STUDY: "".join(lines)})


def decoder(sources: Sources, rng: random.Random) -> Edit:
    """One more decoder: a file, and a row in the table of decoders."""
    like, spec, module, head = rng.choice(
        (("up_head", "UpHeadSpec", "up_head_module", "UpHead"), ("mla", "MLASpec", "mla_modules", "MLAHead"))
    )
    name = rng.choice(_WORDS)
    new_file, title = f"setr/models/decoders/{name}.py", name.title()
    text = (
        '"""A decoder of one\'s own."""\n\n'
        "from dataclasses import dataclass, replace\n\n"
        "from setr.models.decoders.naive import NAIVE\n"
        f"from setr.models.decoders.{like} import {spec}\n\n\n"
        f'@dataclass(frozen=True)\nclass {title}Spec({spec}):\n    """Twice what {head} says."""\n\n'
        "    def build_head(self, num_classes):\n"
        '        """Return the module."""\n'
        f"        from setr.models.decoders.{module} import {head}\n\n"
        f"        class {title}Head({head}):\n"
        "            def forward(self, features, image_size):\n"
        "                return 2 * super().forward(features, image_size)\n\n"
        f"        return {title}Head(self, num_classes)\n\n\n"
        f'{name.upper()} = replace(NAIVE, name="{name}", spec={title}Spec, recognised=None)\n'
    )
    table = sources.text(TABLE)
    rows = ("NAIVE, ", "PUP, ", "MLA, ", "FCN, ")
    place = rng.choice(rows)
    assert table.count(f"{place}") == 1
    table = with_import(
        table.replace(place, f"{place}{name.upper()}, "), f"from {module_of(new_file)} import {name.upper()}"
    )
    return Edit("", f"decoder {title}, like {head}", {new_file: text, TABLE: table})


def recipe_field(sources: Sources, rng: random.Random) -> Edit:
    """One more field of the recipe, with its neutral value in the base; sometimes the training already asks for it."""
    name = f"{rng.choice(_WORDS)}_{rng.choice(('penalty', 'share', 'noise'))}"
    [record] = [node for entry, node in definitions(sources.tree(RECIPES)) if entry == "Recipe"]
    assert isinstance(record, ast.ClassDef)
    fields = [node for node in record.body if isinstance(node, ast.AnnAssign)]
    recipes = sources.text(RECIPES).splitlines(keepends=True)
    recipes.insert(rng.choice(fields).lineno, f"    {name}: float = 0.0  # 0: off\n")
    spec = sources.text(SPEC)
    assert spec.count('    "Recipe": {\n        "iterations"') == 1
    spec = spec.replace('    "Recipe": {\n', f'    "Recipe": {{\n        "{name}": 0.0,\n', 1)
    files = {RECIPES: "".join(recipes), SPEC: spec}
    used = rng.random() < 0.5
    if used:
        statement = f"batch = batch if not training.recipe.{name} else training.recipe.{name}"
        files[STEP] = with_first_statement(sources.text(STEP), "train_step", statement)
    return Edit("", f"recipe.{name}{', asked for in each step' if used else ''}", files)


def reader(sources: Sources, rng: random.Random) -> Edit:
    """One more reader of a published data set, like one that is there, in the table of data sets."""
    like = rng.choice(READERS)
    name = f"{rng.choice(_WORDS)}_{like}"
    text = sources.text(f"setr/data/reading/{like}.py")
    datasets = sources.text("setr/data/reading/datasets.py")
    constant = like.upper()
    [table] = [node for entry, node in definitions(ast.parse(datasets)) if entry == "DATASETS"]
    entry = f"DATASETS.update({{{name!r}: {name.upper()}}})"
    datasets = with_statement(datasets, table, ast.unparse(table) + "\n" + entry)
    datasets = with_import(datasets, f"from setr.data.reading.{name} import {constant} as {name.upper()}")
    files = {f"setr/data/reading/{name}.py": text, "setr/data/reading/datasets.py": datasets}
    return Edit("", f"reader {name}", files)
