"""What the tests share: where the repository is, where optional data lies, and the command line as a user runs it."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warm import Warm

# two test processes share two cores: one thread each is faster than two that fight
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Optional pictures and checkpoints ($INSTEP_DATA or ../shared/data); the test is skipped where they are absent."""
    folder = Path(os.environ.get("INSTEP_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no optional data here (set INSTEP_DATA)")
    return folder


_WARM = Warm()
atexit.register(_WARM.close)


class CommandLine:
    """Runs ``instep`` in a folder and keeps what came back: in a fork of a warm process, or ``fresh``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(p for p in (str(ROOT / "src"), os.environ.get("PYTHONPATH", "")) if p)
        return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}

    def __call__(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return _WARM.run([*map(str, arguments)], self.folder, self.environment(), timeout)

    def fresh(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "instep", *map(str, arguments)],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip


@pytest.fixture
def instep(tmp_path: Path) -> CommandLine:
    """The command line, run in a fresh folder."""
    return CommandLine(tmp_path)
