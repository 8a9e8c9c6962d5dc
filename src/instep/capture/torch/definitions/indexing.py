"""Operators that look up, put and rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from instep.capture.torch.definitions.table import defines
from instep.capture.torch.registry import Unsupported

__all__: list[str] = []


@defines("aten.searchsorted.Tensor")
def searchsorted(
    bounds: torch.Tensor,
    x: torch.Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """How many of the sorted ``bounds`` [..., n] each x [..., m] lies beyond (from the right: lies on or beyond)."""
    if sorter is not None:
        bounds = bounds.gather(-1, sorter)
    wide, many = x[..., None], bounds[..., None, :] if bounds.dim() > 1 else bounds
    beyond = wide >= many if right or side == "right" else wide > many
    return beyond.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


@defines("aten.put.default")
def put(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    flat = x.reshape(-1).index_put((index.reshape(-1),), source.reshape(-1), accumulate)
    return flat.reshape(x.shape)


@defines("aten.scatter.reduce", "aten.scatter.value_reduce")
def scatter(x: torch.Tensor, dim: int, index: torch.Tensor, source: Any, *, reduce: str) -> torch.Tensor:
    if reduce != "add":
        raise Unsupported("scatter with another reduction than addition")
    values = source if isinstance(source, torch.Tensor) else torch.full(index.shape, source, dtype=x.dtype)
    return x.scatter_add(dim, index, values)


@defines("aten.scatter_reduce.two")
def scatter_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """Sums and means of what is written to a place; "include_self": and of what was there."""
    if reduce not in ("sum", "mean"):
        raise Unsupported("scatter_reduce with another reduction than sum or mean")
    before = x if include_self else x.scatter(dim, index, 0.0)
    total = before.scatter_add(dim, index, source)
    if reduce == "sum":
        return total
    count = torch.ones(x.shape) if include_self else torch.ones(x.shape).scatter(dim, index, 0.0)
    return total / count.scatter_add(dim, index, torch.ones(index.shape))


@defines("aten.median.default")
def median(x: torch.Tensor) -> torch.Tensor:
    """The lower of the two in the middle."""
    return x.reshape(-1).median(0).values


@defines("aten.masked_scatter.default")
def masked_scatter(x: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """The n-th true place of the mask takes the n-th number of ``source``."""
    mask = mask.expand(x.shape)
    order = (mask.reshape(-1).cumsum(0) - 1).clamp(min=0)
    return torch.where(mask, source.reshape(-1)[order].reshape(x.shape), x)


@defines("aten.as_strided.default")
def as_strided(
    x: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> torch.Tensor:
    """Every place of memory that is named, of a tensor that fills its memory in row-major order."""
    places = torch.full((), storage_offset or 0)
    for count, step in zip(size, stride, strict=True):
        places = places[..., None] + torch.arange(count) * step
    last = (storage_offset or 0) + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if not x.is_contiguous() or last >= x.numel():
        raise Unsupported("as_strided of a tensor that is a view of another; call .contiguous() before")
    return x.reshape(-1)[places]
