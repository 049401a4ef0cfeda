"""What SETR's study says, by words: recipes, protocols, data sets, decoders."""

from setr.data.reading.datasets import DATASETS as READERS
from setr.data.reading.datasets import PUBLISHED
from setr.models.decoders.table import DECODERS as _DECODERS
from setr.models.flavours import FLAVOURS
from setr.settings.choices import require_choice
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe
from setr.study.shelf import setr_study
from setr.study.terms import KINDS, PRINTED_RULE, protocol_of, recipe_of

DATASETS = tuple(PUBLISHED)
DECODERS = tuple(name for name, decoder in _DECODERS.items() if decoder.published_as == name)


def recipe(dataset: str, decoder: str, schedule: str, *, flavour: str = "authors") -> Recipe:
    """Returns the published training recipe of a decoder on a data set, e.g. recipe("cityscapes", "pup", "80k").

    Raises InputError for an unknown word, and where a flavour published no recipe (mmseg on Pascal Context).
    """
    require_choice("data set", dataset, DATASETS)
    require_choice("decoder", decoder, DECODERS)
    require_choice("flavour", flavour, FLAVOURS)
    rules = setr_study().recipes[dataset]
    return recipe_of(rules, data=dataset, decoder=decoder, schedule=schedule, flavour=flavour)


def protocol(dataset: str, decoder: str, kind: str, *, short_side: str = PRINTED_RULE) -> Protocol:
    """Returns the protocol by which the paper's number of this kind (ss | ms) was, as far as is known, scored.

    `short_side` matters for the multi-scale scores of the SETR models only; the name is "ss", or "ms" for the reading
    of the tables and "ms-<rule>" for another one.
    """
    require_choice("data set", dataset, DATASETS)
    require_choice("decoder", decoder, DECODERS)
    require_choice("protocol kind", kind, KINDS)
    classes = READERS[dataset].num_classes
    rules = setr_study().protocols
    return protocol_of(rules, kind, None, data=dataset, decoder=decoder, classes=classes, short_side=short_side)
