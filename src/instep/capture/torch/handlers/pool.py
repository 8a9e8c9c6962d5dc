"""Pooling in one, two and three dimensions, adaptive and not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.spatial import tuple_of
from instep.capture.torch.registry import Places, handles
from instep.graph import Value, ops

__all__: list[str] = []


def _planes(b: Builder, x: Value, spatial: int, apply: Callable[[Value], Value]) -> Value:
    """``apply`` on [N, C, ...]; an input without batch axis gets one for the while."""
    if x.rank == spatial + 2:
        return apply(x)
    y = apply(b.reshape(x, (1, *x.shape)))
    return b.reshape(y, y.shape[1:])


def _line(b: Builder, x: Value, apply: Callable[[Value], Value]) -> Value:
    """[N, C, L] as [N, C, 1, L]."""
    y = apply(b.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2])))
    return b.reshape(y, (y.shape[0], y.shape[1], y.shape[3]))


def _volume(b: Builder, x: Value, plane: Callable[[Value], Value], depth: Callable[[Value], Value]) -> Value:
    """A separable pool of [N, C, D, H, W]: ``plane`` over (H, W), then ``depth`` over D as the rows of a plane."""
    n, c, d, h, w = x.shape
    y = plane(b.reshape(x, (n, c * d, h, w)))
    h, w = y.shape[2:]
    y = depth(b.reshape(y, (n, c, d, h * w)))
    return b.reshape(y, (n, c, y.shape[2], h, w))


def _ceil_extra(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """Rows that torch's ceil_mode needs beyond the right padding; the last window starts inside input or left pad."""
    if not ceil_mode:
        return 0
    span = dilation * (kernel - 1) + 1
    out = -(-(size + 2 * pad - span) // stride) + 1
    if (out - 1) * stride >= size + pad:
        out -= 1
    return max((out - 1) * stride + span - size - 2 * pad, 0)


def _max_pool(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Value:
    pads = tuple(
        (p, p + _ceil_extra(size, k, s, p, d, ceil_mode))
        for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    return b(ops.MaxPool2d(tuple(kernel), tuple(stride), pads, tuple(dilation)), x)  # type: ignore[arg-type]


def _avg_pool(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Value:
    extra = tuple(
        _ceil_extra(size, k, s, p, 1, ceil_mode)
        for size, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True)
    )
    pads = tuple((p, p) for p in padding)
    if divisor is None:
        op = ops.AvgPool2d(tuple(kernel), tuple(stride), pads, bool(count_include_pad), extra)  # type: ignore[arg-type]
        return b(op, x)
    x = b.pad(x, [(0, 0), (0, 0), *((lo, hi + e) for (lo, hi), e in zip(pads, extra, strict=True))])
    y = b(ops.AvgPool2d(tuple(kernel), tuple(stride)), x)  # type: ignore[arg-type]
    return b(ops.Mul(), y, b.scalar(kernel[0] * kernel[1] / divisor, x.dtype))


@handles("max_pool2d", "max_pool2d_with_indices")
def max_pool2d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    kernel = tuple_of(kernel_size, 2)
    rest = (tuple_of(stride, 2) or kernel, tuple_of(padding, 2), tuple_of(dilation, 2), ceil_mode)
    return _with_indices(b, _planes(b, x, 2, lambda v: _max_pool(b, v, kernel, *rest)), x, (kernel, *rest[:3]))


def _with_indices(b: Builder, y: Value, x: Value | None = None, windows: tuple[tuple[int, ...], ...] = ()) -> Any:
    """The pool's result as torch gives it; the places of the maxima exist only where something reads them."""
    if not isinstance(b.step.val, (list, tuple)):
        return y
    return y, Places(x, y, windows, (lambda: _places(b, x, y, windows)) if x is not None else None)


def _places(b: Builder, x: Value, y: Value, windows: tuple[tuple[int, ...], ...]) -> Value:
    """Where in its line, plane or volume each window of x has its first maximum."""
    kernel, stride, padding, dilation = (np.array(w) for w in windows)
    lead = x.rank - len(kernel)
    shape, out = x.shape[lead:], y.shape[lead:]
    pitch = np.array([math.prod(shape[a + 1 :]) for a in range(len(shape))])
    ends = (np.array(out) - 1) * stride + 1
    pads = [
        (int(p), max(0, int(n))) for p, n in zip(padding, ends + dilation * (kernel - 1) - padding - shape, strict=True)
    ]
    lowest = -math.inf if x.dtype.startswith("float") else int(np.iinfo(x.dtype).min)
    padded = b.pad(x, [(0, 0)] * lead + pads, value=lowest) if any(map(sum, pads)) else x
    steps = (1,) * lead + tuple(map(int, stride))
    parts, taps = [], []
    for tap in np.ndindex(*map(int, kernel)):
        first = np.array(tap) * dilation
        window = ops.Slice((0,) * lead + tuple(map(int, first)), x.shape[:lead] + tuple(map(int, first + ends)), steps)
        parts.append(b.reshape(b(window, padded), (*y.shape, 1)))
        taps.append((first * pitch).sum())
    origins = (np.moveaxis(np.indices(out), 0, -1) * stride - padding) @ pitch
    which = b(ops.ArgMax(y.rank, False), b.concat(parts, y.rank))
    inside = b(ops.Gather(0), b.constant(np.array(taps, np.int32), "taps"), which)
    return b.cast(b(ops.Add(), inside, b.constant(origins.astype(np.int32), "origins")), "int64")


@handles("max_unpool2d")
def max_unpool2d(b: Builder, x: Value, places: Any, output_size: Sequence[int]) -> Value:
    """Each value goes back to the place of its window's first maximum, zeros elsewhere.

    For windows that tile the pooled tensor: the window's places, one after the other, become channels of x or zero,
    and a depth-to-space puts them where they were.
    """
    if not isinstance(places, Places) or not places.windows:
        raise b.fail("max_unpool of places that do not come from a max_pool2d")
    kernel, stride, padding, dilation = places.windows
    rows, cols = kernel
    pooled: Value = places.pooled
    fits = tuple(output_size) == pooled.shape[-2:] == tuple(n * k for n, k in zip(x.shape[-2:], kernel, strict=True))
    if pooled.rank != 4 or rows != cols or stride != kernel or padding != (0, 0) or dilation != (1, 1) or not fits:
        raise b.fail("max_unpool of windows that are not square tiles of the pooled tensor")
    zero = b.scalar(0.0, x.dtype)
    taken: Value | None = None
    parts = []
    for i in range(rows * cols):
        row = (0, 0, i // cols, i % cols)
        at = b(ops.Slice(row, pooled.shape, (1, 1, rows, cols)), pooled)
        here = b(ops.Equal(), at, places.maxima)
        first = here if taken is None else b(ops.LogicalAnd(), here, b(ops.LogicalNot(), taken))
        parts.append(b(ops.Where(), first, x, zero))
        taken = here if taken is None else b(ops.LogicalOr(), taken, here)
    return b(ops.DepthToSpace(rows, "DCR"), b.concat(parts, 1))


@handles("max_pool1d", "max_pool1d_with_indices")
def max_pool1d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    (k,) = tuple_of(kernel_size, 1)
    (s,), (p,), (d,) = tuple_of(stride, 1) or (k,), tuple_of(padding, 1), tuple_of(dilation, 1)

    def apply(v: Value) -> Value:
        return _line(b, v, lambda u: _max_pool(b, u, (1, k), (1, s), (0, p), (1, d), ceil_mode))

    return _with_indices(b, _planes(b, x, 1, apply), x, ((k,), (s,), (p,), (d,)))


@handles("max_pool3d", "max_pool3d_with_indices")
def max_pool3d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    k = tuple_of(kernel_size, 3)
    s, p, d = tuple_of(stride, 3) or k, tuple_of(padding, 3), tuple_of(dilation, 3)

    def apply(v: Value) -> Value:
        return _volume(
            b,
            v,
            lambda u: _max_pool(b, u, k[1:], s[1:], p[1:], d[1:], ceil_mode),
            lambda u: _max_pool(b, u, (k[0], 1), (s[0], 1), (p[0], 0), (d[0], 1), ceil_mode),
        )

    return _with_indices(b, _planes(b, x, 3, apply), x, (k, s, p, d))


@handles("avg_pool2d")
def avg_pool2d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    kernel = tuple_of(kernel_size, 2)
    rest = (tuple_of(stride, 2) or kernel, tuple_of(padding, 2), ceil_mode, count_include_pad, divisor_override)
    return _planes(b, x, 2, lambda v: _avg_pool(b, v, kernel, *rest))


@handles("avg_pool1d")
def avg_pool1d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    (k,) = tuple_of(kernel_size, 1)
    (s,), (p,) = tuple_of(stride, 1) or (k,), tuple_of(padding, 1)

    def apply(v: Value) -> Value:
        return _line(b, v, lambda u: _avg_pool(b, u, (1, k), (1, s), (0, p), ceil_mode, count_include_pad, None))

    return _planes(b, x, 1, apply)


@handles("avg_pool3d")
def avg_pool3d(
    b: Builder,
    x: Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    k = tuple_of(kernel_size, 3)
    s, p = tuple_of(stride, 3) or k, tuple_of(padding, 3)
    # the count of a window is the product of its counts per axis; an overridden divisor belongs to one of the two
    split = (None, None) if divisor_override is None else (divisor_override, 1)

    def apply(v: Value) -> Value:
        return _volume(
            b,
            v,
            lambda u: _avg_pool(b, u, k[1:], s[1:], p[1:], ceil_mode, count_include_pad, split[0]),
            lambda u: _avg_pool(b, u, (k[0], 1), (s[0], 1), (p[0], 0), ceil_mode, count_include_pad, split[1]),
        )

    return _planes(b, x, 3, apply)


def _adaptive(b: Builder, x: Value, output: Sequence[int | None], maximum: bool) -> Value:
    size = tuple(n if o is None else int(o) for n, o in zip(x.shape[2:], output, strict=True))
    if size == x.shape[2:]:
        return x
    if size == (1, 1):
        return b((ops.ReduceMax if maximum else ops.ReduceMean)(axes=(2, 3), keepdims=True), x)  # type: ignore[call-arg]
    return b((ops.AdaptiveMaxPool2d if maximum else ops.AdaptiveAvgPool2d)(size), x)  # type: ignore[arg-type]


def _adaptive_any(b: Builder, x: Value, n: int, output_size: Any, maximum: bool) -> Value:
    size = (output_size,) * n if output_size is None or isinstance(output_size, int) else tuple(output_size)
    size = size * n if len(size) == 1 else size
    if n == 2:
        return _planes(b, x, 2, lambda v: _adaptive(b, v, size, maximum))
    if n == 1:
        return _planes(b, x, 1, lambda v: _line(b, v, lambda u: _adaptive(b, u, (1, size[0]), maximum)))

    def apply(v: Value) -> Value:
        return _volume(
            b, v, lambda u: _adaptive(b, u, size[1:], maximum), lambda u: _adaptive(b, u, (size[0], None), maximum)
        )

    return _planes(b, x, 3, apply)


@handles("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool3d")
def adaptive_avg_pool(b: Builder, x: Value, output_size: Any) -> Value:
    return _adaptive_any(b, x, _dimensions(b), output_size, False)


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(b: Builder, x: Value, output_size: Any) -> Any:
    return _with_indices(b, _adaptive_any(b, x, _dimensions(b), output_size, True))


def _dimensions(b: Builder) -> int:
    return int(str(b.step.target).split(".")[1][-2])
