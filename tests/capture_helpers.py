"""What the capture tests share: networks from functions, inputs, and the three-way comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from instep.capture import Captured, capture
from instep.graph.validate import validate

__all__ = ["Function", "agree", "draw", "tolerance"]


class Function(torch.nn.Module):
    """A module whose forward is ``function(*inputs)``; ``parameters`` become parameters passed after the inputs."""

    def __init__(self, function: Callable[..., Any], *parameters: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        self.held = torch.nn.ParameterList([torch.nn.Parameter(p) for p in parameters])

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs, *self.held)


def draw(captured: Captured, seed: int = 0) -> list[np.ndarray]:
    """Random inputs that fit."""
    rng = np.random.default_rng(seed)
    drawn = []
    for spec in captured.reference.input_specs:
        if spec.dtype.startswith("float"):
            drawn.append(rng.standard_normal(spec.shape).astype(spec.dtype))
        elif spec.dtype == "bool":
            drawn.append(rng.random(spec.shape) < 0.5)
        else:
            drawn.append(rng.integers(0, 5, spec.shape).astype(spec.dtype))
    return drawn


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    if a.dtype.kind != "f":
        return float(np.any(a != b))
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0) or 1.0
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0) / scale)


def agree(
    module: torch.nn.Module, inputs: Any, *, rtol: float = 1e-9, arrays: Sequence[np.ndarray] | None = None
) -> Captured:
    """Capture, then hold three against each other: the graph's numpy meaning and PyTorch in float64 (every captured
    value, to ``rtol`` of its largest element), PyTorch's steps in float32 and the module itself (exactly)."""
    module.eval().requires_grad_(False)
    captured = capture(module, inputs=inputs)
    validate(captured.graph)
    arrays = list(arrays) if arrays is not None else draw(captured)
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    truth = captured.reference.run(wide, dtype="float64")
    meant = captured.graph.run(wide)
    for value, array in meant.items():
        if value.source is not None or value in captured.graph.outputs:
            name = value.name
            assert name in truth, f"{name} is not a value of the reference"
            assert array.dtype == truth[name].dtype, (name, array.dtype, truth[name].dtype)
            assert _distance(array, truth[name]) <= rtol, (name, _distance(array, truth[name]))
    single = captured.reference.run(arrays, dtype="float32")
    with torch.no_grad():
        eager = module(*(torch.from_numpy(np.array(a)) for a in arrays))
    flat = [t for t in torch.utils._pytree.tree_leaves(eager) if isinstance(t, torch.Tensor)]
    assert len(flat) == len(captured.graph.outputs)
    for tensor, value in zip(flat, captured.graph.outputs, strict=True):
        assert tuple(tensor.shape) == value.shape
        assert str(tensor.dtype).removeprefix("torch.") == value.dtype
        assert _distance(single[value.name], tensor.resolve_neg().numpy()) == 0.0, (
            f"{value.name}: the steps are not the module"
        )
    return captured


#: These hold a constant that float32 rounds (log 2, n / (n - 1), √(1/8), …): float64 sees that rounding.
ROUNDED = {
    "log2",
    "log10",
    "exp2",
    "sinc",
    "deg2rad",
    "round2",
    "avg_divisor",
    "avg_volume_divisor",
    "norm3",
    "quantile",
    "quantiles",
    "var",
    "var_dim",
    "std",
    "std_correction",
    "var_mean",
    "std_mean",
    "local",
    "plain",
    "causal",
    "bool_mask",
    "float_mask",
    "head_mask",
    "inf_mask",
}


def tolerance(name: str) -> float:
    """How near float64 must come to float64: nearer than float32's rounding, unless a constant carries that."""
    return 1e-6 if name in ROUNDED else 1e-9
