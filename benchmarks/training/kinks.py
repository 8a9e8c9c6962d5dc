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
_POOLS = {"max_pool2d"}

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
        x, rest, far = args[0], args[1:], self.roundings[len(self.inputs) - 1]
        if name in _POOLS:
            return self._pooled(x, far, _window(*rest, **options))
        step = self._signs(x) * far
        before, after = (_slope(func, z, rest, options) for z in (x.detach(), x.detach() + step))
        jumps = (before - after).abs() > _JUMP * torch.maximum(before.abs(), after.abs())
        self.moved += int(jumps.sum())
        return func(x + step * jumps, *rest, **options)

    def _signs(self, like: torch.Tensor) -> torch.Tensor:
        """1 or -1 for each element, and the opposite with ``other``."""
        signs = self.rng.integers(0, 2, tuple(like.shape), dtype=np.int8) * 2 - 1
        return torch.from_numpy(signs).to(like.dtype) * self.sign

    def _pooled(self, x: torch.Tensor, far: float, window: dict[str, Any]) -> torch.Tensor:
        """The maxima of the windows; the second largest element in half of those that have two so near each other."""
        usual, places = F.max_pool2d_with_indices(x, **window)
        places, second, gap = places.flatten(-2), *_runners_up(x.detach(), usual.shape[-2:], window)
        taken = (gap < 2 * far) & (self._signs(gap) > 0)
        # where both are the same number it is no rounding that decides
        self.moved += int((taken & (gap > 0)).sum())
        return x.flatten(-2).gather(-1, torch.where(taken, second, places)).view_as(usual)


def _window(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **options: Any
) -> dict[str, Any]:
    """The fields of a max_pool2d, each with two numbers."""
    stride = kernel_size if stride is None else stride
    fields = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    return {k: (v, v) if isinstance(v, int) else tuple(v) for k, v in fields.items()} | {"ceil_mode": ceil_mode}


def _runners_up(x: torch.Tensor, size: Sequence[int], window: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each window: the place of its second largest element, and how far below the largest that is."""
    (kernel, stride, padding, dilation) = (window[k] for k in ("kernel_size", "stride", "padding", "dilation"))
    reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilation, strict=True)]
    ends = [max(0, r - p - n) for r, p, n in zip(reach, padding, x.shape[-2:], strict=True)]
    edges = (padding[1], ends[1], padding[0], ends[0])
    numbers = torch.arange(x.shape[-2] * x.shape[-1], dtype=x.dtype).view(1, 1, *x.shape[-2:])

    def windows(z: torch.Tensor, fill: float) -> torch.Tensor:
        padded = F.pad(z, edges, value=fill)[..., : reach[0], : reach[1]]
        return F.unfold(padded, kernel, dilation, 0, stride).view(*z.shape[:2], kernel[0] * kernel[1], -1)

    values, order = windows(x, -torch.inf).topk(2, dim=2)
    places = windows(numbers, -1.0).long().expand(*x.shape[:2], -1, -1).gather(2, order[:, :, 1:])
    return places[:, :, 0].clamp(min=0), values[:, :, 0] - values[:, :, 1]


def _slope(func: Callable[..., Any], x: torch.Tensor, rest: Sequence[Any], options: dict[str, Any]) -> torch.Tensor:
    fixed = [a.detach() if isinstance(a, torch.Tensor) else a for a in rest]
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        return torch.autograd.grad(func(x, *fixed, **options).sum(), x)[0]
