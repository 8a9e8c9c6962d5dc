"""Images in other sizes: resizing, pixel shuffles, and sampling at computed places."""

from __future__ import annotations

import numpy as np

from instep.graph.operator import Operator, Spec, operator
from instep.graph.ops.images import from_nchw, join_shape, split_shape, to_nchw

__all__ = ["DepthToSpace", "GridSample", "Resize2d", "SpaceToDepth", "resize_matrix"]


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def resize_matrix(
    size: int, out: int, mode: str, coordinates: str, scale: float | None = None, antialias: bool = False
) -> np.ndarray:
    """The [out, size] float64 matrix that resizes one axis. See Resize2d for the arguments."""
    ratio = (1 / scale) if scale else size / out
    i = np.arange(out, dtype=np.float64)
    if coordinates == "align_corners":
        ratio = (size - 1) / (out - 1) if out > 1 else 0.0
        position = i * ratio
    elif coordinates == "asymmetric":
        position = i * ratio
    else:
        position = (i + 0.5) * ratio - 0.5
    matrix = np.zeros((out, size))
    if mode == "nearest":
        # torch computes floor(i · ratio) in float32
        single = np.float32(ratio)
        if coordinates == "half_pixel":
            index = np.floor((i.astype(np.float32) + np.float32(0.5)) * single)
        elif coordinates == "align_corners":
            index = np.floor(position + 0.5)
        else:
            index = np.floor(i.astype(np.float32) * single)
        matrix[np.arange(out), np.clip(index.astype(int), 0, size - 1)] = 1.0
        return matrix
    if antialias:
        support = (1.0 if mode == "bilinear" else 2.0) * max(ratio, 1.0)
        center = position + 0.5
        for k in range(out):
            low = max(int(center[k] - support + 0.5), 0)
            high = min(int(center[k] + support + 0.5), size)
            t = (np.arange(low, high) - center[k] + 0.5) / max(ratio, 1.0)
            weight = np.maximum(1 - np.abs(t), 0) if mode == "bilinear" else _cubic(t, -0.5)
            matrix[k, low:high] = weight / weight.sum()
        return matrix
    if mode == "bilinear":
        position = np.maximum(position, 0.0)
        low = np.minimum(np.floor(position).astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        frac = position - low
        np.add.at(matrix, (np.arange(out), low), 1 - frac)
        np.add.at(matrix, (np.arange(out), high), frac)
        return matrix
    if mode != "bicubic":
        raise ValueError(f"mode must be 'nearest', 'bilinear' or 'bicubic', got {mode!r}")
    base = np.floor(position).astype(int)
    frac = position - base
    for k in range(-1, 3):
        np.add.at(matrix, (np.arange(out), np.clip(base + k, 0, size - 1)), _cubic(frac - k, -0.75))
    return matrix


@operator
class Resize2d(Operator):
    """Resize height and width to ``size`` (torch.nn.functional.interpolate, tf.image.resize).

    ``mode``: "nearest", "bilinear" or "bicubic" (a = -0.75; -0.5 with ``antialias``).
    ``coordinates`` maps output index i to the source: "half_pixel" (i + ½) · r - ½, "asymmetric" i · r,
    "align_corners" i · (in - 1) / (out - 1). r = in / out, or 1 / scale where ``scale`` is given (torch with
    ``scale_factor``). torch: bilinear/bicubic are half_pixel, "nearest" is asymmetric, "nearest-exact" half_pixel;
    TF1's bilinear without half-pixel centres is asymmetric.
    """

    size: tuple[int, int]
    mode: str = "bilinear"
    coordinates: str = "half_pixel"
    scale: tuple[float, float] | None = None
    antialias: bool = False
    layout: str = "NCHW"
    spatial = True

    def matrices(self, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
        """The [OH, H] and [OW, W] matrices: result = R_h · x · R_wᵀ per channel."""
        scale = self.scale or (None, None)
        return (
            resize_matrix(h, self.size[0], self.mode, self.coordinates, scale[0], self.antialias),
            resize_matrix(w, self.size[1], self.mode, self.coordinates, scale[1], self.antialias),
        )

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, _, _ = split_shape(x.shape, self.layout)
        return (Spec(join_shape(n, c, *self.size, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        rows, cols = self.matrices(*x.shape[2:])
        return (from_nchw(rows.astype(x.dtype) @ x @ cols.astype(x.dtype).T, self.layout),)


@operator
class DepthToSpace(Operator):
    """[N, C·r², H, W] → [N, C, H·r, W·r] (PixelShuffle, Shi et al., arXiv 1609.05158).

    ``order="CRD"`` (torch.nn.PixelShuffle): input channel = c·r² + dy·r + dx.
    ``order="DCR"`` (TFLite, tf.nn.depth_to_space): input channel = (dy·r + dx)·C + c.
    """

    block: int
    order: str = "CRD"
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, h, w = split_shape(x.shape, self.layout)
        r = self.block
        if c % (r * r):
            raise ValueError(f"{c} channels are not a multiple of {r}²")
        return (Spec(join_shape(n, c // (r * r), h * r, w * r, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        n, c, h, w = x.shape
        r = self.block
        if self.order == "CRD":
            y = x.reshape(n, c // (r * r), r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            y = x.reshape(n, r, r, c // (r * r), h, w).transpose(0, 3, 4, 1, 5, 2)
        return (from_nchw(y.reshape(n, c // (r * r), h * r, w * r), self.layout),)


@operator
class SpaceToDepth(Operator):
    """[N, C, H·r, W·r] → [N, C·r², H, W]: the inverse of DepthToSpace with the same ``order``."""

    block: int
    order: str = "CRD"
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, h, w = split_shape(x.shape, self.layout)
        r = self.block
        if h % r or w % r:
            raise ValueError(f"{h}×{w} is not a multiple of {r}")
        return (Spec(join_shape(n, c * r * r, h // r, w // r, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        n, c, h, w = x.shape
        r = self.block
        y = x.reshape(n, c, h // r, r, w // r, r)
        y = y.transpose(0, 1, 3, 5, 2, 4) if self.order == "CRD" else y.transpose(0, 3, 5, 1, 2, 4)
        return (from_nchw(y.reshape(n, c * r * r, h // r, w // r), self.layout),)


@operator
class GridSample(Operator):
    """Sample x at ``grid`` [N, OH, OW, 2] of (x, y) in [-1, 1] (torch.nn.functional.grid_sample).

    ``mode``: "bilinear" or "nearest"; ``padding_mode``: "zeros" or "border".
    """

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, grid = inputs
        n, c, _, _ = split_shape(x.shape, self.layout)
        return (Spec(join_shape(n, c, grid.shape[1], grid.shape[2], self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, grid = to_nchw(inputs[0], self.layout), inputs[1]
        n, _, h, w = x.shape
        if self.align_corners:
            px, py = (grid[..., 0] + 1) / 2 * (w - 1), (grid[..., 1] + 1) / 2 * (h - 1)
        else:
            px, py = ((grid[..., 0] + 1) * w - 1) / 2, ((grid[..., 1] + 1) * h - 1) / 2
        if self.padding_mode == "border":
            px, py = np.clip(px, 0, w - 1), np.clip(py, 0, h - 1)
        batch = np.arange(n)[:, None, None]

        def at(yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
            inside = (yy >= 0) & (yy < h) & (xx >= 0) & (xx < w)
            picked = x[batch, :, np.clip(yy, 0, h - 1).astype(int), np.clip(xx, 0, w - 1).astype(int)]
            return picked * inside[..., None]

        if self.mode == "nearest":
            result = at(np.round(py), np.round(px))
        else:
            x0, y0 = np.floor(px), np.floor(py)
            fx, fy = (px - x0)[..., None], (py - y0)[..., None]
            top = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
            bottom = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
            result = top * (1 - fy) + bottom * fy
        return (from_nchw(result.transpose(0, 3, 1, 2).astype(x.dtype), self.layout),)
