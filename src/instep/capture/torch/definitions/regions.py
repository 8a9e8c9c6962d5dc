"""Pooling of regions of interest (torchvision): roi_align and ps_roi_align.

The samples of a region lie on a grid, so what they are mixed of is one matrix for the rows and one for the columns.
"""

from __future__ import annotations

import torch

from instep.capture.torch.definitions.table import defines

__all__ = ["ps_roi_align", "roi_align"]


@defines("torchvision.roi_align.default")
def roi_align(
    x: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """Means of bilinear samples in the bins of ``rois`` [K, 5] = (image, x1, y1, x2, y2) (He et al., arXiv:1703.06870).

    [N, C, H, W] → [K, C, pooled_height, pooled_width]. Where ``sampling_ratio`` is not positive, a bin has as many
    samples along an axis as it is long, rounded up, and at most one for each pixel of the axis.
    """
    shift, least = (0.5, None) if aligned else (0.0, 1.0)
    rows, columns = _matrices(x, rois, spatial_scale, (pooled_height, pooled_width), sampling_ratio, shift, least)
    images = x.index_select(0, rois[:, 0].to(torch.int32))
    return torch.matmul(torch.matmul(rows[:, None], images), columns[:, None].transpose(-1, -2))


@defines("torchvision.ps_roi_align.default")
def ps_roi_align(
    x: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """roi_align in which each bin reads channels of its own (Li et al., arXiv:1711.07264); and those channels."""
    bins, (height, width) = (pooled_height, pooled_width), x.shape[2:]
    rows, columns = _matrices(x, rois, spatial_scale, bins, sampling_ratio, 0.5, None)
    images = x.index_select(0, rois[:, 0].to(torch.int32)).reshape(rois.shape[0], -1, *bins, height, width)
    pooled = (images * rows[:, None, :, None, :, None] * columns[:, None, None, :, None, :]).sum((-2, -1))
    channels = torch.arange(x.shape[1], dtype=torch.int32).reshape(-1, *bins).expand(pooled.shape)
    return pooled, channels.clone()


def _matrices(
    x: torch.Tensor,
    rois: torch.Tensor,
    scale: float,
    bins: tuple[int, int],
    samples: int,
    shift: float,
    least: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each region what its bins take of each row [K, bins, H], and of each column [K, bins, W]."""
    return (
        _matrix(rois[:, 2] * scale - shift, rois[:, 4] * scale - shift, bins[0], samples, x.shape[2], least),
        _matrix(rois[:, 1] * scale - shift, rois[:, 3] * scale - shift, bins[1], samples, x.shape[3], least),
    )


def _matrix(
    start: torch.Tensor, end: torch.Tensor, bins: int, samples: int, size: int, least: float | None
) -> torch.Tensor:
    """[K, bins, size]: the mean of the bilinear samples of each bin. A sample more than a pixel outside counts as 0."""
    length = (end - start if least is None else (end - start).clamp(min=least))[:, None, None, None] / bins
    fixed = samples > 0
    count = torch.full_like(length, samples) if fixed else length.ceil()
    bin_ = torch.arange(bins, dtype=start.dtype).reshape(bins, 1, 1)
    sample = torch.arange(samples if fixed else size, dtype=start.dtype).reshape(-1, 1)
    at = start[:, None, None, None] + bin_ * length + (sample + 0.5) * (length / count)
    counted = (at >= -1) & (at <= size)
    if not fixed:
        counted = counted & (sample < count)
    distance = (at.clamp(0, size - 1) - torch.arange(size, dtype=start.dtype)).abs()
    shares = torch.where(counted, (1 - distance).clamp(min=0), 0.0)
    return shares.sum(2) / count.clamp(min=1)[:, :, 0]
