"""Layers without weights: joins, pools, resizing, shuffles, shapes; and every operator under its own name."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from instep.graph import ops
from instep.graph.core import Value
from instep.graph.operator import OPERATORS, Operator
from instep.graph.text import sequence_layers  # noqa: F401 (it enters its layers)
from instep.graph.text.fields import (
    ANY,
    BOOL,
    COUNT,
    FLOAT,
    INT,
    INTS,
    PADDING,
    PAIR,
    SHAPE,
    SIZE,
    Field,
    choice,
    operator_fields,
)  # fmt: skip
from instep.graph.text.layers import LAYOUT, activated, channel_axis, given_axis, pads, spatial
from instep.graph.text.table import ACT, ACTIVATIONS, LAYERS, MANY, Layer, Place, layer, snake

__all__ = ["enter_operators", "operator_layer"]


@layer("identity")
def identity(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """The value itself, under another name."""
    return xs[0]


@layer("act", Field("kind", ACT))
def act(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """An activation by name: {kind: leaky_relu(0.05)}; each is also a layer of its own name."""
    if f.kind[0] == "prelu":
        at.fail("a PReLU has weights; use the layer prelu")
    return activated(at, xs[0], f.kind)


@layer("dropout", Field("rate", FLOAT, 0.5), Field("shared", INTS, (), "axes along which all is dropped or nothing"))
def dropout(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Drops elements in training, whole channels with ``shared: [2, 3]`` of NCHW; nothing otherwise."""
    return at.node(ops.Dropout(f.rate, tuple(given_axis(at, xs[0], a) for a in f.shared)), xs[0])


