"""The project with a clock in it: each thread knows the step that it computes, so that a change may act late.

This, and not the plain project, is what a change is compared with: all that differs is the changed expression.
"""

from benchmarks.identity.edits.editing import Edit, Sources, with_first_statement, with_import

LATE = 100  # steps that are over before a late change acts
FILE = "setr/data/step_clock.py"
IMPORT = "from setr.data.step_clock import is_late, note_step"
_TEXT = f'''"""The step that a thread computes."""

import threading

_now = threading.local()
_over = [0]  # steps that are over before this process does anything


def note_step(step):
    """Says which step is computed."""
    _now.step = step


def begin_after(steps):
    """Says that so many steps are over; 0: a training begins, in a thread that may have had one before."""
    _over[0], _now.step = steps, 0


def is_late():
    """Returns whether a late change acts."""
    return max(getattr(_now, "step", 0), _over[0]) >= {LATE}
'''
# Where a thread learns its step: the functions that are given it.
PLACES = (
    ("setr/training/step.py", "seed_step"),
    ("setr/training/optim.py", "learning_rate"),
    ("setr/data/loading/loader.py", "sample_order"),
    ("setr/data/loading/transforms.py", "draw"),
    ("setr/data/loading/transforms.py", "augment"),
)


def with_clock(sources: Sources) -> Edit:
    """Returns the project with the clock."""
    files: dict[str, str] = {}
    for file, function in PLACES:
        text = files.get(file) or with_import(sources.text(file), IMPORT)
        files[file] = with_first_statement(text, function, "note_step(step)")
    return Edit("clock", "the step as each thread knows it", {**files, FILE: _TEXT})


def late(before: str, after: str) -> str:
    """Returns an expression that is `before` in the first steps and `after` later."""
    return f"({after} if is_late() else {before})"
