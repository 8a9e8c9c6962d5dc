"""Mistakes of convolutions and pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.verify.causes.table import Arrays, Context, Found, Meaning, changed, explains, swapped

__all__ = ["spatial_axes"]

CONVS = (ops.Conv2d, ops.ConvTranspose2d)
WINDOWED = (ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d, ops.Unfold2d)


def spatial_axes(op: Any) -> tuple[int, int, int]:
    """(channel, height, width) axes of inputs and weights in the operator's layout."""
    return (1, 2, 3) if op.layout == "NCHW" else (3, 1, 2)


def _shift(x: np.ndarray, axis: int, by: int, fill: float = 0.0) -> np.ndarray:
    """x moved by ``by`` places towards higher indices; what comes in is ``fill``."""
    if by == 0:
        return x
    out = np.full_like(x, fill)
    n = x.shape[axis]
    to, of = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    to[axis], of[axis] = (slice(by, n), slice(0, n - by)) if by > 0 else (slice(0, n + by), slice(-by, n))
    out[tuple(to)] = x[tuple(of)]
    return out


def _padded(node: Node, dy: int, dx: int) -> Meaning:
    """The windowed operator with its padding moved by (dy, dx): more above, less below."""
    op: Any = node.op
    (t, b), (left, r) = op.padding
    pads = ((t + dy, b - dy), (left + dx, r - dx))
    if min(min(p) for p in pads) >= 0:
        return changed(node, padding=pads)
    _, h, w = spatial_axes(op)
    crop = {h: (-min(pads[0][0], 0), -min(pads[0][1], 0)), w: (-min(pads[1][0], 0), -min(pads[1][1], 0))}
    kept: Any = tuple((max(p[0], 0), max(p[1], 0)) for p in pads)
    moved = op.with_(padding=kept)

    def run(ins: Arrays) -> Any:
        cut = [slice(None)] * ins[0].ndim
        for axis, (a, z) in crop.items():
            cut[axis] = slice(a, ins[0].shape[axis] - z)
        return moved.evaluate(ins[0][tuple(cut)], *ins[1:])

    return run


