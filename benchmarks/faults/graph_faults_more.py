"""More kinds of faults: arithmetic, attention, reductions, views, resizing, pixel shuffles, wiring."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults.graph_faults import _array, _axes, _change, _constant, _identity, _insert, _set, _swap_op, fault

from instep.graph import Graph, Node, ops

__all__: list[str] = []

BINARY = (ops.Add, ops.Sub)


def _computed(graph: Graph, node: Node) -> bool:
    return all(_array(graph, v) is None for v in node.inputs)


@fault("residual dropped", BINARY, "residual dropped")
def residual(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    kept = int(rng.integers(2)) if isinstance(node.op, ops.Add) else 0
    return _computed(graph, node) and _identity(graph, node, kept)


@fault("residual doubled", (ops.Add,), "residual doubled")
def doubled(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if not _computed(graph, node) or node.inputs[0] is node.inputs[1]:
        return False
    if node.inputs[0].shape != node.inputs[1].shape:
        return False
    node.inputs[0] = node.inputs[1]
    return True


@fault("operand order", (ops.Sub, ops.Div), "operands in the wrong order")
def order(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    node.inputs = node.inputs[::-1]
    return True


@fault("subtraction for addition", (ops.Add,), "wrong arithmetic operation", "mask or offset dropped")
def subtract(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _swap_op(node, ops.Sub())  # type: ignore[call-arg]


@fault("scale missing", (ops.Mul, ops.Div), "scale missing", "scaled")
def no_scale(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    for number in (0, 1):
        if _array(graph, node.inputs[number]) is not None and not (isinstance(node.op, ops.Div) and number == 0):
            return _identity(graph, node, 1 - number)
    return False


@fault("mask or offset dropped", (ops.Add,), "mask or offset dropped")
def no_mask(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    for number in (0, 1):
        if _array(graph, node.inputs[number]) is not None:
            return _identity(graph, node, 1 - number)
    return False


@fault("gate dropped", (ops.Mul,), "gate dropped", "activation dropped")
def no_gate(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if not _computed(graph, node):
        return False
    full = [i for i, v in enumerate(node.inputs) if v.shape == node.output.shape]
    return bool(full) and _identity(graph, node, full[0])


@fault("constant permuted", (ops.Mul, ops.Add), "constant permuted")
def rolled_constant(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    for number in (0, 1):
        if _array(graph, node.inputs[number]) is not None and node.inputs[number].size > 1:
            return _change(graph, node, number, lambda c: np.roll(c.ravel(), 1).reshape(c.shape))
    return False


@fault("softmax axis", (ops.Softmax,), "softmax axis")
def softmax_axis(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    shape = node.output.shape
    axes = [a for a in range(len(shape)) if a != node.op.axis and shape[a] > 1]  # type: ignore[attr-defined]
    return bool(axes) and _set(node, axis=axes[-1])


@fault("matrix transposed", (ops.MatMul,), "transposed matrix product")
def matmul(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    b = node.inputs[1].shape
    return b[-1] == b[-2] > 1 and _set(node, transpose_b=not op.transpose_b)


@fault("heads in the wrong order", (ops.MatMul,), "heads in the wrong order")
def heads(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    shape = node.inputs[1].shape
    if len(shape) < 3 or shape[-3] < 2 or _array(graph, node.inputs[1]) is not None:
        return False
    _insert(graph, node, 1, ops.Flip((len(shape) - 3,)))
    return True


REDUCTIONS = (ops.ReduceMean, ops.ReduceSum, ops.ReduceMax)


@fault("reduction kind", REDUCTIONS, "kind of reduction")
def reduction(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    other = ops.ReduceMax if not isinstance(op, ops.ReduceMax) else ops.ReduceMean
    return _swap_op(node, other(op.axes, op.keepdims))  # type: ignore[call-arg]


@fault("sum for mean", (ops.ReduceMean,), "kind of reduction")
def total(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return _swap_op(node, ops.ReduceSum(op.axes, op.keepdims))  # type: ignore[call-arg]


@fault("reduction axis", REDUCTIONS, "reduction axis")
def reduction_axis(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    rank = len(node.inputs[0].shape)
    for axes in [(a,) for a in range(rank)] + [(a, a + 1) for a in range(rank - 1)]:
        if len(axes) == len(op.axes) and axes != tuple(op.axes) and _set(node, axes=axes):
            return True
    return False


@fault("concatenation order", (ops.Concat,), "order of a concatenation", "roll", "roll direction")
def concat(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    before = list(node.inputs)
    node.inputs = node.inputs[1:] + node.inputs[:1]
    return any(a is not b for a, b in zip(before, node.inputs, strict=True))


@fault("concatenation repeats an input", (ops.Concat,), "concatenation repeats an input", "wired to the wrong value")
def repeated(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    if len(node.inputs) < 2 or node.inputs[0].shape != node.inputs[1].shape or node.inputs[0] is node.inputs[1]:
        return False
    node.inputs[1] = node.inputs[0]
    return True


@fault("off-by-one slice", (ops.Slice,), "off-by-one slice", "shifted by one place",
       "transposed convolution cropped at the wrong side")  # fmt: skip
def off_by_one(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    for axis, n in enumerate(node.inputs[0].shape):
        a, b = op.starts[axis], op.stops[axis]
        by = 1 if b < n else -1 if a > 0 else 0
        if by and b - a < n:
            starts, stops = list(op.starts), list(op.stops)
            starts[axis], stops[axis] = a + by, min(n, b + by)
            return _set(node, starts=tuple(starts), stops=tuple(stops))
    return False


@fault("split in the wrong order", (ops.Slice,), "slice at the wrong place")
def split(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    for axis, n in enumerate(node.inputs[0].shape):
        a, b = op.starts[axis], op.stops[axis]
        size = b - a
        if 1 < size < n and op.steps[axis] == 1:
            moved = n - size if a == 0 else 0
            if abs(moved - a) > 1:
                starts, stops = list(op.starts), list(op.stops)
                starts[axis], stops[axis] = moved, moved + size
                return _set(node, starts=tuple(starts), stops=tuple(stops))
    return False


@fault("pixel shuffle order", (ops.DepthToSpace, ops.SpaceToDepth), "channel order of a pixel shuffle (CRD for DCR)")
def shuffle(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _set(node, order="DCR" if node.op.order == "CRD" else "CRD")  # type: ignore[attr-defined]


@fault("pixel shuffle rows and columns", (ops.DepthToSpace,), "pixel shuffle transposed in height and width")
def shuffle_turned(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    c, r = _axes(op)[0], op.block
    deep = node.inputs[0].shape[c]
    if op.order != "CRD":
        return False
    index = np.arange(deep, dtype=np.int64).reshape(-1, r, r).transpose(0, 2, 1).ravel()
    _insert(graph, node, 0, ops.Gather(c), _constant(graph, index, node.output.name))
    return True


@fault("inverse permutation", (ops.Permute,), "inverse permutation", "wrong permutation")
def inverse(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return _set(node, perm=tuple(int(i) for i in np.argsort(op.perm)))


@fault("reshape for a transpose", (ops.Permute,), "reshape for a transpose", "memory read in the wrong layout")
def no_permute(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    x = node.inputs[0].shape
    moved = [p for p in op.perm if x[p] > 1]
    return moved != sorted(moved) and _swap_op(node, ops.Reshape(node.output.shape))


@fault("reshape in the wrong order", (ops.Reshape,), "reshape in the wrong order")
def reshape(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    x = node.inputs[0].shape
    big = [i for i, n in enumerate(x) if n > 1]
    if len(big) < 2 or len([n for n in node.output.shape if n > 1]) == len(big):
        return False
    perm = list(range(len(x)))
    if len(x) == 4:
        perm = [0, 2, 3, 1]
    else:
        perm[big[-1]], perm[big[-2]] = big[-2], big[-1]
    _insert(graph, node, 0, ops.Permute(tuple(perm)))
    return True


@fault("roll direction", (ops.Roll,), "roll direction")
def roll(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _set(node, shifts=tuple(-s for s in node.op.shifts))  # type: ignore[attr-defined]


@fault("flip axis", (ops.Flip,), "flip")
def flip(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    rank = len(node.output.shape)
    return _set(node, axes=(rank - 2,) if tuple(op.axes) != (rank - 2,) else (rank - 1,))


@fault("gather index off by one", (ops.Gather,), "index off by one")
def gather(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    size = node.inputs[0].shape[node.op.axis]  # type: ignore[attr-defined]
    return _change(graph, node, 1, lambda i: np.minimum(i + 1, size - 1))


@fault("align_corners", (ops.Resize2d,), "align_corners", "half-pixel centres")
def align_corners(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    if op.mode == "nearest":
        return False
    return _set(node, coordinates="align_corners" if op.coordinates != "align_corners" else "half_pixel")


@fault("half-pixel centres", (ops.Resize2d,), "half-pixel centres", "align_corners")
def half_pixel(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return op.mode == "bilinear" and _set(node, coordinates="asymmetric", antialias=False)


@fault("nearest rounding", (ops.Resize2d,), "rounding of nearest-neighbour coordinates")
def nearest(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    return op.mode == "nearest" and _set(node, coordinates="align_corners")


@fault("interpolation mode", (ops.Resize2d,), "wrong interpolation mode")
def mode(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    other = "nearest" if op.mode != "nearest" else "bilinear"
    return _set(node, mode=other, antialias=False, coordinates="asymmetric" if other == "nearest" else "half_pixel")


@fault("anti-aliasing dropped", (ops.Resize2d,), "anti-aliasing", "wrong interpolation mode")
def antialias(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return node.op.antialias and _set(node, antialias=False)  # type: ignore[attr-defined]


@fault("transposed convolution cropped wrongly", (ops.ConvTranspose2d,),
       "transposed convolution cropped at the wrong side")  # fmt: skip
def crop(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    op: Any = node.op
    (t, b), (left, r) = op.padding
    if b >= 1 and r >= 1:
        return _set(node, padding=((t + 1, b - 1), (left + 1, r - 1)))
    return t >= 1 and left >= 1 and _set(node, padding=((t - 1, b + 1), (left - 1, r + 1)))


@fault("branches of a selection swapped", (ops.Where,), "selection branches swapped")
def where(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    node.inputs[1], node.inputs[2] = node.inputs[2], node.inputs[1]
    return True


@fault("wired to the wrong value", (ops.Conv2d, ops.Add, ops.Concat), "wired to the wrong value",
       "concatenation repeats an input")  # fmt: skip
def wiring(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    number = len(node.inputs) - 1 if isinstance(node.op, (ops.Add, ops.Concat)) else 0
    value = node.inputs[number]
    if value in graph.weights:
        return False
    before = [*graph.inputs]
    for other in graph.nodes:
        if other is node:
            break
        before.extend(other.outputs)
    # what the value itself is made of would only leave an operator out: that is another kind
    maker = next((n for n in graph.nodes if value in n.outputs), None)
    near = {value, *node.inputs, *(maker.inputs if maker else ())}
    choices = [v for v in before if v not in near and v.shape == value.shape and v.dtype == value.dtype][-4:]
    if not choices:
        return False
    node.inputs[number] = choices[int(rng.integers(len(choices)))]
    return True


@fault("truncation for rounding", (ops.Round, ops.Floor), "rounding mode")
def rounding(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _swap_op(node, ops.Floor() if isinstance(node.op, ops.Round) else ops.Ceil())  # type: ignore[call-arg]


@fault("unfolded columns in the wrong order", (ops.Unfold2d,), "order of unfolded columns")
def unfold(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    # the columns are reordered behind the node by a gather that takes the node's place
    op: Any = node.op
    axis = 1 if op.layout == "NCHW" else 2
    size = node.output.shape[axis]
    kh, kw = op.kernel
    index = np.arange(size, dtype=np.int64).reshape(-1, kh, kw).transpose(0, 2, 1).ravel()
    return _behind(graph, node, axis, index)


def _behind(graph: Graph, node: Node, axis: int, index: np.ndarray) -> bool:
    """A gather behind ``node`` that hands on its output permuted along ``axis``."""
    inner = graph.add(node.op, node.inputs, scope=node.scope, origin=node.origin, names=[f"{node.output.name}.plain"])
    graph.nodes.remove(inner)
    graph.nodes.insert(graph.nodes.index(node), inner)
    node.op = ops.Gather(axis)
    node.inputs = [inner.output, _constant(graph, index, node.output.name)]
    return True


@fault("leaky ReLU for PReLU", (ops.Prelu,), "slope of a leaky ReLU", "wrong activation")
def plain_prelu(graph: Graph, node: Node, rng: np.random.Generator) -> bool:
    return _change(graph, node, 1, lambda s: np.full_like(s, s.ravel()[0]))
