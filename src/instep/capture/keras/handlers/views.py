"""Functions that move, join, cut, repeat and pad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.arithmetic import common
from instep.capture.keras.handlers.shape import repeated
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__ = ["sizes_of"]


@function("Reshape", "tf.reshape")
def reshape(b: Builder, x: Value, newshape: Any = None, shape: Any = None, name: Any = None) -> Value:
    sizes = sizes_of(newshape if newshape is not None else shape)
    if sizes[:1] == [-1] and sizes.count(-1) > 1:
        sizes[0] = x.shape[0]
    if sizes.count(-1) > 1:
        raise Unsupported(f"its shape {sizes} leaves several sizes open")
    return b.reshape(x, sizes)


def sizes_of(value: Any, low: int = -1) -> list[int]:
    """Sizes as plain integers; an open one is -1."""
    items = value if isinstance(value, list) else [value]
    items = [-1 if n is None else n for n in items]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < low for n in items):
        raise Unsupported(
            f"its shape {str(value)[:80]} is computed while the network runs; only static shapes can be captured"
        )
    return items


@function("Ravel")
def ravel(b: Builder, x: Value) -> Value:
    return b.reshape(x, (x.size,))


# -- axes --------------------------------------------------------------------------------------------------------------
@function("Transpose", "tf.transpose", "tf.compat.v1.transpose")
def transpose(
    b: Builder, x: Value, axes: Any = None, perm: Any = None, name: Any = None, conjugate: Any = None
) -> Value:
    order = axes if axes is not None else perm
    return b.permute(x, [b.axis(a, x.rank) for a in order] if order is not None else range(x.rank)[::-1])


@function("Swapaxes")
def swapaxes(b: Builder, x: Value, axis1: Any = 0, axis2: Any = 1) -> Value:
    order, i, k = list(range(x.rank)), b.axis(axis1, x.rank), b.axis(axis2, x.rank)
    order[i], order[k] = k, i
    return b.permute(x, order)


@function("Moveaxis")
def moveaxis(b: Builder, x: Value, source: Any = 0, destination: Any = 0) -> Value:
    given, wanted = ([b.axis(a, x.rank) for a in (p if isinstance(p, list) else [p])] for p in (source, destination))
    if len(given) != len(wanted):
        raise Unsupported(f"it moves {len(given)} axes to {len(wanted)} places")
    rest = [a for a in range(x.rank) if a not in given]
    order = [given[wanted.index(place)] if place in wanted else rest.pop(0) for place in range(x.rank)]
    return b.permute(x, order)


@function("Squeeze", "tf.squeeze")
def squeeze(b: Builder, x: Value, axis: Any = None, name: Any = None) -> Value:
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    axes = b.all_axes(axis, x.rank) if axis is not None else tuple(a for a in ones if a)
    if any(x.shape[a] != 1 for a in axes):
        raise Unsupported(f"axes {list(axes)} of {list(x.shape)} are not of size 1")
    return b.reshape(x, [n for a, n in enumerate(x.shape) if a not in axes])


@function("ExpandDims", "tf.expand_dims")
def expand_dims(b: Builder, x: Value, axis: Any = 0, name: Any = None) -> Value:
    shape = list(x.shape)
    axes = axis if isinstance(axis, list) else [axis]
    for a in sorted(b.axis(a, x.rank + len(axes)) for a in axes):
        shape.insert(a, 1)
    return b.reshape(x, shape)


@function("Flip", "Fliplr", "Flipud", "tf.reverse")
def flip(b: Builder, x: Value, axis: Any = None, name: Any = None) -> Value:
    axis = {"Fliplr": 1, "Flipud": 0}.get(b.place.layer.kind, axis)
    return b(ops.Flip(b.all_axes(axis, x.rank)), x)


@function("Rot90")
def quarter_turns(b: Builder, array: Value, k: int = 1, axes: Any = (0, 1)) -> Value:
    """Turned k times from the first of two axes towards the second."""
    first, second = (b.axis(a, array.rank) for a in axes)
    order = list(range(array.rank))
    order[first], order[second] = second, first
    match k % 4:
        case 0:
            return array
        case 2:
            if array.shape[first] != array.shape[second]:
                raise Unsupported("half a turn of no square, which Keras on TensorFlow mixes up; flip both axes")
            return b(ops.Flip(tuple(sorted((first, second)))), array)
        case 1:
            return b.permute(b(ops.Flip((second,)), array), order)
        case _:
            return b(ops.Flip((second,)), b.permute(array, order))


@function("Roll", "tf.roll")
def roll(b: Builder, x: Value, shift: Any = None, axis: Any = None, name: Any = None) -> Value:
    if axis is None:
        return b.reshape(roll(b, b.reshape(x, (x.size,)), shift, 0), x.shape)
    shifts = shift if isinstance(shift, list) else [shift]
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != len(shifts) or not all(isinstance(n, int) for n in shifts):
        raise Unsupported(f"it rolls by {shift} along {axis}")
    return b(ops.Roll(tuple(shifts), tuple(b.axis(a, x.rank) for a in axes)), x)


# -- joining and cutting -----------------------------------------------------------------------------------------------
@function("Concatenate", "tf.concat")
def concatenate(b: Builder, xs: Any = None, axis: int = -1, values: Any = None, name: Any = None) -> Value:
    parts = _tensors(b, xs if xs is not None else values)
    return b.concat(parts, b.axis(axis, parts[0].rank))


@function("Stack", "tf.stack")
def stack(b: Builder, x: Any, axis: int = 0, name: Any = None) -> Value:
    parts = _tensors(b, x)
    at = b.axis(axis, parts[0].rank + 1)
    return b.concat([b.reshape(p, [*p.shape[:at], 1, *p.shape[at:]]) for p in parts], at)


@function("Append")
def append(b: Builder, x1: Any = None, x2: Any = None, axis: Any = None) -> Value:
    parts = _tensors(b, [x1, x2])
    if axis is None:
        return b.concat([b.reshape(p, (p.size,)) for p in parts], 0)
    return b.concat(parts, b.axis(axis, parts[0].rank))


@function("Hstack", "Vstack", "Dstack")
def stacked(b: Builder, xs: Any) -> Value:
    """Along the second, first or third axis, which they get where they lack it."""
    parts, kind = _tensors(b, xs), b.place.layer.kind
    if kind == "Hstack":
        return b.concat(parts, min(1, parts[0].rank - 1))
    wanted = {"Vstack": 2, "Dstack": 3}[kind]
    full = []
    for p in parts:
        shape = (1, *p.shape) if p.rank == 1 else p.shape
        full.append(b.reshape(p, (*shape, *(1,) * (wanted - len(shape)))))
    return b.concat(full, wanted - 1 if kind == "Dstack" else 0)


def _tensors(b: Builder, parts: Any) -> list[Value]:
    """Tensors of one dtype; arrays of the config among them are constants."""
    if not isinstance(parts, list) or not parts or any(not isinstance(p, Value | list) for p in parts):
        raise Unsupported("it is not called with a list of tensors")
    dtype = common(*parts)
    return [b.operand(p, dtype) for p in parts]


@function("Split", "ArraySplit", "tf.split")
def split(b: Builder, x: Value, indices_or_sections: Any = None, axis: int = 0, num_or_size_splits: Any = None,
          num: Any = None, name: Any = None) -> tuple[Value, ...]:  # fmt: skip
    at = b.axis(axis, x.rank)
    size = x.shape[at]
    given = indices_or_sections if indices_or_sections is not None else num_or_size_splits
    uneven = b.place.layer.kind == "ArraySplit"
    if isinstance(given, int) and 0 < given <= size and (uneven or size % given == 0):
        # the first parts have one element more where it does not come out even
        stops = [size // given * i + min(i, size % given) for i in range(1, given + 1)]
    elif isinstance(given, list) and all(isinstance(n, int) and n >= 0 for n in given):
        # keras.ops gives the places to cut at, TensorFlow the sizes
        stops = [*given, size] if indices_or_sections is not None else list(np.cumsum(given).tolist())
    else:
        raise Unsupported(f"axis {at} of {list(x.shape)} does not split into {str(given)[:60]}")
    if stops != sorted(stops) or not stops or stops[-1] != size or len(stops) > 4096:
        raise Unsupported(f"{size} elements do not split at {stops[:8]}")
    return tuple(b.slice(x, at, a, e) for a, e in zip([0, *stops[:-1]], stops, strict=True))


@function("Hsplit", "Vsplit", "Dsplit")
def split_along(b: Builder, x: Value, indices_or_sections: Any = None) -> tuple[Value, ...]:
    axis = {"Vsplit": 0, "Hsplit": min(1, x.rank - 1), "Dsplit": 2}[b.place.layer.kind]
    return split(b, x, indices_or_sections, axis)


@function("Unstack", "tf.unstack")
def unstack(b: Builder, x: Value, num: Any = None, axis: int = 0, name: Any = None) -> tuple[Value, ...]:
    at = b.axis(axis, x.rank)
    shape = [*x.shape[:at], *x.shape[at + 1 :]]
    return tuple(b.reshape(b.slice(x, at, i, i + 1), shape) for i in range(x.shape[at]))


@function("Meshgrid")
def meshgrid(b: Builder, *x: Value, indexing: str = "xy") -> tuple[Value, ...]:
    """Each as a grid over all of them; with "xy" the first two axes change places."""
    order = [1, 0, *range(2, len(x))] if indexing == "xy" and len(x) > 1 else list(range(len(x)))
    shape = [x[i].size for i in order]
    rows = [[n if i == order[a] else 1 for a, n in enumerate(shape)] for i in range(len(x))]
    return tuple(b.expand(b.reshape(v, row), shape) for v, row in zip(x, rows, strict=True))


# -- indexing ----------------------------------------------------------------------------------------------------------
@function("GetItem", "tf.__operators__.getitem")
def get_item(b: Builder, x: Value, key: Any = None, slice_spec: Any = None) -> Value:
    """Python's indexing: numbers, slices, an ellipsis, None."""
    spec = key if key is not None else slice_spec
    spec = list(spec) if isinstance(spec, list) else [spec]
    named = sum(1 for s in spec if s is not None and s is not Ellipsis)
    if named > x.rank or spec.count(Ellipsis) > 1:
        raise Unsupported(f"{named} indices for rank {x.rank}")
    if Ellipsis not in spec:
        spec.append(Ellipsis)
    at = spec.index(Ellipsis)
    spec[at : at + 1] = [slice(None)] * (x.rank - named)
    shape: list[int] = []
    axis = 0
    for part in spec:
        if part is None:
            shape.append(1)
            continue
        size = x.shape[axis]
        if isinstance(part, slice):
            x = _cut(b, x, axis, part, size)
            shape.append(x.shape[axis])
        elif isinstance(part, int) and -size <= part < size:
            x = b.slice(x, axis, part % size, part % size + 1)
        else:
            raise Unsupported(f"the index {str(part)[:60]} of axis {axis} of {list(x.shape)}")
        axis += 1
    return b.reshape(x, shape)


