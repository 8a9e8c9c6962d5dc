"""Element-wise operators and distances that PyTorch has no other words for."""

from __future__ import annotations

from typing import Any

import torch

from instep.capture.torch.definitions.table import defines

__all__: list[str] = []


@defines("aten.isclose.default")
def isclose(
    x: torch.Tensor, other: torch.Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> torch.Tensor:
    """Equal (as infinities are), or nearer than ``atol`` + ``rtol`` · |other|."""
    near = (x - other).abs() <= atol + rtol * other.abs()
    same = (x == other) | (near & other.abs().isfinite())
    return same | (x.isnan() & other.isnan()) if equal_nan else same


@defines("aten.signbit.default")
def signbit(x: torch.Tensor) -> torch.Tensor:
    """Of the two zeros, 1 / x tells which it is."""
    return torch.where(x == 0, 1 / x, x) < 0 if x.is_floating_point() else x < 0


@defines("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(x: torch.Tensor, sign: Any) -> torch.Tensor:
    return torch.where(torch.signbit(torch.as_tensor(sign)), -x.abs(), x.abs())


@defines("aten.ldexp.Tensor")
def ldexp(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    return x * torch.pow(2.0, exponent)


@defines("aten.nanmean.default")
def nanmean(x: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> torch.Tensor:
    """The sum of what is a number, over how many of those there are."""
    dims = tuple(range(x.dim())) if dim is None else dim
    count = (x == x).to(dtype or x.dtype).sum(dims, keepdim=keepdim)
    return torch.nansum(x, dims, keepdim=keepdim, dtype=dtype) / count


@defines("aten.dist.default")
def dist(x: torch.Tensor, other: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    return torch.linalg.vector_norm(x - other, p)


@defines("aten.pdist.default", "aten._pdist_forward.default")
def pdist(x: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """The distances of all pairs of rows, the first with each later one, then the second, …"""
    first, second = torch.triu_indices(x.shape[0], x.shape[0], 1)
    return torch.linalg.vector_norm(x[first] - x[second], p, -1)
