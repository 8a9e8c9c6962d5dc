"""Layers that have weights: people write hyper-parameters, the channels that come in are known from the value."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from instep.graph import ops
from instep.graph.core import Value
from instep.graph.text.fields import ANY, BOOL, COUNT, FLOAT, INT, PADDING, PAIR, SHAPE, WORD, Field, choice
from instep.graph.text.table import ACT, INIT, TRAINED, Place, layer

__all__ = ["activated", "channel_axis", "given_axis", "pads"]

LAYOUT = Field("layout", choice("NCHW", "NHWC"), None, "how the input is laid out; default: the text's layout")
_ACT = Field("act", ACT, "none", "the activation behind it")
_BIAS = Field("bias", BOOL, True, "whether it has one")
_INIT = Field("init", INIT, "torch", "how the weight starts")
_BIAS_INIT = Field("bias_init", INIT, None, "how the bias starts; default: torch with torch, else zeros")
DECAY = Field("decay", FLOAT, None, "decay · Σ w² / 2 over the kernel joins the loss; biases and norms stay out of it")
_ONES, _ZEROS = ("ones", ()), ("zeros", ())
_SCALE = Field("scale", BOOL, True, "whether it has one, the weight")


def channel_axis(at: Place, x: Value, layout: str | None = None) -> int:
    """The axis of the channels: 1, or the last where values are channel-last or tokens."""
    return 1 if (layout or at.layout) == "NCHW" and x.rank in (2, 4, 5) else x.rank - 1


def given_axis(at: Place, x: Value, axis: int) -> int:
    """An axis of ``x`` counted from the front; -1 is the last."""
    if not -x.rank <= axis < x.rank:
        at.fail(f"there is no axis {axis}; a value of shape {list(x.shape)} has axes 0 to {x.rank - 1}")
    return axis % x.rank


def pads(
    at: Place,
    padding: Any,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Any:
    """Explicit pads per side. SAME is TensorFlow's: the output has size/stride places, the odd pixel goes last."""
    if padding == "valid":
        return tuple((0, 0) for _ in sizes)
    if padding != "same":
        return padding
    found = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def spatial(at: Place, x: Value, layout: str) -> tuple[int, tuple[int, int]]:
    """Channels and (height, width) of a picture."""
    if x.rank != 4:
        row = "; a sequence is a picture of height 1, which 'reshape' makes of it" if x.rank == 3 else ""
        at.fail(f"needs a picture of rank 4 in {layout}, got {list(x.shape)}{row}")
    _, a, b, c = x.shape
    return (a, (b, c)) if layout == "NCHW" else (c, (a, b))


def activated(at: Place, x: Value, act: tuple[str, tuple[float, ...]], layout: str | None = None) -> Value:
    """``x`` behind a named activation."""
    name, numbers = act
    first = numbers[0] if numbers else None
    match name:
        case "none":
            return x
        case "relu6":
            return at.node(ops.Clip(0.0, 6.0), x)
        case "leaky_relu":
            return at.node(ops.LeakyRelu(0.01 if first is None else first), x)
        case "elu":
            return at.node(ops.Elu(1.0 if first is None else first), x)
        case "gelu" | "gelu_tanh":
            return at.node(ops.Gelu(approximate=name == "gelu_tanh"), x)
        case "softplus":
            return at.node(ops.Softplus(), x)
        case "clip":
            low, high = numbers if len(numbers) == 2 else (0.0, 1.0)
            return at.node(ops.Clip(low, high), x)
        case "prelu":
            return prelu_of(at, x, "prelu", x.shape[channel_axis(at, x, layout)], 0.25 if first is None else first)
    plain = {
        "relu": ops.Relu, "selu": ops.Selu, "silu": ops.Silu, "mish": ops.Mish, "hard_swish": ops.HardSwish,
        "hard_sigmoid": ops.HardSigmoid, "sigmoid": ops.Sigmoid, "tanh": ops.Tanh,
    }  # fmt: skip
    return at.node(plain[name](), x)


def prelu_of(at: Place, x: Value, name: str, count: int, start: float, layout: str | None = None) -> Value:
    """PReLU with ``count`` slopes along the channels."""
    slope = at.weight(f"{name}.weight" if name else "weight", (count,), ("constant", (start,)))
    axis = channel_axis(at, x, layout)
    if axis != x.rank - 1:
        slope = at.node(ops.Reshape((count, *(1 for _ in x.shape[axis + 1 :]))), slope, part="slope")
    return at.node(ops.Prelu(), x, slope)