def _cut(b: Builder, x: Value, axis: int, part: slice, size: int) -> Value:
    start, stop, step = part.indices(size)
    if step > 0:
        return b.slice(x, axis, start, max(stop, start), step)
    flipped = b(ops.Flip((axis,)), x)
    return b.slice(flipped, axis, size - 1 - start, max(size - 1 - stop, size - 1 - start), -step)


@function("Slice", "tf.slice")
def slice_of(b: Builder, inputs: Value, start_indices: Any = None, shape: Any = None, begin: Any = None,
             size: Any = None, name: Any = None) -> Value:  # fmt: skip
    starts, lengths = _places(b, inputs, start_indices if start_indices is not None else begin), shape or size
    lengths = [n - s if m == -1 else m for n, s, m in zip(inputs.shape, starts, sizes_of(lengths), strict=True)]
    return b.pad(inputs, [(-s, s + m - n) for n, s, m in zip(inputs.shape, starts, lengths, strict=True)])


@function("SliceUpdate")
def slice_update(b: Builder, inputs: Value, start_indices: Any = None, updates: Any = None) -> Value:
    """``inputs`` with ``updates`` from the places ``start_indices`` on."""
    new = b.operand(updates, inputs.dtype)
    starts = _places(b, inputs, start_indices)
    around = [(s, n - s - m) for n, s, m in zip(inputs.shape, starts, new.shape, strict=True)]
    if not any(a or e for a, e in around):
        return new
    mask = np.pad(np.ones(new.shape, bool), around)
    return b(ops.Where(), b.constant(mask, "updated"), b.pad(new, around), inputs)


