import json
import os
import random
import shutil
import signal
import time

import pytest
import torch

from benchmarks.processes import PROCESSES
from setr.errors import EnvironmentFailure, IntegrityError
from setr.record import checkpoint
from setr.record.checkpoint import Writer, load, load_latest, prune, save, verify_checkpoint
from setr.record.checkpoint_names import latest_step, steps


def tensors(step=1):
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {"a.weight": torch.randn(5, 3, generator=generator), "a.count": torch.tensor(step)},
        "optimizer": {"momentum_buffer/a.weight": torch.randn(5, 3, generator=generator)},
    }


def write(root, *numbers):
    return [save(root, step, tensors(step), {"identity": "abc"}) for step in numbers]


def damage(path, change):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))


def test_what_is_saved_comes_back(tmp_path):
    (info,) = write(tmp_path, 40)
    assert info.path == tmp_path / "step-00000040"
    found = load_latest(tmp_path, ["abc"])
    assert found.info == info == verify_checkpoint(tmp_path, 40)
    assert found.state == {"identity": "abc", "step": 40}
    for file, entries in tensors(40).items():
        assert found.tensors[file].keys() == entries.keys()
        assert all(torch.equal(found.tensors[file][name], tensor) for name, tensor in entries.items())
    assert not list(tmp_path.glob(".*"))
    assert latest_step(tmp_path) == 40
    assert load_latest(tmp_path / "nothing") is None
    assert latest_step(tmp_path / "nothing") == 0


