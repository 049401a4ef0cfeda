"""The decoders: one row each."""

from setr.errors import InputError
from setr.models.decoders.decoder import Decoder
from setr.models.decoders.dpt import DPT
from setr.models.decoders.fcn import FCN
from setr.models.decoders.linear import LINEAR
from setr.models.decoders.mla import MLA
from setr.models.decoders.naive import NAIVE
from setr.models.decoders.pup import PUP
from setr.models.decoders.segformer import SEGFORMER
from setr.models.decoders.segmenter_linear import SEGMENTER_LINEAR
from setr.models.decoders.segmenter_mask import SEGMENTER_MASK
from setr.models.decoders.semantic_fpn import SEMANTIC_FPN
from setr.models.decoders.upernet import UPERNET
from setr.models.specification import HeadSpec

_OF_THE_TABLES = (NAIVE, PUP, MLA, FCN, SEMANTIC_FPN)
_OF_OTHERS = (LINEAR, UPERNET, DPT, SEGFORMER, SEGMENTER_LINEAR, SEGMENTER_MASK)
DECODERS: dict[str, Decoder] = {decoder.name: decoder for decoder in (*_OF_THE_TABLES, *_OF_OTHERS)}


def decoder_with(spec: HeadSpec) -> Decoder:
    """Returns the decoder that a head's spec belongs to; an auxiliary head's is the one it could be the head of.

    Raises InputError for a spec that no row has.
    """
    for decoder in DECODERS.values():
        if decoder.has(spec):
            return decoder
    raise InputError(
        "E_DECODER",
        "no row of the decoders has this head",
        found=type(spec).__name__,
        expected=", ".join(sorted({decoder.spec.__name__ for decoder in DECODERS.values()})),
        remedy="add the decoder to setr/models/decoders/table.py",
    )
