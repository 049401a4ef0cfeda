"""Models looked over before anything of a sweep runs: those with a decoder of the user's own."""

import functools
import json
from collections.abc import Iterable

from setr.models.encoder_facts import encoder_facts
from setr.models.specification import TimmSpec
from setr.models.variants import structure_of
from setr.planning.planned import Planned
from setr.study.experiment import canonical_json


def licences_of(planned: Iterable[Planned]) -> list[str]:
    """Returns the licences of the weights that experiments start from, a line each; only timm's encoders have one."""
    found = {}
    for entry in planned:
        encoder = structure_of(entry.experiment.model)[0].encoder
        if isinstance(encoder, TimmSpec):
            found[encoder.name] = encoder_facts(encoder).licence or "not said"
    by_licence: dict[str, list[str]] = {}
    for name, licence in found.items():
        by_licence.setdefault(licence, []).append(name)
    return [f"{licence}: {', '.join(names)}" for licence, names in sorted(by_licence.items())]


def check_own_models(planned: Iterable[Planned]) -> list[str]:
    """Returns what is worth knowing of decoders of one's own, a line each; nothing is allocated.

    Raises InputError for the first one that cannot be trained as it is.
    """
    found: list[str] = []
    for entry in planned:
        if entry.own:
            structure = canonical_json(dict(entry.experiment.model))
            found += _checked(structure, tuple(sorted(entry.own.items())))
    return list(dict.fromkeys(found))


@functools.lru_cache(maxsize=256)
def _checked(structure: str, _: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    from setr.models.own_check import check_own  # with torch, which a plan of the tables does without

    return check_own(structure_of(json.loads(structure))[0])
