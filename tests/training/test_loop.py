import dataclasses
import json
import math
import shutil
import signal
import time

import pytest
import torch

from setr.data.loading.loader import Loader
from setr.data.loading.transforms import normalise
from setr.errors import EnvironmentFailure, InputError, IntegrityError
from setr.record import checkpoint, lease
from setr.record.files import IDENTITY
from setr.settings.run import Limits
from setr.training import computation as computation_module
from setr.training.distributed import Context, Stopped, StopRequest
from setr.training.watchdog import EXIT_STATUS
from tests.helpers.tiny_training import (
    RECIPE,
    TinyShards,
    events,
    fraction_of_sum,
    losses,
    recording,
    run,
    start,
    tiny_experiment,
    tiny_model,
    weights,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


def same_training(folder, reference):
    assert weights(folder) == weights(reference)
    for step, found in losses(folder).items():
        assert set(found) == set(losses(reference)[step]), f"step {step}"
    assert losses(folder).keys() == losses(reference).keys()


def test_four_images_are_learned(tmp_path):
    shards, model = TinyShards(4), tiny_model(dropout=0.0)
    run(
        tmp_path,
        model=model,
        shards=shards,
        iterations=100,
        evaluate_every=100,
        checkpoint_every=100,
        base_lr=0.02,
        ratio_range=(1.0, 1.0),
        photometric=False,
    )
    found = [event["loss/main"] for event in events(tmp_path, "metrics")]
    assert found[-1] < 0.2 * found[0]
    logits, _ = model.head_logits(normalise(torch.from_numpy(shards.images)))
    patches = torch.from_numpy(shards.labels[:, 2::4, 2::4]).long()
    assert (logits.argmax(1) == patches).float().mean() > 0.95


def test_a_run_tells_what_it_did(undisturbed):
    kinds = [event["event"] for event in (json.loads(line) for line in (undisturbed / "events.jsonl").open())]
    assert kinds[0] == "start"
    assert kinds.count("metrics") == RECIPE.iterations
    assert [event["step"] for event in events(undisturbed, "checkpoint")] == [3, 6, 9, 12]
    assert [event["step"] for event in events(undisturbed, "evaluation")] == [6, 12]
    # the checkpoint of a step is on disk before its evaluation begins
    assert kinds.index("evaluation") > [i for i, kind in enumerate(kinds) if kind == "checkpoint"][1]
    metrics = events(undisturbed, "metrics")[-1]
    assert {
        "loss",
        "loss/main",
        "loss/auxiliary_1",
        "learning_rate",
        "images_per_second",
        "gradient_norm",
    } <= metrics.keys()
    assert metrics["loss"] == pytest.approx(metrics["loss/main"] + 0.4 * metrics["loss/auxiliary_1"], rel=1e-12)
    names = sorted(path.name for path in undisturbed.glob("step-*"))
    best = max(events(undisturbed, "evaluation"), key=lambda event: event["mIoU"])["step"]
    assert names == sorted({f"step-{step:08d}" for step in (9, 12, best)})


@pytest.mark.parametrize("stop_after", [1, 3, 7, 11])
def test_stopped_run_goes_on_to_the_same_bits(tmp_path, undisturbed, stop_after):
    calls = []
    with pytest.raises(Stopped) as stopped:
        run(tmp_path, should_stop=lambda: calls.append(0) or len(calls) == stop_after)
    assert (stopped.value.step, stopped.value.exit_status) == (stop_after, 143)
    torch.rand(7)  # whatever the random numbers were at
    outcome = run(tmp_path, loader_threads=2)
    assert outcome.step == RECIPE.iterations
    assert all(len(found) == 1 for found in losses(tmp_path).values()), "no step was repeated"
    same_training(tmp_path, undisturbed)


def test_stop_request_brings_its_exit_status(tmp_path):
    request = StopRequest()
    request.exit_status = 130
    request.set()
    with pytest.raises(Stopped) as stopped:
        run(tmp_path, should_stop=request)
    assert stopped.value.exit_status == 130


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "weight_decay": 0.05, "base_lr": 1e-3, "layer_decay": 0.8},
        {"ema_decay": 0.9, "loss_denominator": "valid", "class_weights": "median_frequency"},
        {"ohem_threshold": 0.7, "warmup_steps": 4, "weight_decay": 1e-4},
        {"precision": "bfloat16", "micro_batch": 2},
    ],
    ids=["adamw", "ema", "ohem", "bfloat16"],
)
def test_every_option_resumes_to_the_same_bits(tmp_path, options):
    run(tmp_path / "undisturbed", **options)
    calls = []
    with pytest.raises(Stopped):
        run(tmp_path / "resumed", should_stop=lambda: calls.append(0) or len(calls) == 5, **options)
    run(tmp_path / "resumed", **options)
    same_training(tmp_path / "resumed", tmp_path / "undisturbed")
    assert all(math.isfinite(found[0]) for found in losses(tmp_path / "undisturbed").values())


