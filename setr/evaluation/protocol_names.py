"""The protocol that a name on the command line means for a model and a data set.

`ss` and `ms` are the paper's single- and multi-scale protocols; `ms-<rule>`, or a short-side rule alone, is the
multi-scale protocol under that reading (setr.study.protocols).
"""

from dataclasses import replace

from setr.data.reading.datasets import published_of
from setr.models.decoders.table import decoder_with
from setr.models.own_head import OwnHeadSpec
from setr.models.specification import SegmenterSpec
from setr.settings.choices import require_choice
from setr.settings.config import MiniatureConfig
from setr.study.miniature import DATASET, miniature_protocol
from setr.study.protocols import RATIOS, SHORT_SIDE_RULES, Protocol, overlapping
from setr.study.published import protocol
from setr.study.terms import PRINTED_RULE

NAMES = ("ss", "ms", *SHORT_SIDE_RULES, *(f"ms-{rule}" for rule in SHORT_SIDE_RULES))


def named_protocol(
    name: str,
    spec: SegmenterSpec,
    dataset: str,
    *,
    num_classes: int,
    miniature: MiniatureConfig | None = None,
    known: Protocol | None = None,
) -> Protocol:
    """Returns the protocol of that name for a model on a data set of `num_classes`.

    On a data set that is none of the paper's, images and windows are those of `known`, the single-scale protocol that
    the model was scored with, else images as they are with windows of the size that the model was made for. With
    `miniature` the paper's protocol is scaled down to its crop. Raises InputError for an unknown name.
    """
    require_choice("protocol", name, NAMES)
    rule = name.removeprefix("ms-")
    kind = "ss" if name == "ss" else "ms"
    rule = rule if rule in SHORT_SIDE_RULES else PRINTED_RULE
    own = isinstance(spec.decoder, OwnHeadSpec)  # scored as most rows of the decoders are
    decoder = "naive" if own else decoder_with(spec.decoder).published_as
    published = published_of(dataset)
    if miniature is not None:
        found = miniature_protocol(protocol(DATASET, decoder, kind, short_side=rule), miniature)
    elif published is not None:
        found = protocol(published.dataset, decoder, kind, short_side=rule)
    else:
        window = spec.image_size
        found = known or Protocol("ss", None, "slide", window, overlapping(window), num_classes=num_classes)
        if kind == "ms":
            called = kind if rule == PRINTED_RULE else f"ms-{rule}"
            found = replace(found, name=called, ratios=RATIOS, flip=True, short_side=rule)
    return replace(found, num_classes=num_classes)
