"""Text settings are text: from the command line, from params.yaml, and from the pipeline's stages, the same."""

import dataclasses
import typing

import pytest
import yaml

from pipelines.prepare import listed_root
from setr.errors import InputError
from setr.settings.config import Config, load_config
from tests.helpers.environment import PARAMS

# What YAML would make something else of.
TEXTS = (
    *("/x/My set #2", "2024", "no", "yes", "null", "~", "1e3", "1_000", "0x10", "010", "2024-02-30", "12:30:00"),
    *("a: b", "[x]", "{a: b}", "- a", "'x'", '"x"', "it's", "#x", " x ", "x\u00e9\u4e2d", "!!int x", "*a", "&a", "%x"),
    *("@x", "`x`", "x\\y", "$HOME/x", "a=b", "?", "|", ">", ".inf", "<<"),
)


def text_fields(record=Config, where=""):
    """Returns every field of type text, and every list of them, by its whole name."""
    found = {}
    for name, hint in typing.get_type_hints(record).items():
        key = f"{where}.{name}" if where else name
        if dataclasses.is_dataclass(hint):
            found |= text_fields(hint, key)
        elif hint in (str, tuple[str, ...], dict[str, str]):
            found[key] = hint
    return found


FIELDS = text_fields()
# These are text of a kind: not every text is one.
OF_A_KIND = ("data.name", "data.splits", "evaluation.device")


def value_of(config, key):
    for name in key.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def loaded(tmp_path, text, *overrides):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_the_settings_have_text_fields_of_every_form():
    assert {str, tuple[str, ...], dict[str, str]} == set(FIELDS.values())
    assert {"data.root", "storage.logs", "training.folder", "sweep.cells", "datasets"} <= set(FIELDS)


@pytest.mark.parametrize("key", [key for key in FIELDS if key not in OF_A_KIND])
def test_the_command_lines_text_is_taken_as_it_is(tmp_path, key):
    for text in TEXTS:
        if FIELDS[key] is str:
            assert value_of(loaded(tmp_path, "", f"{key}={text}"), key) == text
        elif FIELDS[key] == dict[str, str]:
            assert loaded(tmp_path, "", f"{key}.mine={text}").datasets["mine"] == text
        elif not text.startswith("["):
            assert value_of(loaded(tmp_path, "", f"{key}={text}"), key) == (text,)


@pytest.mark.parametrize("text", ["2024", "no", "My set #2", "a: b", "[x]", "2024-02-30", "~", "1e3"])
def test_a_data_sets_name_is_text(tmp_path, text):
    assert loaded(tmp_path, "", f"data.name={text}").data.name == text
    assert loaded(tmp_path, f"data: {{name: '{text}'}}\n").data.name == text


@pytest.mark.parametrize("text", TEXTS)
def test_quoted_text_of_the_file_is_what_stands_between_the_quotes(tmp_path, text):
    written = yaml.safe_dump({"data": {"root": text, "classes": [text]}, "datasets": {"mine": text}})
    config = loaded(tmp_path, written)
    assert (config.data.root, config.data.classes, config.datasets["mine"]) == (text, (text,), text)


@pytest.mark.parametrize(
    "text", ["2024", "no", "null", "~", "1e3", "010", "0x10", "2024-02-30", "12:30:00", "[x]", "{a: b}"]
)
def test_text_of_the_file_needs_no_quotes_to_stay_text(tmp_path, text):
    config = loaded(tmp_path, f"data:\n  root: {text}  # a remark\ndatasets: {{mine: {text}}}\n")
    assert (config.data.root, config.datasets["mine"]) == (text, text)


def test_names_before_the_colon_are_text(tmp_path):
    config = loaded(tmp_path, "datasets: {2024: /a, no: /b}\nminiature: {iterations: {010: 3}}\n", "datasets.a.b=/c")
    assert config.datasets == {"2024": "/a", "no": "/b", "a.b": "/c"}
    assert config.miniature.iterations == {"010": 3}


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        ("[no, 2024, a b, 1e3]", ("no", "2024", "a b", "1e3")),
        ("road", ("road",)),
        ("", ()),
        ("[]", ()),
        ("a, b", ("a, b",)),
        ("['a, b', \"c\"]", ("a, b", "c")),
    ],
)
def test_a_list_of_text_is_yaml_with_elements_of_text(tmp_path, written, classes):
    assert loaded(tmp_path, "", f"data.classes={written}").data.classes == classes
    assert loaded(tmp_path, f"data:\n  classes: {written}\n").data.classes == classes


def test_a_list_over_several_lines_is_no_text(tmp_path):
    with pytest.raises(InputError, match=r"data\.root.*text"):
        loaded(tmp_path, "data:\n  root:\n    - x\n")


@pytest.mark.parametrize("text", TEXTS)
def test_the_prepare_stage_hands_the_folder_over_unread(tmp_path, text):
    stage = yaml.safe_load((PARAMS.parent / "dvc.yaml").read_text())["stages"]["prepare"]["do"]
    assert "${item}" not in stage["cmd"]  # a shell would read it
    assert "--listed" in stage["cmd"].split()
    # Whatever stands under data.root belongs to another data set.
    config = loaded(tmp_path, yaml.safe_dump({"datasets": {"mine": text}, "data": {"root": "/other", "name": "mine"}}))
    assert listed_root(config) == text


def test_a_stage_of_a_data_set_that_is_not_listed_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not listed.*mine.*scenes"):
        listed_root(loaded(tmp_path, "", "data.name=mine"))
