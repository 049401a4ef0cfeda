"""A decoder of a user's own, in a file outside the package, and a small experiment with it."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from setr.models.own_code import OwnCode
from setr.models.own_head import own_head
from setr.models.specification import SegmenterSpec
from setr.models.variants import structure_of, structure_parts, structure_record, variant_spec
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.settings.config import Config
from setr.study.code import training_code
from tests.helpers.environment import ROOT

DOCS = ROOT / "docs" / "own-decoder.md"
SOURCE = "mine.py:ConcatHead"
TAPS = (1, 3)
WIDTH = 64  # of T-Base in miniature


def text_of_the_docs() -> str:
    """Returns the file that the documentation shows."""
    [text] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    return str(text)


def own_spec(
    source: str = SOURCE, *, auxiliary: bool = False, flavour: str = "authors", **options: Any
) -> SegmenterSpec:
    """Returns T-Base in miniature with a decoder of one's own, for crops of 32 x 48 pixels."""
    known = variant_spec("setr-naive-base", num_classes=5, crop_size=(32, 48), scale="miniature", flavour=flavour)
    return dataclasses.replace(
        known,
        decoder=own_head(source, (WIDTH,) * len(TAPS), options),
        main_taps=TAPS,
        auxiliary=(own_head(source, (WIDTH,), options), known.auxiliary[0]) if auxiliary else (),
        auxiliary_taps=(0, 2) if auxiliary else (),
    )


def own_planned(config: Config, folder: Path, code: OwnCode, **options: Any) -> Planned:
    """Returns the experiment that the settings ask for, with a decoder of one's own in its model's."""
    entry = plan_training(config)
    known = structure_of(entry.experiment.model)[0]
    width = known.encoder.embed_dim  # type: ignore[union-attr]  # the tiny experiments are of transformers
    decoder = own_head(code.source, (width,) * len(TAPS), options)
    spec = dataclasses.replace(known, decoder=decoder, main_taps=TAPS, auxiliary=(), auxiliary_taps=())
    structure, own = structure_record(spec), {code.source: code.text}
    found = training_code(structure_parts(structure), own)
    experiment = dataclasses.replace(
        entry.experiment, variant="mine", model=structure, code=found.sha256, modules=found.modules
    )
    return dataclasses.replace(
        entry,
        experiment=experiment,
        cells=(),
        folder=folder / experiment.identity,
        state="to do",
        code=found.sha256,
        modules=found.modules,
        own=own,
    )