def _places(b: Builder, x: Value, starts: Any) -> list[int]:
    """Where a piece starts; Keras keeps it within what it is of."""
    items = [b.array(s).item() if b.array(s) is not None else s for s in starts] if isinstance(starts, list) else starts  # type: ignore[union-attr]
    if not isinstance(items, list) or len(items) != x.rank or any(not isinstance(s, int) or s < 0 for s in items):
        raise Unsupported("the place where it starts is computed")
    return items


@function("Pad", "tf.pad", "tf.compat.v1.pad")
def pad(b: Builder, x: Value, pad_width: Any = None, mode: str = "constant", constant_values: Any = None,
        paddings: Any = None, name: Any = None) -> Value:  # fmt: skip
    given = pad_width if pad_width is not None else paddings
    given = [[given, given]] * x.rank if isinstance(given, int) else given
    if isinstance(given, list) and len(given) == 2 and all(isinstance(n, int) for n in given):
        given = [given] * x.rank
    rows: list[list[Any]] = [p for p in given if isinstance(p, list)] if isinstance(given, list) else []
    rows = rows * x.rank if len(rows) == 1 else rows
    if len(rows) != x.rank or any(len(p) != 2 or any(not isinstance(n, int) or n < 0 for n in p) for p in rows):
        raise Unsupported(f"its pads are {str(given)[:80]}")
    pairs = [(int(p[0]), int(p[1])) for p in rows]
    kind = str(mode).lower()
    if kind == "constant":
        return b.pad(x, pairs, "constant", float(constant_values or 0.0))
    if kind == "reflect" and all(max(p) < n for p, n in zip(pairs, x.shape, strict=True)):
        return b.pad(x, pairs, "reflect")
    if kind == "edge":
        return b.pad(x, pairs, "replicate")
    if kind == "symmetric" and all(max(p) <= n for p, n in zip(pairs, x.shape, strict=True)):
        return _mirrored(b, x, pairs)
    raise Unsupported(f"its mode is {mode!r}")


