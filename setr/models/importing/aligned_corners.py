"""Whether the last resize of a released model aligns corners: a bare state dict holds nothing that says it."""

from setr.errors import InputError
from setr.models.importing.stored_config import StoredConfig

# Class counts of the data sets for which mmsegmentation publishes dilated FCNs, all of them without aligned corners:
# VOC 2012, Pascal Context with and without background, ADE20K (configs/fcn). For Cityscapes' 19 it publishes both.
UNALIGNED_CLASSES = (21, 59, 60, 150)


def aligned_corners(kind: str, num_classes: int, settings: StoredConfig, given: bool | None) -> tuple[bool, str]:
    """Returns whether corners are aligned, and what said so: what is given, the config in the file, or what exists.

    Raises InputError for a dilated FCN (`kind` "fcn") of which models of both sorts are published or none is known:
    its weights have the same names and shapes either way, and the wrong one computes other logits.
    """
    if given is not None:
        return given, "given"
    if settings.align_corners is not None:
        return settings.align_corners, "config in the file"
    if kind != "fcn" or num_classes in UNALIGNED_CLASSES:
        return False, "the published configs"
    raise InputError(
        "E_CKPT_ALIGN",
        f"nothing in the file says whether this FCN with {num_classes} classes aligns corners: its logits depend on it",
        where="decode_head.align_corners",
        found="no config beside the weights",
        expected="a config in the file, or the setting",
        remedy="import it with pipelines/import_checkpoint.py --align-corners (trained on 769x769) or "
        "--no-align-corners (512x1024 and others); in Python, import_checkpoint(..., align_corners=True or False)",
    )
