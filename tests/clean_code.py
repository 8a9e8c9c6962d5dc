"""Exported code is as a person would keep it: ruff finds nothing to say and nothing to move."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["assert_clean"]


def assert_clean(*places: Path) -> None:
    """Files or folders of code."""
    for command in (["check", "--select", "E,F,I,UP,B,SIM"], ["format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "--line-length", "120", *places],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
