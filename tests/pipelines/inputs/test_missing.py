"""What a miniature sweep lacks is made, and what is there is left alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.inputs import drawing, missing, pretraining, sharding
from setr.data.manifest import MANIFEST_NAME
from setr.settings.config import Config
from setr.training.proxies import PROXIES
from tests.helpers.tiny import settings


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the names of what was made, in a home without anything."""
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    names: list[str] = []

    def write_all_shards(config: Config) -> None:
        names.append(f"shards of {config.data.name} from {Path(config.data.root).name}")

    monkeypatch.setattr(drawing, "draw_scenes", lambda config: names.append("scenes"))
    monkeypatch.setattr(sharding, "write_all_shards", write_all_shards)
    monkeypatch.setattr(pretraining, "make_weights", lambda *_, workers: names.append("weights"))
    return names


def shard(home: Path, split: str) -> None:
    folder = home / "data" / "shards" / "scenes" / split
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).touch()


def weights(home: Path, count: int) -> None:
    (home / "weights").mkdir()
    for proxy in PROXIES[:count]:
        (home / "weights" / f"{proxy.name}.safetensors").touch()


def test_with_nothing_there_everything_is_made_in_order(made: list[str]) -> None:
    missing.make_missing_inputs(settings())
    assert made == ["scenes", "shards of scenes from scenes", "weights"]


def test_what_is_there_is_not_made_again(made: list[str], tmp_path: Path) -> None:
    shard(tmp_path, "train")
    shard(tmp_path, "val")
    weights(tmp_path, len(PROXIES))
    missing.make_missing_inputs(settings())
    assert made == []


def test_one_split_or_one_file_that_lacks_is_enough(made: list[str], tmp_path: Path) -> None:
    shard(tmp_path, "train")
    (tmp_path / "data" / "raw" / "scenes").mkdir(parents=True)
    weights(tmp_path, len(PROXIES) - 1)
    missing.make_missing_inputs(settings())
    assert made == ["shards of scenes from scenes", "weights"], "the scenes themselves are there"


def test_shards_that_lie_elsewhere_are_not_made_from_here(made: list[str]) -> None:
    missing.make_missing_inputs(settings("data.shards=s3://bucket/shards"))
    assert made == ["weights"]


def test_only_what_an_experiment_wants_is_made(made: list[str]) -> None:
    wants: list[tuple[str, ...]] = [(), ("weights of setr-pup",)]
    missing.make_missing_inputs(settings(), lambda: [SimpleNamespace(missing=one) for one in wants])  # type: ignore[misc]
    assert made == ["weights"]
    missing.make_missing_inputs(settings(), lambda: [])
    assert made == ["weights"]
