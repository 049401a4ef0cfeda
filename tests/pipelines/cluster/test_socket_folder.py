"""Ray's folder is looked at before Ray fails far away: its sockets' paths have to fit."""

import pytest

from pipelines.cluster.socket_folder import ray_folder
from setr.errors import EnvironmentFailure


@pytest.fixture
def variables(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_ray_takes_its_own_folder_where_it_fits(variables, tmp_path):
    assert ray_folder() is None
    variables.setenv("TMPDIR", "/tmp")
    assert ray_folder() is None


@pytest.mark.parametrize("kind", ["long", "file"])
def test_a_tmpdir_that_ray_cannot_use_is_passed_over_or_named(variables, tmp_path, kind):
    bad = tmp_path / ("x" * 60 if kind == "long" else "file")
    bad.write_text("") if kind == "file" else bad.mkdir()
    variables.setenv("TMPDIR", str(bad / "below" if kind == "file" else bad))
    assert ray_folder() == "/tmp/ray"
    with pytest.raises(EnvironmentFailure, match=r"TMPDIR=.*RAY_TMPDIR=<a short"):
        ray_folder(system=bad)
    variables.setenv("RAY_TMPDIR", str(bad))
    with pytest.raises(EnvironmentFailure, match=r"where|RAY_TMPDIR="):
        ray_folder()
