"""What a command says to a mistake: one line that names the file or key, a status, and nothing half-written."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.environment import ROOT, environment


def run(home, command, *words, **variables):
    return subprocess.run(
        [sys.executable, ROOT / "pipelines" / f"{command}.py", *words],
        env=environment(home, **variables),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=400,
    )


def refused(home, command, *words, code, names, status=2, **variables):
    done = run(home, command, *words, **variables)
    assert done.returncode == status, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith(f"error: {code} | "), errors
    for name in names:
        assert name in errors[0], errors[0]
    return done


@pytest.fixture
def camvid(tmp_path):
    """Returns a folder in CamVid's layout with two good pairs in each split."""
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(2):
            for folder, shape, top in ((split, (32, 48, 3), 255), (f"{split}annot", (32, 48), 11)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(top, size=shape).astype(np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{split}{index}.png")
    return root


def prepare(home, root):
    return (home, "prepare", "data.name=camvid", f"data.root={root}", "data.workers=1")


def no_shards(home):
    return not list(home.glob("data/shards/camvid/train/manifest.json"))


def test_a_good_folder_is_prepared(tmp_path, camvid):
    done = run(*prepare(tmp_path, camvid))
    assert done.returncode == 0, done.stderr
    assert not no_shards(tmp_path)


def test_missing_root(tmp_path):
    refused(*prepare(tmp_path, tmp_path / "nowhere"), code="E_DATA_ROOT", names=["nowhere", "set data.root"])
    assert not (tmp_path / "data").exists()


def test_empty_root(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(*prepare(tmp_path, tmp_path / "empty"))
    assert done.returncode == 2
    assert "empty" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_image_or_label_without_its_partner(tmp_path, camvid, folder):
    (camvid / folder / "train1.png").unlink()
    refused(*prepare(tmp_path, camvid), code="E_PAIR_MISSING", names=["train1"])
    assert no_shards(tmp_path)


def test_image_and_label_of_different_sizes(tmp_path, camvid):
    Image.new("L", (20, 20)).save(camvid / "trainannot/train0.png")
    refused(*prepare(tmp_path, camvid), code="E_SIZE_MISMATCH", names=["train0", "20"])
    assert no_shards(tmp_path)


def test_truncated_image(tmp_path, camvid):
    path = camvid / "train/train0.png"
    path.write_bytes(path.read_bytes()[:200])
    done = run(*prepare(tmp_path, camvid))
    assert done.returncode == 2
    assert "train0.png" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert no_shards(tmp_path)


def test_label_outside_the_classes(tmp_path, camvid):
    Image.fromarray(np.full((32, 48), 77, np.uint8)).save(camvid / "trainannot/train0.png")
    refused(*prepare(tmp_path, camvid), code="E_LABEL_RANGE", names=["train0", "77"])
    assert no_shards(tmp_path)


def test_a_data_set_of_ones_own_is_prepared_as_a_stage_does_it(tmp_path):
    for folder, shape, top in (("images", (32, 48, 3), 255), ("labels", (32, 48), 2)):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng(index).integers(top, size=shape).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / folder / f"{index}.png")
    (tmp_path / "own" / "classes.txt").write_text("road\ntree\n")
    done = run(tmp_path, "prepare", "data.name=mine", "data.root=own", "data.workers=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/shards/mine/val/manifest.json").is_file()


@pytest.fixture
def prepared(tmp_path, camvid):
    assert run(*prepare(tmp_path, camvid)).returncode == 0
    return tmp_path


TRAIN = ("train", "data.name=camvid", "variant=setr-naive-base", "training.recipe.iterations=1")


def test_missing_manifest(prepared):
    (prepared / "data/shards/camvid/train/manifest.json").unlink()
    refused(prepared, *TRAIN, code="E_MANIFEST", names=["camvid/train", "prepare.py data.name=camvid"])


def test_one_flipped_byte_in_a_shard(prepared):
    shard = next((prepared / "data/shards/camvid/train").glob("*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    words = (*TRAIN, "variant=setr-pup-random", "training.recipe.crop_size=[32,32]", "training.recipe.batch_size=2")
    done = run(prepared, *words)
    assert done.returncode != 0
    assert "E_SHARD" in done.stdout + done.stderr
    assert "00000.arrow" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_variant_and_a_crop_that_is_no_multiple_of_the_patch(prepared):
    refused(prepared, *TRAIN, "variant=setr-pupp", code="E_CONFIG", names=["setr-pupp", "setr-pup"])
    words = (*TRAIN, "variant=setr-pup-random", "training.recipe.crop_size=[30,32]")
    done = run(prepared, *words)
    assert done.returncode != 0
    assert "crop_size is not a multiple of the patch" in done.stdout + done.stderr


def test_tracking_server_that_is_not_there(prepared):
    words = (*TRAIN, "variant=setr-pup-random", "training.recipe.crop_size=[32,32]")
    refused(
        prepared,
        *words,
        code="E_TRACKING",
        names=["127.0.0.1:9", "MLFLOW_TRACKING_URI"],
        status=4,
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )
    assert not list(prepared.glob("checkpoints/*/step-*"))


def test_output_folder_that_cannot_be_written(prepared):
    (prepared / "file").write_text("")
    words = (*TRAIN, "variant=setr-pup-random", "storage.checkpoints=file")
    refused(prepared, *words, code="E_STORAGE", names=["file"], status=4)
