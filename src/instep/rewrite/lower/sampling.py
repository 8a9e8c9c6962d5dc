"""Decomposition of sampling at computed positions."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.GridSample)
def grid_sample(b: Build) -> bool:
    """Positions as floats, then one gather of whole pixels for each corner, weighted; no GATHER_ND."""
    op = b.node.op
    if op.layout != "NHWC":
        return False
    n, h, w, c = b.x.shape
    pixels = b.reshape(b.x, (n * h * w, c))
    grid = b.node.inputs[1]
    px = _position(b, b.slice(grid, 3, 0, 1), w)
    py = _position(b, b.slice(grid, 3, 1, 2), h)
    first = b.constant((np.arange(n) * h * w).reshape(n, 1, 1, 1), "first")

    def at(y: Value, x: Value) -> tuple[Value, Value | None]:
        """The pixels at integral positions, and 1 or 0 for inside or outside where that matters."""
        inside_y, inside_x = _clip(b, y, h), _clip(b, x, w)
        row = b.add(ops.Add(), b.add(ops.Mul(), inside_y, b.constant(w, "width")), inside_x)
        if n > 1:
            row = b.add(ops.Add(), row, first)
        # one axis of indices: GPU delegates take no table of them
        index = b.add(ops.Cast("int32"), b.reshape(row, (row.size,)))
        mask = None
        if op.padding_mode == "zeros":
            both = b.add(ops.LogicalAnd(), b.add(ops.Equal(), y, inside_y), b.add(ops.Equal(), x, inside_x))
            mask = b.add(ops.Cast("float32"), both)
        return b.reshape(b.add(ops.Gather(0), pixels, index), (*row.shape[:3], c)), mask

    if op.mode == "nearest":
        value, mask = at(b.add(ops.Round(), py), b.add(ops.Round(), px))
        return b.stand(value) if mask is None else b.done(ops.Mul(), value, mask)
    one = b.constant(1.0, "one")
    x0, y0 = b.add(ops.Floor(), px), b.add(ops.Floor(), py)
    fx, fy = b.add(ops.Sub(), px, x0), b.add(ops.Sub(), py, y0)
    gx, gy = b.add(ops.Sub(), one, fx), b.add(ops.Sub(), one, fy)
    x1, y1 = b.add(ops.Add(), x0, one), b.add(ops.Add(), y0, one)
    parts = []
    for y, x, wy, wx in ((y0, x0, gy, gx), (y0, x1, gy, fx), (y1, x0, fy, gx), (y1, x1, fy, fx)):
        value, mask = at(y, x)
        weight = b.add(ops.Mul(), wy, wx)
        weight = weight if mask is None else b.add(ops.Mul(), weight, mask)
        parts.append(b.add(ops.Mul(), value, weight))
    top, bottom = b.add(ops.Add(), parts[0], parts[1]), b.add(ops.Add(), parts[2], parts[3])
    return b.done(ops.Add(), top, bottom)


def _position(b: Build, u: Value, size: int) -> Value:
    """Pixel position of the coordinate u in [-1, 1], rounded as torch does: (u + 1) / 2 · (size - 1) with
    ``align_corners``, else ((u + 1) · size - 1) / 2."""
    op = b.node.op
    position = b.add(ops.Add(), u, b.constant(1.0, "one"))
    half = b.constant(0.5, "half")
    if op.align_corners:
        position = b.add(ops.Mul(), b.add(ops.Mul(), position, half), b.constant(size - 1, "last"))
    else:
        scaled = b.add(ops.Mul(), position, b.constant(size, "size"))
        position = b.add(ops.Mul(), b.add(ops.Sub(), scaled, b.constant(1.0, "one")), half)
    return _clip(b, position, size) if op.padding_mode == "border" else position


def _clip(b: Build, position: Value, size: int) -> Value:
    return b.add(ops.Clip(0.0, float(size - 1)), position)