@explains("padding shifted by one pixel", *WINDOWED)
def shifted_padding(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for dy, dx in ((-1, -1), (1, 1), (0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)):
        (t, b), (left, r) = op.padding
        yield (
            f"padding ({t}, {b}), ({left}, {r}) moved to ({t + dy}, {b - dy}), ({left + dx}, {r - dx})",
            _padded(node, dy, dx),
        )


@explains("padding shifted by several pixels", ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d)
def far_padding(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    (t, b), (left, r) = op.padding
    for pads in (((t + b, 0), (left + r, 0)), ((0, t + b), (0, left + r))):
        if pads != op.padding and max(t, b, left, r) > 1:
            yield f"all padding on one side: {pads}", changed(node, padding=pads)


@explains("wrong padding mode", ops.Conv2d)
def conv_padding_mode(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if not any(map(sum, op.padding)):
        return
    _, h, w = spatial_axes(op)
    bare = op.with_(padding=((0, 0), (0, 0)))
    for mode, numpy_mode in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):

        def run(ins: Arrays, numpy_mode: Any = numpy_mode) -> Any:
            pads = [(0, 0)] * ins[0].ndim
            pads[h], pads[w] = op.padding
            return bare.evaluate(np.pad(ins[0], pads, mode=numpy_mode), *ins[1:])

        yield f"padded in mode {mode!r} instead of zeros", run


@explains("wrong padding value", ops.MaxPool2d, ops.Conv2d)
def window_padding_value(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if not any(map(sum, op.padding)):
        return
    _, h, w = spatial_axes(op)
    bare = op.with_(padding=((0, 0), (0, 0)))
    values = (0.0,) if isinstance(op, ops.MaxPool2d) else (1.0, -1.0, 0.5)
    for value in values:

        def run(ins: Arrays, value: float = value) -> Any:
            pads = [(0, 0)] * ins[0].ndim
            pads[h], pads[w] = op.padding
            return bare.evaluate(np.pad(ins[0], pads, constant_values=value), *ins[1:])

        yield f"padded places hold {value:g}", run


@explains("dilation ignored", ops.Conv2d)
def dilation_ignored(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.dilation == (1, 1):
        return
    kh, kw = op.kernel(node.inputs[1].shape)
    _, h, w = spatial_axes(op)
    for late in (False, True):
        pads = []
        for (a, b), k, d in zip(op.padding, (kh, kw), op.dilation, strict=True):
            loss = (k - 1) * (d - 1)
            first = loss - loss // 2 if late else loss // 2
            pads.append((a - first, b - (loss - first)))
        kept: Any = tuple((max(a, 0), max(b, 0)) for a, b in pads)
        plain = op.with_(dilation=(1, 1), padding=kept)

        def run(ins: Arrays, pads: Any = pads, plain: Any = plain) -> Any:
            cut = [slice(None)] * ins[0].ndim
            for axis, (a, b) in zip((h, w), pads, strict=True):
                cut[axis] = slice(max(-a, 0), ins[0].shape[axis] - max(-b, 0))
            return plain.evaluate(ins[0][tuple(cut)], *ins[1:])

        yield f"computed with dilation 1 instead of {op.dilation}", run


@explains("stride and dilation mixed up in height and width", ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d)
def fields_turned(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    fields = {
        k: getattr(op, k)[::-1] for k in ("stride", "dilation", "padding", "kernel")
        if isinstance(getattr(op, k, None), tuple) and getattr(op, k) != getattr(op, k)[::-1]
    }  # fmt: skip
    if fields:
        yield f"{', '.join(fields)} read as (width, height)", changed(node, **fields)
    for key, value in fields.items():
        yield f"{key} read as (width, height)", changed(node, **{key: value})


@explains("weights flipped (convolution for correlation)", *CONVS)
def weights_flipped(node: Node, context: Context) -> Iterator[Found]:
    _, h, w = spatial_axes(node.op)
    shape = node.inputs[1].shape
    if shape[h] > 1 and shape[w] > 1:
        yield "kernel rotated by 180°", swapped(node, 1, lambda k: np.flip(k, (h, w)))
    if shape[h] > 1:
        yield "kernel flipped top to bottom", swapped(node, 1, lambda k: np.flip(k, h))
    if shape[w] > 1:
        yield "kernel flipped left to right", swapped(node, 1, lambda k: np.flip(k, w))


@explains("weights transposed in height and width", *CONVS)
def weights_turned(node: Node, context: Context) -> Iterator[Found]:
    _, h, w = spatial_axes(node.op)
    shape = node.inputs[1].shape
    if shape[h] == shape[w] > 1:
        yield "kernel's height and width exchanged", swapped(node, 1, lambda k: k.swapaxes(h, w))


@explains("weights transposed in input and output channels", *CONVS)
def weights_crossed(node: Node, context: Context) -> Iterator[Found]:
    c, _, _ = spatial_axes(node.op)
    shape = node.inputs[1].shape
    if shape[0] == shape[c] > 1:
        yield "kernel's input and output channels exchanged", swapped(node, 1, lambda k: k.swapaxes(0, c))


@explains("depthwise multiplier order", ops.Conv2d)
def multiplier_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    o, groups = node.inputs[1].shape[0], op.groups
    m = o // groups
    if groups == 1 or m == 1:
        return
    order = np.arange(o).reshape(groups, m).T.ravel()
    c = spatial_axes(op)[0]
    spread = "output channel k·groups + g instead of g·multiplier + k"
    yield spread, lambda ins: np.take(op.evaluate(*ins)[0], order, c)
    yield "filters in the order k·groups + g, bias in place", swapped(node, 1, lambda k: k[order])
    back = np.argsort(order)
    yield "filters in the order g + multiplier·k, bias in place", swapped(node, 1, lambda k: k[back])


@explains("group order", ops.Conv2d, ops.ConvTranspose2d)
def group_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    g, (c, _, _) = op.groups, spatial_axes(op)
    if g == 1:
        return
    n_in = node.inputs[0].shape[c]

    def blocks(k: np.ndarray, order: np.ndarray) -> np.ndarray:
        return k.reshape(g, -1, *k.shape[1:])[order].reshape(k.shape)

    reverse, rolled = np.arange(g)[::-1], np.roll(np.arange(g), 1)
    back_rolled = np.roll(np.arange(g), -1)
    for name, order in (("reversed", reverse), ("moved by one", rolled), ("moved back by one", back_rolled)):
        yield f"weights of the groups {name}", swapped(node, 1, lambda k, o=order: blocks(k, o))
    if n_in // g > 1:
        mixed = np.arange(n_in).reshape(g, -1).T.ravel()
        yield "groups read interleaved input channels", swapped(node, 0, lambda x: np.take(x, mixed, c))
        back = np.argsort(mixed)
        yield "groups read shuffled input channels", swapped(node, 0, lambda x: np.take(x, back, c))


@explains("groups ignored", ops.Conv2d)
def groups_ignored(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.groups == 1:
        return
    c, _, _ = spatial_axes(op)
    per = node.inputs[0].shape[c] // op.groups

    def first_group(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.take(x, np.arange(per), c)] * op.groups, c)

    yield "every group reads the first group's channels", swapped(node, 0, first_group)


@explains("weights read in the wrong layout", *CONVS, ops.Linear)
def weights_misread(node: Node, context: Context) -> Iterator[Found]:
    shape = node.inputs[1].shape
    if len(shape) == 2:
        if min(shape) > 1:
            yield "weight memory read as [I, O]", swapped(node, 1, lambda k: k.T.reshape(shape))
            yield (
                "weight memory read as [I, O] and turned",
                swapped(node, 1, lambda k: np.ascontiguousarray(k).reshape(shape[::-1]).T),
            )
        return
    for perm in ((0, 2, 3, 1), (2, 3, 1, 0), (1, 2, 3, 0), (0, 3, 1, 2), (3, 2, 0, 1), (1, 0, 2, 3)):
        yield (
            f"weight memory in order {perm} read as it stands",
            swapped(node, 1, lambda k, p=perm: np.ascontiguousarray(k.transpose(p)).reshape(shape)),
        )
        back = tuple(np.argsort(perm))
        middle = tuple(shape[p] for p in perm)
        yield (
            f"weight memory read as if in order {perm}",
            swapped(
                node, 1, lambda k, m=middle, b=back: np.ascontiguousarray(k).reshape(m).transpose(b).reshape(shape)
            ),
        )


@explains("input channels reversed (RGB for BGR)", ops.Conv2d, ops.ConvTranspose2d)
def channels_reversed(node: Node, context: Context) -> Iterator[Found]:
    c, _, _ = spatial_axes(node.op)
    n = node.inputs[0].shape[c]
    if n == 3:
        yield "the three input channels in reverse order", swapped(node, 0, lambda x: np.flip(x, c))
    elif n > 1:
        yield "the input channels in reverse order", swapped(node, 0, lambda x: np.flip(x, c))


@explains("output channels permuted", ops.Conv2d, ops.ConvTranspose2d, ops.Linear)
def outputs_permuted(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    axis = -1 if isinstance(op, ops.Linear) else spatial_axes(op)[0]
    n = node.output.shape[axis]
    if n < 2:
        return
    orders = {"in reverse order": np.arange(n)[::-1], "moved by one": np.roll(np.arange(n), 1),
              "moved back by one": np.roll(np.arange(n), -1)}  # fmt: skip
    if n % 2 == 0 and n > 2:
        orders["with their halves exchanged"] = np.roll(np.arange(n), n // 2)
    for name, order in orders.items():
        yield f"output channels {name}", lambda ins, o=order: np.take(op.evaluate(*ins)[0], o, axis)
        if not isinstance(op, ops.ConvTranspose2d):
            yield f"filters {name}, bias in place", swapped(node, 1, lambda k, o=order: k[o])


@explains("input transposed in height and width", ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d, ops.DepthToSpace)
def input_turned(node: Node, context: Context) -> Iterator[Found]:
    _, h, w = spatial_axes(node.op)
    if node.inputs[0].shape[h] == node.inputs[0].shape[w] > 1:
        yield "the input's height and width exchanged", swapped(node, 0, lambda x: x.swapaxes(h, w))


@explains("NCHW data read as NHWC", ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d, ops.DepthToSpace, ops.Resize2d,
          ops.ConvTranspose2d)  # fmt: skip
def layout_misread(node: Node, context: Context) -> Iterator[Found]:
    n, a, b, c = node.inputs[0].shape
    if min(a, b, c) < 2 and a * b * c == max(a, b, c):
        return
    shape = (n, a, b, c)
    for perm in ((0, 2, 3, 1), (0, 3, 1, 2)):
        middle = tuple(shape[p] for p in perm)
        yield (
            "the input's memory read in the other layout (a reshape for a transpose)",
            swapped(
                node,
                0,
                lambda x, m=middle, p=perm: np.ascontiguousarray(x).reshape(m).transpose(np.argsort(p)),
            ),
        )
        yield (
            "the input's memory written in the other layout (a reshape for a transpose)",
            swapped(node, 0, lambda x, p=perm: np.ascontiguousarray(x.transpose(p)).reshape(shape)),
        )


@explains("transposed convolution cropped at the wrong side", ops.ConvTranspose2d)
def crop_shifted(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    (t, _), (left, _) = op.padding
    full = op.with_(padding=((0, 0), (0, 0)), output_padding=(0, 0))
    _, h, w = spatial_axes(op)
    for dy, dx in ((1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)):

        def run(ins: Arrays, dy: int = dy, dx: int = dx) -> Any:
            bare = full.evaluate(ins[0], ins[1])[0]
            pads = [(0, 0)] * 4
            pads[h], pads[w] = (2, 2 + op.output_padding[0]), (2, 2 + op.output_padding[1])
            big = np.pad(bare, pads)
            size = node.output.shape
            cut = [slice(None)] * 4
            cut[h] = slice(t + dy + 2, t + dy + 2 + size[h])
            cut[w] = slice(left + dx + 2, left + dx + 2 + size[w])
            result = big[tuple(cut)]
            if len(ins) > 2:
                result = result + (ins[2][:, None, None] if op.layout == "NCHW" else ins[2])
            return result

        yield f"cropped {t + dy} above and {left + dx} left instead of {t} and {left}", run


@explains("stride phase of a transposed convolution", ops.ConvTranspose2d)
def transposed_dilation(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.dilation != (1, 1):
        return
    _, h, w = spatial_axes(op)
    for dy, dx in ((1, 1), (-1, -1)):
        yield (
            f"the kernel moved by {(dy, dx)}",
            swapped(node, 1, lambda k, dy=dy, dx=dx: _shift(_shift(k, h, dy), w, dx)),
        )


@explains("average pooling for maximum pooling", ops.MaxPool2d)
def average_for_max(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.dilation != (1, 1):
        return
    for count in (False, True):
        other = ops.AvgPool2d(op.kernel, op.stride, op.padding, count, layout=op.layout)
        counted = "counted" if count else "not counted"
        yield f"mean over the window (padding {counted})", lambda ins, o=other: o.evaluate(*ins)
    for axis, name in ((0, "rows"), (1, "columns")):
        # large windows are pooled one axis after the other
        first, second = (_one_axis(op, i, ops.AvgPool2d if i == axis else ops.MaxPool2d) for i in (0, 1))
        yield f"mean over the window's {name}", lambda ins, f=first, s=second: s.evaluate(*f.evaluate(*ins))


def _one_axis(op: Any, axis: int, kind: Any) -> Any:
    """The pool ``op`` along one axis only, as a pool of ``kind``."""
    kernel, stride, padding = (
        tuple(v if i == axis else plain for i, v in enumerate(field))
        for field, plain in ((op.kernel, 1), (op.stride, 1), (op.padding, (0, 0)))
    )
    return kind(kernel, stride, padding, layout=op.layout)


@explains("maximum pooling for average pooling", ops.AvgPool2d)
def max_for_average(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    other = ops.MaxPool2d(op.kernel, op.stride, op.all_pads, layout=op.layout)
    yield "maximum over the window", lambda ins: other.evaluate(*ins)


@explains("count_include_pad", ops.AvgPool2d)
def count_include_pad(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    flipped = not op.count_include_pad
    yield (
        f"padded places {'counted' if flipped else 'not counted'} in the divisor",
        changed(node, count_include_pad=flipped),
    )


@explains("ceil_mode", ops.AvgPool2d, ops.MaxPool2d)
def ceil_mode(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if isinstance(op, ops.MaxPool2d):
        (t, b), (left, r) = op.padding
        if b > t or r > left:
            dy, dx = -(-(b - t) // 2), -(-(r - left) // 2)
            moved = ((t + dy, b - dy), (left + dx, r - dx))
            yield "the overhang of ceil_mode spread on both sides", changed(node, padding=moved)
        return
    if op.overhang == (0, 0):
        return
    pads = op.all_pads
    for count in (True, False):
        yield (
            f"the overhang of ceil_mode taken as padding ({'counted' if count else 'not counted'})",
            changed(node, padding=pads, overhang=(0, 0), count_include_pad=count),
        )


@explains("divisor of an average", ops.AvgPool2d)
def wrong_divisor(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    area = op.kernel[0] * op.kernel[1]
    yield "the window's sum instead of its mean", lambda ins: op.evaluate(*ins)[0] * area
    if op.count_include_pad is False or op.overhang != (0, 0):
        whole = op.with_(padding=op.all_pads, overhang=(0, 0), count_include_pad=True)
        yield "always divided by the whole window", lambda ins: whole.evaluate(*ins)


@explains("wrong bins of an adaptive pool", ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d)
def adaptive_bins(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    _, h, w = spatial_axes(op)
    how = "mean" if isinstance(op, ops.AdaptiveAvgPool2d) else "max"
    other = "max" if how == "mean" else "mean"

    def pool(x: np.ndarray, rule: str, how: str) -> np.ndarray:
        for axis, out in ((h, op.output_size[0]), (w, op.output_size[1])):
            n = x.shape[axis]
            if rule == "torch":
                bins = op.bins(n, out)
            elif rule == "floor":
                bins = [(i * n // out, max((i + 1) * n // out, i * n // out + 1)) for i in range(out)]
            else:
                k = n // out
                bins = [(i * (n // out), i * (n // out) + n - (out - 1) * k) for i in range(out)]
            pieces = (np.take(x, np.arange(*b), axis) for b in bins)
            x = np.concatenate([getattr(piece, how)(axis, keepdims=True) for piece in pieces], axis)
        return x

    yield "bins without overlap", lambda ins: pool(ins[0], "floor", how)
    yield "equal windows of stride in // out", lambda ins: pool(ins[0], "equal", how)
    yield f"{other} instead of {how}", lambda ins: pool(ins[0], "torch", other)
