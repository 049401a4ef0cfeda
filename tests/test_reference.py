"""The reference names every public function with its docstring, and nothing private."""

import runpy
from pathlib import Path

from tests.helpers.environment import ROOT


def test_a_module_becomes_a_page(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""What it is."""\n\n\nclass Point:\n    """A place."""\n\n    x: int\n\n'
        '    def move(self, by: int = 1) -> "Point":\n        """Returns it moved."""\n\n'
        '    def _hidden(self):\n        """Private."""\n\n\ndef find(*, near: Point) -> None:\n    """Finds one."""\n'
    )
    text = runpy.run_path(str(ROOT / "docs" / "reference.py"))["page"]("setr.module", file)
    assert text.startswith("## setr.module\n\nWhat it is.")
    assert "class Point\n    x: int" in text
    assert "#### `Point.move`\n\n```python\nmove(self, by: int=1) -> 'Point'\n```\n\nReturns it moved." in text
    assert "find(*, near: Point) -> None" in text
    assert "Private" not in text