def test_killed_at_every_step_ends_with_the_same_bits(tmp_path, undisturbed):
    for attempt, step in enumerate(range(1, RECIPE.iterations + 1)):
        assert start(tmp_path, attempt=attempt, at={"event": "metrics", "step": step}) == [-signal.SIGKILL], step
    assert start(tmp_path, attempt=99) == [0]
    same_training(tmp_path, undisturbed)
    assert not list(tmp_path.glob(".tmp-*"))


def test_evaluation_that_a_kill_prevented_is_made_up_for(tmp_path, undisturbed):
    assert start(tmp_path, at={"event": "checkpoint", "step": 12}) == [-signal.SIGKILL]
    assert [event["step"] for event in events(tmp_path, "evaluation")] == [6]
    run(tmp_path)
    assert [event["step"] for event in events(tmp_path, "evaluation")] == [6, 12]
    same_training(tmp_path, undisturbed)


def test_finished_training_is_reported_again_and_not_trained(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "copy")
    before = (tmp_path / "copy" / "events.jsonl").read_text()
    model = tiny_model(seed=5)
    outcome = run(tmp_path / "copy", model=model, evaluate=None)
    assert (outcome.step, outcome.scores) == (12, json.loads((undisturbed / "evaluations.json").read_text())["12"])
    news = [json.loads(line) for line in (tmp_path / "copy" / "events.jsonl").read_text()[len(before) :].splitlines()]
    assert [event["event"] for event in news] == ["start", "evaluation"]
    assert news[1]["mIoU"] == outcome.scores["mIoU"]
    assert fraction_of_sum(model)["mIoU"] == outcome.scores["mIoU"], "the model that is left is the trained one"


def test_moving_average_is_scored_kept_and_left_in_the_model(tmp_path):
    model = tiny_model()
    outcome = run(tmp_path, model=model, ema_decay=0.9)
    newest = max(tmp_path.glob("step-*"))
    stored = checkpoint.weights_to_score(newest)
    assert fraction_of_sum(model)["mIoU"] == outcome.scores["mIoU"]
    for name, parameter in model.named_parameters():
        assert torch.equal(stored[name], parameter)
    raw = checkpoint.load(newest).tensors["model"]
    assert any(not torch.equal(raw[name], parameter) for name, parameter in model.named_parameters())
    again = tiny_model(seed=3)
    run(tmp_path, model=again, ema_decay=0.9)
    assert fraction_of_sum(again)["mIoU"] == outcome.scores["mIoU"]


def test_damaged_checkpoint_is_put_aside_and_the_one_before_taken(tmp_path, undisturbed):
    calls = []
    with pytest.raises(Stopped):
        run(tmp_path, should_stop=lambda: calls.append(0) or len(calls) == 8)
    newest = tmp_path / "step-00000008" / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-3] ^= 1
    newest.chmod(0o644)
    newest.write_bytes(data)
    run(tmp_path)
    (damaged,) = events(tmp_path, "checkpoint_damaged")
    assert "sha256 differs" in damaged["reason"]
    assert (tmp_path / damaged["path"]).is_dir()
    assert events(tmp_path, "start")[-1]["resumed_from"] == "step-00000006"
    same_training(tmp_path, undisturbed)


