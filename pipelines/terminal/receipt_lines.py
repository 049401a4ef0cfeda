"""What was understood of an imported checkpoint, for the terminal."""

from rich.table import Table

from setr.models.importing.receipt import Receipt
from setr.models.segmenter import Segmenter
from setr.models.specification import EncoderSize


def describe(model: Segmenter, receipt: Receipt) -> str:
    """Returns what was understood of the file, in two lines."""
    spec, settings = model.spec, receipt.settings
    parameters = sum(parameter.numel() for parameter in model.parameters())
    file = f"{receipt.format} file, {receipt.size_bytes / 1e6:.1f} MB, sha256 {receipt.sha256[:16]}"
    file += f", opened with {receipt.opened_with}"
    said = f"{settings.get('decoder', 'model')} with {spec.num_classes} classes, {parameters / 1e6:.2f}M parameters"
    if isinstance(spec.encoder, EncoderSize):
        size = spec.encoder
        said += f", {size.depth} layers of width {size.embed_dim}, {size.num_heads} heads"
        said += f" ({settings['num_heads_from']})" if "num_heads_from" in settings else ""
        said += f", reads layers {', '.join(str(tap + 1) for tap in spec.main_taps)}"
        said += f" ({settings['taps_from']})" if "taps_from" in settings else ""
    if spec.align_corners:
        said += f", corners aligned ({settings.get('align_corners_from', 'header')})"
    return f"{file}\n{said}, {len(spec.auxiliary)} auxiliary heads, made for {spec.image_size[0]}x{spec.image_size[1]}"


def receipt_table(receipt: Receipt) -> Table:
    """Returns the receipt's short table: tensors by status and reason."""
    table = Table("status", "tensors", "which, or why")
    for status, count, detail in receipt.rows():
        table.add_row(status, str(count), detail)
    for name in receipt.placeholders[:5]:
        table.add_row("not constructed", "", name)
    return table
