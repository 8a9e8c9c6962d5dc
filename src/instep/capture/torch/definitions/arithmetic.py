"""Element-wise operators and distances that PyTorch has no other words for."""

from __future__ import annotations

from typing import Any

import torch

from instep.capture.torch.definitions.table import defines
from instep.capture.torch.registry import Unsupported

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


@defines("aten.bitwise_and.Tensor", "aten.__and__.Tensor")
def bitwise_and(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The bits that both have; the sign is a bit that counts below zero."""
    dtype = torch.result_type(x, other)
    count = torch.iinfo(dtype).bits - (dtype != torch.uint8)
    if count > 31:
        raise Unsupported("bitwise operators of two computed 64-bit numbers; make them int32 before")
    x, other = x.to(torch.int32), other.to(torch.int32)
    power = 2 ** torch.arange(count, dtype=torch.int32)
    bits = torch.remainder(torch.div(x[..., None], power, rounding_mode="floor"), 2)
    bits = bits * torch.remainder(torch.div(other[..., None], power, rounding_mode="floor"), 2)
    common = (bits * power).sum(-1, dtype=torch.int32)
    if dtype != torch.uint8:
        below = ((x < 0) & (other < 0)).to(torch.int32)
        common = common - below * (2 ** (count - 1)) - below * (2 ** (count - 1))
    return common.to(dtype)


@defines("aten.bitwise_or.Tensor", "aten.__or__.Tensor")
def bitwise_or(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """What one has, and what the other has beyond the common."""
    return x + (other - bitwise_and(x, other))


@defines("aten.bitwise_xor.Tensor", "aten.__xor__.Tensor")
def bitwise_xor(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    common = bitwise_and(x, other)
    return (x - common) + (other - common)
