"""Mistakes of resizes, pixel shuffles, unfolding and sampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.verify.causes.spatial import spatial_axes
from instep.verify.causes.table import Arrays, Context, Found, changed, explains, swapped

__all__: list[str] = []


@explains("align_corners", ops.Resize2d)
def align_corners(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode == "nearest":
        return
    other = "half_pixel" if op.coordinates == "align_corners" else "align_corners"
    yield f"coordinates {other} instead of {op.coordinates}", changed(node, coordinates=other)


@explains("half-pixel centres", ops.Resize2d)
def half_pixel(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode == "nearest":
        return
    for other in ("half_pixel", "asymmetric"):
        if other != op.coordinates:
            yield f"coordinates {other} instead of {op.coordinates}", changed(node, coordinates=other)


@explains("rounding of nearest-neighbour coordinates", ops.Resize2d)
def nearest_rounding(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode != "nearest":
        return
    for other in ("half_pixel", "asymmetric", "align_corners"):
        if other != op.coordinates:
            yield f"coordinates {other} instead of {op.coordinates}", changed(node, coordinates=other)


@explains("wrong interpolation mode", ops.Resize2d)
def resize_mode(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for mode in ("nearest", "bilinear", "bicubic"):
        if mode != op.mode:
            for coordinates in {op.coordinates, "half_pixel", "asymmetric"}:
                yield f"{mode} instead of {op.mode}", changed(node, mode=mode, antialias=False, coordinates=coordinates)


@explains("anti-aliasing", ops.Resize2d)
def antialias(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode != "nearest":
        yield f"antialias={not op.antialias}", changed(node, antialias=not op.antialias)


@explains("scale factor of a resize", ops.Resize2d)
def resize_scale(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.scale is not None:
        yield "ratio in / out instead of 1 / scale_factor", changed(node, scale=None)


def _bicubic(size: int, out: int, coordinates: str, scale: float | None, a: float) -> np.ndarray:
    ratio = (1 / scale) if scale else size / out
    i = np.arange(out, dtype=np.float64)
    if coordinates == "align_corners":
        position = i * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        position = i * ratio if coordinates == "asymmetric" else (i + 0.5) * ratio - 0.5
    base = np.floor(position).astype(int)
    matrix = np.zeros((out, size))
    for k in range(-1, 3):
        t = np.abs(position - base - k)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        np.add.at(matrix, (np.arange(out), np.clip(base + k, 0, size - 1)), np.where(t <= 1, near, far))
    return matrix


@explains("bicubic coefficient", ops.Resize2d)
def bicubic_coefficient(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode != "bicubic" or op.antialias:
        return
    _, h, w = spatial_axes(op)

    def run(ins: Arrays) -> np.ndarray:
        (x,) = ins
        scale = op.scale or (None, None)
        rows = _bicubic(x.shape[h], op.size[0], op.coordinates, scale[0], -0.5)
        cols = _bicubic(x.shape[w], op.size[1], op.coordinates, scale[1], -0.5)
        if op.layout == "NCHW":
            return rows @ x @ cols.T
        return (rows @ x.transpose(0, 3, 1, 2) @ cols.T).transpose(0, 2, 3, 1)

    yield "a = -0.5 instead of -0.75", run


@explains("channel order of a pixel shuffle (CRD for DCR)", ops.DepthToSpace, ops.SpaceToDepth)
def shuffle_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    other = "DCR" if op.order == "CRD" else "CRD"
    yield f"channel order {other} instead of {op.order}", changed(node, order=other)


@explains("pixel shuffle transposed in height and width", ops.DepthToSpace, ops.SpaceToDepth)
def shuffle_turned(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    r, (c, _, _) = op.block, spatial_axes(op)
    deep = node.inputs[0].shape[c] if isinstance(op, ops.DepthToSpace) else node.output.shape[c]
    thin = deep // (r * r)
    index = np.arange(deep)
    if op.order == "CRD":
        order = index.reshape(thin, r, r).transpose(0, 2, 1).ravel()
    else:
        order = index.reshape(r, r, thin).transpose(1, 0, 2).ravel()
    if isinstance(op, ops.DepthToSpace):
        yield "the block's rows and columns exchanged", swapped(node, 0, lambda x: np.take(x, order, c))
    else:
        yield "the block's rows and columns exchanged", lambda ins: np.take(op.evaluate(*ins)[0], order, c)


@explains("order of unfolded columns", ops.Unfold2d, ops.Fold2d)
def unfold_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    kh, kw = op.kernel
    folded = isinstance(op, ops.Fold2d)
    value = node.inputs[0] if folded else node.output
    axis = 1 if op.layout == "NCHW" else 2
    size = value.shape[axis]
    c = size // (kh * kw)
    index = np.arange(size).reshape(c, kh, kw)
    orders = (("window places before channels", (1, 2, 0)), ("rows and columns of the window exchanged", (0, 2, 1)))
    for name, perm in orders:
        order = index.transpose(perm).ravel()
        for which in (order, np.argsort(order)):
            if folded:
                yield name, swapped(node, 0, lambda x, o=which: np.take(x, o, axis))
            else:
                yield name, lambda ins, o=which: np.take(op.evaluate(*ins)[0], o, axis)


@explains("grid sample conventions", ops.GridSample)
def grid_conventions(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield f"align_corners={not op.align_corners}", changed(node, align_corners=not op.align_corners)
    other = "border" if op.padding_mode == "zeros" else "zeros"
    yield f"padding_mode {other!r}", changed(node, padding_mode=other)
    mode = "nearest" if op.mode == "bilinear" else "bilinear"
    yield f"mode {mode!r}", changed(node, mode=mode)
    yield "x and y of the grid exchanged", swapped(node, 1, lambda g: g[..., ::-1])
