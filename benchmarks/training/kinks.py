"""Kinks: where a function's slope jumps, rounding decides which slope an element gets, and all gradients before it.

ReLU at 0, a clip at its ends, a maximum between equal elements: the values on either side are the same, so the forward
pass does not show which side was taken; the step does, far beyond its other rounding. Which elements are that near is
measured: ``Kinks`` records what such functions are given, and a step in float64 with ``Sides`` takes the other side for
those nearer to a kink than float32 runs are away from the truth there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Kinks", "Sides", "roundings"]

#: Functions of each element alone that have kinks, by what PyTorch calls them.
_ELEMENTWISE = {
    "relu", "relu6", "leaky_relu", "prelu", "hardtanh", "hardswish", "hardsigmoid", "abs", "clamp", "clamp_min",
    "clamp_max",
}  # fmt: skip
_POOLS = {"max_pool1d", "max_pool2d"}

#: Slopes that differ by more than this part jump; others change smoothly.
_JUMP = 1e-4


class Kinks(TorchFunctionMode):
    """While it is active, what functions with kinks are given is kept in ``inputs``, in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, options = getattr(func, "__name__", ""), kwargs or {}
        if name not in _ELEMENTWISE | _POOLS or not isinstance(args[0], torch.Tensor):
            return func(*args, **options)
        self.inputs.append(args[0].detach())
        return self.taken(func, name, args, options)

    def taken(self, func: Callable[..., Any], name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """What the function gives."""
        return func(*args, **options)


def roundings(truth: Kinks, singles: Sequence[Kinks]) -> list[float]:
    """The largest distance of float32 runs from the truth at each function with kinks."""
    found = []
    for place, exact in enumerate(truth.inputs):
        away = [(run.inputs[place].to(exact.dtype) - exact).abs().max() for run in singles]
        found.append(float(max(away, default=torch.zeros(()))))
    return found


class Sides(Kinks):
    """Each element nearer to a kink than the rounding measured there is moved by that much, up or down at random.

    With ``other`` those go up that otherwise go down: every such element is on its other side in one of the two.
    Elements that stay on their side stay as they are.
    """

    def __init__(self, roundings: Sequence[float], seed: int, other: bool = False) -> None:
        super().__init__()
        self.roundings = roundings
        self.sign = -1.0 if other else 1.0
        self.rng = np.random.default_rng(seed)
        #: how many elements took the other side
        self.moved = 0

    def taken(self, func: Callable[..., Any], name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        x, rest = args[0], args[1:]
        signs = self.rng.integers(0, 2, tuple(x.shape), dtype=np.int8) * 2 - 1
        step = torch.from_numpy(signs).to(x.dtype) * (self.sign * self.roundings[len(self.inputs) - 1])
        if name in _POOLS:
            return self._pooled(name, x, x.detach() + step, rest, options)
        before, after = (_slope(func, z, rest, options) for z in (x.detach(), x.detach() + step))
        jumps = (before - after).abs() > _JUMP * torch.maximum(before.abs(), after.abs())
        self.moved += int(jumps.sum())
        return func(x + step * jumps, *rest, **options)

    def _pooled(self, name: str, x: torch.Tensor, moved: torch.Tensor, rest: Any, options: dict[str, Any]) -> Any:
        """The elements of ``x`` at the places where ``moved`` has its maxima."""
        pool: Any = {"max_pool1d": F.max_pool1d_with_indices, "max_pool2d": F.max_pool2d_with_indices}[name]
        options = {k: v for k, v in options.items() if k != "return_indices"}
        places, usual = (pool(z, *rest, **options)[1] for z in (moved, x.detach()))
        self.moved += int((places != usual).sum())
        lead = places.ndim - (1 if name == "max_pool1d" else 2)
        return x.flatten(lead).gather(-1, places.flatten(lead)).view_as(places)


def _slope(func: Callable[..., Any], x: torch.Tensor, rest: Sequence[Any], options: dict[str, Any]) -> torch.Tensor:
    fixed = [a.detach() if isinstance(a, torch.Tensor) else a for a in rest]
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        return torch.autograd.grad(func(x, *fixed, **options).sum(), x)[0]
