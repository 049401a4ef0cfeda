"""The trace says the same for a training that was cut off as for an undisturbed one, and is whole or refused."""

import dataclasses
import hashlib
import json
import shutil
import signal

import numpy as np
import pytest
import torch

from setr.data.loading.loader import Loader, sample_order
from setr.data.loading.transforms import Augmentation
from setr.errors import IntegrityError
from setr.record import trace as trace_module
from setr.record.files import TRACE
from setr.record.trace import STEP, Trace, hash_order, hash_parameters, pixel_steps, read_trace, write_trace
from setr.training.distributed import Context, Stopped
from setr.training.optim import learning_rate
from tests.helpers.tiny_training import RECIPE, TinyShards, events, losses, run, start, tiny_experiment

IDENTITY = tiny_experiment().identity


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = run(folder)
    assert outcome.trace == hashlib.sha256((folder / TRACE).read_bytes()).hexdigest()
    return folder


def stopped_after(folder, step, **options):
    calls = []
    with pytest.raises(Stopped):
        run(folder, should_stop=lambda: calls.append(0) or len(calls) == step, **options)


def same_records(folder, reference, identity=IDENTITY):
    """Steps and pixels to the bit, and parameters of every step for which both have them; of the first in any case."""
    found, expected = (read_trace(each / TRACE, identity=identity) for each in (folder, reference))
    assert found.steps.tobytes() == expected.steps.tobytes()
    assert found.pixels.tobytes() == expected.pixels.tobytes()
    common = found.parameters.keys() & expected.parameters.keys()
    assert common >= {0, 1, 2, 4}
    for step in common:
        assert found.parameters[step].tolist() == expected.parameters[step].tolist(), f"step {step}"


def test_a_trace_holds_what_each_step_found(undisturbed):
    found = read_trace(undisturbed / TRACE, identity=IDENTITY)
    assert found.steps["step"].tolist() == list(range(1, RECIPE.iterations + 1))
    assert [[loss] for loss in found.steps["loss"].tolist()] == [losses(undisturbed)[step] for step in range(1, 13)]
    norms = [event["gradient_norm"] for event in events(undisturbed, "metrics")]
    assert found.steps["gradient_norm"].tolist() == norms
    assert found.steps["learning_rate"].tolist() == [learning_rate(RECIPE, step) for step in range(12)]
    orders = [hash_order(sample_order(seed=0, step=step, batch_size=4, size=8)) for step in range(12)]
    assert found.steps["order"].tolist() == orders
    assert len(set(found.steps["draws"].tolist())) == 12
    assert found.pixels["step"].tolist() == pixel_steps(12) == [1, 12]
    assert (found.seed, found.batch_size, found.iterations) == (0, 4, 12)
    ((begun, machine),) = found.machines
    assert (begun, machine["threads"], machine["world_size"]) == (0, torch.get_num_threads(), 1)
    assert machine["versions"]["torch"] == torch.__version__


def test_parameters_are_hashed_at_the_start_and_beyond_the_checkpoints_that_are_kept(undisturbed):
    found = read_trace(undisturbed / TRACE, identity=IDENTITY)
    kept = sorted(int(path.name[5:]) for path in undisturbed.glob("step-*"))
    assert sorted(found.kept) == kept == list(found.saves)
    beyond = {step + more for step in kept for more in (1, 2) if step + more <= 12}
    assert set(found.parameters) == {0, 1, 2, 4} | beyond
    assert any(name.endswith("running_var") for name in found.tensors)
    for before, after in ((0, 1), (1, 2), (2, 4)):
        assert (found.parameters[before] != found.parameters[after]).any()


@pytest.mark.parametrize("step", [1, 3, 4, 7, 11])
def test_a_stopped_training_has_the_undisturbed_ones_trace(tmp_path, undisturbed, step):
    stopped_after(tmp_path, step)
    assert len(read_trace(tmp_path / TRACE).steps) == step
    run(tmp_path, loader_threads=2)
    same_records(tmp_path, undisturbed)
    assert not events(tmp_path, "no_trace")


def test_killed_at_any_step_leaves_no_gap_and_nothing_twice(tmp_path):
    for attempt, step in enumerate((2, 5, 6, 10)):
        assert start(tmp_path, attempt=attempt, at={"event": "metrics", "step": step}) == [-signal.SIGKILL]
    assert start(tmp_path, attempt=99) == [0]
    # The fixture runs in this process, with its threads: the bits are those of one thread.
    one = tmp_path / "one"
    assert start(one) == [0]
    same_records(tmp_path, one)


def test_a_kill_between_trace_and_checkpoint_takes_the_trace_back(tmp_path, undisturbed):
    stopped_after(tmp_path, 6)
    shutil.rmtree(tmp_path / "step-00000006")  # as if it had never got its name
    assert len(read_trace(tmp_path / TRACE).steps) == 6
    run(tmp_path)
    assert events(tmp_path, "start")[-1]["resumed_from"] == "step-00000003"
    same_records(tmp_path, undisturbed)


