"""Puts the lists of edits, and the benchmark that judges them, where they can be imported."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[1]):
    sys.path.insert(0, str(folder))
