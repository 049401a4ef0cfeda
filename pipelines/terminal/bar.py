"""The bar of one long piece of work: what is done of how many, and the time still to go."""

import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn


def progress_bar() -> Progress:
    """Returns a bar that is drawn on a terminal only, and gone when the work is done."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not sys.stdout.isatty())
