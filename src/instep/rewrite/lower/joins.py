"""Decompositions of pads, rolls, broadcasts and index reads."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.Pad)
def pad(b: Build) -> bool:
    """Replicate and circular pads: edge slices joined on, axis by axis. A pad by nothing goes."""
    op = b.node.op
    if not any(map(any, op.pads)):
        return b.stand(b.x)
    if op.mode in ("constant", "reflect"):
        return False
    x = b.x
    for axis, (before, after) in enumerate(op.pads):
        if not before and not after:
            continue
        n = x.shape[axis]
        if op.mode == "circular":
            parts = [b.slice(x, axis, n - before, n)] * bool(before) + [x] + [b.slice(x, axis, 0, after)] * bool(after)
        else:
            first = [b.slice(x, axis, 0, 1)] * before if before else []
            last = [b.slice(x, axis, n - 1, n)] * after if after else []
            parts = [*first, x, *last]
        x = b.add(ops.Concat(axis), *parts)
    return b.stand(x)


@decomposes(ops.Roll)
def roll(b: Build) -> bool:
    """Two slices and a join for each axis."""
    x = b.x
    for shift, axis in zip(b.node.op.shifts, b.node.op.axes, strict=True):
        n = x.shape[axis]
        cut = -shift % n
        if cut:
            x = b.add(ops.Concat(axis), b.slice(x, axis, cut, n), b.slice(x, axis, 0, cut))
    return b.stand(x)


@decomposes(ops.Concat)
def concat(b: Build) -> bool:
    return b.stand(b.x) if len(b.node.inputs) == 1 else False


@decomposes(ops.Expand)
def expand(b: Build) -> bool:
    """Readers that broadcast by themselves read the unexpanded value; for the others it is multiplied by ones."""
    shape = b.node.op.shape
    x = b.reshape(b.x, (1,) * (len(shape) - b.x.rank) + b.x.shape)
    out = b.node.output
    if x.shape == shape:
        return b.stand(x)
    for reader in list(b.edit.users[out]):
        if isinstance(reader.op, ops.BINARY) and not b.edit.is_output(out):
            inputs = [x if v is out else v for v in reader.inputs]
            if reader.op.infer(*(v.spec for v in inputs))[0].shape == reader.output.shape:
                b.edit.update(reader, inputs=inputs)
    if not b.edit.users[out] and not b.edit.is_output(out):
        b.edit.erase(b.node)
        return True
    ones = tuple(m if n != m else 1 for n, m in zip(x.shape, shape, strict=True))
    if out.dtype == "bool":
        return b.done(ops.LogicalOr(), x, b.constant(np.zeros(ones), "zeros"))
    return b.done(ops.Mul(), x, b.constant(np.ones(ones), "ones"))


@decomposes(ops.Gather)
def gather(b: Build) -> bool:
    """Constant indices in arithmetic progression are a slice."""
    index, axis = b.array(1), b.node.op.axis
    if index is None or index.ndim > 1 or not index.size:
        return False
    flat = index.reshape(-1)
    flat = np.where(flat < 0, flat + b.x.shape[axis], flat)
    steps = np.diff(flat)
    step = int(steps[0]) if len(steps) else 1
    if step < 1 or np.any(steps != step):
        return False
    part = b.slice(b.x, axis, int(flat[0]), int(flat[-1]) + 1, step)
    return b.stand(part) if part.shape == b.node.output.shape else b.done(ops.Reshape(b.node.output.shape), part)


@decomposes(ops.TakeAlong)
def take_along(b: Build) -> bool:
    """An index that is the same along every other axis is a gather; any other reads the flattened input."""
    axis, x, index = b.node.op.axis, b.x, b.node.inputs[1]
    array = b.array(1)
    if array is not None:
        line = array[tuple(slice(None) if a == axis else slice(0, 1) for a in range(array.ndim))]
        same_shape = all(x.shape[a] == array.shape[a] for a in range(array.ndim) if a != axis)
        if same_shape and np.array_equal(np.broadcast_to(line, array.shape), array):
            return b.done(ops.Gather(axis), x, b.constant(line.reshape(-1), "index", "int32"))
    strides = [int(np.prod(x.shape[a + 1 :], dtype=np.int64)) for a in range(x.rank)]
    offset = sum(
        np.arange(n).reshape([-1 if i == a else 1 for i in range(x.rank)]) * strides[a]
        for a, n in enumerate(index.shape)
        if a != axis
    )
    offset = np.asarray(offset)
    flat: Value
    if array is not None:
        flat = b.constant(np.where(array < 0, array + x.shape[axis], array) * strides[axis] + offset, "index", "int32")
    else:
        scaled = b.add(ops.Mul(), index, b.constant(strides[axis], "stride", index.dtype))
        flat = b.add(ops.Add(), scaled, b.constant(np.broadcast_to(offset, index.shape), "offset", index.dtype))
    return b.done(ops.Gather(0), b.reshape(x, (x.size,)), flat)


@decomposes(ops.Flip)
def flip(b: Build) -> bool:
    """One axis at a time."""
    axes = [a for a in b.node.op.axes if b.x.shape[a] > 1]
    if not axes:
        return b.stand(b.x)
    if len(b.node.op.axes) == 1:
        return False
    x = b.x
    for axis in axes[:-1]:
        x = b.add(ops.Flip((axis,)), x)
    return b.done(ops.Flip((axes[-1],)), x)
