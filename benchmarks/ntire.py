"""The entries of the NTIRE challenges on efficient super-resolution, with their trained weights.

Each year's repository loads its entries by ``select_model`` in ``test_demo.py``, a chain of ``if model_id == …``.
What entries there are, which pixel range their weights expect and which files hold them is read there, nothing is run.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instep.capture.torch.timm_zoo import prepare_torchvision

__all__ = ["YEARS", "Entry", "Year", "entries", "load"]


@dataclass(frozen=True)
class Year:
    """One challenge: its repository, the variable that says where it lies, and the names of its baselines."""

    repository: str
    variable: str
    baselines: dict[int, str]

    def folder(self) -> Path:
        """Where the repository lies. FileNotFoundError where the variable does not say so."""
        place = os.environ.get(self.variable, "")
        if not place or not (Path(place) / "test_demo.py").is_file():
            raise FileNotFoundError(
                f"these networks need the repository github.com/{self.repository}: "
                f"{place or 'no folder'} holds no test_demo.py; set {self.variable}"
            )
        return Path(place).resolve()

    def name(self, number: int) -> str:
        return self.baselines.get(number, f"team{number:02}")


#: By suite.
YEARS = {
    "ntire": Year("ofsoundof/NTIRE2022_ESR", "INSTEP_NTIRE", {-1: "baseline-imdn", 0: "baseline-rfdn"}),
    "ntire2024": Year("Amazingren/NTIRE2024_ESR", "INSTEP_NTIRE2024", {0: "baseline-rlfn"}),
    "ntire2025": Year("Amazingren/NTIRE2025_ESR", "INSTEP_NTIRE2025", {0: "baseline-efdn"}),
}


@dataclass(frozen=True)
class Entry:
    """``model_id``, the largest value of a pixel (1 or 255), and the file of weights, None where the entry is empty."""

    number: int
    data_range: float
    weights: Path | None


def entries(folder: Path) -> list[Entry]:
    """What ``select_model`` of ``folder``/test_demo.py can load, empty entries and missing weights among them."""
    tree = ast.parse((folder / "test_demo.py").read_text())
    select = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "select_model")
    branch: ast.stmt | None = next(n for n in select.body if isinstance(n, ast.If))
    found = []
    while isinstance(branch, ast.If):
        test = branch.test
        if isinstance(test, ast.Compare):
            found.append(_entry(folder, int(ast.literal_eval(test.comparators[0])), branch.body))
        branch = branch.orelse[0] if len(branch.orelse) == 1 else None
    return found


def _entry(folder: Path, number: int, body: list[ast.stmt]) -> Entry:
    high, weights = 1.0, None
    for node in (inner for statement in body for inner in ast.walk(statement)):
        match node:
            case ast.Assign([ast.Tuple([ast.Name("name"), ast.Name("data_range")])], ast.Tuple([_, ast.Constant(h)])):
                high = float(str(h))
            case ast.Constant(str(text)) | ast.JoinedStr([ast.Constant(str(text))]):
                if text.endswith((".pth", ".pt", ".pkl")):
                    weights = folder / "model_zoo" / Path(text).name
    return Entry(number, high, weights)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run in ``folder`` with its packages importable; what was saved on or moves itself to a GPU stays on the CPU."""
    before, load = os.getcwd(), torch.load
    moves = torch.nn.Module.cuda, torch.Tensor.cuda

    def load_on_cpu(file: Any, *_places: Any, **options: Any) -> Any:
        return load(file, **(options | {"map_location": "cpu", "weights_only": True}))

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    torch.load = load_on_cpu
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self, *_args, **_options: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.load = load
        torch.nn.Module.cuda, torch.Tensor.cuda = moves  # type: ignore[method-assign]
        sys.path.remove(str(folder))
        os.chdir(before)


#: What the repositories import beside the networks and never call to load one: image tools, plots, counters, progress.
BESIDE = ("cv2", "matplotlib", "matplotlib.pyplot", "fvcore", "fvcore.nn", "thop", "tqdm")
#: Modules of the repositories themselves that need those tools.
THEIRS = ("utils", "utils.model_summary", "utils.utils_logger", "utils.utils_image")


def _stand_ins() -> None:
    """Let the repositories be imported without the tools that loading a network never calls."""

    def nothing(name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0  # flags of image tools are or-ed on import

    prepare_torchvision()
    missing = {n for n in BESIDE if "." not in n and n not in sys.modules and importlib.util.find_spec(n) is None}
    for name in (*(n for n in BESIDE if n.partition(".")[0] in missing), *THEIRS):
        module: Any = types.ModuleType(name)
        module.__getattr__ = nothing
        sys.modules.setdefault(name, module)


def load(folder: Path, number: int) -> torch.nn.Module:
    """Entry ``number`` in evaluation mode, by the repository's own ``select_model``."""
    _stand_ins()
    with _inside(folder):
        import test_demo  # type: ignore[import-not-found]

        chosen = test_demo.select_model(types.SimpleNamespace(model_id=number), torch.device("cpu"))
    return chosen[0].eval()
