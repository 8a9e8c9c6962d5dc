"""torchvision's deformable convolution and pooled regions mean what their papers define, compiled part or not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from capture_helpers import Function, agree
from instep.capture import CaptureError
from instep.capture.vision import prepare_torchvision

prepare_torchvision()
tv: Any = pytest.importorskip("torchvision").ops
torch.set_num_threads(1)


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """The plane at (y, x), zeros around it (Dai et al., arXiv:1703.06211, equations 3 and 4)."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column)) * plane[row, column]
    return total


def deformed(x: Any, weight: Any, offset: Any, mask: Any, layer: Any) -> np.ndarray:
    """Σ over channels and places of the kernel of w · x(p + p_k + Δp_k) · Δm_k (Zhu et al., arXiv:1811.11168)."""
    n, c, _, _ = x.shape
    o, per, kh, kw = weight.shape
    height, width = offset.shape[2:]
    lots = offset.shape[1] // (2 * kh * kw)
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.padding, layer.dilation
    result = np.zeros((n, o, height, width))
    for b, f, i, j in np.ndindex(*result.shape):
        for c_in, p, q in np.ndindex(per, kh, kw):
            channel = f // (o // (c // per)) * per + c_in
            tap = channel // (c // lots) * kh * kw + p * kw + q
            y = i * sh - ph + p * dh + offset[b, 2 * tap, i, j]
            z = j * sw - pw + q * dw + offset[b, 2 * tap + 1, i, j]
            weighed = 1.0 if mask is None else mask[b, tap, i, j]
            result[b, f, i, j] += weight[f, c_in, p, q] * weighed * bilinear(x[b, channel], y, z)
    return result


DEFORMED: dict[str, dict[str, Any]] = {
    "modulated": {"padding": 1},
    "first_version": {"padding": 1, "masked": False},
    "grouped": {"padding": 1, "groups": 2, "lots": 4, "stride": 2},
    "depthwise": {"padding": 1, "groups": 4},
    "dilated": {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (0, 1), "stride": (2, 1), "bias": False},
    "single": {"kernel_size": 1},
}


@pytest.mark.parametrize("name", DEFORMED)
def test_deformable_convolution(name: str) -> None:
    torch.manual_seed(0)
    given = {"kernel_size": 3, **DEFORMED[name]}
    masked, lots = given.pop("masked", True), given.pop("lots", 1)
    layer = tv.DeformConv2d(4, 8, **given)
    kh, kw = layer.kernel_size
    place = nn.functional.conv2d(torch.zeros(2, 1, 6, 7), torch.zeros(1, 1, kh, kw), None, *(
        getattr(layer, key) for key in ("stride", "padding", "dilation")
    )).shape[2:]  # fmt: skip
    shapes = [(2, 4, 6, 7), (2, 2 * lots * kh * kw, *place), *([(2, lots * kh * kw, *place)] if masked else [])]
    agree(layer, shapes, rtol=1e-6)
    given_now = [torch.randn(s) * 1.5 for s in shapes]
    with torch.no_grad():
        found = layer(*given_now).numpy() - (0 if layer.bias is None else layer.bias.numpy().reshape(1, -1, 1, 1))
    x, offset, mask = (*(v.double().numpy() for v in given_now), None)[:3]
    want = deformed(x, layer.weight.detach().double().numpy(), offset, mask, layer)
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_deformable_convolution_is_in_step(tmp_path: Path) -> None:
    class Aligned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places, self.weights = nn.Conv2d(4, 18, 3, padding=1), nn.Conv2d(4, 9, 3, padding=1)
            self.deformed = tv.DeformConv2d(4, 6, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.deformed(x, self.places(x), self.weights(x).sigmoid())

    torch.manual_seed(0)
    assert instep.convert(Aligned().eval(), tmp_path / "aligned.tflite", inputs=[(1, 4, 6, 7)]).ok


BOXES = torch.tensor([[0, 1.0, 1.0, 6.0, 5.0], [1, -1.5, 0.25, 9.0, 3.5], [0, 2.0, 2.0, 2.5, 12.0]])


def aligned(x: Any, rois: Any, bins: tuple[int, int], scale: float, ratio: int, shift: bool, own: bool) -> np.ndarray:
    """Each bin the mean of samples on a grid inside it (He et al., arXiv:1703.06870; torchvision.ops.roi_align)."""
    _, c, h, w = x.shape
    out = c // (bins[0] * bins[1]) if own else c
    result = np.zeros((len(rois), out, *bins))
    for k, f, i, j in np.ndindex(*result.shape):
        image, (x1, y1, x2, y2) = int(rois[k, 0]), rois[k, 1:] * scale - (0.5 if shift else 0.0)
        rows, columns = (y2 - y1, x2 - x1) if shift else (max(y2 - y1, 1), max(x2 - x1, 1))
        counts = [ratio if ratio > 0 else math.ceil(n / b) for n, b in zip((rows, columns), bins, strict=True)]
        plane = x[image, f * bins[0] * bins[1] + i * bins[1] + j if own else f]
        for p, q in np.ndindex(*counts):
            y = y1 + (i + (p + 0.5) / counts[0]) * rows / bins[0]
            z = x1 + (j + (q + 0.5) / counts[1]) * columns / bins[1]
            if -1 <= y <= h and -1 <= z <= w:
                sample = bilinear(plane, min(max(y, 0), h - 1), min(max(z, 0), w - 1))
                result[k, f, i, j] += sample / (counts[0] * counts[1])
    return result


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_regions_are_pooled(ratio: int, shift: bool, scale: float) -> None:
    def pool(x: torch.Tensor) -> torch.Tensor:
        return tv.roi_align(x, BOXES, (2, 3), scale, ratio, shift)

    agree(Function(pool), [(2, 4, 6, 8)], rtol=1e-6)
    x = torch.randn(2, 4, 6, 8)
    want = aligned(x.double().numpy(), BOXES.double().numpy(), (2, 3), scale, ratio, shift, False)
    np.testing.assert_allclose(pool(x).numpy(), want, atol=1e-4)


def test_regions_may_be_computed() -> None:
    boxes = Function(lambda x, r: tv.roi_align(x, [r[:, :4].cumsum(1)], 3, 1.0, 2, True))
    agree(boxes, [(1, 4, 6, 8), (5, 4)], rtol=1e-6)


def test_position_sensitive_regions_read_channels_of_their_own() -> None:
    def pool(x: torch.Tensor) -> torch.Tensor:
        return tv.ps_roi_align(x, BOXES, 2, 0.75, 2)

    agree(Function(pool), [(2, 8, 6, 8)], rtol=1e-6)
    x = torch.randn(2, 8, 6, 8)
    want = aligned(x.double().numpy(), BOXES.double().numpy(), (2, 2), 0.75, 2, True, True)
    np.testing.assert_allclose(pool(x).numpy(), want, atol=1e-4)


def test_what_picks_boxes_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"depends on the data.*nms.*behind the network"):
        instep.capture(Function(lambda b, s: tv.nms(b, s, 0.5)), inputs=[(6, 4), (6,)])
