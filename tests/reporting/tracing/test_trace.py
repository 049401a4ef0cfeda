import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.errors import InputError
from setr.reporting.numbers.results import Result
from setr.reporting.tracing.commands import score_command, train_command
from setr.reporting.tracing.trace import as_text, trace
from setr.study.cells import find_cell

Make = Callable[..., Result]
PUP = [find_cell("table2/setr-pup/80k")]
NAMES = [
    "cell",
    "score ss",
    "protocol ss",
    "scored on ss",
    "scoring code",
    "run",
    "commit",
    "diff",
    "code hash",
    "configuration",
    "spec",
    "data manifest",
    "weights",
    "checkpoint SHA-256",
    "checkpoint",
    "train again",
    "score again",
]


def test_whole_chain_in_order(result_of: Make, tmp_path: Path) -> None:
    made = result_of(PUP, checkpoint=str(tmp_path))
    (chain,) = trace("table2/setr-pup/80k", [made])
    assert [link.name for link in chain.links] == NAMES
    assert chain.whole
    assert "79.34" in chain.links[0].value
    assert made.identity in as_text([chain])


def test_a_result_trained_from_a_snapshot_names_it(result_of: Make, tmp_path: Path) -> None:
    made = result_of(PUP, checkpoint=str(tmp_path))
    made = dataclasses.replace(made, tags={**made.tags, "setr.snapshot": "5" * 64})
    (chain,) = trace("table2/setr-pup/80k", [made])
    [link] = [link for link in chain.links if link.name == "snapshot"]
    assert "5" * 64 in link.value
    assert chain.whole


def test_one_chain_for_each_seed(result_of: Make) -> None:
    chains = trace("table2/setr-pup/80k", [result_of(PUP, seed=seed) for seed in range(3)])
    assert [chain.result.of("seed") for chain in chains if chain.result] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "link", "words"),
    [
        ({"run_id": ""}, "run", "no tracked run"),
        ({"tags": {"git.dirty": "false"}}, "commit", "not recorded"),
        ({"tags": {"git.commit": "unknown", "git.dirty": "unknown"}}, "diff", "not recorded"),
        ({"tags": {"git.commit": "a", "git.dirty": "true"}}, "diff", "was not kept"),
        ({"identity": "0" * 64}, "configuration", "is not the hash"),
        ({"checkpoint": "/nowhere"}, "checkpoint", "not there"),
        ({"checkpoint": None}, "checkpoint", "not known"),
        ({"checkpoint_sha256": ""}, "checkpoint SHA-256", "no hash"),
        ({"tags": {"setr.checkpoint": "b" * 64}}, "checkpoint SHA-256", "the run says bbbbbbbbbbbb"),
    ],
)
def test_broken_link_is_named(result_of: Make, tmp_path: Path, change: dict, link: str, words: str) -> None:
    made = dataclasses.replace(result_of(PUP, checkpoint=str(tmp_path)), **change)
    (chain,) = trace("table2/setr-pup/80k", [made])
    found = next(one for one in chain.links if one.name == link)
    assert words in found.broken
    assert not chain.whole
    assert f"BROKEN: {found.broken}" in as_text([chain])


def test_protocol_that_is_not_its_hash_is_named(result_of: Make) -> None:
    made = result_of(PUP)
    changed = {**made.scores["ss"], "protocol": {**made.scores["ss"]["protocol"], "flip": True}}
    (chain,) = trace("table2/setr-pup/80k", [dataclasses.replace(made, scores={"ss": changed})])
    assert "its hash is" in next(one for one in chain.links if one.name == "protocol ss").broken


def test_kept_diff_of_the_parent_run_is_named(result_of: Make) -> None:
    tags = {"git.commit": "a", "git.dirty": "true", "mlflow.parentRunId": "p1"}
    (chain,) = trace("table2/setr-pup/80k", [result_of(PUP, tags=tags)])
    assert next(one for one in chain.links if one.name == "diff").value == "code.diff of run p1"


def test_cell_without_a_number_ends_with_the_reason(result_of: Make) -> None:
    (chain,) = trace("table2/setr-pup/80k", [])
    assert "not run" in chain.links[-1].broken
    (chain,) = trace("table2/setr-pup/80k", [result_of(PUP, finished=False)])
    assert "unfinished: at step" in chain.links[-1].broken
    (chain,) = trace("table6/pspnet/quoted", [])
    assert chain.whole
    with pytest.raises(InputError, match="did you mean table2/setr-pup/80k"):
        trace("table2/setr-pub/80k", [])


def test_control_characters_do_not_reach_the_terminal(result_of: Make) -> None:
    text = as_text(trace("table2/setr-pup/80k", [result_of(PUP, run_id="a\n\x1b[31mred")]))
    assert "\x1b" not in text
    assert "a ?[31mred" in text


def test_commands_are_quoted_for_a_shell(result_of: Make) -> None:
    made = result_of(PUP, checkpoint="a b/$(rm x)", seed=2)
    command = train_command(made)
    assert command.startswith("python pipelines/train.py cell=table2/setr-pup/80k sweep.scale=miniature seed=2")
    assert "'training.recipe.ratio_range=[0.5, 1.5]'" in train_command(with_recipe(made, ratio_range=[0.5, 1.5]))
    assert "'checkpoint=a b/$(rm x)'" in score_command(made, "ss")
    assert train_command(dataclasses.replace(made, tags={"setr.train_command": "mine"})) == "mine"
    assert "variant=setr-pup" in train_command(dataclasses.replace(made, cells=()))


def with_recipe(made: Result, **changes: object) -> Result:
    experiment = {**made.experiment, "recipe": {**made.of("recipe"), **changes}}
    return dataclasses.replace(made, experiment=experiment)


def test_train_again_names_what_was_changed(result_of: Make) -> None:
    made = result_of(PUP, scale="paper")
    bare = "python pipelines/train.py cell=table2/setr-pup/80k sweep.scale=paper seed=0 training.precision=float32"
    beside = " storage.checkpoints=again tracking.experiment=again"
    assert train_command(made) == bare + beside
    changed = with_recipe(made, base_lr=1e-5, ema_decay=0.999, precision="bfloat16")
    words = train_command(changed).removeprefix(bare.removesuffix("float32")).removesuffix(beside).split()
    # 1e-05 would be text in YAML
    assert words == ["bfloat16", "training.recipe.base_lr=1.0e-05", "training.recipe.ema_decay=0.999"]


def test_images_that_a_score_was_made_on_belong_to_it(result_of: Make) -> None:
    made = result_of(PUP)
    score = {name: value for name, value in made.scores["ss"].items() if name != "manifest"}
    (chain,) = trace("table2/setr-pup/80k", [dataclasses.replace(made, scores={"ss": score})])
    assert "no hash of the images" in next(one for one in chain.links if one.name == "scored on ss").broken
