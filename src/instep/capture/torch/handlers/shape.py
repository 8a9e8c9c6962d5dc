"""Views and moves: reshape, permute, slice, split, join, expand, flip, roll, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__ = ["bounds"]


@handles(
    "view.default", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as",
    "_reshape_alias", "view_copy", "squeeze_copy", "unsqueeze_copy", "atleast_1d.default", "atleast_2d.default",
)  # fmt: skip
def reshape(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return b.reshape(x, b.shape())


@handles("permute", "permute_copy")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.permute(x, dims)


@handles("transpose", "swapaxes", "swapdims", "transpose_copy")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(x.rank))
    if x.rank:
        perm[dim0], perm[dim1] = perm[dim1], perm[dim0]
    return b.permute(x, perm)


@handles("t", "numpy_T", "t_copy")
def t(b: Builder, x: Value) -> Value:
    return b.permute(x, tuple(range(x.rank))[::-1])


@handles("mT", "mH", "adjoint", "matrix_H")
def matrix_transpose(b: Builder, x: Value) -> Value:
    return b.permute(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@handles("movedim", "moveaxis")
def movedim(b: Builder, x: Value, source: Any, destination: Any) -> Value:
    source = [source] if isinstance(source, int) else list(source)
    destination = [destination] if isinstance(destination, int) else list(destination)
    source, destination = [s % x.rank for s in source], [d % x.rank for d in destination]
    perm = [a for a in range(x.rank) if a not in source]
    for d, s in sorted(zip(destination, source, strict=True)):
        perm.insert(d, s)
    return b.permute(x, perm)


@handles("expand", "expand_as", "broadcast_to", "expand_copy")
def expand(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    shape = b.shape()
    return b.expand(b.reshape(x, (1,) * (len(shape) - x.rank) + x.shape), shape)


@handles("broadcast_tensors")
def broadcast_tensors(b: Builder, tensors: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(b.expand(x, np.broadcast_shapes(*(v.shape for v in tensors))) for x in tensors)


@handles("repeat", "tile")
def repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    repeats = (1,) * (x.rank - len(repeats)) + tuple(repeats)
    x = b.reshape(x, (1,) * (len(repeats) - x.rank) + x.shape)
    return _tile(b, x, repeats)


def _tile(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    if all(n == 1 or r == 1 for n, r in zip(x.shape, repeats, strict=True)):
        return b.expand(x, tuple(n * r for n, r in zip(x.shape, repeats, strict=True)))
    for axis, count in enumerate(repeats):
        if count > 1:
            x = b.concat([x] * count, axis)
    return x


@handles("repeat_interleave.self_int")
def repeat_interleave(
    b: Builder, x: Value, repeats: int, dim: int | None = None, output_size: int | None = None
) -> Value:
    if dim is None:
        x, dim = b.reshape(x, (-1,)), 0
    axis = dim % x.rank
    inner = b.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    wide = b.expand(inner, (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return b.reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))


@handles("cat", "concat", "concatenate")
def cat(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    # what has no elements adds none: placeholders of no channels, and torch's legacy empty 1-d tensors
    parts = [b.cast(v, b.dtype()) for v in tensors if v.size] or [tensors[0]]
    return b.concat(parts, dim % parts[0].rank)


@handles("stack")
def stack(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % (tensors[0].rank + 1)
    parts = [b.cast(v, b.dtype()) for v in tensors]
    return b.concat([b.reshape(v, (*v.shape[:axis], 1, *v.shape[axis:])) for v in parts], axis)


@handles("hstack", "vstack", "column_stack", "dstack")
def stacked(b: Builder, tensors: Sequence[Value]) -> Value:
    name = str(b.step.target).split(".")[1]
    shape = b.shape()
    axis = {"hstack": 0 if len(shape) == 1 else 1, "vstack": 0, "column_stack": 1, "dstack": 2}[name]
    parts = []
    for v in tensors:
        wide = v
        if v.rank < len(shape):
            if name == "vstack":
                wide = b.reshape(v, (1, v.size))
            elif name == "column_stack":
                wide = b.reshape(v, (v.size, 1))
            elif name == "dstack":
                wide = b.reshape(v, (1, *v.shape, 1) if v.rank == 1 else (*v.shape, 1))
            else:
                wide = b.reshape(v, (v.size,))
        parts.append(b.cast(wide, b.dtype()))
    return b.concat(parts, axis)


def bounds(size: int, start: int | None, stop: int | None) -> tuple[int, int]:
    """torch's clamped slice bounds on an axis of ``size``."""
    start = 0 if start is None else start
    stop = size if stop is None else stop
    start = min(max(start + size if start < 0 else start, 0), size)
    stop = min(max(stop + size if stop < 0 else stop, start), size)
    return start, stop


