"""Writes the PyTorch twin of a part: a small module with its weights beside it, which gives what is expected."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.debug.cutting import Cutter
from instep.debug.flow import Part
from instep.debug.torch_code import PRELUDE, NoTwin, statement
from instep.graph import SourceView

__all__ = ["Twin", "run_twin", "write_twin"]


@dataclass
class Twin:
    """The trusted side of a part: operators of ``cutter``'s file.

    ``inputs``: for each tensor that ``part`` reads the number of the argument that shows it, and how: the argument is
    the tensor, transposed and reshaped (None: as it is). ``outputs``: the same for each result, with the tensor.
    """

    cutter: Cutter
    part: Part
    inputs: Sequence[tuple[int, SourceView | None]]
    outputs: Sequence[tuple[int, SourceView | None]]
    arguments: int


_HEAD = '''"""{title}

The same operators in PyTorch, with the weights of weights.npz: python twin.py compares it with expected/.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
{prelude}

class Twin(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, array in np.load(HERE / "weights.npz").items():
            self.register_buffer(name, torch.from_numpy(array))

    def forward(self, {arguments}):
{body}
        return ({results},)


def arrays(folder):
    return [np.load(p) for p in sorted((HERE / folder).glob("*.npy"), key=lambda p: int(p.name.split("-")[0]))]


if __name__ == "__main__":
    with torch.no_grad():
        made = Twin()(*(torch.from_numpy(a) for a in arrays("inputs")))
    for number, (array, expected) in enumerate(zip(made, arrays("expected"))):
        error = np.abs(array.numpy().astype(np.float64) - expected).max(initial=0)
        size = np.abs(expected.astype(np.float64)).max(initial=0)
        print(f"output {{number}}: max |twin - expected| {{error:.3g}} (values up to {{size:.3g}})")
'''


def write_twin(twin: Twin, folder: Path, title: str) -> str:
    """Write ``twin.py`` and ``weights.npz`` into ``folder``. Returns "" or, where there is no twin, why."""
    info, part = twin.cutter.info, twin.part
    if any(t.scale for n in part.ops for i in info.ops[n].outputs for t in [info.tensors[i]]):
        return "the operators compute with quantised integers"
    names: dict[int, str] = {}
    weights: dict[str, np.ndarray] = {}
    lines: list[str] = []
    for index, (number, view) in zip(part.inputs, twin.inputs, strict=True):
        names[index] = f"x{number}" if _plain(view) else f"v{index}"
        if view is not None and not _plain(view):
            lines.append(f"v{index} = {_from(f'x{number}', view, info.tensors[index].shape)}")
    try:
        for number in part.ops:
            op = info.ops[number]
            for index in op.inputs:
                if index >= 0 and index not in names:
                    array = info.constant(index)
                    if array is None:
                        continue  # an operand that only has a shape
                    names[index] = f"self.w{index}"
                    weights[f"w{index}"] = np.array(array.astype(np.float32) if array.dtype == "float16" else array)
            code = statement(info, op, names)
            made = [f"v{index}" for index in op.outputs]
            names |= dict(zip(op.outputs, made, strict=True))
            lines.append(f"{', '.join(made)} = {code}  # {op.name} {_one_line(info.tensors[op.outputs[0]].name)}")
    except NoTwin as reason:
        return f"{reason} has no counterpart in the table of PyTorch forms"
    except KeyError:
        return "an operand is neither computed nor a constant"
    results = [_to(names[index], view) for index, view in twin.outputs]
    text = _HEAD.format(
        title=title, prelude=PRELUDE, arguments=", ".join(f"x{n}" for n in range(twin.arguments)),
        body="\n".join(f"        {line}" for line in lines), results=", ".join(results),
    )  # fmt: skip
    np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type]
    (folder / "twin.py").write_text(text, encoding="utf-8")
    return ""


def run_twin(folder: Path, timeout: float = 120.0) -> str:
    """What ``twin.py`` says when it runs; "" where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return ""
    try:
        done = subprocess.run(
            [sys.executable, "twin.py"], cwd=folder, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it did not end within {timeout:.0f} seconds"
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return "; ".join(last) if done.returncode == 0 else f"it fails: {last[-1] if last else done.returncode}"


def _plain(view: SourceView | None) -> bool:
    return view is None or (view.perm == tuple(range(len(view.perm))) and len(view.perm) == len(view.shape))


def _from(name: str, view: SourceView, shape: Sequence[int]) -> str:
    """The source's value, of ``shape``, from a tensor that shows it."""
    order = [int(i) for i in np.argsort(view.perm)]
    return f"{name}.reshape({[shape[p] for p in view.perm]}).permute({order})"


def _to(name: str, view: SourceView | None) -> str:
    if view is None or _plain(view):
        return name
    return f"{name}.permute({list(view.perm)}).reshape({list(view.shape)})"


def _one_line(text: str) -> str:
    return " ".join(text.split())