def _mirrored(b: Builder, x: Value, pairs: list[tuple[int, int]]) -> Value:
    """Padded with what lies at the border, which is repeated, from there on inwards."""
    for axis, (before, behind) in enumerate(pairs):
        size = x.shape[axis]
        places = [*range(before)[::-1], *range(size), *range(size - behind, size)[::-1]]
        if len(places) > size:
            x = b(ops.Gather(axis), x, b.constant(np.asarray(places, np.int32), "places"))
    return x


# -- repeating ---------------------------------------------------------------------------------------------------------
@function("Tile", "tf.tile")
def tile(b: Builder, x: Value, repeats: Any = None, multiples: Any = None, name: Any = None) -> Value:
    times = sizes_of(repeats if repeats is not None else multiples, 1)
    times = [1] * (x.rank - len(times)) + times
    x = b.reshape(x, (*(1,) * (len(times) - x.rank), *x.shape))
    for axis, n in enumerate(times):
        if n > 1:
            wide = b.expand(b.reshape(x, [*x.shape[:axis], 1, *x.shape[axis:]]), [*x.shape[:axis], n, *x.shape[axis:]])
            x = b.reshape(wide, [*x.shape[:axis], n * x.shape[axis], *x.shape[axis + 1 :]])
    return x


@function("Repeat", "tf.repeat")
def repeat(b: Builder, x: Value, repeats: Any = None, axis: Any = None, name: Any = None) -> Value:
    """Each element so many times; a list says how often each."""
    x, at = (b.reshape(x, (x.size,)), 0) if axis is None else (x, b.axis(axis, x.rank))
    times = repeats[0] if isinstance(repeats, list) and len(repeats) == 1 else repeats
    if isinstance(times, int) and times >= 1:
        return repeated(b, x, at, times)
    if not isinstance(times, list) or len(times) != x.shape[at] or sum(sizes_of(times, 0)) > 1 << 20:
        raise Unsupported(f"it repeats {str(repeats)[:60]} times along {axis}")
    places = np.repeat(np.arange(x.shape[at], dtype=np.int32), times)
    return b(ops.Gather(at), x, b.constant(places, "places"))