def test_newest_checkpoint_gone_and_the_folders_own_record_cut_means_the_one_before(tmp_path, undisturbed):
    calls = []
    with pytest.raises(Stopped):
        run(tmp_path, should_stop=lambda: calls.append(0) or len(calls) == 8)
    shutil.rmtree(tmp_path / "step-00000008")
    whole = (tmp_path / IDENTITY).read_text()
    (tmp_path / IDENTITY).chmod(0o644)
    (tmp_path / IDENTITY).write_text(whole[: len(whole) // 2])
    run(tmp_path)
    assert events(tmp_path, "start")[-1]["resumed_from"] == "step-00000006"
    assert (tmp_path / IDENTITY).read_text() == whole
    same_training(tmp_path, undisturbed)


@pytest.mark.parametrize("denominator", ["all", "valid"])
def test_batches_without_a_label_are_counted_and_do_no_harm(tmp_path, denominator):
    shards = TinyShards(8, unlabelled=tuple(range(8)))
    run(tmp_path, shards=shards, loss_denominator=denominator, iterations=3, checkpoint_every=3, evaluate_every=3)
    assert [event["unlabelled_batches"] for event in events(tmp_path, "metrics")] == [1, 2, 3]
    assert set(losses(tmp_path)) == {1, 2, 3}
    kept = checkpoint.load(tmp_path / "step-00000003").tensors["model"]
    assert all(torch.isfinite(tensor.float()).all() for tensor in kept.values())
    if denominator == "valid":
        assert all(torch.equal(kept[name], value) for name, value in tiny_model().state_dict().items())


def test_a_damaged_record_ends_the_training_unless_a_share_is_allowed(tmp_path):
    shards = TinyShards(damaged=(3,))
    with pytest.raises(IntegrityError, match=r"E_SHARD_RECORD.*row 3"):
        run(tmp_path / "default", shards=shards)
    outcome = run(tmp_path / "allowed", shards=shards, max_quarantined=0.2)
    assert outcome.quarantined == (3,)
    (event,) = events(tmp_path / "allowed", "quarantine")  # once, though it was met in every epoch
    assert (event["records"], event["places"], event["count"], event["of"]) == ([3], ["row 3"], 1, 8)
    assert events(tmp_path / "allowed", "metrics")[-1]["quarantined_records"] == 1
    # What stands in does not depend on where the training was cut off, and the count goes on.
    calls = []
    with pytest.raises(Stopped):
        run(
            tmp_path / "resumed",
            shards=shards,
            max_quarantined=0.2,
            should_stop=lambda: calls.append(0) or len(calls) == 7,
        )
    run(tmp_path / "resumed", shards=shards, max_quarantined=0.2)
    same_training(tmp_path / "resumed", tmp_path / "allowed")
    assert len(events(tmp_path / "resumed", "quarantine")) == 1


def test_colours_distorted_on_the_device_train_the_same(tmp_path):
    options = {"iterations": 4, "evaluate_every": 4, "checkpoint_every": 4}
    run(tmp_path / "cpu", **options)  # on a CPU the loader does it
    run(tmp_path / "device", photometric_on="device", **options)
    for step, (loss,) in losses(tmp_path / "cpu").items():
        assert losses(tmp_path / "device")[step] == pytest.approx([loss], rel=0.01), step


def test_too_many_damaged_records_end_the_training_on_every_rank(tmp_path):
    shards = TinyShards(damaged=(1, 3, 6))
    with pytest.raises(IntegrityError, match=r"E_QUARANTINE.*found [23] of 8, expected at most 12.50%"):
        run(tmp_path / "one", shards=shards, max_quarantined=0.125)
    assert start(tmp_path / "two", world_size=2, shards=shards, max_quarantined=0.125, seconds=40) == [1, 1]
    (first, *_) = events(tmp_path / "two", "quarantine")
    assert first["count"] <= 3


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_not_finite_stops_before_the_update_and_names_the_batch(tmp_path, where):
    model = tiny_model()
    poisoned = 4  # the fifth step

    def poison(module, inputs, output):
        poison.calls += 1
        if poison.calls == poisoned + 1:
            if where == "loss":
                return output * float("nan")
            output.register_hook(lambda gradient: gradient * float("inf"))
        return output

    poison.calls = 0
    model.encoder.register_forward_hook(poison)
    before = {}
    model.decode_head.register_forward_pre_hook(
        lambda module, inputs: before.update({n: p.detach().clone() for n, p in model.named_parameters()})
    )
    with pytest.raises(InputError, match=rf"E_NOT_FINITE.*the {where}.*step 4, samples .*image\d") as caught:
        run(tmp_path, model=model, micro_batch=None)
    assert len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-00000003"]


def test_micro_batch_with_the_bad_sample_is_named(tmp_path):
    model = tiny_model()

    def poison(module, inputs, output):
        poison.calls += 1
        return output * float("nan") if poison.calls == 3 else output

    poison.calls = 0
    model.encoder.register_forward_hook(poison)
    with pytest.raises(InputError) as caught:
        run(tmp_path, model=model, micro_batch=1)
    assert str(caught.value).count("image") == 1


@pytest.mark.parametrize("threads", [0, 2])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, threads):
    model, parts = tiny_model(), tiny_model()
    for one in (model, parts):  # statistics and dropout depend on what goes through at once: leave them out
        one.decode_head[1], one.auxiliary_heads[0][1], one.encoder[2] = (torch.nn.Identity() for _ in range(3))
    run(tmp_path / "whole", model=model, threads=threads, loss_denominator="valid")
    run(tmp_path / "parts", model=parts, threads=threads, loss_denominator="valid", micro_batch=1)
    for (name, whole), (_, part) in zip(model.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(whole, part, rtol=1e-4, atol=1e-6, msg=name)


def test_accumulation_records_its_batch_statistics(tmp_path, undisturbed):
    run(tmp_path, micro_batch=1)
    assert events(tmp_path, "start")[0]["batch_norm"] == {"images": 1, "global_batch": 4}
    assert events(undisturbed, "start")[0]["batch_norm"] == {"images": 4, "global_batch": 4}


def test_two_ranks_train_as_one_and_resume_to_the_same_bits(tmp_path):
    """Without dropout, which depends on the rank; BatchNorm shares its statistics."""
    one, two, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
    run(one, dropout=0.0, loss_denominator="valid")
    options = {"dropout": 0.0, "loss_denominator": "valid"}
    assert start(two, world_size=2, **options) == [0, 0]
    for step, found in losses(one).items():
        assert losses(two)[step] == pytest.approx(found, rel=1e-4)
    expected, found = (checkpoint.load(max(f.glob("step-*"))).tensors["model"] for f in (one, two))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=2e-4, atol=2e-5, msg=name)

    codes = start(killed, world_size=2, at={"event": "metrics", "step": 8, "rank": 1}, seconds=20, **options)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert start(killed, world_size=2, attempt=1, **options) == [0, 0]
    assert weights(killed) == weights(two)
    # and on with another number of workers
    shutil.copytree(killed, tmp_path / "wider")
    shutil.rmtree(max((tmp_path / "wider").glob("step-*")))
    run(tmp_path / "wider", **options)
    found = checkpoint.load(max((tmp_path / "wider").glob("step-*"))).tensors["model"]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=2e-4, atol=2e-5, msg=name)


