"""Code that the documentation tells people to write runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.parametrize("page", ["add-a-backend.md"])
def test_the_code_of_a_page_runs(page: str, root: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / page).read_text(), re.S)
    assert blocks
    exec(compile("\n\n".join(blocks), page, "exec"), {"__name__": "page"})
