"""Folders to be written keep apart: from one another, from data sets, from the project's own."""

import itertools

import pytest

from setr.errors import InputError
from setr.settings.config import load_config
from setr.settings.folders import OWN, check_folders
from setr.settings.home import PROJECT

WRITTEN = ("data.shards", "weights.folder", *(f"storage.{one}" for one in ("checkpoints", "results", "report", "logs")))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("SETR_HOME", str(tmp_path / "home"))


def check(*overrides):
    check_folders(load_config(PROJECT / "params.yaml", overrides))


def refusal(*overrides):
    with pytest.raises(InputError) as caught:
        check(*overrides)
    return str(caught.value)


def test_the_projects_own_settings_keep_apart():
    check()


@pytest.mark.parametrize(("one", "other"), itertools.combinations(WRITTEN, 2))
def test_no_two_are_the_same_or_in_one_another(one, other):
    for first, second in (("x", "x"), ("x", "x/y"), ("x/y", "x"), ("x", "./x/../x/y"), ("/tmp/q", "/tmp/q/z/")):
        assert "mix" in refusal(f"{one}={first}", f"{other}={second}")
    check(f"{one}=x", f"{other}=xy")


@pytest.mark.parametrize("name", WRITTEN)
def test_none_lies_with_the_projects_code(name):
    for folder in (*OWN, "setr/data", ""):
        assert name in refusal(f"{name}={PROJECT / folder}")
    assert name in refusal(f"{name}={PROJECT.parent}")


@pytest.mark.parametrize("name", WRITTEN)
def test_none_holds_a_data_set_or_lies_in_one(name):
    for source in ("data.root", "datasets.mine"):
        assert source in refusal(f"{name}=made", f"{source}=made/raw")
        assert source in refusal(f"{name}=made", f"{source}=made")
        if name != "data.shards":
            assert source in refusal(f"{name}=raw/made", f"{source}=raw")


def test_what_people_have_is_allowed(tmp_path):
    check("data.root=.", "data.name=mine")  # one's own images beside what is made of them
    check("data.root=data/mine", "data.shards=data/mine/shards")
    check("data.shards=s3://bucket/shards", "storage.checkpoints=/shared/checkpoints", "storage.logs=~/logs")


def test_a_link_does_not_hide_where_a_folder_lies(tmp_path):
    (tmp_path / "home/checkpoints").mkdir(parents=True)
    (tmp_path / "home/other").symlink_to("checkpoints")
    assert "storage.checkpoints" in refusal("storage.results=other")
