"""Batch statistics from float32 sums: PyTorch's own are more exact than float32 promises.

On CPUs PyTorch adds up the elements of a channel in float64 and so leaves no noise in a running mean near zero.
TensorFlow and XLA add in float32, in blocks of their own choice. A step with ``Sums`` takes the statistics from float32
sums in blocks of √n, the sum of many terms that rounds least without sorting them or wider numbers (N. J. Higham,
"The accuracy of floating point summation", 1993, section 2), and is a draw of the noise like any other float32 step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from benchmarks.training.kinks import Kinks

__all__ = ["Sums", "in_blocks"]


def in_blocks(terms: torch.Tensor) -> torch.Tensor:
    """Sums of the rows of [C, n], each in its own precision, in about √n blocks of √n terms one after the other."""
    size = math.isqrt(max(terms.shape[1] - 1, 0)) + 1
    rest = size * size - terms.shape[1]
    blocks = torch.nn.functional.pad(terms.detach(), (0, rest)).view(-1, size, size)
    for _ in range(2):
        total = torch.zeros_like(blocks[..., 0])
        for i in range(size):
            total = total + blocks[..., i]
        blocks = total
    return blocks


class Sums(Kinks):
    """While it is active, batch norms in training mode take their statistics from ``in_blocks``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "batch_norm":
            return _normed(func, *args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def _normed(
    func: Any,
    x: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if not training:
        return func(x, running_mean, running_var, weight, bias, training, momentum, eps)
    rows = x.transpose(0, 1).flatten(1)
    n = rows.shape[1]
    mean = _mean(rows)
    variance = _mean((rows - mean[:, None]).square())
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (n / (n - 1)), momentum)
    scale = torch.rsqrt(variance + eps)
    shape = (1, -1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) * (scale if weight is None else scale * weight).view(shape)
    return y if bias is None else y + bias.view(shape)


def _mean(rows: torch.Tensor) -> torch.Tensor:
    """The mean of each row: its value from a sum in blocks, its gradient that of any mean."""
    usual = rows.mean(1)
    return usual + (in_blocks(rows) / rows.shape[1] - usual).detach()
