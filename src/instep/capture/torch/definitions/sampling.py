"""Sampling at computed positions: bicubic and volumetric grid_sample, deformable convolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from instep.capture.torch.definitions.table import defines

__all__ = ["deform_conv2d"]

ZEROS, BORDER, REFLECTION = range(3)
BILINEAR, NEAREST, BICUBIC = range(3)

#: One place on an axis for every sample, as a whole number in floats, and what it weighs.
Tap = tuple[torch.Tensor, torch.Tensor]


@defines("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(
    x: torch.Tensor, grid: torch.Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> torch.Tensor:
    """x [N, C, ...] at the positions of grid [N, ..., dimensions], whose last axis counts from the last axis of x."""
    taps = []
    for axis, size in enumerate(x.shape[2:]):
        u = grid[..., x.dim() - 3 - axis]
        at = (u + 1) / 2 * (size - 1) if align_corners else ((u + 1) * size - 1) / 2
        taps.append(_taps(at, size, interpolation_mode, padding_mode, align_corners))
    return _gathered(x, taps)


def _taps(at: torch.Tensor, size: int, mode: int, padding: int, align_corners: bool) -> list[Tap]:
    """The places on one axis that a sample at position ``at`` is mixed of. Bicubic samples are placed first and each
    of their places is brought inside, others the other way around (ATen, GridSamplerKernel.cpp)."""

    def inside(p: torch.Tensor) -> torch.Tensor:
        return _brought_inside(p, size, padding, align_corners)

    if mode == BICUBIC:
        first = at.floor()
        weights = _cubic(at - first)
        return [_tap(inside(first + k), w, size) for k, w in zip(range(-1, 3), weights, strict=True)]
    at = inside(at)
    if mode == NEAREST:
        return [_tap(at.round(), torch.ones_like(at), size)]
    first = at.floor()
    part = at - first
    return [_tap(first, 1 - part, size), _tap(first + 1, part, size)]


def _tap(place: torch.Tensor, weight: torch.Tensor, size: int) -> Tap:
    """What lies outside the tensor is read at its edge and weighs nothing."""
    edge = place.clamp(0, size - 1)
    return edge, torch.where(edge == place, weight, 0.0)


def _brought_inside(at: torch.Tensor, size: int, padding: int, align_corners: bool) -> torch.Tensor:
    if padding == ZEROS:
        return at
    if padding == REFLECTION:
        # between the centres of the corner pixels, or between their outer edges
        low, span = (0.0, size - 1) if align_corners else (-0.5, size)
        if span == 0:
            return torch.zeros_like(at)
        at = span - (torch.remainder(at - low, 2 * span) - span).abs() + low
    return at.clamp(0, size - 1)


def _cubic(t: torch.Tensor) -> list[torch.Tensor]:
    """Weights of the four places around a position ``t`` behind the second: Keys' kernel with a = -0.75."""
    a = -0.75

    def near(d: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: torch.Tensor) -> torch.Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _gathered(x: torch.Tensor, taps: Sequence[list[Tap]]) -> torch.Tensor:
    """Σ over all combinations of places, one per axis: whole pixels, times the product of the weights."""
    n, c, *sizes = x.shape
    pixels = x.movedim(1, -1).reshape(-1, c)
    shape = taps[0][0][0].shape
    batch = torch.arange(n, dtype=torch.int32).reshape(n, *[1] * (len(shape) - 1))
    total: torch.Tensor | None = None
    for chosen in itertools.product(*taps):
        row = batch
        for (place, _), size in zip(chosen, sizes, strict=True):
            row = row * size + place.to(torch.int32)
        weight = _product([w for _, w in chosen])
        part = pixels.index_select(0, row.reshape(-1)).reshape(*shape, c) * weight[..., None]
        total = part if total is None else total + part
    assert total is not None
    return total.movedim(-1, 1)


def _product(factors: Sequence[torch.Tensor]) -> torch.Tensor:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


@defines("torchvision.deform_conv2d.default")
def deform_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    bias: torch.Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> torch.Tensor:
    """A convolution whose kernel reads x beside its places, at bilinear samples (Zhu et al., arXiv:1811.11168).

    ``offset`` [N, offset_groups · kernel · 2, H, W] moves each place of the kernel by (rows, columns), ``mask`` weighs
    it. The samples of a kernel lie below each other, so that a convolution of one column of them sums them up.
    """
    n, c, height, width = x.shape
    (kh, kw), (rows, columns) = weight.shape[2:], offset.shape[2:]
    lots, taps = n * offset_groups, kh * kw
    moved = offset.reshape(lots, taps, 2, rows, columns).permute(0, 3, 1, 4, 2)  # rows, taps, columns, (y, x)
    y = _centres(rows, stride_h, pad_h).reshape(rows, 1, 1) + _taps_of(kh, kw, dilation_h, 0).reshape(taps, 1)
    z = _centres(columns, stride_w, pad_w) + _taps_of(kh, kw, dilation_w, 1).reshape(taps, 1)
    at_y, at_x = moved[..., 0] + y, moved[..., 1] + z
    grid = torch.stack([(at_x * 2 + 1) / width - 1, (at_y * 2 + 1) / height - 1], -1)
    grid = grid.reshape(lots, rows * taps, columns, 2)
    samples = F.grid_sample(x.reshape(lots, c // offset_groups, height, width), grid, align_corners=False)
    if use_mask:
        weights = mask.reshape(lots, taps, rows, columns).transpose(1, 2)
        samples = samples * weights.reshape(lots, 1, rows * taps, columns)
    samples = samples.reshape(n, c, rows * taps, columns)
    return F.conv2d(samples, weight.reshape(*weight.shape[:2], taps, 1), bias, stride=(taps, 1), groups=groups)


def _centres(count: int, stride: int, pad: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32) * stride - pad


def _taps_of(kh: int, kw: int, dilation: int, axis: int) -> torch.Tensor:
    """How far each place of a kernel, in row-major order, lies from its first one along ``axis``."""
    place = torch.arange(kh * kw)
    step = torch.div(place, kw, rounding_mode="floor") if axis == 0 else place % kw
    return (step * dilation).float()
