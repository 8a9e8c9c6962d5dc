"""What handlers build with: the step at hand and how torch settles its dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from instep.capture.building import Building, Scalar
from instep.capture.torch.program import INPUT, Program, Step
from instep.capture.torch.registry import Unsupported
from instep.graph import Graph, Value

__all__ = ["Builder", "dtype_name", "numpy_of"]


def dtype_name(dtype: torch.dtype) -> str:
    """numpy's name of a torch dtype. bfloat16, which numpy lacks, and float64, which no file has, are float32."""
    name = str(dtype).removeprefix("torch.")
    return "float32" if name in ("bfloat16", "float64") else name


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as numpy, not copied (bfloat16 and float64 become float32)."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float64) else tensor).cpu().numpy()


class Builder(Building):
    """Adds to ``graph`` what the current ``step`` of ``program`` means."""

    def __init__(self, graph: Graph, program: Program) -> None:
        super().__init__(graph)
        self.program = program
        self.step: Step = Step("call", "")

    # -- the step ------------------------------------------------------------------------------------------------
    def begin(self, step: Step) -> None:
        self.step = step
        self.stem = f"{step.scope}/{step.name}" if step.scope else step.name
        self.scope, self.origin = step.scope, step.origin

    def dtype(self, i: int = 0) -> str:
        """numpy name of the dtype of the step's result (of its i-th result)."""
        val = self.step.val
        return dtype_name((val[i] if isinstance(val, (list, tuple)) else val).dtype)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Shape of the step's (i-th) result."""
        val = self.step.val
        return tuple((val[i] if isinstance(val, (list, tuple)) else val).shape)

    def known(self, value: Value, name: str, place: int) -> np.ndarray | None:
        """The numbers of ``value``, the step's argument ``name`` at ``place``, where no input has a say in them."""
        array = self.array(value)
        step = self.step.kwargs.get(name, self.step.args[place] if len(self.step.args) > place else None)
        if array is None and isinstance(step, Step) and step.depends != INPUT:
            array = numpy_of(self.program.constant(step))
        return array

    # -- dtypes --------------------------------------------------------------------------------------------------
    def common(self, *operands: Value | Scalar) -> str:
        """The dtype that torch promotes these operands to (its rules for dimensions, 0-d tensors and numbers)."""
        values = [v for v in operands if isinstance(v, Value)]
        if len({v.dtype for v in values}) == 1:
            kinds = {type(v) for v in operands if not isinstance(v, Value)}
            kind = np.dtype(values[0].dtype).kind
            if kind == "f" or not kinds or (kind in "iu" and kinds <= {int, bool}) or kinds == {bool}:
                return values[0].dtype
        result: Any = None
        probes = [
            torch.empty((0,) * min(v.rank, 1), dtype=getattr(torch, v.dtype)) if isinstance(v, Value) else v
            for v in operands
        ]
        result = probes[0]
        for probe in probes[1:]:
            dtype = torch.result_type(result, probe)
            ranks = [p.dim() for p in (result, probe) if isinstance(p, torch.Tensor)]
            result = torch.empty((0,) * max(ranks, default=0), dtype=dtype)
        return dtype_name(result.dtype)

    def fail(self, why: str) -> Unsupported:
        return Unsupported(why)