def test_order_of_samples_does_not_depend_on_the_number_of_ranks():
    recipe = RECIPE
    augmentation = computation_module.Augmentation(crop_size=recipe.crop_size)

    def order(world_size, start_step):
        loaders = [
            Loader(
                TinyShards(7), augmentation, batch_size=4, seed=1, rank=rank, world_size=world_size, threads=0,
                start_step=start_step, stop_step=9,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        return [[int(s) for batch in batches for s in batch.samples] for batches in zip(*loaders, strict=True)]

    assert order(1, 0) == order(2, 0) == order(4, 0)
    assert order(4, 5) == order(1, 0)[5:]


@pytest.mark.parametrize(
    ("changed", "versions", "named"),
    [
        (tiny_experiment(base_lr=0.01), {}, "experiment.recipe.base_lr: 0.05 -> 0.01"),
        (dataclasses.replace(tiny_experiment(), manifest="other"), {}, "experiment.data: m -> other"),
        (dataclasses.replace(tiny_experiment(), weights="v"), {}, "experiment.weights: w -> v"),
        (dataclasses.replace(tiny_experiment(), code="d"), {}, "experiment.code: c -> d"),
        (tiny_experiment(), {"ray": "2.61"}, "environment.ray: absent -> 2.61"),
    ],
)
def test_resume_of_something_else_is_refused_with_the_difference(tmp_path, changed, versions, named):
    def two_steps(experiment, **options):
        calls = []
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, experiment=experiment, should_stop=lambda: calls.append(0) or len(calls) == 2, **options)
        return stopped.value.step

    assert two_steps(tiny_experiment()) == 2
    other = {"experiment": changed, "context": dataclasses.replace(recording(tmp_path), versions=versions)}
    with pytest.raises(InputError, match="E_DRIFT") as refused:
        run(tmp_path, **other)
    assert named in str(refused.value)
    assert "--allow-drift" in str(refused.value)
    experiment, context = other.values()
    assert two_steps(experiment, context=context, allow_drift=True) == 4
    assert two_steps(experiment, context=context) == 6, "accepted once, it is what the folder trains"
    assert events(tmp_path, "drift")[0]["differences"] == [named]


def test_model_of_other_classes_is_refused(tmp_path):
    model = tiny_model()
    model.num_classes = 19
    with pytest.raises(InputError, match=r"E_CLASS_COUNT.*found 19, expected 4"):
        run(tmp_path, model=model)


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    calls = []
    with pytest.raises(Stopped):
        run(tmp_path, should_stop=lambda: calls.append(0) or len(calls) == 2)
    model = tiny_model()
    model.decode_head[3] = torch.nn.Conv2d(8, 4, 3)
    with pytest.raises(InputError, match=r"E_CHECKPOINT_KEYS.*decode_head\.3\.weight.*\(4, 8, 1, 1\).*\(4, 8, 3, 3\)"):
        run(tmp_path, model=model)


def test_a_second_process_on_the_same_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "WAIT_SECONDS", 0.0)

    def second(model):
        with pytest.raises(EnvironmentFailure, match=r"E_LEASE.*process \d+"):
            run(tmp_path)
        return {"mIoU": 1.0}

    run(tmp_path, evaluate=second, iterations=1)


