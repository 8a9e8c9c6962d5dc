"""Sees simple operators in their longer spellings: means, roots, squares, clips, piecewise-linear activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import read_affine
from instep.rewrite.fold.weights import shrink, sole_user

__all__ = ["recognise_arithmetic", "recognise_piecewise", "uniform"]


def uniform(edit: Editor, value: Value) -> float | None:
    """The one number that a constant holds everywhere, or None."""
    array = edit.array(value)
    if array is None or array.size == 0 or not np.all(array == array.flat[0]):
        return None
    return float(array.flat[0])


#: Smaller numbers are subnormal in float32.
TINY = 1.2e-38

_TOTALS = (ops.ReduceSum, ops.ReduceMean, ops.ReduceMax, ops.ReduceMin)


@rewrite("both spellings are the same formula")
def recognise_arithmetic(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Pow, ops.Prelu, ops.Mul, ops.Div, ops.Maximum, ops.Minimum, ops.Reciprocal, *_TOTALS):
        if edit.alive(node):
            changed |= _respell(edit, node)
    return changed


def _respell(edit: Editor, node: Node) -> bool:
    op: Any = node.op
    x = node.inputs[0]
    y = node.inputs[-1]
    if not node.output.dtype.startswith("float") or getattr(op, "activation", ""):
        return False
    match op:
        case ops.Prelu():
            slope = uniform(edit, y)
            return slope is not None and _becomes(edit, node, ops.LeakyRelu(slope), x)
        case ops.Pow():
            simple = {2.0: ops.Square(), 0.5: ops.Sqrt(), -0.5: ops.Rsqrt(), -1.0: ops.Reciprocal()}
            found = simple.get(uniform(edit, y) or 0.0)
            return found is not None and _becomes(edit, node, found, x)
        case ops.Mul() if x is y:
            return _becomes(edit, node, ops.Square(), x)
        case ops.Maximum() | ops.Minimum():
            return _clip(edit, node)
        case ops.Reciprocal():
            root = edit.maker(x, ops.Sqrt)
            return root is not None and _becomes(edit, node, ops.Rsqrt(), root.inputs[0])
        case ops.ReduceSum() | ops.ReduceMean() | ops.ReduceMax() | ops.ReduceMin():
            return _nested(edit, node)
        case ops.Div():
            return _division(edit, node)
        case ops.Mul():
            return _mean(edit, node)
    return False


def _becomes(edit: Editor, node: Node, op: Operator, x: Value) -> bool:
    if op.infer(x.spec)[0] != node.output.spec:
        return False
    edit.splice(node, op, [x])
    return True


def _division(edit: Editor, node: Node) -> bool:
    x, y = node.inputs
    root = edit.maker(y, ops.Sqrt)
    if root is not None and (uniform(edit, x) == 1.0 or y.size < x.size) and sole_user(edit, y):
        if uniform(edit, x) == 1.0:
            return _becomes(edit, node, ops.Rsqrt(), root.inputs[0])
        inverse = edit.add(ops.Rsqrt(), root.inputs, root)
        edit.splice(node, ops.Mul(), [x, inverse])
        return True
    bounded = edit.maker(y, ops.Clip)
    root = edit.maker(bounded.inputs[0], ops.Sqrt) if bounded is not None and sole_user(edit, y) else None
    if bounded is not None and root is not None and y.size < x.size and bounded.op.low > 0:  # type: ignore[attr-defined]
        # 1 / max(√s, e) = 1 / √max(s, e²)
        op: Any = bounded.op
        if op.high == math.inf and op.low**2 > TINY and sole_user(edit, root.output):
            limited = edit.add(ops.Clip(low=op.low**2), root.inputs, bounded)
            edit.splice(node, ops.Mul(), [x, edit.add(ops.Rsqrt(), [limited], root)])
            return True
    return _mean(edit, node)


def _nested(edit: Editor, node: Node) -> bool:
    """A sum of sums (mean of means, maximum of maxima) over kept axes is one over all of them."""
    inner = edit.maker(node.inputs[0], type(node.op))
    if inner is None or not sole_user(edit, node.inputs[0]):
        return False
    op: Any = node.op
    first: Any = inner.op
    if not first.keepdims or not op.keepdims:
        return False
    return _becomes(edit, node, op.with_(axes=tuple(sorted({*first.axes, *op.axes}))), inner.inputs[0])


def _mean(edit: Editor, node: Node) -> bool:
    """A sum divided by the number of its terms."""
    read = read_affine(edit, node)
    if read is None or read[1].shifts or read[1].scale.size != 1:
        return False
    total = edit.maker(read[0], ops.ReduceSum)
    if total is None or not sole_user(edit, read[0]):
        return False
    op: Any = total.op
    count = math.prod(total.inputs[0].shape[a] for a in op.axes)
    if abs(float(read[1].scale.flat[0]) * count - 1) > 1e-7:
        return False
    return _becomes(edit, node, ops.ReduceMean(op.axes, op.keepdims), total.inputs[0])


def _clip(edit: Editor, node: Node) -> bool:
    upper = isinstance(node.op, ops.Minimum)
    for index in (0, 1):
        bound = uniform(edit, node.inputs[1 - index])
        if bound is None or edit.array(node.inputs[index]) is not None:
            continue
        return _becomes(edit, node, ops.Clip(high=bound) if upper else _above(bound), node.inputs[index])
    return False


def _above(bound: float) -> Operator:
    return ops.Relu() if bound == 0 else ops.Clip(low=bound)


# -- piecewise-linear functions --------------------------------------------------------------------------------------

_HOMOGENEOUS = (
    ops.Relu, ops.Neg, ops.Abs, ops.Mul, ops.Div, ops.Add, ops.Sub, ops.Maximum, ops.Minimum, ops.LeakyRelu, ops.Where,
    ops.Greater, ops.GreaterEqual, ops.Less, ops.LessEqual, ops.Clip, ops.Prelu,
)  # fmt: skip


@rewrite("a function with f(t·x) = t·f(x) for t ≥ 0 is settled by f(1) and f(-1): both are computed and compared")
def recognise_piecewise(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Add, ops.Sub, ops.Maximum, ops.Minimum, ops.Where):
        if edit.alive(node) and node.output.dtype.startswith("float"):
            changed |= _settle(edit, node)
    return changed


def _settle(edit: Editor, node: Node) -> bool:
    for x in _candidates(edit, node):
        if x.spec != node.output.spec:
            continue
        up, down = _at(edit, node, x, 1.0, 8), _at(edit, node, x, -1.0, 8)
        if up is None or down is None or not np.all(up == 1.0):
            continue
        slope = shrink(-np.asarray(down, dtype=np.float64))
        if slope.size > x.size // max(1, x.shape[0]):
            continue
        if slope.size == 1 and slope.flat[0] == 1.0:
            continue  # the identity: fold_scales' and drop_identities' work
        if slope.size == 1:
            value = float(slope.flat[0])
            op = ops.Relu() if value == 0 else ops.Abs() if value == -1 else ops.LeakyRelu(value)
            edit.splice(node, op, [x])
        else:
            alpha = edit.constant(slope.astype(x.dtype), f"{node.scope or node.output.name}.slope")
            edit.splice(node, ops.Prelu(), [x, alpha])
        return True
    return False


def _candidates(edit: Editor, node: Node) -> list[Value]:
    """Values that ``node`` reads twice or more through homogeneous operators, nearest first."""
    seen: dict[Value, int] = {}
    level = [v for v in node.inputs if edit.array(v) is None]
    found: list[Value] = []
    for _ in range(4):
        following: list[Value] = []
        for value in level:
            seen[value] = seen.get(value, 0) + 1
            if seen[value] == 2 and value not in found:
                found.append(value)
            maker = edit.maker(value, *_HOMOGENEOUS)
            if maker is not None and len(following) < 16:
                following += [v for v in maker.inputs if edit.array(v) is None]
        level = following
    return found


def _at(edit: Editor, node: Node, x: Value, sign: float, depth: int) -> np.ndarray | None:
    """``node``'s result where x is ``sign`` everywhere; None when it is not homogeneous in x alone."""

    def read(value: Value, depth: int) -> np.ndarray | None:
        if value is x:
            return np.full((1,) * x.rank, sign)
        maker = edit.maker(value, *_HOMOGENEOUS)
        if maker is None or depth == 0:
            return None
        return _at(edit, maker, x, sign, depth - 1)

    op: Any = node.op
    if getattr(op, "activation", "") not in ("", "relu") or (isinstance(op, ops.Clip) and not _ray(op)):
        return None
    constants = [edit.array(v) for v in node.inputs]
    computed = [i for i, a in enumerate(constants) if a is None]
    zero_only = isinstance(op, (ops.Add, ops.Sub, ops.Maximum, ops.Minimum, *_COMPARE))
    values: list[np.ndarray] = []
    for i, (value, array) in enumerate(zip(node.inputs, constants, strict=True)):
        if array is None:
            known = read(value, depth)
            if known is None:
                return None
            values.append(known)
            continue
        if (zero_only and np.any(array != 0)) or (isinstance(op, ops.Where) and (i == 0 or np.any(array != 0))):
            return None
        if array.size > x.size:
            return None
        values.append(np.asarray(array, dtype=np.float64))
    if isinstance(op, ops.Mul | ops.Div) and (len(computed) != 1 or (isinstance(op, ops.Div) and computed != [0])):
        return None
    if isinstance(op, ops.Prelu) and computed != [0]:
        return None
    return np.asarray(op.evaluate(*values)[0])


_COMPARE = (ops.Greater, ops.GreaterEqual, ops.Less, ops.LessEqual)


def _ray(op: Any) -> bool:
    """A clip at zero only."""
    return {float(op.low), float(op.high)} <= {0.0, math.inf, -math.inf}
