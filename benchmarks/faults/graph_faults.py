"""Kinds of faults as changes of a graph: captured (before the rewrites) or lowered (what the emitter gets).

Each function changes one node in place and returns True, or returns False where it does not apply. It must keep
every shape. They share no code with the causes that the diagnosis knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Operator, Value, ops

__all__ = ["FAULTS", "Fault"]

Plant = Callable[[Graph, Node, np.random.Generator], bool]


@dataclass(frozen=True)
class Fault:
    """A kind of fault: ``named`` are the causes that count as the right name."""

    kind: str
    operators: tuple[type[Operator], ...]
    named: tuple[str, ...]
    plant: Plant


FAULTS: list[Fault] = []
CONV = (ops.Conv2d,)
WEIGHTED = (ops.Conv2d, ops.Linear, ops.ConvTranspose2d)


def fault(kind: str, operators: tuple[type[Operator], ...], *named: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        FAULTS.append(Fault(kind, operators, named, plant))
        return plant

    return register


# -- helpers ---------------------------------------------------------------------------------------------------
def _axes(op: Any) -> tuple[int, int, int]:
    return (1, 2, 3) if op.layout == "NCHW" else (3, 1, 2)


def _constant(graph: Graph, array: np.ndarray, like: str) -> Value:
    names = {v.name for v in graph.values()}
    name, i = f"{like}.fault", 0
    while name in names:
        i += 1
        name = f"{like}.fault{i}"
    return graph.constant(np.ascontiguousarray(array), name)


def _array(graph: Graph, value: Value) -> np.ndarray | None:
    return graph.weights.get(value)


def _change(graph: Graph, node: Node, number: int, change: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Replace constant input ``number`` by a changed copy."""
    if len(node.inputs) <= number:
        return False
    array = _array(graph, node.inputs[number])
    if array is None:
        return False
    made = change(array.copy()).astype(array.dtype)
    if made.shape != array.shape or np.array_equal(made, array):
        return False
    node.inputs[number] = _constant(graph, made, node.inputs[number].name)
    return True


def _insert(graph: Graph, node: Node, number: int, op: Operator, *extra: Value) -> Value:
    """Put ``op`` in front of input ``number`` of ``node``."""
    made = graph.add(op, [node.inputs[number], *extra], scope=node.scope, origin=node.origin)
    graph.nodes.remove(made)
    graph.nodes.insert(graph.nodes.index(node), made)
    names = {v.name for v in graph.values() if v is not made.output}
    name, i = f"{node.output.name}.fault", 0
    while name in names:
        i += 1
        name = f"{node.output.name}.fault{i}"
    made.output.name = name
    node.inputs[number] = made.output
    return made.output


def _set(node: Node, **fields: Any) -> bool:
    op = node.op.with_(**fields)
    if op == node.op or op.infer(*(v.spec for v in node.inputs)) != tuple(v.spec for v in node.outputs):
        return False
    node.op = op
    return True


def _swap_op(node: Node, op: Operator) -> bool:
    activation = getattr(node.op, "activation", "")
    if activation and not hasattr(op, "activation"):
        return False
    if activation:
        op = op.with_(activation=activation)
    if op == node.op or op.infer(*(v.spec for v in node.inputs)) != tuple(v.spec for v in node.outputs):
        return False
    node.op = op
    return True


def _identity(graph: Graph, node: Node, number: int = 0) -> bool:
    """Let the node hand on input ``number``."""
    source = node.inputs[number]
    if source.shape != node.output.shape or getattr(node.op, "activation", ""):
        return False
    node.inputs = [source]
    node.op = ops.Reshape(node.output.shape)
    return True


# -- padding and windows ---------------------------------------------------------------------------------------
WINDOWS = (ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d)