def test_failed_evaluation_costs_no_checkpoint(tmp_path):
    def fail(model):
        raise RuntimeError("no memory left")

    with pytest.raises(RuntimeError, match="no memory left"):
        run(tmp_path, evaluate=fail)
    assert (tmp_path / "step-00000006" / "manifest.json").is_file()
    run(tmp_path)
    assert events(tmp_path, "start")[-1]["step"] == 6


def test_refusing_disk_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*no space") as caught:
        run(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.glob("step-*"))


def test_hung_rank_is_ended_with_its_stacks(tmp_path):
    began = time.monotonic()
    codes = start(tmp_path, world_size=2, hook=hang_on_rank_1, watchdog=Limits(step=1.0, step_factor=1.0), seconds=40)
    assert codes == [EXIT_STATUS, EXIT_STATUS]
    assert time.monotonic() - began < 30
    stacks = (next(tmp_path.glob("stacks-rank1-*.txt"))).read_text()
    assert "no progress in step" in stacks
    assert "hanging" in stacks
    assert events(tmp_path, "hang")[0]["cause"].startswith("no progress in step")
    assert start(tmp_path, world_size=2, attempt=1) == [0, 0]


@pytest.mark.slow
def test_two_ranks_killed_at_every_step_end_with_the_same_bits(tmp_path):
    """Either rank in turn; what a kill costs is at most the steps since the checkpoint before."""
    options = {"world_size": 2, "iterations": 20, "evaluate_every": 10}
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    assert start(undisturbed, **options) == [0, 0]
    for step in range(1, 21):
        at = {"event": "metrics", "step": step, "rank": step % 2}
        codes = start(run, attempt=step, at=at, **options)
        assert codes[step % 2] == -signal.SIGKILL, step
        assert codes[1 - step % 2] != 0, step
    assert start(run, attempt=99, **options) == [0, 0]
    same_training(run, undisturbed)
    for killed_at, begun in enumerate(events(run, "start")[1:], start=1):
        assert killed_at - begun["step"] <= RECIPE.checkpoint_every + 1, "the write under way may be lost too"
    assert not list(run.glob(".tmp-*"))


