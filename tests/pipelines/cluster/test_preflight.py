"""What is found before a GPU is held: storage, database, room."""

import shutil
from pathlib import Path

import pytest

from pipelines.cluster.preflight import check_database, check_room, check_shared, file_system, storage_bytes
from setr.errors import EnvironmentFailure
from setr.planning.planned import Planned

MOUNTS = """\
overlay / overlay rw 0 0
/dev/sda1 /scratch ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local\\040disk xfs rw 0 0
bucket /mnt/bucket fuse.s3fs rw 0 0
fuse-overlayfs /container fuse.fuse-overlayfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/scratch/me/mlflow.db", "ext4"),
        ("/scratchy/mlflow.db", "overlay"),
        ("/home/me/mlflow.db", "nfs4"),
        ("/home/local disk/mlflow.db", "xfs"),
        ("/mnt/bucket/mlflow.db", "fuse.s3fs"),
    ],
)
def test_file_system_is_that_of_the_innermost_mount(path: str, kind: str, mounts: Path) -> None:
    assert file_system(Path(path), mounts) == kind


def test_sqlite_is_refused_on_network_storage_and_on_several_machines(mounts: Path) -> None:
    for path, nodes, found in (("/home/me", 1, "nfs4"), ("/mnt/bucket", 1, "fuse.s3fs"), ("/scratch", 2, "2 nodes")):
        with pytest.raises(EnvironmentFailure, match=rf"E_TRACKING.*{found}.*track_import"):
            check_database(f"sqlite:///{path}/mlflow.db", nodes, mounts=mounts)
    for path in ("/scratch", "/home/local disk", "/container"):
        check_database(f"sqlite:///{path}/mlflow.db", 1, mounts=mounts)
    for uri in ("http://server:5000", "offline"):
        check_database(uri, 64, mounts=mounts)


def test_storage_that_a_node_does_not_see_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def everywhere(function, marker):
        """Stands for a node of its own: the same path, with other files."""
        return {"10.0.0.1": function(marker), "10.0.0.2": function(str(elsewhere / Path(marker).name))}

    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*not shared.*10\.0\.0\.2.*No such file"):
        check_shared(tmp_path, everywhere)
    check_shared(tmp_path, lambda function, marker: {"10.0.0.1": function(marker)})
    assert not list(tmp_path.glob(".marker-*"))


def test_a_cluster_without_room_for_any_experiment_is_refused() -> None:
    small = [{"address": "a", "CPU": 2.0, "GPU": 0.0}, {"address": "b", "CPU": 4.0, "GPU": 0.0}]
    check_room(small, {"CPU": 4.0}, scale="miniature")
    with pytest.raises(EnvironmentFailure, match=r"E_CLUSTER.*found at most 4 CPU, expected 8 CPU for one worker"):
        check_room(small, {"CPU": 8.0}, scale="miniature")
    with pytest.raises(EnvironmentFailure, match=r"at paper scale.*found at most 4 CPU, 0 GPU"):
        check_room(small, {"CPU": 1.0}, scale="paper")
    # GPUs on one node do not help CPUs on another.
    with pytest.raises(EnvironmentFailure, match="E_CLUSTER"):
        check_room([*small, {"address": "c", "CPU": 1.0, "GPU": 8.0}], {"CPU": 2.0, "GPU": 1.0}, scale="paper")
    with pytest.raises(EnvironmentFailure, match="0 nodes"):
        check_room([], {"CPU": 1.0}, scale="miniature")


def test_storage_needed_is_never_less_than_what_an_experiment_takes(trained: Planned) -> None:
    needed = storage_bytes([trained], keep_last=2)
    taken = sum(path.stat().st_size for path in trained.folder.rglob("*") if path.is_file())
    assert taken < needed
    assert storage_bytes([trained, trained], keep_last=2) == 2 * needed
    assert needed < shutil.disk_usage(trained.folder).total
