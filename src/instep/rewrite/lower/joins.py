"""Decompositions of pads, rolls, broadcasts and index reads."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.shuffles import FEW_CHANNELS as FEW_TO_TRANSPOSE
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []

#: The widest reflected border that is written as slices.
WIDEST = 16


@decomposes(ops.Pad)
def pad(b: Build) -> bool:
    """Reflected, repeated and wrapped borders: slices joined on, axis by axis. A pad by nothing goes.

    MIRROR_PAD is 40 times slower than slices (docs/xnnpack-forms.md); only a wide border is left to it.
    """
    op = b.node.op
    if not any(map(any, op.pads)):
        return b.stand(b.x)
    wide = max(map(max, op.pads)) > WIDEST or not b.may("slice-borders")
    if op.mode == "constant" or (op.mode == "reflect" and wide):
        return False
    x = b.x
    for axis, (before, after) in enumerate(op.pads):
        if not before and not after:
            continue
        n = x.shape[axis]
        if op.mode == "reflect":
            first = [b.slice(x, axis, i, i + 1) for i in range(before, 0, -1)]
            parts = [*first, x, *(b.slice(x, axis, n - 2 - i, n - 1 - i) for i in range(after))]
        elif op.mode == "circular":
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
    """Constant indices in arithmetic progression are a slice, a few runs are slices joined, a shuffle of groups is a
    transposition, and channels chosen from few are a one-hot 1×1 convolution: GATHER is no XNNPACK operator and copies
    channels one by one."""
    index, axis = b.array(1), b.node.op.axis
    if index is None or index.ndim > 1 or not index.size:
        return False
    flat = index.reshape(-1)
    flat = np.where(flat < 0, flat + b.x.shape[axis], flat)
    runs = _runs(flat)
    if len(runs) > RUNS:
        return _regrouped(b, flat) or _one_hot(b, flat)
    parts = [b.slice(b.x, axis, start, stop, step) for start, stop, step in runs]
    shape = b.node.output.shape
    if len(parts) > 1:
        joined = (*b.x.shape[:axis], len(flat), *b.x.shape[axis + 1 :])
        return b.done(ops.Concat(axis), *parts) if joined == shape else False
    return b.stand(parts[0]) if parts[0].shape == shape else b.done(ops.Reshape(shape), parts[0])


#: A gather of no more runs is written as slices.
RUNS = 4
#: A gather from no more channels is written as a convolution, with a kernel of no more numbers.
FEW_CHANNELS, FEW_CHOICES = 64, 1 << 18


def _runs(index: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, stop, step) of the slices that together are ``index``; of many no more than RUNS and one."""
    runs: list[tuple[int, int, int]] = []
    steps = np.diff(index)
    i = 0
    while i < len(index) and len(runs) <= RUNS:
        step = int(steps[i]) if i < len(steps) else 1
        count = 1
        if step >= 1:
            others = steps[i:] != step
            count += int(others.argmax()) if others.any() else len(others)
        runs.append((int(index[i]), int(index[i + count - 1]) + 1, step if count > 1 else 1))
        i += count
    return runs


def _regrouped(b: Build, index: np.ndarray) -> bool:
    """Entries in the order (outer, inner) put into the order (inner, outer), as a channel shuffle does."""
    axis, x, n = b.node.op.axis, b.x, len(index)
    if n != x.shape[axis] or b.node.output.shape != x.shape or not b.may("transpose-groups"):
        return False
    few = x.rank == 4 and axis == 3 and n <= FEW_TO_TRANSPOSE and b.may("one-hot-channels")
    outer = n // int(index[1]) if index[1] and n % index[1] == 0 else 1
    if few or outer in (1, n) or not np.array_equal(index, np.arange(n).reshape(outer, -1).T.reshape(-1)):
        return False
    before, behind = (int(np.prod(part, dtype=np.int64)) for part in (x.shape[:axis], x.shape[axis + 1 :]))
    split = b.reshape(x, (1, before, outer, n // outer) if behind == 1 else (before, outer, n // outer, behind))
    order = (0, 1, 3, 2) if behind == 1 else (0, 2, 1, 3)
    return b.done(ops.Reshape(x.shape), b.add(ops.Permute(order), split))


def _one_hot(b: Build, index: np.ndarray) -> bool:
    channels = b.x.shape[-1]
    image = b.x.rank == 4 and b.node.op.axis == 3 and b.node.output.rank == 4 and b.x.dtype == "float32"
    if not image or channels > FEW_CHANNELS or channels * len(index) > FEW_CHOICES or not b.may("one-hot-channels"):
        return False
    weight = np.eye(channels)[index].reshape(len(index), 1, 1, channels)
    return b.done(ops.Conv2d(layout="NHWC"), b.x, b.constant(weight, "choice"))


@decomposes(ops.Slice)
def strided(b: Build) -> bool:
    """Every s-th row or column is a depthwise 1×1 convolution of stride s by ones; STRIDED_SLICE is 25 times slower."""
    op, x = b.node.op, b.x
    stepped = [a for a, s in enumerate(op.steps) if s > 1]
    if not stepped or not b.may("depthwise-strides"):
        return False
    if x.dtype != "float32" or (stepped[0] == 0 and x.rank == 4) or x.rank > 4:
        return False
    if stepped[-1] == x.rank - 1 or stepped[-1] - stepped[0] > 1:
        return False
    shape = b.node.output.shape
    stops = tuple(a + (n - 1) * s + 1 for a, n, s in zip(op.starts, shape, op.steps, strict=True))
    if (op.starts, stops) != ((0,) * x.rank, x.shape):
        x = b.add(ops.Slice(op.starts, stops, (1,) * x.rank), x)
    first = stepped[0]
    rows, cols = (x.shape[first], x.shape[first + 1]) if len(stepped) > 1 else (x.shape[first], 1)
    outer = int(np.prod(x.shape[:first], dtype=np.int64))
    channels = x.size // (outer * rows * cols)
    if channels > 4096:
        return False
    stride = (op.steps[first], op.steps[first + 1] if len(stepped) > 1 else 1)
    conv = ops.Conv2d(stride, groups=channels, layout="NHWC")
    inputs = b.reshape(x, (outer, rows, cols, channels)), b.constant(np.ones((channels, 1, 1, 1)), "ones")
    if conv.infer(*(v.spec for v in inputs))[0].shape == shape:
        return b.done(conv, *inputs)
    return b.done(ops.Reshape(shape), b.add(conv, *inputs))


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
