"""Moves of elements - shuffles, joins, pads, slices, transposes - in the forms that targets take."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__ = ["join"]

#: XNNPACK joins five parts, other targets four.
PARTS = 4


@clearing("row dy of a block is a slice of channels; the rows joined are the image", "DEPTH_TO_SPACE")
def spell_depth_to_space(b: Build, target: Target) -> bool:
    """A slice [N, H, W, (dx, c)] is a row [N, H, W·r, C] as it lies in memory: no element is moved twice."""
    op = b.node.op
    if not isinstance(op, ops.DepthToSpace) or op.layout != "NHWC" or op.order != "DCR":
        return False
    n, h, w, channels = b.x.shape
    r = op.block
    wide = channels // r
    if not target.has("SLICE", "CONCATENATION", "RESHAPE"):
        return _as_deconvolution(b, r) if target.has("TRANSPOSE_CONV") else False
    rows = [b.reshape(b.slice(b.x, 3, i * wide, (i + 1) * wide), (1, 1, n * h, w * wide)) for i in range(r)]
    return b.done(ops.Reshape(b.node.output.shape), join(b, rows, 3))


def _as_deconvolution(b: Build, r: int) -> bool:
    out = b.x.shape[3] // (r * r)
    one_hot = np.eye(r * r * out).reshape(r * r * out, r, r, out)
    return b.done(ops.ConvTranspose2d((r, r), layout="NHWC"), b.x, b.constant(one_hot, "places"))


@clearing("row dy of each block is a slice; side by side they are the channels", "SPACE_TO_DEPTH")
def spell_space_to_depth(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.SpaceToDepth) or op.layout != "NHWC" or op.order != "DCR":
        return False
    n, h, w, c = b.x.shape
    r = op.block
    rows = b.reshape(b.x, (1, n * h // r, r, w * c))
    parts = [b.reshape(b.slice(rows, 2, i, i + 1), (n, h // r, w // r, r * c)) for i in range(r)]
    return b.stand(join(b, parts, 3))


def join(b: Build, parts: list[Value], axis: int) -> Value:
    """Parts joined in a tree of at most PARTS at a time."""
    while len(parts) > 1:
        groups = [parts[i : i + PARTS] for i in range(0, len(parts), PARTS)]
        parts = [b.add(ops.Concat(axis), *g) if len(g) > 1 else g[0] for g in groups]
    return parts[0]


@clearing("joining joined parts joins them all")
def split_concat(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Concat) or len(b.node.inputs) <= PARTS:
        return False
    return b.stand(join(b, list(b.node.inputs), op.axis))


@clearing("a constant joined on is a border of zeros with the constant added there; what is not border gets 0 added")
def add_constant_parts(b: Build, target: Target) -> bool:
    """Along the columns of an image, where every target pads: [1, before, axis, after]."""
    op, arrays = b.node.op, [b.array(i) for i in range(len(b.node.inputs))]
    computed = [i for i, a in enumerate(arrays) if a is None]
    if not isinstance(op, ops.Concat) or not computed or len(computed) == len(arrays) or b.x.dtype != "float32":
        return False
    first, end = computed[0], computed[-1] + 1
    if end - first != len(computed):
        return False
    inner = [b.node.inputs[i] for i in computed]
    x = b.add(op, *inner) if len(inner) > 1 else inner[0]
    shape, axis = b.node.output.shape, op.axis % x.rank
    before, after = (sum(v.shape[axis] for v in side) for side in (b.node.inputs[:first], b.node.inputs[end:]))
    image = (math.prod(shape[:axis]), math.prod(shape[axis + 1 :]))
    wide = b.pad(b.reshape(x, (1, image[0], x.shape[axis], image[1])), ((0, 0), (0, 0), (before, after), (0, 0)))
    sides = [[a for a in side if a is not None] for side in (arrays[:first], arrays[end:])]
    border = np.concatenate([*sides[0], np.zeros(x.shape), *sides[1]], axis)
    total = b.add(ops.Add(), wide, b.constant(border.reshape(wide.shape), "border"))
    return b.done(ops.Reshape(shape), total)


@clearing("a mirrored border is the border's rows in reverse order, joined on", "MIRROR_PAD")
def spell_mirror_pad(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Pad) or op.mode == "constant":
        return False
    x = b.x
    for axis, (before, after) in enumerate(op.pads):
        n = x.shape[axis]
        first = [b.slice(x, axis, i, i + 1) for i in range(before, 0, -1)]
        last = [b.slice(x, axis, n - 2 - i, n - 1 - i) for i in range(after)]
        x = join(b, [*first, x, *last], axis)
    return b.stand(x)


@clearing("padding is joining with constants", "PAD", "PADV2")
def spell_pad(b: Build, target: Target) -> bool:
    """Axes that the target does not pad are joined with blocks of the fill; height and width stay a PAD."""
    op = b.node.op
    if not isinstance(op, ops.Pad) or op.mode != "constant" or not any(map(any, op.pads)):
        return False
    inner = tuple(p if i in (1, 2) and len(op.pads) == 4 and target.has("PAD") and op.value == 0 else (0, 0)
                  for i, p in enumerate(op.pads))  # fmt: skip
    if inner == op.pads:
        return False
    x = b.pad(b.x, inner)
    for axis, (before, after) in enumerate(op.pads):
        if inner[axis] != (0, 0):
            continue
        blocks = []
        for size in (before, after):
            shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            blocks.append([b.constant(np.full(shape, op.value), "border")] if size else [])
        if any(blocks):
            x = b.add(ops.Concat(axis), *blocks[0], x, *blocks[1])
    return b.stand(x)


@clearing("channels laid out as the columns of an image are padded as columns are")
def turn_pad(b: Build, target: Target) -> bool:
    """For targets that pad height and width alone, with zeros."""
    op = b.node.op
    if not isinstance(op, ops.Pad) or op.mode != "constant" or op.value != 0 or b.x.rank != 4:
        return False
    *outer, channels = op.pads
    if b.x.shape[0] != 1 or any(outer[0]) or not any(channels):
        return False
    x = b.pad(b.x, (*outer, (0, 0)))
    _, h, w, c = x.shape
    columns = b.pad(b.reshape(x, (1, h * w, c, 1)), ((0, 0), (0, 0), channels, (0, 0)))
    return b.done(ops.Reshape(b.node.output.shape), columns)


def _at_rank_4(b: Build) -> bool:
    """A slice or pad of fewer axes, with axes of size 1 in front."""
    op, more = b.node.op, 4 - b.x.rank
    if more <= 0:
        return False
    x = b.reshape(b.x, (1,) * more + b.x.shape)
    wide: ops.Slice | ops.Pad
    if isinstance(op, ops.Slice):
        wide = ops.Slice((0,) * more + op.starts, (1,) * more + op.stops, (1,) * more + op.steps)
    else:
        wide = op.with_(pads=((0, 0),) * more + op.pads)
    return b.done(ops.Reshape(b.node.output.shape), b.add(wide, x))


@clearing("axes of size 1 in front change no pad")
def pad_rank_4(b: Build, target: Target) -> bool:
    return isinstance(b.node.op, ops.Pad) and _at_rank_4(b)


@clearing("axes of size 1 in front change no slice")
def slice_rank_4(b: Build, target: Target) -> bool:
    return isinstance(b.node.op, ops.Slice) and _at_rank_4(b)


@clearing("constant indices name slices; slices joined are the gather", "GATHER")
def gather_to_slices(b: Build, target: Target) -> bool:
    """Runs of neighbouring indices are slices; many short ones along the last axis are a one-hot matrix."""
    op, index = b.node.op, b.array(1)
    if not isinstance(op, ops.Gather) or index is None or not index.size:
        return False
    flat = np.where(index < 0, index + b.x.shape[op.axis], index).reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 2) != 1)
    stops = np.append(starts[1:], len(flat))
    shape = b.node.output.shape
    if len(starts) > 64 and op.axis == b.x.rank - 1 and b.x.dtype == "float32":
        matrix = b.constant(np.eye(b.x.shape[-1])[flat], "choice")
        return b.done(ops.Reshape(shape), b.add(ops.Linear(), b.x, matrix))
    if len(starts) > 64:
        return False
    parts = [b.slice(b.x, op.axis, int(flat[i]), int(flat[j - 1]) + 1) for i, j in zip(starts, stops, strict=True)]
    joined = join(b, parts, op.axis)
    return b.stand(joined) if joined.shape == shape else b.done(ops.Reshape(shape), joined)


@clearing("a permutation that only turns blocks of axes round is the transpose of a matrix")
def split_transpose(b: Build, target: Target) -> bool:
    """Axes i… before axes …i: [1, 1, A, B] → [1, 1, B, A], in the form that every target has if it has any."""
    op = b.node.op
    if not isinstance(op, ops.Permute):
        return False
    shape = b.x.shape
    axes = [a for a in op.perm if shape[a] != 1]
    kept = 0
    order = sorted(axes)
    while kept < len(axes) and axes[kept] == order[kept]:
        kept += 1
    moved, rest = axes[kept:], order[kept:]
    if not moved:
        return b.done(ops.Reshape(b.node.output.shape), b.x)
    turn = rest.index(moved[0])
    if moved != rest[turn:] + rest[:turn]:
        return False
    outer, first, second = (math.prod(shape[a] for a in part) for part in (order[:kept], rest[:turn], rest[turn:]))
    if op.perm == (0, 2, 1) or (outer == 1 and shape[:2] == (1, 1)):
        return False
    slices = [b.reshape(b.x, (1, 1, first, second))] if outer == 1 else [
        b.reshape(b.slice(b.reshape(b.x, (1, outer, first, second)), 1, i, i + 1), (1, 1, first, second))
        for i in range(outer)
    ]  # fmt: skip
    if len(slices) > 16:
        return False
    turned = [b.add(ops.Permute((0, 1, 3, 2)), s) for s in slices]
    joined = turned[0] if len(turned) == 1 else join(b, turned, 1)
    return b.done(ops.Reshape(b.node.output.shape), joined)


@clearing("doubling twice is growing fourfold; other sizes are two small matrices, one for each axis")
def split_resize(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Resize2d) or op.layout != "NHWC":
        return False
    h, w = b.x.shape[1:3]
    factors = [o // n for o, n in zip(op.size, (h, w), strict=True)]
    whole = op.size == (h * factors[0], w * factors[1])
    if op.mode == "nearest" and whole and factors[0] == factors[1] and factors[0] > 2 and factors[0] % 2 == 0:
        double = ops.Resize2d((2 * h, 2 * w), "nearest", op.coordinates, layout="NHWC")
        inner = b.add(double, b.x)
        return b.done(op.with_(scale=None), inner)
    if op.mode == "nearest" and factors == [2, 2] and whole:
        return False
    return _by_matrices(b)


def _by_matrices(b: Build) -> bool:
    """R_h · x · R_wᵀ: the rows by a product, the columns by another."""
    op = b.node.op
    n, h, w, c = b.x.shape
    rows, cols = op.matrices(h, w)
    weights = [b.constant(np.ascontiguousarray(m), "weights") for m in (rows, cols)]
    # [N, H, W·C] → [N, W·C, H] → rows → back, so that the resized axis is the last
    tall = b.add(ops.Permute((0, 2, 1)), b.reshape(b.x, (n, h, w * c)))
    tall = b.add(ops.Permute((0, 2, 1)), b.add(ops.Linear(), tall, weights[0]))
    oh, ow = op.size
    wide = b.add(ops.Permute((0, 2, 1)), b.reshape(tall, (n * oh, w, c)))
    wide = b.add(ops.Permute((0, 2, 1)), b.add(ops.Linear(), wide, weights[1]))
    return b.done(ops.Reshape((n, oh, ow, c)), wide)
