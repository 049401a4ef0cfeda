import dataclasses

import pytest

from setr.errors import InputError
from setr.settings.config import Config, load_config, to_dict
from tests.helpers.environment import PARAMS


def load(tmp_path, text, *overrides, section=""):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_config(path, overrides, section=section)


def message(tmp_path, text, *overrides, section=""):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text, *overrides, section=section)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_the_projects_own_params_load_and_survive_a_round_trip():
    config = load_config(PARAMS)
    assert config.sweep.tables == ()
    assert to_dict(config)["miniature"]["crop_size"] == [128, 128]


def test_every_section_and_field_has_a_default():
    assert load_config(PARAMS.parent / "params.yaml").tracking.experiment == Config().tracking.experiment


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("weights:\n  base_lr: 1e-3\n", ("weights.base_lr", "'1e-3' (str)", "a number", "write 1.000000e-03")),
        ("weights:\n  base_lr: yes\n", ("weights.base_lr", "True (bool)", "a number")),
        ("weights:\n  base_lr: .nan\n", ("weights.base_lr", "a finite number")),
        ("weights:\n  base_lr: 0.0\n", ("weights.base_lr", "above 0.0")),
        ("weights:\n  steps: 0\n", ("weights.steps", "at least 1")),
        ("weights:\n  steps: 3.5\n", ("weights.steps", "a whole number")),
        ("sweep:\n  tabels: [2]\n", ("sweep.tabels", "did you mean tables?")),
        ("sweeep: {}\n", ("sweeep", "did you mean sweep?")),
        ("sweep:\n  scale: papr\n", ("sweep.scale", "'papr'", "miniature or paper", "did you mean paper?")),
        ("data:\n  name:\n    - no\n", ("data.name", "(list)", "text")),
        ("miniature:\n  crop_size: [128]\n", ("miniature.crop_size", "1 values", "2 values")),
        ("miniature:\n  iterations: 40\n", ("miniature.iterations", "keys and values")),
        ("miniature:\n  iterations: {40k: many}\n", ("miniature.iterations.40k", "a whole number")),
        ("sweep:\n  plan: 1\n", ("sweep.plan", "true or false")),
        ("sweep: [1]\n", ("sweep", "no section")),
        ("- 1\n", ("not sections",)),
        ("sweep: {\n", ("not YAML",)),
        ("data:\n  name: a\n  name: b\n", ("name stands twice", "line 3")),
        ("a: &x [1]\nb: *x\n", ("alias", "line 2")),
        ("weights:\n  steps: 010\n", ("weights.steps", "'010' (str)", "a whole number")),
        ("weights:\n  steps: 1:30\n", ("weights.steps", "a whole number")),
        ("weights:\n  steps: !!int x\n", ("a tag", "line 2")),
        ("weights:\n  ? [a]\n  : 1\n", ("a key that is no text", "line 2")),
        (f"weights:\n  steps: {'9' * 30}\n", ("beyond 64 bits", "line 2")),
        (f"weights: {'[' * 21}{']' * 21}\n", ("too deep", "line 1")),
        ("weights:\n  folder: \x1b[31m\n", ("not YAML",)),
        ("x" * 300_000, ("too long",)),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path, text, parts):
    found = message(tmp_path, text)
    for part in parts:
        assert part in found, found


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("content", [b"data: \xff\n", b"\xff\xfe", b"\0"])
def test_bytes_that_are_no_text_are_one_line(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"E_CONFIG .*params\.yaml") as caught:
        load_config(tmp_path / "params.yaml")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["sweep:\n", "sweep:\n\ndata:\n", "", "# nothing\n", "---\n", "\ufeffsweep:\n"])
def test_an_empty_section_is_one_of_defaults(tmp_path, text):
    assert load(tmp_path, text) == Config()
    assert load(tmp_path, text, "sweep.seeds=3").sweep.seeds == 3


def test_a_later_override_goes_on_in_an_earlier_one(tmp_path):
    words = ("training.recipe={base_lr: 0.5, momentum: 0.1}", "training.recipe.momentum=0.2")
    assert load(tmp_path, "", *words).training.recipe == {"base_lr": 0.5, "momentum": 0.2}


def test_overrides_reach_any_section_and_bare_names_the_commands_own(tmp_path):
    overrides = ("tables=[2,3]", "miniature.batch_size=4", "training.recipe.base_lr=0.5")
    config = load(tmp_path, "", *overrides, section="sweep")
    assert config.sweep.tables == ("2", "3")
    assert config.miniature.batch_size == 4
    assert config.training.recipe == {"base_lr": 0.5}


def test_one_value_stands_for_a_list_of_one(tmp_path):
    assert load(tmp_path, "", "tables=4", section="sweep").sweep.tables == ("4",)


@pytest.mark.parametrize("override", ["tables", "=3", "sweep.tables.first=2", "nothing.here=1"])
def test_a_bad_override_is_refused(tmp_path, override):
    message(tmp_path, "sweep:\n  tables: [2]\n", override, section="sweep")


def test_sections_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().sweep.seeds = 3
