"""An experiment and its identity: the SHA-256 over what it is (its spec) and the code that it runs through."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from setr.errors import InputError
from setr.models.specification import SegmenterSpec
from setr.models.variants import structure_of, variant_spec
from setr.study.recipes import Recipe
from setr.study.spec import flat, spec_values


@dataclass(frozen=True)
class Experiment:
    """One training: data set, model, schedule and seed, with all that decides its result, and names for people."""

    dataset: str
    variant: str
    schedule: str  # as the tables write it: 40k, 80k, 160k
    scale: str  # miniature | paper
    seed: int
    recipe: Recipe
    manifest: str  # hash of the training shards' manifest
    weights: str  # SHA-256 of the pre-trained weights' files, joined by +; "" for random
    code: str  # hash of the code that it runs through (setr.study.code)
    transform: str = ""  # a function of the user's own with the hash of its file; "": none
    tensors: str = ""  # hash of the tensors that the weights put into the model; "": not known
    model: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the structure as values, and its start's style
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False, compare=False)  # of the code

    @functools.cached_property
    def spec(self) -> str:
        """Returns the SHA-256, in hex, of the spec: what the experiment is, whatever code trains it."""
        return sha256_of(self.spec_values)

    @functools.cached_property
    def spec_places(self) -> frozenset[tuple[str, str]]:
        """Returns the spec's values as text by their places: two specs differ where these sets do."""
        return frozenset((place, canonical_json(value)) for place, value in flat(self.spec_values).items())

    @functools.cached_property
    def spec_values(self) -> dict[str, Any]:
        """Returns the spec as values (setr.study.spec)."""
        return spec_values(
            manifest=self.manifest,
            weights=self.tensors or self.weights,
            model=self.model,
            recipe=self.recipe,
            seed=self.seed,
            transform=self.transform,
        )

    @functools.cached_property
    def identity(self) -> str:
        """Returns the SHA-256, in hex, over spec and code: the same identity is never trained twice."""
        return sha256_of({"spec": self.spec, "code": self.code})

    def as_dict(self) -> dict[str, Any]:
        """Returns the experiment as JSON-able values, the recipe nested, with its spec; `from_dict` reads it back."""
        record = json.loads(canonical_json(asdict(self)))
        if not self.transform:
            del record["transform"]
        return {**record, "spec": self.spec_values}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Experiment":
        """Returns the experiment of a record written by `as_dict`.

        Raises InputError if a field is missing or unknown, or if the spec in it is not that of its other values.
        """
        try:
            values = {name: value for name, value in record.items() if name != "spec"}
            experiment = cls(**{**values, "recipe": Recipe(**record["recipe"])})
            said = record.get("spec", experiment.spec_values)  # records of the first version say none
            same = canonical_json(experiment.spec_values) == canonical_json(said)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            expected = ", ".join(entry.name for entry in fields(cls))
            raise InputError(
                "E_EXPERIMENT", "not an experiment's record", found=str(error), expected=expected
            ) from error
        if not same:
            raise InputError("E_EXPERIMENT", "the record's spec is not that of its values", found=experiment.spec[:12])
        return experiment


def model_of(experiment: Experiment, classes: int) -> SegmenterSpec:
    """Returns the structure of the experiment's model; raises InputError for a crop that it cannot have."""
    if experiment.model:
        return structure_of(experiment.model)[0]
    recipe = experiment.recipe  # a record of the first version names a variant
    return variant_spec(
        experiment.variant,
        num_classes=classes,
        crop_size=recipe.crop_size,
        scale=experiment.scale,
        flavour=recipe.flavour,
        drop_path=recipe.drop_path,
    )


def identity_of(record: Mapping[str, Any]) -> str:
    """Returns the identity that follows from an experiment's record; "" if it is none.

    Records of the first version have no spec: there the whole record was hashed.
    """
    try:
        if "spec" not in record:
            return sha256_of(record)
        return sha256_of({"spec": sha256_of(record["spec"]), "code": record["code"]})
    except (TypeError, ValueError, KeyError):
        return ""


def sha256_of(value: object) -> str:
    """Returns the SHA-256, in hex, of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """Returns the one JSON text of a value: keys sorted, no spaces, ASCII, tuples as lists; NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
