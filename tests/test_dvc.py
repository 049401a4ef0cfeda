"""dvc.yaml against the code: a stage whose deps miss a module would not run again when that module changes."""

import ast

import pytest
import yaml

from setr.settings.config import load_config
from tests.helpers.environment import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def definition(stage):
    return STAGES[stage].get("do", STAGES[stage])


def module_file(name):
    """Returns the file of a dotted name inside the project, or None."""
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported_files(start):
    """Returns every file of the project that a file imports, directly or not, by reading the code."""
    waiting, seen = [start], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            waiting += [found for name in names if (found := module_file(name)) is not None]
    return {file for file in seen if file.name != "__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_every_module_that_the_command_imports(stage):
    script = ROOT / definition(stage)["cmd"].split()[1]
    deps = [ROOT / path for path in definition(stage)["deps"] if "$" not in path]
    uncovered = [
        str(file.relative_to(ROOT))
        for file in imported_files(script)
        if not any(file == dep or dep in file.parents for dep in deps)
    ]
    assert not uncovered, f"add to the deps of {stage}: {sorted(uncovered)}"


@pytest.mark.parametrize("stage", STAGES)
def test_code_in_deps_is_imported(stage):
    files = imported_files(ROOT / definition(stage)["cmd"].split()[1])
    for path in definition(stage)["deps"]:
        dep = ROOT / path
        if "$" in path or path.split("/")[0] not in ("setr", "pipelines"):
            continue
        assert any(file == dep or dep in file.parents for file in files), f"{stage} does not import {path}"


@pytest.mark.parametrize("stage", STAGES)
def test_params_name_settings_that_exist(stage):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in definition(stage).get("params", []):
        section, _, key = name.partition(".")
        assert section in values
        assert not key or key in values[section]
    load_config(ROOT / "params.yaml")


def test_each_data_set_of_params_is_a_prepare_stage():
    assert STAGES["prepare"]["foreach"] == "${datasets}"
    assert "scenes" in load_config(ROOT / "params.yaml").datasets
