"""Checkpoints of this room's tests are kept off the disk."""

from tests.helpers.memory import tmp_path

__all__ = ["tmp_path"]
