"""The smallest settings that train: a cell, and what makes it take seconds."""

from setr.settings.config import Config, load_config
from setr.settings.home import PROJECT

TINY = (
    "sweep.scale=miniature",
    "miniature.iterations={40k: 4, 80k: 4}",
    "miniature.crop_size=[32,32]",
    "miniature.batch_size=2",
    "training.log_every=1",
)
CELL = "table2/setr-pup-random/40k"  # needs no pre-trained weights


def settings(*words: str, section: str = "training") -> Config:
    return load_config(PROJECT / "params.yaml", [*TINY, *words], section=section)