@fault("asymmetric padding", WINDOWS, "padding shifted by one pixel")
def asymmetric(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    (t, b), (left, r) = op.padding
    if t < 1 or left < 1:
        return False
    return _set(node, padding=((t - 1, b + 1), (left - 1, r + 1)))


@fault("SAME padding at stride 2", WINDOWS, "padding shifted by one pixel")
def same_padding(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if op.stride == (1, 1) or op.padding != ((1, 1), (1, 1)):
        return False
    return _set(node, padding=((0, 1), (0, 1)))


@fault("padding shifted in one axis", WINDOWS, "padding shifted by one pixel")
def shifted_once(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    (t, b), sides = op.padding
    return b >= 1 and _set(node, padding=((t + 1, b - 1), sides))


@fault("padding mode", (*CONV, ops.Pad), "wrong padding mode")
def padding_mode(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if isinstance(op, ops.Pad):
        small = all(max(p) < n for p, n in zip(op.pads, node.inputs[0].shape, strict=True))
        other = ("constant", "replicate")[int(rng.integers(2))] if op.mode != "constant" else "replicate"
        return small and op.mode != other and _set(node, mode=other)
    if not any(map(sum, op.padding)) or max(map(max, op.padding)) >= min(node.inputs[0].shape[2:]):
        return False
    _, h, w = _axes(op)
    pads = [(0, 0)] * 4
    pads[h], pads[w] = op.padding
    mode = ("reflect", "replicate")[int(rng.integers(2))]
    _insert(graph, node, 0, ops.Pad(tuple(pads), mode))
    return _set(node, padding=((0, 0), (0, 0)))


@fault("padding value", (ops.MaxPool2d, ops.Pad), "wrong padding value")
def padding_value(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if isinstance(op, ops.Pad):
        return op.mode == "constant" and any(map(sum, op.pads)) and _set(node, value=op.value + 1.0)
    if not any(map(sum, op.padding)):
        return False
    _, h, w = _axes(op)
    pads = [(0, 0)] * 4
    pads[h], pads[w] = op.padding
    _insert(graph, node, 0, ops.Pad(tuple(pads)))
    return _set(node, padding=((0, 0), (0, 0)))


@fault("dilation ignored", CONV, "dilation ignored")
def no_dilation(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if op.dilation == (1, 1):
        return False
    pads = []
    for (a, b), k, d in zip(op.padding, op.kernel(node.inputs[1].shape), op.dilation, strict=True):
        loss = (k - 1) * (d - 1)
        pads.append((a - loss // 2, b - (loss - loss // 2)))
    return min(map(min, pads)) >= 0 and _set(node, dilation=(1, 1), padding=tuple(pads))


@fault("count_include_pad", (ops.AvgPool2d,), "count_include_pad", "divisor of an average")
def include_pad(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return any(map(sum, op.padding)) and _set(node, count_include_pad=not op.count_include_pad)


@fault("ceil_mode", (ops.AvgPool2d, ops.MaxPool2d), "ceil_mode", "padding shifted by one pixel",
       "divisor of an average")  # fmt: skip
def ceil(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if isinstance(op, ops.AvgPool2d):
        return op.overhang != (0, 0) and _set(node, padding=op.all_pads, overhang=(0, 0), count_include_pad=True)
    (t, b), (left, r) = op.padding
    return b > t and r > left and _set(node, padding=((t + 1, b - 1), (left + 1, r - 1)))


@fault("average for max pooling", (ops.MaxPool2d,), "average pooling for maximum pooling")
def avg_for_max(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if op.dilation != (1, 1):
        return False
    return _swap_op(node, ops.AvgPool2d(op.kernel, op.stride, op.padding, False, layout=op.layout))


@fault("max for average pooling", (ops.AvgPool2d,), "maximum pooling for average pooling")
def max_for_avg(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return _swap_op(node, ops.MaxPool2d(op.kernel, op.stride, op.all_pads, layout=op.layout))


# -- weights ---------------------------------------------------------------------------------------------------
@fault("weights flipped", (ops.Conv2d, ops.ConvTranspose2d), "weights flipped (convolution for correlation)")
def flipped(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    _, h, w = _axes(node.op)
    return _change(graph, node, 1, lambda k: np.flip(k, (h, w)))


@fault("weights transposed spatially", (ops.Conv2d, ops.ConvTranspose2d), "weights transposed in height and width")
def turned(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    _, h, w = _axes(node.op)
    shape = node.inputs[1].shape
    return shape[h] == shape[w] > 1 and _change(graph, node, 1, lambda k: k.swapaxes(h, w))


@fault("weights in/out swapped", WEIGHTED, "weights transposed in input and output channels", "transposed weights",
       "weights read in the wrong layout")  # fmt: skip
def crossed(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    c = 1 if isinstance(node.op, ops.Linear) else _axes(node.op)[0]
    shape = node.inputs[1].shape
    return shape[0] == shape[c] > 1 and _change(graph, node, 1, lambda k: k.swapaxes(0, c))


@fault("weights read in another layout", WEIGHTED, "weights read in the wrong layout",
       "weights transposed in height and width")  # fmt: skip
def misread(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    shape = node.inputs[1].shape
    if len(shape) == 2:
        return shape[0] != shape[1] and _change(graph, node, 1, lambda k: k.T.reshape(shape))
    if sum(n > 1 for n in shape[1:]) < 2 or shape[1] == 1:
        return False
    return _change(graph, node, 1, lambda k: np.ascontiguousarray(k.transpose(0, 2, 3, 1)).reshape(shape))


@fault("group order", CONV, "group order", "output channels permuted")
def groups(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    g = op.groups
    if g == 1:
        return False
    return _change(graph, node, 1, lambda k: k.reshape(g, -1, *k.shape[1:])[::-1].reshape(k.shape))


@fault("groups read shuffled channels", CONV, "group order")
def group_shuffle(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    c, _, _ = _axes(op)
    n = node.inputs[0].shape[c]
    if op.groups in (1, n):
        return False
    order = _constant(graph, np.arange(n).reshape(op.groups, -1).T.ravel().astype(np.int64), node.output.name)
    _insert(graph, node, 0, ops.Gather(c), order)
    return True


@fault("depthwise multiplier order", CONV, "depthwise multiplier order")
def multiplier(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    m = node.inputs[1].shape[0] // op.groups
    if op.groups == 1 or m == 1:
        return False
    return _change(graph, node, 1, lambda k: k.reshape(op.groups, m, *k.shape[1:]).swapaxes(0, 1).reshape(k.shape))


@fault("RGB for BGR", CONV, "input channels reversed (RGB for BGR)")
def bgr(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    c, _, _ = _axes(node.op)
    return node.inputs[1].shape[c] == 3 and _change(graph, node, 1, lambda k: np.flip(k, c))


@fault("output channels permuted", (ops.Conv2d, ops.Linear), "output channels permuted", "group order")
def outputs(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 1, lambda k: np.roll(k, 1, 0))


@fault("weights of another layer", WEIGHTED, "weights of another layer")
def other_weights(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    own = node.inputs[1]
    if own not in graph.weights:
        return False
    others = [n.inputs[1] for n in graph.nodes if type(n.op) is type(node.op) and n.inputs[1] is not own
              and n.inputs[1].shape == own.shape and n.inputs[1] in graph.weights]  # fmt: skip
    if not others:
        return False
    return _change(graph, node, 1, lambda k: graph.weights[others[int(rng.integers(len(others)))]])


@fault("half-precision weights", WEIGHTED, "weights in lower precision")
def half(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 1, lambda k: k.astype(np.float16))


@fault("int8 weights", WEIGHTED, "weights in lower precision")
def int8(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    def rounded(k: np.ndarray) -> np.ndarray:
        step = np.abs(k).max() / 127
        return np.round(k / step) * step

    return _change(graph, node, 1, rounded)


@fault("bias dropped", WEIGHTED, "bias dropped")
def no_bias(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 2, np.zeros_like)


@fault("bias doubled", WEIGHTED, "bias doubled")
def two_bias(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 2, lambda b: 2 * b)


@fault("bias of another layer", WEIGHTED, "bias of another layer")
def other_bias(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if len(node.inputs) < 3:
        return False
    own = node.inputs[2]
    others = [n.inputs[2] for n in graph.nodes if isinstance(n.op, WEIGHTED) and len(n.inputs) > 2
              and n.inputs[2] is not own and n.inputs[2].shape == own.shape
              and n.inputs[2] in graph.weights]  # fmt: skip
    return bool(others) and _change(graph, node, 2, lambda b: graph.weights[others[int(rng.integers(len(others)))]])


@fault("bias permuted", WEIGHTED, "bias permuted")
def bias_rolled(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 2, lambda b: np.roll(b, 1))


# -- layout ----------------------------------------------------------------------------------------------------
@fault("NCHW data read as NHWC", CONV, "NCHW data read as NHWC")
def layout(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    n, a, b, c = node.inputs[0].shape
    if node.op.layout != "NCHW" or min(a, b, c) < 2 or node.inputs[0] in graph.inputs:  # type: ignore[attr-defined]
        return False
    _insert(graph, node, 0, ops.Permute((0, 2, 3, 1)))
    _insert(graph, node, 0, ops.Reshape((n, a, b, c)))
    return True


@fault("height and width transposed", CONV, "input transposed in height and width", "transposed")
def turned_input(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    _, h, w = _axes(node.op)
    x = node.inputs[0].shape
    if x[h] != x[w] or x[h] == 1:
        return False
    perm = [0, 1, 2, 3]
    perm[h], perm[w] = w, h
    _insert(graph, node, 0, ops.Permute(tuple(perm)))
    return True


# -- normalisation ---------------------------------------------------------------------------------------------
NORMS = (ops.BatchNorm, ops.LayerNorm, ops.GroupNorm)


@fault("norm epsilon", NORMS, "normalisation epsilon")
def eps(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _set(node, eps=1e-3 if node.op.eps < 1e-4 else 1e-5)  # type: ignore[attr-defined]


@fault("momentum taken for epsilon", (ops.BatchNorm,), "momentum taken for epsilon")
def momentum(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _set(node, eps=0.1)


def _exchange(node: Node, i: int, j: int) -> bool:
    node.inputs[i], node.inputs[j] = node.inputs[j], node.inputs[i]
    return True


@fault("mean and variance swapped", (ops.BatchNorm,), "mean and variance swapped")
def swapped_statistics(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    mean = _array(graph, node.inputs[3])
    # a negative variance would give NaN: the magnitude stands for it
    if mean is None or ((mean <= -1e-3).any() and not _change(graph, node, 3, np.abs)):
        return False
    return _exchange(node, 3, 4)


@fault("scale and shift swapped", NORMS, "scale and shift swapped")
def swapped_affine(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return node.inputs[1] is not node.inputs[2] and _exchange(node, 1, 2)


@fault("statistics ignored", (ops.BatchNorm,), "running statistics ignored")
def no_statistics(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 3, np.zeros_like) and _change(graph, node, 4, np.ones_like)


@fault("running mean dropped", (ops.BatchNorm,), "running mean dropped")
def no_mean(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 3, np.zeros_like)


@fault("statistics of another layer", (ops.BatchNorm,), "statistics of another layer")
def other_statistics(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    others = [n for n in graph.nodes if isinstance(n.op, ops.BatchNorm) and n is not node
              and n.inputs[3].shape == node.inputs[3].shape]  # fmt: skip
    if not others:
        return False
    other = others[int(rng.integers(len(others)))]
    node.inputs[3:5] = other.inputs[3:5]
    return True


@fault("unbiased variance", (ops.BatchNorm, ops.LayerNorm), "unbiased variance")
def unbiased(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if isinstance(node.op, ops.BatchNorm):
        x = node.inputs[0].shape
        n = math.prod(x) // x[node.op.axis]
        return n > 1 and _change(graph, node, 4, lambda v: v * n / (n - 1))
    op: Any = node.op
    n = node.inputs[1].size
    share = (n - 1) / n
    return _change(graph, node, 1, lambda k: k * np.sqrt(share)) and _set(node, eps=op.eps * share)


@fault("shift of a norm dropped", NORMS, "shift of a normalisation dropped")
def no_shift(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 2, np.zeros_like)


@fault("groups of a norm", (ops.GroupNorm,), "groups of a normalisation")
def norm_groups(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    c = node.inputs[0].shape[op.axis]
    return c % 2 == 0 and _set(node, groups=1 if op.groups > 1 else 2)


# -- activations -----------------------------------------------------------------------------------------------
ACTIVATIONS = (ops.Relu, ops.LeakyRelu, ops.Silu, ops.Gelu, ops.Sigmoid, ops.HardSwish, ops.Clip, ops.Prelu, ops.Tanh)


@fault("activation dropped", ACTIVATIONS, "activation dropped")
def no_activation(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _identity(graph, node)


@fault("ReLU6 for ReLU", (ops.Relu, ops.Clip), "wrong activation", "activation's parameter")
def relu6(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if isinstance(node.op, ops.Relu):
        return _swap_op(node, ops.Clip(0.0, 6.0))
    return node.op == ops.Clip(0.0, 6.0) and _swap_op(node, ops.Relu())


@fault("another activation", (ops.Relu, ops.Silu, ops.Gelu, ops.HardSwish, ops.Sigmoid), "wrong activation")
def other_activation(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    others = {ops.Relu: ops.Silu(), ops.Silu: ops.HardSwish(), ops.Gelu: ops.Silu(), ops.HardSwish: ops.Silu(),
              ops.Sigmoid: ops.HardSigmoid()}  # fmt: skip
    return _swap_op(node, others[type(node.op)])


@fault("slope of a leaky ReLU", (ops.LeakyRelu,), "slope of a leaky ReLU")
def slope(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return _set(node, slope=[-op.slope, 0.3, 0.01][int(rng.integers(3))])


@fault("PReLU slopes in the wrong order", (ops.Prelu,), "slope of a leaky ReLU")
def prelu(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 1, lambda s: s.ravel()[::-1].reshape(s.shape))


@fault("tanh for erf GELU", (ops.Gelu,), "GELU approximation (tanh for erf)")
def gelu(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _set(node, approximate=not node.op.approximate)  # type: ignore[attr-defined]