@layer("relu6")
def relu6(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """min(max(x, 0), 6)."""
    return at.node(ops.Clip(0.0, 6.0), xs[0])


_POOL = (Field("kernel", PAIR), Field("stride", PAIR, None, "default: the kernel"), Field("padding", PADDING, 0))


def _pool(at: Place, x: Value, f: SimpleNamespace, dilation: tuple[int, int]) -> tuple[Any, Any, str]:
    layout = f.layout or at.layout
    _, sizes = spatial(at, x, layout)
    stride = f.stride or f.kernel
    return stride, pads(at, f.padding, sizes, f.kernel, stride, dilation), layout


@layer("max_pool", *_POOL, Field("dilation", PAIR, 1), LAYOUT)
def max_pool(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Maximum over windows; padded places never win."""
    stride, padding, layout = _pool(at, xs[0], f, f.dilation)
    return at.node(ops.MaxPool2d(f.kernel, stride, padding, f.dilation, layout), xs[0])


@layer("avg_pool", *_POOL, Field("count_include_pad", BOOL, None, "default: padded places count, but not with same"),
       Field("overhang", INTS, (0, 0), "rows and columns that ceil_mode adds"), LAYOUT)  # fmt: skip
def avg_pool(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Mean over windows."""
    stride, padding, layout = _pool(at, xs[0], f, (1, 1))
    counted = f.padding != "same" if f.count_include_pad is None else f.count_include_pad
    return at.node(ops.AvgPool2d(f.kernel, stride, padding, counted, f.overhang, layout), xs[0])


@layer("global_avg_pool", Field("keepdims", BOOL, True, "keep height and width as 1"), LAYOUT)
def global_avg_pool(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Mean over height and width."""
    axes = (2, 3) if (f.layout or at.layout) == "NCHW" else (1, 2)
    return at.node(ops.ReduceMean(axes, f.keepdims), xs[0])


def _adaptive(at: Place, x: Value, f: SimpleNamespace, kind: Any) -> Value:
    return at.node(kind(f.size, f.layout or at.layout), x)


@layer("adaptive_avg_pool", Field("size", PAIR), LAYOUT)
def adaptive_avg_pool(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Mean over bins, of any sizes, to the size given."""
    return _adaptive(at, xs[0], f, ops.AdaptiveAvgPool2d)


@layer("adaptive_max_pool", Field("size", PAIR), LAYOUT)
def adaptive_max_pool(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Maximum over bins, of any sizes, to the size given."""
    return _adaptive(at, xs[0], f, ops.AdaptiveMaxPool2d)


@layer(
    "resize",
    Field("scale", ANY, None, "a number or [height, width]; or give size"),
    Field("size", PAIR, None),
    Field("mode", choice("nearest", "bilinear", "bicubic"), "bilinear"),
    Field("coordinates", choice("half_pixel", "asymmetric", "align_corners"), None, "nearest: asymmetric"),
    Field("antialias", BOOL, False),
    LAYOUT,
)
def resize(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Resize height and width; half-pixel centres, and asymmetric for nearest, as PyTorch has it."""
    (x,), layout = xs, f.layout or at.layout
    _, sizes = spatial(at, x, layout)
    if (f.scale is None) == (f.size is None):
        at.fail("needs a scale or a size")
    scale = None
    size: Any = f.size
    if f.scale is not None:
        pair = f.scale if isinstance(f.scale, tuple) else (f.scale, f.scale)
        if len(pair) != 2 or not all(isinstance(s, int | float) and 0 < s < 1024 for s in pair):
            at.fail(f"scale must be a positive number or two of them, got {f.scale!r}")
        scale = (float(pair[0]), float(pair[1]))
        size = tuple(int(n * s) for n, s in zip(sizes, scale, strict=True))
        if min(size) < 1:
            at.fail(f"scale {f.scale} leaves nothing of {list(sizes)}")
    coordinates = f.coordinates or ("asymmetric" if f.mode == "nearest" else "half_pixel")
    return at.node(ops.Resize2d(size, f.mode, coordinates, scale, f.antialias, layout), x)


_BLOCK = (
    Field("scale", COUNT),
    Field("order", choice("CRD", "DCR"), "CRD", "CRD is PyTorch's PixelShuffle, DCR TensorFlow's depth_to_space"),
    LAYOUT,
)


@layer("pixel_shuffle", *_BLOCK)
def pixel_shuffle(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Channels become places: [C·r², H, W] → [C, H·r, W·r]."""
    return at.node(ops.DepthToSpace(f.scale, f.order, f.layout or at.layout), xs[0])


@layer("pixel_unshuffle", *_BLOCK)
def pixel_unshuffle(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Places become channels: [C, H·r, W·r] → [C·r², H, W]."""
    return at.node(ops.SpaceToDepth(f.scale, f.order, f.layout or at.layout), xs[0])


@layer("channel_shuffle", Field("groups", COUNT))
def channel_shuffle(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """The channels of the groups in turn (ShuffleNet): view [g, C/g], swap, flatten."""
    (x,) = xs
    axis = channel_axis(at, x)
    c, g = x.shape[axis], f.groups
    if c % g:
        at.fail(f"groups={g} does not divide {c} channels")
    split = at.node(ops.Reshape((*x.shape[:axis], g, c // g, *x.shape[axis + 1 :])), x)
    order = list(range(x.rank + 1))
    order[axis], order[axis + 1] = axis + 1, axis
    return at.node(ops.Reshape(x.shape), at.node(ops.Permute(tuple(order)), split))


@layer("concat", Field("axis", INT, None, "default: the channels"), inputs=MANY)
def concat(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Join values along an axis."""
    axis = channel_axis(at, xs[0]) if f.axis is None else given_axis(at, xs[0], f.axis)
    return at.node(ops.Concat(axis), *xs)


@layer("tile", Field("times", COUNT), Field("axis", INT, None, "default: the channels"))
def tile(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """The value again and again along an axis."""
    if f.times > 1024:
        at.fail(f"times must be at most 1024, got {f.times}")
    return concat(at, [xs[0]] * f.times, f)  # type: ignore[return-value]


def _cut(at: Place, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    return at.node(ops.Slice.along(x.shape, axis, start, stop, step), x)


@layer("split", Field("sizes", ANY, None, "default: equal parts, as many as are named"), Field("axis", INT, None))
def split(at: Place, xs: list[Value], f: SimpleNamespace) -> list[Value]:
    """Cut a value into parts along an axis (the channels): a, b = split: {sizes: [16, 48]}."""
    (x,) = xs
    axis = channel_axis(at, x) if f.axis is None else given_axis(at, x, f.axis)
    total = x.shape[axis]
    sizes = f.sizes if f.sizes is not None else (total // at.wanted,) * at.wanted
    good = isinstance(sizes, tuple) and all(isinstance(n, int) and n > 0 for n in sizes)
    if not good or sum(sizes) != total:
        at.fail(f"sizes must be positive integers of sum {total}, got {sizes!r}")
    found, start = [], 0
    for n in sizes:
        found.append(_cut(at, x, axis, start, start + n))
        start += n
    return found


@layer("slice", Field("axis", INT, None, "default: the channels"), Field("start", INT, 0), Field("stop", INT, None),
       Field("step", COUNT, 1))  # fmt: skip
def slice_(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """x[start:stop:step] along one axis, as in Python."""
    (x,) = xs
    axis = channel_axis(at, x) if f.axis is None else given_axis(at, x, f.axis)
    start, stop, step = slice(f.start, f.stop, f.step).indices(x.shape[axis])
    if stop <= start:
        at.fail(f"start {f.start}, stop {f.stop} leave nothing of the {x.shape[axis]} places")
    return _cut(at, x, axis, start, stop, step)


def _picked(at: Place, x: Value, axis: int, index: int) -> Value:
    part = _cut(at, x, axis, index, index + 1)
    return at.node(ops.Reshape((*x.shape[:axis], *x.shape[axis + 1 :])), part)


@layer("select", Field("axis", INT), Field("index", INT))
def select(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """One place of an axis, without the axis: x[:, index] with ``axis: 1``."""
    (x,) = xs
    axis = given_axis(at, x, f.axis)
    if not -x.shape[axis] <= f.index < x.shape[axis]:
        at.fail(f"there is no place {f.index} on axis {f.axis} of {list(x.shape)}")
    return _picked(at, x, axis, f.index % x.shape[axis])


@layer("unbind", Field("axis", INT, 0))
def unbind(at: Place, xs: list[Value], f: SimpleNamespace) -> list[Value]:
    """All places of an axis, each without the axis: q, k, v = unbind(qkv)."""
    (x,) = xs
    if not x.rank:
        at.fail("a value of rank 0 has no axis")
    axis = given_axis(at, x, f.axis)
    return [_picked(at, x, axis, i) for i in range(x.shape[axis])]


@layer("pad", Field("padding", PADDING), Field("mode", choice("constant", "reflect", "replicate", "circular"),
       "constant"), Field("value", FLOAT, 0.0), LAYOUT)  # fmt: skip
def pad(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Pad height and width."""
    (x,), layout = xs, f.layout or at.layout
    spatial(at, x, layout)
    if f.padding in ("same", "valid"):
        at.fail("padding must say how much; same and valid are for windows")
    sides = ((0, 0), (0, 0), *f.padding) if layout == "NCHW" else ((0, 0), *f.padding, (0, 0))
    return at.node(ops.Pad(sides, f.mode, f.value), x)


@layer("reshape", Field("shape", SHAPE))
def reshape(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """The same elements under another shape; one -1 is what is left over."""
    (x,) = xs
    rest = math.prod(n for n in f.shape if n != -1)
    if f.shape.count(-1) > 1 or (-1 in f.shape and (rest == 0 or x.size % rest)):
        at.fail(f"cannot reshape {list(x.shape)} to {list(f.shape)}")
    return at.node(ops.Reshape(tuple(x.size // rest if n == -1 else n for n in f.shape)), x)


@layer("flatten", Field("start", SIZE, 1, "the first axis that is merged"))
def flatten(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Merge all axes from ``start`` on."""
    (x,) = xs
    return at.node(ops.Reshape((*x.shape[: f.start], math.prod(x.shape[f.start :]))), x)


def _scalar(name: str, kind: Any, doc: str) -> None:
    @layer(name, Field("by", FLOAT))
    def build(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
        return at.node(kind(), xs[0], at.number(f.by, xs[0].dtype))

    LAYERS[name] = Layer(name, LAYERS[name].fields, build, (1, 1), doc)


_scalar("scale", ops.Mul, "Times a number.")
_scalar("shift", ops.Add, "Plus a number.")


def _folded(name: str, kind: Any, doc: str) -> None:
    def build(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
        result = xs[0]
        for x in xs[1:]:
            result = at.node(kind(), result, x)
        return activated(at, result, f.act)

    LAYERS[name] = Layer(name, (Field("act", ACT, "none", "the activation behind it"),), build, (2, math.inf), doc)


_folded("add", ops.Add, "The sum of all, from the left.")
_folded("mul", ops.Mul, "The product of all, from the left.")


#: Where Instep's own operators are defined.
_OWN = "instep.graph."


# -- every operator under its own name -----------------------------------------------------------------------------
def operator_layer(name: str, kind: type[Operator]) -> Layer:
    """The layer that is one operator, weights given as inputs."""
    fields = operator_fields(kind)
    has_layout = any(f.name == "layout" for f in fields)
    shown = tuple(Field(f.name, choice("NCHW", "NHWC"), None) if f.name == "layout" else f for f in fields)

    def build(at: Place, xs: list[Value], f: SimpleNamespace) -> Value | list[Value]:
        given = vars(f)
        if has_layout and given["layout"] is None:
            given = given | {"layout": at.layout}
        if kind.__module__.startswith(_OWN) and xs:
            given = {n: _from_front(at, xs[0], v) if n in ("axis", "axes") else v for n, v in given.items()}
        return at.nodes(kind(**given), *xs)

    return Layer(name, shown, build, MANY, (kind.__doc__ or "").strip())


def _from_front(at: Place, x: Value, axes: Any) -> Any:
    """Axes below zero, which Instep's own operators do not have, counted from the front."""
    if isinstance(axes, tuple):
        return tuple(_from_front(at, x, a) for a in axes)
    return given_axis(at, x, axes) if isinstance(axes, int) and axes < 0 else axes


def enter_operators() -> None:
    """Enter every operator under its class's name, and in small letters where no layer has that name."""
    for operator, kind in OPERATORS.items():
        for name in (snake(operator), operator):
            if name not in LAYERS:
                LAYERS[name] = operator_layer(name, kind)
    for name in ACTIVATIONS:
        if name in ("none", "prelu") or name in LAYERS:
            continue
        LAYERS[name] = Layer(name, (), _named_act(name), (1, 1), f"The activation {name}.")


def _named_act(name: str) -> Any:
    return lambda at, xs, f: activated(at, xs[0], (name, ()))


enter_operators()
