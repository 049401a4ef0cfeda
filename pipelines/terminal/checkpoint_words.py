"""One grammar for the commands that open a checkpoint: its path is a plain word, or checkpoint=PATH like any setting.

What the section `evaluation` says of a checkpoint (num_heads, taps, device, precision) and data.name are read from the
settings by all of them; an option of the same meaning (`--num-heads 12`) comes before.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.terminal.command import read_settings, split_words
from setr.errors import InputError
from setr.settings.config import Config

SECTION = "evaluation"


@dataclass(frozen=True)
class CheckpointAsked:
    """The checkpoint that a command is to open, and how."""

    path: Path
    others: tuple[str, ...]  # the command's other words
    data: str  # data set whose classes are meant, "" where nobody says
    num_heads: int | None
    taps: tuple[int, ...] | None
    device: str  # "": a GPU if there is one
    precision: str  # float32 | bfloat16
    allow_code: bool  # run the code of a user's own that it brings


def read_checkpoint_words(
    arguments: argparse.Namespace, *, others: Sequence[str] = (), unused: Sequence[str] = ()
) -> CheckpointAsked:
    """Returns what `arguments.words` and the options ask for; `others` names the words beside the checkpoint.

    Raises InputError for too few or too many words, a setting that is none, or one of the section that is `unused`.
    """
    words, overrides = split_words(arguments.words)
    config = read_settings(overrides, section=SECTION, unused=_unused(("protocol", "split", "threads", *unused)))
    path = checkpoint_word(words, config, overrides, others=others)
    settings = config.evaluation
    data_is_said = any(override.startswith("data.name=") for override in overrides)
    precision = getattr(arguments, "precision", None) or settings.precision
    return CheckpointAsked(
        path=Path(path),
        others=tuple(words[len(words) - len(others) :]),
        data=arguments.data or (config.data.name if data_is_said else ""),
        num_heads=arguments.num_heads if arguments.num_heads is not None else settings.num_heads or None,
        taps=settings.taps or None,
        device=getattr(arguments, "device", "") or settings.device,
        precision="float32" if precision == "auto" else precision,
        allow_code=arguments.allow_code,
    )


def add_allow_code(parser: argparse.ArgumentParser) -> None:
    """Adds the option with which a command runs the code that a checkpoint brings."""
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code of its trainer's own that a checkpoint brings"
    )


def checkpoint_word(
    words: Sequence[str], config: Config, overrides: Sequence[str], *, others: Sequence[str] = ()
) -> str:
    """Returns the checkpoint's path: the first word, or the setting if the words are only `others`.

    Raises InputError where it is missing or named twice, or the number of words is another.
    """
    said = any(override.startswith(("checkpoint=", f"{SECTION}.checkpoint=")) for override in overrides)
    if len(words) == len(others) + 1 and not said:
        return words[0]
    if len(words) == len(others) and config.evaluation.checkpoint:
        return config.evaluation.checkpoint
    if not words and not others:
        raise InputError("E_CONFIG", "no checkpoint is named", expected="CHECKPOINT: a step folder or file")
    wanted = " ".join(("CHECKPOINT", *others))
    raise InputError(
        "E_COMMAND",
        "the checkpoint is named twice" if said and len(words) > len(others) else f"expected {wanted}",
        found=" ".join(words) or "no word",
        expected=f"{wanted}, or checkpoint=<step folder or file>" + "".join(f" {name}" for name in others),
    )


def with_section(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns the words with `name=value` of these names as evaluation.name=value, for another section's command."""
    return [f"{SECTION}.{word}" if "=" in word and word.partition("=")[0] in names else word for word in words]


def _unused(names: Sequence[str]) -> dict[str, Any]:
    remedy = "leave it out"
    return {key: remedy for name in names for key in (name, f"{SECTION}.{name}")}