def _biased(at: Place, f: SimpleNamespace, count: int, fans: tuple[int, int]) -> list[Value]:
    if not f.bias:
        return []
    initial = f.bias_init or (("torch", ()) if f.init[0] == "torch" else _ZEROS)
    # PyTorch draws biases by the fan-in of the kernel, Keras and TensorFlow by their own length
    return [at.weight("bias", (count,), initial, fans if initial[0] == "torch" else (count, count))]


@layer(
    "conv",
    Field("out", COUNT, doc="channels that come out"),
    Field("kernel", PAIR, doc="k, or [height, width]"),
    Field("stride", PAIR, 1),
    Field("padding", PADDING, 0, "same is TensorFlow's: at stride 2 the odd pixel goes to the bottom and right"),
    Field("dilation", PAIR, 1),
    Field("groups", COUNT, 1),
    _BIAS, _ACT, _INIT, _BIAS_INIT, DECAY, LAYOUT,
    weighted=True,
)  # fmt: skip
def conv(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """2-D convolution, then the activation. Weights: weight, bias."""
    (x,), layout = xs, f.layout or at.layout
    c, sizes = spatial(at, x, layout)
    if c % f.groups or f.out % f.groups:
        at.fail(f"groups={f.groups} divides neither {c} input nor {f.out} output channels" if c % f.groups and
                f.out % f.groups else f"groups={f.groups} does not divide the "
                + (f"{c} input channels" if c % f.groups else f"{f.out} output channels"))  # fmt: skip
    per, area = c // f.groups, f.kernel[0] * f.kernel[1]
    fans = (per * area, f.out * area)  # of grouped ones too, in PyTorch and Keras alike
    shape = (f.out, per, *f.kernel) if layout == "NCHW" else (f.out, *f.kernel, per)
    weights = [at.weight("weight", shape, f.init, fans, decay=f.decay), *_biased(at, f, f.out, fans)]
    padding = pads(at, f.padding, sizes, f.kernel, f.stride, f.dilation)
    op = ops.Conv2d(f.stride, padding, f.dilation, f.groups, layout)
    return activated(at, at.node(op, x, *weights), f.act, layout)


@layer(
    "conv_transpose",
    Field("out", COUNT),
    Field("kernel", PAIR),
    Field("stride", PAIR, 1),
    Field("padding", PADDING, 0, "what is cropped per side; same gives size · stride"),
    Field("output_padding", ANY, 0, "rows and columns added at the bottom and right"),
    Field("dilation", PAIR, 1),
    Field("groups", COUNT, 1),
    _BIAS, _ACT, _INIT, _BIAS_INIT, DECAY, LAYOUT,
    weighted=True,
)  # fmt: skip
def conv_transpose(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """2-D transposed convolution, then the activation. Weights: weight [in, out/groups, …], bias."""
    (x,), layout = xs, f.layout or at.layout
    c, _ = spatial(at, x, layout)
    extra = f.output_padding if isinstance(f.output_padding, tuple) else (f.output_padding,) * 2
    if len(extra) != 2 or not all(isinstance(e, int) and 0 <= e < 1024 for e in extra):
        at.fail(f"output_padding must be an integer or two of them, got {f.output_padding!r}")
    if c % f.groups or f.out % f.groups:
        at.fail(f"groups={f.groups} does not divide {c} input and {f.out} output channels")
    per, area = f.out // f.groups, f.kernel[0] * f.kernel[1]
    shape = (c, per, *f.kernel) if layout == "NCHW" else (c, *f.kernel, per)
    # torch counts the fan-in of a transposed convolution on the second axis
    fans = (per * area, c * area)
    weights = [at.weight("weight", shape, f.init, fans, decay=f.decay), *_biased(at, f, f.out, fans)]
    padding: Any = f.padding
    if padding == "same":
        crop = [max(d * (k - 1) + 1 - s, 0) for k, s, d in zip(f.kernel, f.stride, f.dilation, strict=True)]
        padding = tuple((n // 2, n - n // 2) for n in crop)
    elif padding == "valid":
        padding = ((0, 0), (0, 0))
    op = ops.ConvTranspose2d(f.stride, padding, extra, f.dilation, f.groups, layout)
    return activated(at, at.node(op, x, *weights), f.act, layout)


@layer("linear", Field("out", COUNT), _BIAS, _ACT, _INIT, _BIAS_INIT, DECAY, weighted=True)
def linear(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Fully connected over the last axis, then the activation. Weights: weight [out, in], bias."""
    (x,) = xs
    size = x.shape[-1]
    fans = (size, f.out)
    weights = [at.weight("weight", (f.out, size), f.init, fans, decay=f.decay), *_biased(at, f, f.out, fans)]
    return activated(at, at.node(ops.Linear(), x, *weights), f.act, "NHWC")


def _affine(at: Place, f: SimpleNamespace, shape: tuple[int, ...]) -> list[Value]:
    """A norm's scale and shift; one that it goes without is ones or zeros that are no weight."""
    scale = at.weight("weight", shape, _ONES) if f.scale else at.constant((1.0, "float32", shape), "weight")
    shift = at.weight("bias", shape, _ZEROS) if f.bias else at.constant((0.0, "float32", shape), "bias")
    return [scale, shift]


@layer(
    "batch_norm",
    Field("eps", FLOAT, 1e-5),
    Field("momentum", FLOAT, 0.1, "the weight of the new batch (PyTorch's; Keras' is 1 - momentum)"),
    Field("axis", INT, None, "the axis of the channels; default: as the layout has it"),
    Field("fixed", BOOL, False, "keeps to its running statistics in training (Keras' trainable=False)"),
    _SCALE, _BIAS, _ACT,
    weighted=True,
)  # fmt: skip
def batch_norm(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Batch normalisation with running statistics. Weights: weight, bias, running_mean, running_var."""
    (x,) = xs
    axis = channel_axis(at, x) if f.axis is None else given_axis(at, x, f.axis)
    shape = (x.shape[axis],)
    vectors = [*_affine(at, f, shape), at.weight("running_mean", shape, _ZEROS), at.weight("running_var", shape, _ONES)]
    return activated(at, at.node(ops.BatchNorm(f.eps, axis, f.momentum, f.fixed), x, *vectors), f.act)


@layer(
    "layer_norm",
    Field("axes", SHAPE, None, "the normalised axes; default: the last"),
    Field("eps", FLOAT, 1e-5),
    _SCALE, _BIAS, _ACT,
    weighted=True,
)  # fmt: skip
def layer_norm(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Layer normalisation over ``axes``. Weights: weight, bias, of the shape of the normalised axes."""
    (x,) = xs
    axes = tuple(sorted(given_axis(at, x, a) for a in (f.axes or (-1,))))
    shape = tuple(x.shape[a] for a in axes)
    return activated(at, at.node(ops.LayerNorm(axes, f.eps), x, *_affine(at, f, shape)), f.act)


@layer("group_norm", Field("groups", COUNT), Field("eps", FLOAT, 1e-5), _SCALE, _BIAS, _ACT, weighted=True)
def group_norm(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Group normalisation; groups = channels is instance normalisation. Weights: weight, bias."""
    (x,) = xs
    axis = channel_axis(at, x)
    vectors = _affine(at, f, (x.shape[axis],))
    return activated(at, at.node(ops.GroupNorm(f.groups, f.eps, axis), x, *vectors), f.act)


@layer(
    "prelu",
    Field("shared", BOOL, False, "one slope for all channels"),
    Field("start", FLOAT, 0.25),
    LAYOUT,
    weighted=True,
)
def prelu(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """PReLU with a slope per channel. Weights: weight."""
    (x,) = xs
    count = 1 if f.shared else x.shape[channel_axis(at, x, f.layout)]
    return prelu_of(at, x, "", count, f.start, f.layout)


@layer("param", Field("shape", SHAPE, None), Field("init", INIT, "zeros"), Field("dtype", WORD, "float32"),
       Field("value", ANY, None, "the numbers themselves, for a few of them"),
       Field("fans", PAIR, None, "fan-in and fan-out for init; default: as the shape has them"), TRAINED,
       inputs=0)  # fmt: skip
def param(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """A weight of its own, to be read by name: its name is the step's. ``value`` gives a constant in plain sight."""
    if f.dtype not in ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"):
        at.fail(f"dtype must be a number's type such as float32 or int64, got {f.dtype!r}")
    if f.value is not None:
        return at.constant((f.value, f.dtype, f.shape), "")
    if f.shape is None or any(n < 0 for n in f.shape):
        at.fail("needs a shape of sizes, or a value")
    size = math.prod(f.shape)
    fans = f.fans or (size // f.shape[0] if f.shape else 1, f.shape[0] if f.shape else 1)
    return at.weight("", f.shape, f.init, fans, f.dtype)


@layer(
    "attention",
    Field("heads", COUNT),
    Field("out", COUNT, None, "features that come out; default: as many as came in"),
    _BIAS, _INIT,
    inputs=(1, 3),
    weighted=True,
)  # fmt: skip
def attention(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """Multi-head attention over [batch, tokens, features] (Vaswani et al., arXiv 1706.03762).

    Reads queries and, where given, keys and values; one value alone attends to itself. Weights: q, k, v and out, each
    a linear layer.
    """
    query, key, value = xs[0], xs[min(1, len(xs) - 1)], xs[-1]
    if any(x.rank != 3 for x in xs):
        at.fail(f"needs [batch, tokens, features], got {[list(x.shape) for x in xs]}")
    width = query.shape[2]
    if width % f.heads:
        at.fail(f"{f.heads} heads do not divide {width} features")
    each = width // f.heads
    q, k, v = (
        _heads(at, _project(at, x, name, width, f), f.heads, each)
        for x, name in ((query, "q"), (key, "k"), (value, "v"))
    )
    scale = at.constant((each**-0.5, "float32", ()), "scale")
    q = at.node(ops.Mul(), q, scale, part="scaled")
    weight = at.node(ops.Softmax(3), at.node(ops.MatMul(transpose_b=True), q, k, part="scores"), part="softmax")
    mixed = at.node(ops.Permute((0, 2, 1, 3)), at.node(ops.MatMul(), weight, v, part="mixed"), part="tokens")
    flat = at.node(ops.Reshape((query.shape[0], query.shape[1], width)), mixed, part="merged")
    return _project(at, flat, "out", f.out or width, f)


def _project(at: Place, x: Value, name: str, out: int, f: SimpleNamespace) -> Value:
    fans = (x.shape[-1], out)
    weights = [at.weight(f"{name}.weight", (out, x.shape[-1]), f.init, fans)]
    if f.bias:
        weights.append(at.weight(f"{name}.bias", (out,), _ZEROS))
    return at.node(ops.Linear(), x, *weights, part=name)


def _heads(at: Place, x: Value, heads: int, each: int) -> Value:
    split = at.node(ops.Reshape((x.shape[0], x.shape[1], heads, each)), x, part="split")
    return at.node(ops.Permute((0, 2, 1, 3)), split, part="heads")


@layer(
    "transformer",
    Field("heads", COUNT),
    Field("hidden", COUNT, None, "features inside the feed-forward part; default: 4 times as many as come in"),
    Field("eps", FLOAT, 1e-5),
    Field("act", ACT, "gelu"),
    _BIAS, _INIT,
    weighted=True,
)  # fmt: skip
def transformer(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """A pre-norm transformer block over [batch, tokens, features]: x + attention(norm(x)), then x + mlp(norm(x)).

    Weights: norm1, attention.(q, k, v, out), norm2, mlp.in, mlp.out.
    """
    (x,) = xs
    if x.rank != 3:
        at.fail(f"needs [batch, tokens, features], got {list(x.shape)}")
    width = x.shape[2]
    inner = SimpleNamespace(heads=f.heads, out=None, bias=f.bias, init=f.init)
    mixed = attention(_Inside(at, "attention"), [_normed(at, x, "norm1", f.eps)], inner)  # type: ignore[arg-type]
    x = at.node(ops.Add(), x, mixed, part="add1")  # type: ignore[arg-type]
    hidden = _project(at, _normed(at, x, "norm2", f.eps), "mlp.in", f.hidden or 4 * width, f)
    hidden = activated(at, hidden, f.act, "NHWC")
    return at.node(ops.Add(), x, _project(at, hidden, "mlp.out", width, f), part="add2")


def _normed(at: Place, x: Value, name: str, eps: float) -> Value:
    vectors = [at.weight(f"{name}.{n}", x.shape[-1:], i) for n, i in (("weight", _ONES), ("bias", _ZEROS))]
    return at.node(ops.LayerNorm((x.rank - 1,), eps), x, *vectors, part=name)


class _Inside:
    """A place one name further in: a layer within a layer."""

    def __init__(self, at: Place, name: str) -> None:
        self._at, self._name = at, name

    def weight(self, name: str, *rest: Any, **more: Any) -> Value:
        return self._at.weight(f"{self._name}.{name}", *rest, **more)

    def constant(self, array: Any, name: str) -> Value:
        return self._at.constant(array, f"{self._name}.{name}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._at, name)