@pytest.mark.slow
def test_a_suspended_rank_is_found_by_the_others(tmp_path):
    """SIGSTOP: the rank itself cannot notice. The one that waits for it does, and whoever started them ends both."""
    undisturbed = tmp_path / "undisturbed"
    assert start(undisturbed, world_size=2) == [0, 0]
    at = {"event": "metrics", "step": 8, "rank": 1, "signal": signal.SIGSTOP}
    limits = Limits(step=1.0, step_factor=1.0)
    began = time.monotonic()
    codes = start(tmp_path / "run", world_size=2, at=at, watchdog=limits, seconds=15)
    assert codes == [EXIT_STATUS, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    (stacks,) = (tmp_path / "run").glob("stacks-*.txt")
    assert stacks.name.startswith("stacks-rank0-")
    assert "no progress in step" in stacks.read_text()
    assert "distributed_c10d.py" in stacks.read_text()
    assert events(tmp_path / "run", "hang")[0]["cause"].startswith("no progress in step")
    assert start(tmp_path / "run", world_size=2, attempt=1) == [0, 0]
    same_training(tmp_path / "run", undisturbed)


def test_a_record_that_cannot_be_read_to_its_end_is_a_hang(tmp_path):
    """Storage that never answers: the loader's thread waits, the watchdog ends the process and shows where."""
    limits = Limits(step=1.0, step_factor=1.0)
    codes = start(tmp_path, shards=SilentShards(), loader_threads=1, watchdog=limits, seconds=40)
    assert codes == [EXIT_STATUS]
    (stacks,) = tmp_path.glob("stacks-rank0-*.txt")
    assert "no progress in data" in stacks.read_text()
    assert "__getitem__" in stacks.read_text()
    assert start(tmp_path, attempt=1) == [0]


class SilentShards(TinyShards):
    """Shards whose thirtieth record never comes."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == 30:
            time.sleep(600)
        return super().__getitem__(index)


def hang_on_rank_1(rank):
    """Makes the eighth step of rank 1 never return."""
    calls = []
    real = computation_module.train_step

    def hanging(*arguments, **options):
        calls.append(0)
        if len(calls) == 8 and rank == 1:
            time.sleep(600)
        return real(*arguments, **options)

    computation_module.train_step = hanging


def test_seconds_are_accounted_for(tmp_path):
    began = time.perf_counter()
    outcome = run(tmp_path)
    assert set(outcome.seconds) == {"setup", "data", "step", "checkpoint", "evaluation"}
    assert sum(outcome.seconds.values()) == pytest.approx(time.perf_counter() - began, abs=0.5)
    assert outcome.seconds["step"] > 0


def test_context_without_a_report_needs_none(tmp_path):
    assert run(tmp_path, context=Context(), iterations=1).step == 1
