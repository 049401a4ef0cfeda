"""A registered model: what it answers, what it refuses, and that nothing which lies beside it is ever executed."""

import json
import os
import pickle
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from pipelines.tracking.serving import DESCRIPTION, WEIGHTS, Served, example, read_published, write_published
from pipelines.tracking.tracker import Tracker
from setr.errors import InputError, IntegrityError
from setr.evaluation.inference import predict
from setr.evaluation.opened import open_model
from setr.planning.planned import Planned
from setr.settings.config import Config
from tests.helpers.environment import environment

Told = tuple[Config, Planned, Tracker]
NAME = "setr-pup-random-scenes-miniature"


@pytest.fixture
def published(trained: Planned, tmp_path: Path) -> Path:
    write_published(trained.folder, tmp_path / "published")
    return tmp_path / "published"


def test_a_published_model_answers_as_the_checkpoint_does(trained: Planned, published: Path) -> None:
    opened = open_model(trained.folder)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 70, 3), dtype=np.uint8)
    served = read_published(published)
    assert served.classes == opened.classes
    found = served.predict(images)
    assert found.dtype == np.uint8
    for image, classes in zip(images, found, strict=True):
        np.testing.assert_array_equal(classes, predict(opened.model, image, opened.protocol))
    assert served.predict(example()).shape == (1, 32, 64)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3)), np.zeros((1, 0, 2, 3), np.uint8), "a.png"]
)
def test_what_is_no_image_is_refused(published: Path, images: Any) -> None:
    with pytest.raises(InputError, match="E_IMAGE"):
        read_published(published).predict(images)


def test_changed_files_are_refused(published: Path) -> None:
    data = bytearray((published / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (published / WEIGHTS).write_bytes(data)
    with pytest.raises(IntegrityError, match="E_PUBLISHED"):
        read_published(published)
    (published / DESCRIPTION).write_text("{}")
    with pytest.raises(InputError, match="not a published model"):
        read_published(published)


def test_an_unfinished_experiment_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_RESULTS"):
        write_published(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def plant(folder: Path, marker: Path) -> None:
    """Puts code and pickles into a model's folder, wherever something might look for them."""
    code = f"import pathlib\npathlib.Path({str(marker)!r}).mkdir(exist_ok=True)\n"
    for place in (folder, folder / "data", folder / "data" / "segmenter", folder / "code"):
        for name in ("sitecustomize", "serving", "model", "torch", "numpy"):
            (place / "pipelines").mkdir(parents=True, exist_ok=True)
            (place / f"{name}.py").write_text(code)
            (place / "pipelines" / f"{name}.py").write_text(code)
        (place / "pipelines" / "__init__.py").write_text(code)
        for name in ("python_model.pkl", "model.pkl", "model.pth"):
            (place / name).write_bytes(pickle.dumps(Marker(marker)))


def the_model(told: Told) -> Path:
    _, entry, tracker = told
    run = tracker.find(entry.identity)[0]
    [folder] = Path(run.artifacts).glob("model-*")
    return folder


def test_a_finished_experiment_is_one_version_with_signature_and_example(told: Told) -> None:
    _, entry, tracker = told
    [version] = tracker.client.search_model_versions(f"name = '{NAME}'")
    assert version.tags["setr.identity"] == entry.identity
    assert "mIoU" in version.description
    folder = the_model(told)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {
        "data/segmenter/model.safetensors",
        "data/segmenter/segmenter.json",
        "input_example.json",
        "MLmodel",
    } <= names
    assert not [name for name in names if name.endswith((".py", ".pkl", ".pth", ".pt"))]
    described = mlflow.models.Model.load(str(folder))
    assert described.signature is not None
    assert described.flavors["python_function"]["loader_module"] == "pipelines.tracking.serving"
    assert not described.flavors["python_function"].get("code")


def test_loading_executes_nothing_from_the_artifact(told: Told, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    plant(the_model(told), marker)
    program = (
        f"import mlflow, numpy; mlflow.set_tracking_uri({told[2].uri!r});"
        f"model = mlflow.pyfunc.load_model('models:/{NAME}/1');"
        "print(model.predict(model.input_example).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "(1, 32, 64)" in done.stdout
    assert not marker.exists()
    pickle.loads(pickle.dumps(Marker(marker)))  # the marker works
    assert marker.exists()


@pytest.mark.slow
def test_mlflow_serves_a_segmentation(told: Told, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    plant(the_model(told), marker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["models", "serve", "-m", f"models:/{NAME}/1", "--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow looks for uvicorn there
    with (tmp_path / "server.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=tmp_path,
            env=environment(tmp_path, MLFLOW_TRACKING_URI=told[2].uri, PATH=path),
            stdout=log,
            stderr=log,
        )
    try:
        images = np.random.default_rng(0).integers(0, 256, (1, 40, 70, 3), dtype=np.uint8)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": images.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        found = np.asarray(answer(request, server, tmp_path / "server.txt")["predictions"])
    finally:
        server.terminate()
        server.wait(30)
    served: Served = read_published(the_model(told) / "data" / "segmenter")
    np.testing.assert_array_equal(found, served.predict(images))
    assert not marker.exists()


def answer(request: urllib.request.Request, server: "subprocess.Popen[bytes]", log: Path) -> Any:
    """Returns what the server answers once it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from error
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())
