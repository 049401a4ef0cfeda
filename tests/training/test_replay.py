"""A replay finds the same code equal to the bit, names what another code changes first, and proves nothing in doubt."""

import ast
import dataclasses
import hashlib
import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from setr.errors import EnvironmentFailure
from setr.record import checkpoint
from setr.record.equivalences import Verdict, is_equivalent, record
from setr.record.files import TRACE
from setr.record.trace import read_trace, write_trace
from setr.training import computation
from setr.training.comparison import ImageCounts, Scale, compare_images
from setr.training.distributed import Stopped
from setr.training.replay import Trained
from tests.helpers.tiny_training import (
    TinyShards,
    as_trained,
    replay_tiny,
    run,
    start,
    tiny_experiment,
    tiny_model,
    train_to_replay,
)

# Checkpoints after 3, 6, 9 and 12 steps: the newest two, and the best, are kept.
OPTIONS = {"ema_decay": 0.9, "weight_decay": 1e-4, "loss_denominator": "valid"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_to_replay(tmp_path_factory.mktemp("trained"), **OPTIONS)


@pytest.fixture
def copied(trained, tmp_path):
    """Returns a result of its own that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(trained.folder, folder)
    return dataclasses.replace(trained, folder=folder)


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_code_is_equal_to_the_bit_and_nothing_is_written(trained):
    before = everything_in(trained.folder)
    verdict = replay_tiny(trained, **OPTIONS)
    assert (verdict.equal, verdict.exact, verdict.tolerance, verdict.first_difference) == (True, True, 0.0, "")
    evidence = verdict.evidence
    assert (evidence["orders"], evidence["rates"], evidence["draws"], evidence["pixels"]) == (12, 12, 12, 2)
    assert evidence["first_steps"] == 4
    assert evidence["checkpoints"]["9"] == 3
    assert evidence["images"] == 8
    assert evidence["trace"] == trained.trace
    assert evidence["differences"] == []
    assert everything_in(trained.folder) == before


def test_a_replay_says_which_gradient_norms_it_met(copied):
    trace = read_trace(copied.folder / TRACE)
    steps = trace.steps.copy()
    replayed = {0, 1, 2, 3} | {step + beyond for step in trace.kept if step < 12 for beyond in range(3)}
    met = steps["gradient_norm"][sorted(step for step in replayed if step < 12)]
    evidence = replay_tiny(copied, **OPTIONS).evidence
    assert evidence["gradient_norms"]["replayed"] == [met.min(), met.max()]
    norms = steps["gradient_norm"]
    assert evidence["gradient_norms"]["training"] == [norms.min(), norms.max()]


@pytest.mark.parametrize(
    ("replayed", "training", "said"),
    [
        ([0.5, 8.0], [0.5, 8.0], ""),
        ([0.5, 7.0], [0.5, 8.0], "gradient norms 0.5 to 7, the training's were 0.5 to 8"),
        ([0.6, 8.0], [0.5, 8.0], "gradient norms 0.6 to 8, the training's were 0.5 to 8"),
        (None, [0.5, 8.0], ""),
    ],
)
def test_what_no_replayed_step_reached_is_told(replayed, training, said):
    verdict = Verdict(True, True, 0.0, "", {"gradient_norms": {"replayed": replayed, "training": training}})
    assert verdict.norms_apart.endswith(said)
    assert bool(verdict.norms_apart) == bool(said)


def test_what_is_written_down_of_a_replay_is_a_proof(copied):
    record(copied.folder, trained="a", code="b", verdict=replay_tiny(copied, **OPTIONS))
    assert is_equivalent(copied.folder, trained="a", code="b", trace_sha256=copied.trace).verdict.exact
    assert is_equivalent(copied.folder, trained="a", code="c", trace_sha256=copied.trace) is None


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "base_lr": 1e-3, "layer_decay": 0.8, "warmup_steps": 4},
        {"precision": "bfloat16", "micro_batch": 2},
        {"photometric_on": "device"},
        {"checkpoint_every": 4, "evaluate_every": 12},  # 4 and 8 are saved, and 9: three steps before the end
        {"checkpoint_every": 11, "evaluate_every": 12},  # one step is left to compare
        {"iterations": 3, "checkpoint_every": 3, "evaluate_every": 3},  # the first steps are all
    ],
    ids=["adamw", "bfloat16", "device", "three", "one step", "short"],
)
def test_every_way_to_train_is_replayed_as_it_was_trained(tmp_path, options):
    trained = train_to_replay(tmp_path, **options)
    recipe = {key: value for key, value in options.items() if key not in ("micro_batch", "photometric_on")}
    verdict = replay_tiny(trained, **recipe)
    assert (verdict.equal, verdict.exact, verdict.first_difference) == (True, True, "")
    expected = {"three": {"9": 3}, "one": {"11": 1}}
    if options.get("checkpoint_every") == 11:
        assert verdict.evidence["checkpoints"] == expected["one"]
    if options.get("checkpoint_every") == 4:
        assert verdict.evidence["checkpoints"] == expected["three"]


def test_a_resumed_training_is_replayed(tmp_path):
    calls, model = [], tiny_model()
    with pytest.raises(Stopped):
        run(tmp_path, should_stop=lambda: calls.append(0) or len(calls) == 7)
    trained = as_trained(tmp_path, run(tmp_path, model=model), model)
    verdict = replay_tiny(trained)
    assert (verdict.equal, verdict.exact) == (True, True)


# Real lines of real modules: (module, function or class with the line, what stands there, what stands there then,
# what is said first).
LESS_MOMENTUM = """self.set_rates(batch.step)
    self.optimizer.param_groups[0]["momentum"] -= 0.1 * (batch.step > 8)"""
MUTATIONS = {
    "order": ("setr.data.loading.loader", "sample_order", "places % size",
              "(places + 1) % size", "sample order at step 1"),
    "order, late": ("setr.data.loading.loader", "sample_order", "chosen = epochs == epoch",
                    "chosen = epochs == epoch\n        epoch += epoch > 3", "sample order at step 9"),
    "poly power": ("setr.training.optim", "learning_rate", "** recipe.poly_power",
                   "** (recipe.poly_power * 1.01)", "learning rate at step 2: 0.0"),
    "poly, late": ("setr.training.optim", "learning_rate", "recipe.iterations - (1",
                   "recipe.iterations - (step > 9) - (1", "learning rate at step 11: 0.0"),
    "head's rate": ("setr.training.optim", "set_learning_rate", "multiplier=group['lr_multiplier']",
                    "multiplier=group['lr_multiplier'] ** 1.01", "learning rate of a parameter group at step 1"),
    "flip": ("setr.data.loading.transforms", "draw", "u[1] < augmentation.flip_probability",
             "u[1] <= 1 - augmentation.flip_probability * 1.5", "windows, ratios or flips at step"),
    "ratio": ("setr.data.loading.transforms", "draw", "low + (high - low) * float(u[0])",
              "low + (high - low) * float(u[0]) ** 2", "windows, ratios or flips at step 1"),
    "crop rule": ("setr.data.loading.transforms", "_place_window", "resized[0] - height + 1", "resized[0] - height",
                  "images or labels of the batch at step"),
    "pad colour": ("setr.data.loading.transforms", "augment", "part[...] = PAD_COLOR", "part[...] = (124, 116, 103)",
                   "images or labels of the batch at step"),
    "normalisation": ("setr.data.loading.transforms", "normalise", ".div_(std)", ".div_(std * 1.001)",
                      "loss at step 1: "),
    "ignore index": ("setr.training.loss", "loss_divisor", "labels != ignore_index", "labels <= ignore_index",
                     "loss at step 1: "),
    "momentum": ("setr.training.optim", "build_optimizer", "momentum=recipe.momentum",
                 "momentum=recipe.momentum * 0.99", "parameters after step 2: "),
    "weight decay": ("setr.training.optim", "parameter_groups", "else recipe.weight_decay",
                     "else recipe.weight_decay * 1.1", "parameters after step 1: encoder.0.weight"),
    "averages": ("setr.training.ema", "MovingAverage.update", "(10 + step)", "(11 + step)",
                 "parameters after step 1: ema/"),
    "seed of a step": ("setr.training.step", "seed_step", "{seed}/{step}/{rank}", "{seed}/{step}/{rank}/",
                       "loss at step 1: "),
    "loss, late": ("setr.training.step", "train_step", "loss = main +",
                   "loss = 1e-9 * (batch.step > 8) + main +", "loss at step 10: "),
    "gradient, late": ("setr.training.step", "train_step", "recipe.auxiliary_weight * losses[1:].sum()",
                       "(recipe.auxiliary_weight + 1e-3 * (batch.step > 8)) * losses[1:].sum()",
                       "gradient norm at step 10: "),
    "update, late": ("setr.training.computation", "Computation.step", "self.set_rates(batch.step)", LESS_MOMENTUM,
                     "parameters after step 10: "),
}  # fmt: skip


def mutate(monkeypatch, module_name, name, old, new):
    """Replaces one definition by its own source with one edit, in its module and wherever it was imported."""
    module = importlib.import_module(module_name)
    owner, _, method = name.rpartition(".")
    body = ast.parse(Path(module.__file__).read_text()).body
    if owner:
        (body,) = (node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner)
    (node,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == method)
    source = ast.unparse(node)
    assert old in source, f"{old!r} is not in\n{source}"
    defined = {}
    exec(compile(source.replace(old, new, 1), module.__file__, "exec"), vars(module), defined)
    if owner:
        monkeypatch.setattr(getattr(module, owner), method, defined[method])
        return
    original = getattr(module, method)
    for other in [loaded for key, loaded in sys.modules.items() if key.startswith("setr.")]:
        if getattr(other, method, None) is original:
            monkeypatch.setattr(other, method, defined[method])


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_changed_line_is_noticed_and_named(trained, monkeypatch, kind):
    module, name, old, new, said = MUTATIONS[kind]
    mutate(monkeypatch, module, name, old, new)
    verdict = replay_tiny(trained, **OPTIONS)
    assert not verdict.equal
    assert verdict.provable
    assert verdict.first_difference.startswith(said), verdict.first_difference
    assert len(verdict.first_difference.splitlines()) == 1
    record_of = {"trained": "a", "code": "b"}
    record(trained.folder, verdict=verdict, **record_of)
    assert is_equivalent(trained.folder, trace_sha256=trained.trace, **record_of) is None


def without_dropout():
    return tiny_model(dropout=0.0)


def other_start():
    model = tiny_model()
    with torch.no_grad():
        model.decode_head[0].weight[0, 0] += 1e-7
    return model


def other_name():
    model = tiny_model()
    model.decode_head.add_module("4", torch.nn.Conv2d(4, 4, 1))
    return model


def other_stride():
    model = tiny_model()
    model.decode_head[1].eps = 1.1e-5
    return model


def other_shape():
    model = tiny_model()
    model.decode_head[3] = torch.nn.Conv2d(8, 5, 1)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (without_dropout, "loss at step 1: "),
        (other_start, "initial parameters: decode_head.0.weight"),
        (other_name, "initial parameters: decode_head.4.bias is new"),
        (other_stride, "loss at step 1: "),
        (other_shape, "initial parameters: decode_head.3.weight and 3 more of "),
    ],
)
def test_another_model_is_noticed(trained, model, said):
    verdict = replay_tiny(trained, model=model, **OPTIONS)
    assert not verdict.equal
    assert verdict.first_difference.startswith(said), verdict.first_difference


def test_code_that_fails_proves_nothing(trained, monkeypatch):
    def fail(optimizer):
        raise error

    monkeypatch.setattr(computation, "group_learning_rates", fail)
    error = RuntimeError("first line\nsecond")
    verdict = replay_tiny(trained, **OPTIONS)
    assert verdict.first_difference == "the code cannot compute what was trained: first line"
    assert not verdict.equal
    error = OSError("no space")  # what nobody has foreseen is no verdict
    with pytest.raises(OSError, match="no space"):
        replay_tiny(trained, **OPTIONS)


def test_another_recipe_seed_or_data_set_is_noticed(trained):
    options = {**OPTIONS, "loss_denominator": "all"}
    assert replay_tiny(trained, **options).first_difference.startswith("loss at step 1: ")
    options = {**OPTIONS, "iterations": 11}
    assert not replay_tiny(trained, **options).equal
    shards = TinyShards()
    shards.images ^= 1
    assert "images or labels" in replay_tiny(trained, shards=shards, **OPTIONS).first_difference
    assert replay_tiny(trained, shards=TinyShards(9), **OPTIONS).first_difference == "sample order at step 1"


def test_other_counts_of_an_image_are_named(copied):
    stored = dict(np.load(copied.folder / "areas.npz"))
    stored["image5"][1, 2] += 1
    np.savez(copied.folder / "areas.npz", **stored)
    found = replay_tiny(copied, **OPTIONS).first_difference
    assert found.startswith("areas of image image5 (ss): class 2, prediction ")


def test_other_threads_are_named_and_compared_within_a_tolerance(copied, monkeypatch):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        verdict = replay_tiny(copied, **OPTIONS)
        assert (verdict.equal, verdict.exact) == (True, False)
        assert verdict.tolerance == Scale.of("float32").relative
        assert verdict.evidence["differences"] == [f"threads {threads} -> {threads + 1}"]
        assert f"threads {threads} -> {threads + 1}" in verdict.footnote
        record(copied.folder, trained="a", code="b", verdict=verdict)
        assert not is_equivalent(copied.folder, trained="a", code="b", trace_sha256=copied.trace).verdict.exact
        # Order, rates and windows stay exact, and what is far apart stays different.
        for kind, said in (("poly, late", "learning rate at step 11"), ("flip", "windows"), ("normalisation", "")):
            with monkeypatch.context() as patch:
                mutate(patch, *MUTATIONS[kind][:4])
                verdict = replay_tiny(copied, **OPTIONS)
                assert not verdict.equal
                assert verdict.first_difference.startswith(said), verdict.first_difference
    finally:
        torch.set_num_threads(threads)


def rewritten(trained, **changes):
    """Returns the result with another trace, as if it had been trained so."""
    found = dataclasses.replace(read_trace(trained.folder / TRACE), **changes)
    return dataclasses.replace(trained, trace=write_trace(trained.folder / TRACE, found))


def test_another_cpu_and_other_versions_are_named(copied):
    (entry,) = read_trace(copied.folder / TRACE).machines
    machine = {**entry[1], "cpu": "another", "versions": {**entry[1]["versions"], "torch": "1.0"}}
    verdict = replay_tiny(rewritten(copied, machines=((0, machine),)), **OPTIONS)
    assert verdict.equal
    assert not verdict.exact
    assert "cpu another -> " in verdict.footnote
    assert f"versions.torch 1.0 -> {torch.__version__}" in verdict.footnote
    assert verdict.evidence["pixels"] == 0, "another processor may round pixels otherwise"


def test_a_training_that_changed_machines_is_exact_only_where_it_was_this_one(copied):
    (entry,) = read_trace(copied.folder / TRACE).machines
    later = (5, {**entry[1], "threads": entry[1]["threads"] + 5})
    verdict = replay_tiny(rewritten(copied, machines=(entry, later)), **OPTIONS)
    assert (verdict.equal, verdict.exact) == (True, False)
    steps = read_trace(copied.folder / TRACE).steps.copy()
    for step, equal in ((3, False), (11, True)):  # a difference of rounding
        changed = steps.copy()
        changed["loss"][step - 1] *= 1 + 1e-7
        assert replay_tiny(rewritten(copied, machines=(entry, later), steps=changed), **OPTIONS).equal is equal


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def swap(path, other):
    shutil.rmtree(path)
    shutil.copytree(other, path)


MISSING = {
    "no trace": (lambda f: remove(f / TRACE), "E_TRACE.*there is no trace"),
    "cut trace": (
        lambda f: (f / TRACE).chmod(0o644) or (f / TRACE).write_bytes((f / TRACE).read_bytes()[:-9]),
        "E_TRACE",
    ),
    "checkpoint between": (lambda f: remove(f / "step-00000009"), "E_TRACE.*kept is missing.*step-00000009"),
    "last checkpoint": (lambda f: remove(f / "step-00000012"), "E_TRACE.*kept is missing.*step-00000012"),
    "damaged between": (lambda f: flip_bit(f / "step-00000009" / "model.safetensors"), "E_CHECKPOINT.*step-00000009"),
    "damaged manifest": (lambda f: flip_bit(f / "step-00000009" / "manifest.json"), "E_CHECKPOINT.*step-00000009"),
    "damaged last": (lambda f: flip_bit(f / "step-00000012" / "optimizer.safetensors"), "E_CHECKPOINT.*step-00000012"),
    "a file missing": (lambda f: remove(f / "step-00000009" / "ema.safetensors"), "E_CHECKPOINT.*step-00000009"),
    "another's place": (lambda f: swap(f / "step-00000009", f / "step-00000012"), "E_CHECKPOINT.*step-00000009"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISSING)
def test_what_a_proof_needs_and_is_not_there_is_said_and_nothing_is_proven(copied, kind):
    damage, said = MISSING[kind]
    damage(copied.folder)
    verdict = replay_tiny(copied, **OPTIONS)
    assert (verdict.equal, verdict.provable) == (False, False)
    assert len(verdict.first_difference.splitlines()) == 1
    assert re.search(said, verdict.first_difference), verdict.first_difference


def test_without_trace_or_earlier_checkpoint_or_with_another_result_nothing_is_proven(copied, tmp_path):
    cases = {
        "the result has no trace": dataclasses.replace(copied, trace=""),
        "not the one that was finished": dataclasses.replace(copied, trace="0" * 64),
        "of another experiment": dataclasses.replace(copied, identity="0" * 64),
        "does not end with the checkpoint": dataclasses.replace(copied, checkpoint="0" * 64),
    }
    for said, result in cases.items():
        verdict = replay_tiny(result, **OPTIONS)
        assert (verdict.equal, verdict.provable) == (False, False)
        assert said in verdict.first_difference
    without = dict(read_trace(copied.folder / TRACE).parameters)
    del without[10]
    verdict = replay_tiny(rewritten(copied, parameters=without), **OPTIONS)
    assert (verdict.equal, verdict.provable) == (False, False)
    assert "lacks parameters" in verdict.first_difference
    only_the_last = train_to_replay(tmp_path / "last", checkpoint_every=12, evaluate_every=12, keep_checkpoints=1)
    verdict = replay_tiny(only_the_last, checkpoint_every=12, evaluate_every=12)
    assert (verdict.equal, verdict.provable) == (False, False)
    assert "what acts late would not be seen" in verdict.first_difference


def test_a_storage_that_fails_says_nothing_about_the_code(trained, monkeypatch):
    def fail(path, **_):
        raise EnvironmentFailure("E_STORAGE", "cannot read the checkpoint", where=path)

    monkeypatch.setattr(checkpoint, "load", fail)
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
        replay_tiny(trained, **OPTIONS)


def test_images_are_compared_whole_and_within_a_share_of_their_pixels():
    stored = np.array([[50, 0], [60, 40], [90, 10]])
    scale = Scale(relative=1e-4, pixels=0.02)

    def compared(found, exact):
        return compare_images(
            [ImageCounts("ss", "a", stored, np.array(found), ("road", "sky"))], scale=scale, exact=exact
        )

    assert compared(stored, True) == ""
    moved = [[49, 0], [59, 41], [90, 10]]
    assert compared(moved, True) == "areas of image a (ss): road, intersection 50 -> 49 pixels"
    assert compared(moved, False) == ""
    assert "road, prediction 60 -> 50" in compared([[50, 0], [50, 50], [90, 10]], False)
    assert "label 90 -> 91" in compared([[50, 0], [60, 40], [91, 9]], False)
    assert compare_images([], scale=scale, exact=True)
    assert "(2, 2) -> (3, 2)" in compare_images([ImageCounts("ss", "a", stored[:2], stored)], scale=scale, exact=True)


def test_two_ranks_replay_what_two_ranks_trained(tmp_path):
    options = {"dropout": 0.0, "loss_denominator": "valid"}
    assert start(tmp_path, world_size=2, replayed=True, seconds=240, **options) == [0, 0]
    first, second = (json.loads((tmp_path / f"verdict-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert (first["equal"], first["exact"], first["first_difference"]) == (True, True, "")
    assert first["evidence"]["checkpoints"]["9"] == 3
    # One process replays what two have trained: named, and within the tolerance.
    identity = tiny_experiment(loss_denominator="valid").identity
    trace = hashlib.sha256((tmp_path / TRACE).read_bytes()).hexdigest()
    scored = checkpoint.manifest_hash(tmp_path / "step-00000012")
    verdict = replay_tiny(Trained(tmp_path, identity, trace, scored), **options)
    assert "world_size 2 -> 1" in verdict.evidence["differences"]
    assert (verdict.first_difference, verdict.equal, verdict.exact) == ("", True, False)
