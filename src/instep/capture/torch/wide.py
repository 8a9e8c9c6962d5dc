"""What PyTorch computes slowly in float64 (depthwise convolutions), or refuses there, in a form that it takes well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["depthwise", "in_double"]


def in_double(target: Callable[..., Any]) -> Callable[..., Any]:
    """What to call instead of ``target`` (an ATen operator) on float64 tensors: most often ``target`` itself."""
    return _OTHERS.get(target, target)


def _conv2d(
    input: torch.Tensor,  # the operator's own name for it
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    if input.dim() == 4 and 1 < groups == input.shape[1] == weight.shape[0]:
        return depthwise(input, weight, bias, stride, padding, dilation)
    return torch.ops.aten.conv2d.default(input, weight, bias, stride, padding, dilation, groups)


def depthwise(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> torch.Tensor:
    """A depthwise convolution as the sum of its shifted products: [N, C, H, W], [C, 1, kh, kw] → [N, C, H', W'].

    In float64 PyTorch has no depthwise kernel: it takes the channels one by one, each as a matrix product of one row,
    which takes 3 to 10 times as long.
    """
    (sh, sw), (ph, pw), (dh, dw) = (_pair(v) for v in (stride, padding, dilation))
    kh, kw = weight.shape[2:]
    padded = F.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    rows = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    columns = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    total = x.new_zeros(x.shape[0], x.shape[1], rows, columns)
    if bias is not None:
        total += bias.view(1, -1, 1, 1)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            shifted = padded[:, :, top : top + sh * (rows - 1) + 1 : sh, left : left + sw * (columns - 1) + 1 : sw]
            total.addcmul_(shifted, weight[:, 0, i, j].view(1, -1, 1, 1))
    return total


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _fake_quantize(
    input: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, quant_min: int, quant_max: int
) -> torch.Tensor:
    """PyTorch takes the scales of channels in float32 only, whatever the input is in."""
    return torch.ops.aten.fake_quantize_per_channel_affine.default(
        input, scale.float(), zero_point, axis, quant_min, quant_max
    )


_OTHERS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.conv2d.default: _conv2d,
    torch.ops.aten.fake_quantize_per_channel_affine.default: _fake_quantize,
}