def test_averages_are_hashed_and_resume_to_the_same_trace(tmp_path):
    options = {"ema_decay": 0.9, "optimizer": "adamw", "base_lr": 1e-3}
    run(tmp_path / "whole", **options)
    stopped_after(tmp_path / "cut", 5, **options)
    run(tmp_path / "cut", **options)
    identity = tiny_experiment(**options).identity
    same_records(tmp_path / "cut", tmp_path / "whole", identity)
    assert "ema/decode_head.0.weight" in read_trace(tmp_path / "cut" / TRACE).tensors


def test_two_ranks_write_one_trace_and_resume_to_it(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, world_size=2, seconds=120) == [0, 0]
    codes = start(killed, world_size=2, at={"event": "metrics", "step": 8, "rank": 1}, seconds=120)
    assert codes[1] == -signal.SIGKILL
    assert start(killed, world_size=2, attempt=1, seconds=120) == [0, 0]
    same_records(killed, whole)
    ((_, machine),) = read_trace(whole / TRACE).machines
    assert (machine["world_size"], machine["forward_images"]) == (2, 2)


def test_another_machine_is_written_down_where_it_went_on(tmp_path):
    stopped_after(tmp_path, 5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        run(tmp_path)
    finally:
        torch.set_num_threads(threads)
    found = read_trace(tmp_path / TRACE)
    assert [(step, machine["threads"]) for step, machine in found.machines] == [(0, threads), (5, threads + 1)]
    assert found.machine_at(4)["threads"] == threads
    assert found.machine_at(5)["threads"] == threads + 1


@pytest.mark.parametrize("lost", ["gone", "cut", "behind"])
def test_a_training_without_its_trace_says_so_and_goes_on(tmp_path, undisturbed, lost):
    stopped_after(tmp_path, 3)
    early = (tmp_path / TRACE).read_bytes()
    stopped_after(tmp_path, 5)
    path = tmp_path / TRACE
    whole = path.read_bytes()
    path.unlink()
    if lost != "gone":
        path.write_bytes(whole[:-40] if lost == "cut" else early)
    outcome = run(tmp_path)
    assert outcome.trace == ""
    (event,) = events(tmp_path, "no_trace")
    assert event["step"] == 8
    assert event["reason"].startswith("E_TRACE")
    assert not path.exists(), "a trace with a gap must not be found by anyone"
    assert losses(tmp_path).keys() == losses(undisturbed).keys()


def test_a_training_that_drifted_has_no_trace(tmp_path):
    stopped_after(tmp_path, 5)
    outcome = run(tmp_path, experiment=dataclasses.replace(tiny_experiment(), code="d"), allow_drift=True)
    assert outcome.trace == ""
    assert "of another experiment" in events(tmp_path, "no_trace")[0]["reason"]


def test_a_finished_training_that_is_opened_again_has_the_same_trace(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "copy")
    before = (tmp_path / "copy" / TRACE).read_bytes()
    outcome = run(tmp_path / "copy")
    assert (tmp_path / "copy" / TRACE).read_bytes() == before
    assert outcome.trace == hashlib.sha256(before).hexdigest()


def resigned(body):
    return body + hashlib.sha256(body).digest()


def with_header(data, **changes):
    """Returns a trace whose first line was edited by somebody who knows about the hash at the end."""
    line, _, rest = data[:-32].partition(b"\n")
    return resigned(json.dumps({**json.loads(line), **changes}).encode() + b"\n" + rest)


BAD = {
    "empty": (lambda data: b"", "cut or edited"),
    "cut": (lambda data: data[:-1], "cut or edited"),
    "cut in the middle": (lambda data: data[: len(data) // 2], "cut or edited"),
    "grown": (lambda data: data + b"\0", "cut or edited"),
    "a flipped bit": (lambda data: data[:-300] + bytes([data[-300] ^ 1]) + data[-299:], "cut or edited"),
    "no trace": (lambda data: resigned(b"{}\n"), "this is no trace"),
    "no JSON": (lambda data: resigned(b"\xff\n"), "this is no trace"),
    "another format": (lambda data: with_header(data, version=2), "another format.*found 2, expected 1"),
    "a field of another kind": (lambda data: with_header(data, saves="9"), "first line is not.*found saves"),
    "a step less": (lambda data: with_header(data, steps=11), "another length"),
    "negative": (lambda data: with_header(data, steps=-1), "another length"),
    "no machine": (lambda data: with_header(data, machines=[]), "where its training began"),
    "a machine of no shape": (lambda data: with_header(data, machines=[3]), "first line is not"),
    "another experiment": (lambda data: with_header(data, identity="other"), "another experiment.*found other"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_trace_is_refused_in_one_line(tmp_path, undisturbed, kind):
    change, said = BAD[kind]
    path = tmp_path / TRACE
    path.write_bytes(change((undisturbed / TRACE).read_bytes()))
    with pytest.raises(IntegrityError, match=rf"E_TRACE.*{said}") as refused:
        read_trace(path, identity=IDENTITY)
    assert len(str(refused.value).splitlines()) == 1
    assert str(path) in str(refused.value)


def test_steps_that_do_not_follow_one_another_are_refused(tmp_path, undisturbed):
    found = read_trace(undisturbed / TRACE)
    for change in (lambda steps: steps[::-1], lambda steps: steps[[0, 1, 1, *range(3, 12)]]):
        write_trace(tmp_path / TRACE, dataclasses.replace(found, steps=change(found.steps)))
        with pytest.raises(IntegrityError, match=r"E_TRACE.*do not follow"):
            read_trace(tmp_path / TRACE)


def test_a_whole_trace_that_is_not_the_finished_one_is_refused(tmp_path, undisturbed):
    digest = hashlib.sha256((undisturbed / TRACE).read_bytes()).hexdigest()
    found = read_trace(undisturbed / TRACE, sha256=digest)
    steps = found.steps.copy()
    steps["loss"][3] *= 2
    write_trace(tmp_path / TRACE, dataclasses.replace(found, steps=steps))
    with pytest.raises(IntegrityError, match=r"E_TRACE.*not the one that was finished"):
        read_trace(tmp_path / TRACE, sha256=digest)
    with pytest.raises(IntegrityError, match=r"E_TRACE.*there is no trace"):
        read_trace(tmp_path / "nowhere" / TRACE)


def test_a_paper_scale_trace_is_below_eight_megabytes():
    """80,000 steps of SETR with ViT-Large: 10 checkpoints saved, names of 40 letters, averages kept."""
    iterations, names = 80_000, tuple(f"ema/encoder.blocks.23.attn.qkv.{number:09d}" for number in range(2 * 420))
    after = [*trace_module.PARAMETERS_AFTER, *(step + more for step in range(8000, 80_000, 8000) for more in (1, 2))]
    whole = Trace(
        identity="0" * 64,
        seed=0,
        batch_size=8,
        iterations=iterations,
        machines=((0, {"cpu_flags": "x" * 400}),),
        tensors=names,
        saves=tuple(range(8000, 80_001, 8000)),
        kept=dict.fromkeys(range(8000, 80001, 8000), "0" * 64),
        steps=np.zeros(iterations, STEP),
        pixels=np.zeros(64, trace_module.PIXELS),
        parameters={step: np.zeros(len(names), np.uint64) for step in after},
    )
    assert len(whole.as_bytes()) < 8_000_000


def test_hashes_of_tensors_do_not_depend_on_their_order_in_memory():
    values = torch.randn(4, 3, 2, 2)
    variants = {
        "a": values,
        "b": values.to(memory_format=torch.channels_last),
        "c": values.bfloat16(),
        "d": torch.tensor(3),
        "e": values + 1e-7,
    }
    a, b, c, d, e = hash_parameters(variants, variants).tolist()
    assert a == b
    assert len({a, c, d, e}) == 4


def test_what_was_drawn_is_hashed_whole():
    augmentation = Augmentation((16, 16))
    loader = Loader(TinyShards(), augmentation, batch_size=4, seed=0, stop_step=3)
    choice = loader.choose(0)
    drawn = choice.draws[1]
    changes = [
        {"ratio": drawn.ratio * 1.001},
        {"flip": not drawn.flip},
        {"offsets": drawn.offsets + 1e-9},
        {"distortion": dataclasses.replace(drawn.distortion, hue=17)},
        {"distortion": dataclasses.replace(drawn.distortion, contrast_first=not drawn.distortion.contrast_first)},
    ]
    hashes = {trace_module.hash_choice(choice)}
    for change in changes:
        draws = (choice.draws[0], dataclasses.replace(drawn, **change), *choice.draws[2:])
        hashes.add(trace_module.hash_choice(dataclasses.replace(choice, draws=draws)))
    assert len(hashes) == 1 + len(changes)
    assert len({order for order, _ in hashes}) == 1


def test_the_loader_gives_the_choice_with_each_batch_on_any_rank():
    shards = TinyShards(3)  # fewer than a batch: samples come twice
    for rank in range(2):
        arguments = {"batch_size": 4, "seed": 1, "rank": rank, "world_size": 2, "stop_step": 4}
        loaders = [Loader(shards, Augmentation((16, 16)), threads=threads, **arguments) for threads in (0, 2)]
        for step, batches in enumerate(zip(*loaders, strict=True)):
            hashes = {trace_module.hash_choice(batch.choice) for batch in batches}
            assert hashes == {trace_module.hash_choice(loaders[0].choose(step))}
            assert batches[0].choice.samples.tolist() == batches[0].choice.order[2 * rank : 2 * rank + 2].tolist()


def test_a_context_of_its_own_is_enough(tmp_path):
    assert run(tmp_path, context=Context(), iterations=1).trace
