"""A study to begin with: a commented file from a few answers."""

import dataclasses
import re
from collections.abc import Sequence

from setr.errors import InputError

_MODEL = re.compile(r"([\w.+-]+)(?:=(.*))?")


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a new study is to be about."""

    title: str
    data: str = "scenes"  # name of a prepared data set
    models: Sequence[str] = ("naive", "pup")  # decoders, or <name>=<file.py:Class>
    encoder: str = "t-base"
    weights: str = "21K"
    iterations: int = 20_000
    seeds: int = 3
    schema: str = ""  # where the editors' schema lies, as seen from the file; "": not named


def new_study(answers: Answers) -> str:
    """Returns the text of the file; raises InputError for a model that cannot be named so."""
    models = "\n".join(_model(word, answers) for word in answers.models)
    rows = ", ".join(_MODEL.fullmatch(word)[1] for word in answers.models)  # type: ignore[index]  # _model has looked
    crop = "setr/ade20k" if answers.data == "ade20k" else "setr/cityscapes"
    schema = f"# yaml-language-server: $schema={answers.schema}\n" if answers.schema else ""
    return f"""{schema}# `python pipelines/study.py check <this file>` looks it over; each word: docs/own-table.md
title: {_quoted(answers.title)}

# Each model: encoder (t-base, t-large, r-101, or timm:<a name of timm's>), weights (R random, 1K, 21K; timm's own are
# taken where the encoder is timm's), decoder (a name, or <file.py>:<Class> of your own beside this file).
models:
{models}

# How all of them train. What is not said here comes from the recipe named: any field of a recipe may stand here.
recipe: {{from: {crop}, iterations: {answers.iterations}}}

# At miniature scale (the default of sweep.scale) encoders are tiny, and this is changed as well:
# miniature: {{recipe: {{iterations: 60, crop_size: [64, 128]}}}}

tables:
  main:
    title: {_quoted(answers.title)}
    rows: [{rows}]
    columns:
      low: {{data: {answers.data}, recipe: {{base_lr: 1.0e-3}}}}
      high: {{data: {answers.data}, recipe: {{base_lr: 1.0e-2}}}}
    seeds: {answers.seeds}
"""


def _model(word: str, answers: Answers) -> str:
    match = _MODEL.fullmatch(word)
    if match is None:
        raise InputError("E_STUDY", "not a model", found=word, expected="<name>, or <name>=<decoder or file.py:Class>")
    decoder = match[2] or match[1]
    return f"  {match[1]}: {{encoder: {_quoted(answers.encoder)}{_weights(answers)}, decoder: {_quoted(decoder)}}}"


def _weights(answers: Answers) -> str:
    return "" if answers.encoder.startswith("timm:") else f", weights: {answers.weights}"


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