@handles("slice", "slice_copy")
def slice_(
    b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    axis = dim % x.rank
    lo, hi = bounds(x.shape[axis], start, end)
    return b.slice(x, axis, lo, hi, step)


@handles("narrow", "narrow_copy")
def narrow(b: Builder, x: Value, dim: int, start: Any, length: int) -> Value:
    if isinstance(start, Value):
        array = b.array(start)
        if array is None:
            raise b.fail("narrow at a computed position")
        start = int(array)
    axis = dim % x.rank
    start = start + x.shape[axis] if start < 0 else start
    return b.slice(x, axis, start, start + length)


@handles("select.int", "select_copy")
def select(b: Builder, x: Value, dim: int, index: int) -> Value:
    axis = dim % x.rank
    index = index + x.shape[axis] if index < 0 else index
    return b.reshape(b.slice(x, axis, index, index + 1), x.shape[:axis] + x.shape[axis + 1 :])


@handles("unbind")
def unbind(b: Builder, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(select(b, x, dim, i) for i in range(x.shape[dim]))


@handles("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk", "hsplit", "vsplit",
         "unsafe_split_with_sizes", "split_copy")  # fmt: skip
def split(b: Builder, x: Value, *rest: Any, **named: Any) -> tuple[Value, ...]:
    """All kinds of split: the sizes come from torch's own shapes of the parts."""
    name = str(b.step.target)
    if "hsplit" in name or "vsplit" in name:
        axis = 0 if "vsplit" in name or x.rank == 1 else 1
    else:
        axis = named.get("dim", rest[1] if len(rest) > 1 else 0) % x.rank
    parts, start = [], 0
    for i in range(len(b.step.val)):
        size = b.shape(i)[axis]
        parts.append(b.slice(x, axis, start, start + size))
        start += size
    return tuple(parts)


@handles("flip")
def flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b(ops.Flip(tuple(sorted(d % x.rank for d in dims))), x)


@handles("fliplr", "flipud")
def flip_named(b: Builder, x: Value) -> Value:
    return b(ops.Flip((1 if "fliplr" in str(b.step.target) else 0,)), x)


@handles("rot90")
def rot90(b: Builder, x: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    first, second = (d % x.rank for d in dims)
    swap = list(range(x.rank))
    swap[first], swap[second] = second, first
    match k % 4:
        case 0:
            return x
        case 1:
            return b.permute(b(ops.Flip((second,)), x), swap)
        case 2:
            return b(ops.Flip((min(first, second), max(first, second))), x)
    return b(ops.Flip((second,)), b.permute(x, swap))


@handles("roll")
def roll(b: Builder, x: Value, shifts: Any, dims: Any = ()) -> Value:
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims)
    if not dims:
        flat = b(ops.Roll((shifts[0],), (0,)), b.reshape(x, (-1,)))
        return b.reshape(flat, x.shape)
    return b(ops.Roll(tuple(shifts), tuple(d % x.rank for d in dims)), x)


# -- padding -----------------------------------------------------------------------------------------------------
@handles("pad", "_pad_enum")
def pad(b: Builder, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    return _pad(b, x, pad, mode, value)


def _pad(b: Builder, x: Value, pad: Sequence[int], mode: str, value: Scalar | None) -> Value:
    """torch lists pads from the last axis backwards."""
    pads = [(0, 0)] * x.rank
    for i in range(len(pad) // 2):
        pads[x.rank - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    if mode != "circular" or all(max(p) <= n for p, n in zip(pads, x.shape, strict=True)):
        return b.pad(x, pads, mode, float(value or 0.0))
    raise b.fail("circular padding wider than the tensor")


@handles("constant_pad_nd")
def constant_pad(b: Builder, x: Value, pad: Sequence[int], value: Scalar = 0) -> Value:
    return _pad(b, x, pad, "constant", value)


@handles("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(b: Builder, x: Value, padding: Sequence[int]) -> Value:
    return _pad(b, x, padding, "reflect", None)


@handles("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(b: Builder, x: Value, padding: Sequence[int]) -> Value:
    return _pad(b, x, padding, "replicate", None)


@handles("_pad_circular")
def circular_pad(b: Builder, x: Value, padding: Sequence[int]) -> Value:
    return _pad(b, x, padding, "circular", None)


# -- filled tensors whose size or type follows a computed one ------------------------------------------------------
def _filled(b: Builder, number: Scalar) -> Value:
    return b.full(b.shape(), number, b.dtype())


@handles("zeros_like", "new_zeros", "zero")
def zeros_like(b: Builder, *_: Any, **__: Any) -> Value:
    return _filled(b, 0)


@handles("ones_like", "new_ones")
def ones_like(b: Builder, *_: Any, **__: Any) -> Value:
    return _filled(b, 1)


@handles("empty_like", "new_empty", "new_empty_strided")
def empty_like(b: Builder, *_: Any, **__: Any) -> Value:
    return _filled(b, 0)


@handles("full_like", "fill.Scalar", "fill.Tensor")
def full_like(b: Builder, x: Value, value: Any, *_: Any, **__: Any) -> Value:
    if isinstance(value, Value):
        return b.expand(b.cast(value, b.dtype()), b.shape())
    return _filled(b, value)


@handles("new_full")
def new_full(b: Builder, x: Value, size: Sequence[int], value: Any, **_: Any) -> Value:
    return full_like(b, x, value)


@handles("copy")
def copy(b: Builder, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return expand(b, b.cast(source, x.dtype))


@handles("meshgrid")
def meshgrid(b: Builder, tensors: Sequence[Value], indexing: str = "ij") -> tuple[Value, ...]:
    grids = []
    for i, v in enumerate(tensors):
        shape = [1] * len(tensors)
        axis = 1 - i if indexing == "xy" and i < 2 else i
        shape[axis] = v.size
        grids.append(b.expand(b.reshape(v, shape), b.shape(i)))
    return tuple(grids)