@function("BroadcastTo", "tf.broadcast_to")
def broadcast_to(b: Builder, x: Value, shape: Any = None, name: Any = None) -> Value:
    sizes = sizes_of(shape)
    first = x.shape[0] if len(sizes) == x.rank else 1
    return b.expand(x, [first if n == -1 else n for n in sizes])


# -- diagonals ---------------------------------------------------------------------------------------------------------
@function("Tril", "Triu", "tf.linalg.band_part")
def triangle(b: Builder, x: Value, k: int = 0, num_lower: Any = None, num_upper: Any = None) -> Value:
    whole = np.ones(x.shape[-2:], bool)
    if num_lower is not None:
        mask = (np.triu(whole, -num_lower) if num_lower >= 0 else whole) & (
            np.tril(whole, num_upper) if num_upper >= 0 else whole
        )
    else:
        mask = (np.tril if b.place.layer.kind == "Tril" else np.triu)(whole, k)
    return b(ops.Where(), b.constant(mask, "triangle"), x, b.scalar(0, x.dtype))


@function("Diagonal", "Trace")
def diagonal(b: Builder, x: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    pair = [b.axis(a, x.rank) for a in (axis1, axis2)]
    rest = [a for a in range(x.rank) if a not in pair]
    rows, columns = (x.shape[a] for a in pair)
    flat = b.reshape(b.permute(x, (*rest, *pair)), (*(x.shape[a] for a in rest), rows * columns))
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offset).astype(np.int32)
    y = b(ops.Gather(flat.rank - 1), flat, b.constant(places, "places"))
    return b(ops.ReduceSum((y.rank - 1,), False), y) if b.place.layer.kind == "Trace" else y


@function("Diag", "Diagflat")
def diag(b: Builder, x: Value, k: int = 0) -> Value:
    """A matrix with x on its k-th diagonal; of a matrix, that diagonal."""
    if b.place.layer.kind == "Diagflat":
        x = b.reshape(x, (x.size,))
    if x.rank == 2:
        return diagonal(b, x, k)
    if x.rank != 1:
        raise Unsupported(f"its input has the shape {list(x.shape)}")
    wide = b.expand(b.reshape(x, (x.size, 1)), (x.size, x.size))
    eye = b.constant(np.eye(x.size, dtype=bool), "eye")
    y = b(ops.Where(), eye, wide, b.scalar(0, x.dtype))
    return b.pad(y, [(max(-k, 0), max(k, 0)), (max(k, 0), max(-k, 0))])


@function("Vander")
def vander(b: Builder, x: Value, N: Any = None, increasing: bool = False) -> Value:
    """The powers of each element, from the highest on."""
    count = x.size if N is None else int(N)
    powers = np.arange(count)[:: 1 if increasing else -1].astype(np.float32)
    column = b.reshape(b.floating(x), (x.size, 1))
    # of a negative number as products: a power of fractions is not one
    parts = [b.constant(np.ones((x.size, 1), np.float32), "ones")]
    for _ in range(count - 1):
        parts.append(b(ops.Mul(), parts[-1], column))
    return b.concat([parts[int(p)] for p in powers], 1) if math.prod(x.shape) else column