def test_newest_is_by_number_not_by_name(tmp_path):
    write(tmp_path, 99_999_999, 100_000_000, 5)
    assert [path.name for path in steps(tmp_path)] == ["step-00000005", "step-99999999", "step-100000000"]
    assert load_latest(tmp_path).info.step == 100_000_000


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 64]), "sha256 differs"),
        ("model.safetensors", lambda data: data[: len(data) // 2], "size differs"),
        ("optimizer.safetensors", lambda data: bytes(len(data)), "sha256 differs"),
        ("optimizer.safetensors", lambda data: b"", "size differs"),
        ("state.json", lambda data: data.replace(b"abc", b"abd"), "sha256 differs"),
        ("manifest.json", lambda data: data.replace(b'"step": 2', b'"step": 3'), "step differs"),
        ("manifest.json", lambda data: data[:-5], "no readable manifest"),
        ("manifest.json", lambda data: data.replace(b" ", b"  ", 1), "the manifest was changed"),
        ("manifest.json", lambda data: b"[1]", "manifest"),
    ],
)
def test_damage_is_named_and_the_one_before_is_taken(tmp_path, file, change, named):
    write(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002" / file, change)
    told = []
    found = load_latest(tmp_path, ["abc"], on_damaged=lambda path, reason: told.append((path, reason)))
    assert found.info.step == 1
    ((aside, reason),) = told
    assert named in reason
    assert len(reason.splitlines()) == 1
    assert aside.name.startswith("quarantine-step-00000002-")
    assert aside.is_dir()
    assert [path.name for path in steps(tmp_path)] == ["step-00000001"]


def test_every_flipped_bit_is_found(tmp_path):
    """A sample of all bits of all files: none is taken for sound, none crashes."""
    write(tmp_path, 7)
    folder = tmp_path / "step-00000007"
    rng = random.Random(0)
    undetected = []
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        original = path.read_bytes()
        for position in rng.sample(range(len(original) * 8), 60):
            data = bytearray(original)
            data[position // 8] ^= 1 << position % 8
            path.write_bytes(data)
            try:
                load(folder)
            except IntegrityError:
                continue
            undetected.append((path.name, position))
        path.write_bytes(original)
    assert not undetected
    load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_missing_file_is_damage(tmp_path, name):
    write(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / name).unlink()
    assert load_latest(tmp_path).info.step == 1


def test_added_file_is_damage(tmp_path):
    write(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / "more.pkl").write_bytes(b"x")
    assert load_latest(tmp_path).info.step == 1


def test_checkpoint_of_another_training_is_put_aside(tmp_path):
    write(tmp_path / "mine", 1)
    save(tmp_path / "other", 2, tensors(2), {"identity": "other"})
    shutil.copytree(tmp_path / "other" / "step-00000002", tmp_path / "mine" / "step-00000002")
    told = []
    found = load_latest(tmp_path / "mine", ["abc"], on_damaged=lambda path, reason: told.append(reason))
    assert found.info.step == 1
    assert "identity differs" in told[0]
    # a folder under the name of another step is none either
    shutil.copytree(tmp_path / "mine" / "step-00000001", tmp_path / "mine" / "step-00000009")
    assert load_latest(tmp_path / "mine", ["abc"]).info.step == 1


def test_weights_that_are_not_finite_are_not_gone_on_from(tmp_path):
    write(tmp_path, 1)
    bad = tensors(2)
    bad["model"]["a.weight"][0, 0] = float("nan")
    save(tmp_path, 2, bad, {"identity": "abc"})
    told = []
    assert load_latest(tmp_path, on_damaged=lambda path, reason: told.append(reason)).info.step == 1
    assert "not finite" in told[0]


def test_all_damaged_means_from_the_start(tmp_path):
    write(tmp_path, 1, 2)
    for path in steps(tmp_path):
        (path / "manifest.json").unlink()
    assert load_latest(tmp_path) is None
    assert len(list(tmp_path.glob("quarantine-*"))) == 2


def test_storage_that_fails_to_read_damns_no_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def refuse(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(tmp_path), "read_bytes", refuse)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*Input/output error"):
        load_latest(tmp_path)
    assert latest_step(tmp_path) == 1


def test_leftovers_are_swept_and_old_ones_pruned(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5)
    (tmp_path / ".tmp-step-00000006-77").mkdir()
    (tmp_path / ".tmp-step-00000006-77" / "model.safetensors").write_bytes(b"half")
    assert load_latest(tmp_path).info.step == 5
    assert not list(tmp_path.glob(".tmp-*"))
    prune(tmp_path, keep_last=2, keep_steps=[2])
    assert [path.name for path in steps(tmp_path)] == ["step-00000002", "step-00000004", "step-00000005"]
    prune(tmp_path, keep_last=0)
    assert [path.name for path in steps(tmp_path)] == ["step-00000005"]


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", full)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*No space left") as refused:
        write(tmp_path, 2)
    assert refused.value.exit_status == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001"]


def test_writer_keeps_what_the_tensors_were(tmp_path):
    writer = Writer(tmp_path)
    assert writer.join() is None
    for step in (1, 2, 3):
        given = tensors(step)
        writer.save(step, given, {"identity": "abc"})
        for entries in given.values():
            for tensor in entries.values():
                tensor.zero_()  # training goes on at once
        assert writer.join().step == step
    assert writer.join() is None
    for step in (1, 2, 3):
        found = load(tmp_path / f"step-{step:08d}").tensors
        assert torch.equal(found["model"]["a.weight"], tensors(step)["model"]["a.weight"])


def test_writer_returns_before_the_disk_is_done(tmp_path, monkeypatch):
    real = checkpoint.safetensors.torch.save_file

    def slow(*arguments):
        time.sleep(0.2)  # a storage that answers late
        real(*arguments)

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", slow)
    writer = Writer(tmp_path)
    began = time.perf_counter()
    writer.save(1, tensors(), {"identity": "abc"})
    assert time.perf_counter() - began < 0.2
    assert latest_step(tmp_path) == 0
    writer.join()
    assert latest_step(tmp_path) == 1
    assert writer.seconds >= 0.4


def test_failed_write_is_told_at_the_join(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_require_space", lambda *arguments: (_ for _ in ()).throw(OSError("gone")))
    writer = Writer(tmp_path)
    writer.save(1, tensors(), {"identity": "abc"})
    with pytest.raises(EnvironmentFailure, match="gone"):
        writer.join()
    assert writer.join() is None


def write_without_end(root, acknowledged):
    """Writes one checkpoint after the other and tells of each that is done, until it is killed."""
    big = {"model": {f"p{n}": torch.full((64, 64), float(n)) for n in range(20)}, "optimizer": {}}
    step = latest_step(root)
    while True:
        step += 1
        save(root, step, big, {"identity": "abc"})
        with acknowledged.open("a") as file:
            file.write(f"{step}\n")
        prune(root, keep_last=2)


def test_killed_while_writing_nothing_acknowledged_is_lost(tmp_path):
    root, acknowledged = tmp_path / "root", tmp_path / "acknowledged"
    kills = int(os.environ.get("SETR_KILLS", "20"))
    rng = random.Random(1)
    for _ in range(kills):
        process = PROCESSES.Process(target=write_without_end, args=(root, acknowledged))
        before = acknowledged.read_text() if acknowledged.exists() else ""
        process.start()
        while not acknowledged.exists() or acknowledged.read_text() == before:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.03)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        last = int(acknowledged.read_text().split()[-1])
        damaged = []
        found = load_latest(root, ["abc"], on_damaged=lambda path, reason, told=damaged: told.append(reason))
        assert not damaged
        assert found.info.step >= last, "an acknowledged checkpoint is lost"
        assert not list(root.glob(".tmp-*")), "orphans are swept at the next start"


def test_nothing_is_pickled(tmp_path):
    write(tmp_path, 1)
    for path in (tmp_path / "step-00000001").iterdir():
        data = path.read_bytes()
        if path.suffix == ".json":
            json.loads(data)
        else:
            assert path.suffix == ".safetensors"
            header = int.from_bytes(data[:8], "little")
            json.loads(data[8 : 8 + header])
