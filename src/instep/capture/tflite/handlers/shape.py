"""Handlers of operators that move or choose elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []

#: Constants that are made from nothing (RANGE and the like) stay below this.
_MAX_MADE = 1 << 20


@reads("RESHAPE", "ReshapeOptions")
def reshape(b: Builder, x: Value, shape: Value | None = None) -> Value:
    if shape is not None:
        wanted = b.ints(shape, "shape")
    else:
        given = b.option("NewShapeAsNumpy", 0)
        wanted = [] if isinstance(given, int) else [int(n) for n in given]
    if min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        raise Unsupported(f"its shape is {wanted[:8]}")
    return b.reshape(x, [*wanted, 2] if b.declared[0].complex else wanted)


@reads("SQUEEZE", "SqueezeOptions")
def squeeze(b: Builder, x: Value) -> Value:
    given = b.option("SqueezeDimsAsNumpy", 0)
    axes = set() if isinstance(given, int) else {b.axis(int(a), x.rank) for a in given}
    if any(x.shape[a] != 1 for a in axes):
        raise Unsupported(f"it drops axes {sorted(axes)} of {list(x.shape)}")
    gone = axes or {a for a, n in enumerate(x.shape) if n == 1}
    return b.reshape(x, [n for a, n in enumerate(x.shape) if a not in gone])


@reads("EXPAND_DIMS")
def expand_dims(b: Builder, x: Value, axis: Value) -> Value:
    at = b.axis(b.integer(axis, "axis"), x.rank + 1)
    return b.reshape(x, [*x.shape[:at], 1, *x.shape[at:]])


@reads("TRANSPOSE")
def transpose(b: Builder, x: Value, perm: Value) -> Value:
    order = b.ints(perm, "perm")
    if b.declared[0].complex:
        order.append(len(order))
    if len(order) != x.rank:
        raise Unsupported(f"its perm {order[:8]} does not fit {list(x.shape)}")
    return b.permute(x, [b.axis(p, x.rank) for p in order])


@reads("BROADCAST_TO")
def broadcast_to(b: Builder, x: Value, shape: Value) -> Value:
    return b.expand(x, b.ints(shape, "shape"))


@reads("BROADCAST_ARGS")
def broadcast_args(b: Builder, x: Value, y: Value) -> Value:
    shape = np.broadcast_shapes(tuple(b.ints(x, "shape")), tuple(b.ints(y, "shape")))
    return b.constant(np.asarray(shape, x.dtype), "shape")


@reads("TILE")
def tile(b: Builder, x: Value, multiples: Value) -> Value:
    counts = b.ints(multiples, "multiples")
    if len(counts) != x.rank or min(counts, default=1) < 1:
        raise Unsupported(f"its multiples {counts[:8]} do not fit {list(x.shape)}")
    for axis, count in enumerate(counts):
        if count > 1:
            before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
            wide = b.expand(b.reshape(x, (before, 1, after)), (before, count, after))
            x = b.reshape(wide, [*x.shape[:axis], count * x.shape[axis], *x.shape[axis + 1 :]])
    return x


@reads("SLICE")
def cut(b: Builder, x: Value, begin: Value, size: Value) -> Value:
    starts, sizes = b.ints(begin, "begin"), b.ints(size, "size")
    if not len(starts) == len(sizes) == x.rank or min(sizes, default=0) < -1:
        raise Unsupported(f"begin {starts[:8]} and size {sizes[:8]} do not fit {list(x.shape)}")
    stops = [n if s == -1 else a + s for a, s, n in zip(starts, sizes, x.shape, strict=True)]
    return b(ops.Slice(tuple(starts), tuple(stops), (1,) * x.rank), x)


@reads("STRIDED_SLICE", "StridedSliceOptions")
def strided_slice(b: Builder, x: Value, begin: Value, end: Value, strides: Value) -> Value:
    """TensorFlow's indexing: masks say which bounds count, which axes are new and which go."""
    begins, ends, steps = (b.ints(v, w) for v, w in ((begin, "begin"), (end, "end"), (strides, "strides")))
    masks = [b.option(f"{m}Mask") for m in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")]
    count = len(begins)
    if not count == len(ends) == len(steps) or count > 32 or 0 in steps:
        raise Unsupported(f"begin {begins[:8]}, end {ends[:8]} and strides {steps[:8]} do not fit together")
    if b.option("Offset", False):
        ends = [a + e for a, e in zip(begins, ends, strict=True)]
    bits = [[bool(mask >> i & 1) for mask in masks] for i in range(count)]
    filled = x.rank - sum(not ellipsis and not new for _, _, ellipsis, new, _ in bits)
    if filled < 0 or sum(e for _, _, e, _, _ in bits) > 1:
        raise Unsupported(f"it indexes {count} axes of {list(x.shape)}")
    cuts: list[tuple[int, int, int]] = []
    shape: list[int | None] = []  # None: the size that the cut leaves on the next axis; -1: an axis that goes
    for i, (no_begin, no_end, ellipsis, new, shrink) in enumerate(bits):
        if ellipsis:
            cuts += [(0, n, 1) for n in x.shape[len(cuts) : len(cuts) + filled]]
            shape += [None] * filled
        elif new:
            shape.append(1)
        else:
            size = x.shape[len(cuts)]
            if shrink:
                at = begins[i] + size if begins[i] < 0 else begins[i]
                cuts.append((at, at + 1, 1))
                shape.append(-1)
            else:
                cuts.append(_bounds(begins[i], ends[i], steps[i], size, no_begin, no_end))
                shape.append(None)
    rest = x.shape[len(cuts) :]
    cuts += [(0, n, 1) for n in rest]
    shape += [None] * len(rest)
    x = _cut(b, x, cuts)
    sizes = iter(x.shape)
    final = [1 if s == 1 else next(sizes) if s is None else -next(sizes) for s in shape]
    return b.reshape(x, [n for n in final if n >= 0])


def _bounds(begin: int, end: int, step: int, size: int, no_begin: bool, no_end: bool) -> tuple[int, int, int]:
    """Start, stop and step as Python's slices have them; a stop of -1 means "through the first"."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = begin + size if begin < 0 else begin
    stop = end + size if end < 0 else end
    start = (0 if step > 0 else size - 1) if no_begin else min(max(start, low), high)
    stop = (size if step > 0 else -1) if no_end else min(max(stop, low), high)
    return start, stop, step


def _cut(b: Builder, x: Value, cuts: Sequence[tuple[int, int, int]]) -> Value:
    backwards = tuple(axis for axis, (_, _, step) in enumerate(cuts) if step < 0)
    if backwards:
        x = b(ops.Flip(backwards), x)
        cuts = [(n - 1 - a, n - 1 - e, -s) if s < 0 else (a, e, s) for (a, e, s), n in zip(cuts, x.shape, strict=True)]
    if all(c == (0, n, 1) for c, n in zip(cuts, x.shape, strict=True)):
        return x
    starts, stops, steps = zip(*((a, max(a, e), s) for a, e, s in cuts), strict=True)
    return b(ops.Slice(starts, stops, steps), x)


@reads("CONCATENATION", "ConcatenationOptions")
def concatenation(b: Builder, *parts: Value) -> Value:
    axis = b.axis(b.option("Axis"), parts[0].rank)
    return b.activated(b.concat([p for p in parts if p.size] or parts[:1], axis))


@reads("PACK", "PackOptions")
def pack(b: Builder, *parts: Value) -> Value:
    at = b.axis(b.option("Axis"), parts[0].rank + 1)
    return b.concat([b.reshape(p, [*p.shape[:at], 1, *p.shape[at:]]) for p in parts], at)


@reads("UNPACK", "UnpackOptions")
def unpack(b: Builder, x: Value) -> tuple[Value, ...]:
    at = b.axis(b.option("Axis"), x.rank)
    _count(b, x.shape[at])
    shape = [*x.shape[:at], *x.shape[at + 1 :]]
    return tuple(b.reshape(b.slice(x, at, i, i + 1), shape) for i in range(x.shape[at]))


@reads("SPLIT", "SplitOptions")
def split(b: Builder, axis: Value, x: Value) -> tuple[Value, ...]:
    at, count = b.axis(b.integer(axis, "axis"), x.rank), len(b.declared)
    if x.shape[at] % count:
        raise Unsupported(f"axis {at} of {list(x.shape)} does not split into {count}")
    return _parts(b, x, at, [x.shape[at] // count] * count)


@reads("SPLIT_V", "SplitVOptions")
def split_v(b: Builder, x: Value, sizes: Value, axis: Value) -> tuple[Value, ...]:
    at, found = b.axis(b.integer(axis, "axis"), x.rank), b.ints(sizes, "sizes")
    if found.count(-1) == 1:
        found[found.index(-1)] = x.shape[at] - sum(found) - 1
    if min(found, default=-1) < 0 or sum(found) != x.shape[at]:
        raise Unsupported(f"sizes {found[:8]} do not split axis {at} of {list(x.shape)}")
    _count(b, len(found))
    return _parts(b, x, at, found)


def _count(b: Builder, count: int) -> None:
    if count != len(b.declared):
        raise Unsupported(f"it has {len(b.declared)} outputs for {count} parts")


def _parts(b: Builder, x: Value, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    stops = np.cumsum(sizes).tolist()
    return tuple(b.slice(x, axis, stop - n, stop) for n, stop in zip(sizes, stops, strict=True))


def _pairs(b: Builder, x: Value, pads: Value) -> list[tuple[int, int]]:
    flat = b.ints(pads, "pads")
    if len(flat) != 2 * x.rank or min(flat, default=0) < 0:
        raise Unsupported(f"pads {flat[:8]} do not fit {list(x.shape)}")
    return list(zip(flat[::2], flat[1::2], strict=True))


@reads("PAD")
def pad(b: Builder, x: Value, pads: Value) -> Value:
    return b.pad(x, _pairs(b, x, pads))


@reads("PADV2")
def pad_v2(b: Builder, x: Value, pads: Value, value: Value) -> Value:
    fill = b.array(value)
    if fill is None or fill.size != 1:
        raise Unsupported("what it pads with is computed")
    return b.pad(x, _pairs(b, x, pads), "constant", fill.item())


@reads("MIRROR_PAD", "MirrorPadOptions")
def mirror_pad(b: Builder, x: Value, pads: Value) -> Value:
    pairs = _pairs(b, x, pads)
    symmetric = bool(b.option("Mode"))
    for (before, after), n in zip(pairs, x.shape, strict=True):
        if max(before, after) > (n if symmetric else n - 1):
            raise Unsupported(f"it mirrors {max(before, after)} elements of {n}")
    if not symmetric:
        return b.pad(x, pairs, "reflect")
    # SYMMETRIC repeats the border: the mirrored parts are joined on
    for axis, (before, after) in enumerate(pairs):
        parts = [x]
        if before:
            parts.insert(0, b(ops.Flip((axis,)), b.slice(x, axis, 0, before)))
        if after:
            parts.append(b(ops.Flip((axis,)), b.slice(x, axis, x.shape[axis] - after, x.shape[axis])))
        x = b.concat(parts, axis)
    return x


@reads("REVERSE_V2")
def reverse(b: Builder, x: Value, axes: Value) -> Value:
    return b(ops.Flip(tuple(sorted({b.axis(a, x.rank) for a in b.ints(axes, "axes")}))), x)


@reads("GATHER", "GatherOptions")
def gather(b: Builder, x: Value, indices: Value) -> Value:
    axis, batch = b.axis(b.option("Axis"), x.rank), b.option("BatchDims")
    if batch:
        return _batched_gather(b, x, indices, axis, b.axis(batch, indices.rank + 1))
    _inside(b, indices, x.shape[axis])
    place = b.array(indices)
    if place is not None and not place.ndim:
        one = b.slice(x, axis, int(place), int(place) + 1)
        return b.reshape(one, [*x.shape[:axis], *x.shape[axis + 1 :]])
    return b(ops.Gather(axis), x, indices)


def _inside(b: Builder, indices: Value, size: int) -> None:
    """Constant indices are checked here; the runtime checks computed ones."""
    found = b.array(indices)
    if found is not None and found.size and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise Unsupported(f"it gathers elements {int(found.min())} to {int(found.max())} of {size}")


def _batched_gather(b: Builder, x: Value, indices: Value, axis: int, batch: int) -> Value:
    """One table per place of the first ``batch`` axes: a gather from all tables laid end to end."""
    if axis != batch or x.shape[:batch] != indices.shape[:batch]:
        raise Unsupported(f"batch_dims {batch} with axis {axis}")
    tables, size = math.prod(x.shape[:batch]), x.shape[axis]
    _inside(b, indices, size)
    offsets = (np.arange(tables) * size).astype(indices.dtype)
    offsets = offsets.reshape([*x.shape[:batch], *(1,) * (indices.rank - batch)])
    places = b(ops.Add(), indices, b.constant(offsets, "offsets"))
    return b(ops.Gather(0), b.reshape(x, (tables * size, *x.shape[axis + 1 :])), places)


@reads("EMBEDDING_LOOKUP")
def embedding_lookup(b: Builder, indices: Value, table: Value) -> Value:
    _inside(b, indices, table.shape[0])
    return b(ops.Gather(0), table, indices)


@reads("GATHER_ND")
def gather_nd(b: Builder, x: Value, indices: Value) -> Value:
    """The first axes that the indices name become one; the places on it are counted in row-major order."""
    depth = indices.shape[-1]
    if not 1 <= depth <= x.rank:
        raise Unsupported(f"indices of shape {list(indices.shape)} do not fit {list(x.shape)}")
    named, rest = x.shape[:depth], x.shape[depth:]
    found = b.array(indices)
    if found is not None:
        rows = found.reshape(-1, depth).astype(np.int64)
        if rows.size and ((rows < 0).any() or (rows >= np.asarray(named)).any()):
            raise Unsupported(f"its indices leave {list(named)}")
        flat = np.ravel_multi_index(tuple(rows.T), named).astype(np.int32).reshape(indices.shape[:-1])
        places = b.constant(flat, "places")
    else:
        steps = np.asarray([math.prod(named[i + 1 :]) for i in range(depth)], indices.dtype)
        places = b(ops.ReduceSum((indices.rank - 1,)), b(ops.Mul(), indices, b.constant(steps, "steps")))
    return b(ops.Gather(0), b.reshape(x, (math.prod(named), *rest)), places)


@reads("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(b: Builder, x: Value, update: Value, start: Value) -> Value:
    # the start is moved until the update fits, as XLA has it
    starts = [min(max(s, 0), n - u) for s, n, u in zip(b.ints(start, "start"), x.shape, update.shape, strict=True)]
    mask = np.zeros(x.shape, np.bool_)
    mask[tuple(slice(s, s + u) for s, u in zip(starts, update.shape, strict=True))] = True
    pads = [(s, n - s - u) for s, n, u in zip(starts, x.shape, update.shape, strict=True)]
    return b(ops.Where(), b.constant(mask, "mask"), b.pad(update, pads), x)


@reads("MATRIX_DIAG")
def matrix_diag(b: Builder, x: Value) -> Value:
    mask = b.constant(np.eye(x.shape[-1], dtype=np.bool_), "diagonal")
    return b(ops.Where(), mask, b.reshape(x, [*x.shape, 1]), b.scalar(0, x.dtype))


@reads("MATRIX_SET_DIAG")
def matrix_set_diag(b: Builder, x: Value, diagonal: Value) -> Value:
    rows, columns = x.shape[-2:]
    mask = b.constant(np.eye(rows, columns, dtype=np.bool_), "diagonal")
    size = min(rows, columns)
    # beside the square that the diagonal crosses there is nothing to set
    wide = b.expand(b.reshape(diagonal, [*diagonal.shape, 1]), [*diagonal.shape, columns])
    wide = b.pad(wide, [*[(0, 0)] * (x.rank - 2), (0, rows - size), (0, 0)])
    return b(ops.Where(), mask, wide, x)


@reads("SHAPE")
def shape_of(b: Builder, x: Value) -> Value:
    return b.constant(np.asarray(x.shape, b.declared[0].meaning), "shape")


@reads("RANK")
def rank(b: Builder, x: Value) -> Value:
    return b.constant(np.asarray(x.rank, np.int32), "rank")


@reads("RANGE")
def numbers(b: Builder, start: Value, limit: Value, delta: Value) -> Value:
    found = [b.array(v) for v in (start, limit, delta)]
    if any(a is None or a.size != 1 for a in found):
        raise Unsupported("its bounds are computed while the network runs; only static shapes can be captured")
    a, stop, step = (np.asarray(v).item() for v in found)
    if not step or not abs(stop - a) / abs(step) <= _MAX_MADE:
        raise Unsupported(f"it counts from {a} to {stop} by {step}")
    return b.constant(np.arange(a, stop, step).astype(start.dtype), "range")


@reads("FILL")
def fill(b: Builder, shape: Value, value: Value) -> Value:
    return b.expand(b.reshape(value, ()), b.ints(shape, "shape"))
