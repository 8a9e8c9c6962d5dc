"""What `make demo` promises: a real picture, a proof that holds, a report, a planted fault found and named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_demonstration_keeps_its_promises(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "120"}
    run = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    first, second = run.stdout.split("Now the same file")
    assert "✓ in step" in first.splitlines()[1]
    assert "demo-out/report.html" in first
    ours, bicubic = map(float, re.findall(r"([\d.]+) dB", first))
    assert ours > bicubic + 0.5
    assert "✕ out of step" in second
    assert "align_corners" in second and "super_resolution.py:27" in second
    page = (root / "demo-out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
