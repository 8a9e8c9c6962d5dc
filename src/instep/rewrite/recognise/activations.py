"""Sees SiLU, Mish, GELU, HardSwish and HardSigmoid in their spelled-out formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import read_affine, scalar_line

__all__ = ["recognise_activations"]

#: Constants in float32 files, such as 1/6 or √(2/π), are known to about this relative precision.
CLOSE = 2e-6


@rewrite("the formula is the operator's definition; its constants agree to float32 rounding")
def recognise_activations(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Log, ops.Clip, ops.Mul, ops.Div):
        if not edit.alive(node) or not node.output.dtype.startswith("float") or getattr(node.op, "activation", ""):
            continue
        if isinstance(node.op, ops.Log):
            changed |= _softplus(edit, node)
        else:
            changed |= _hard_sigmoid(edit, node) or _gated(edit, node)
    return changed


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= CLOSE * max(abs(a), abs(b), 1e-30)


def _lines(edit: Editor, value: Value) -> Iterator[tuple[Value, float, float]]:
    """As ``_line``, for every x on the way, nearest first."""
    a, b = 1.0, 0.0
    while True:
        yield value, a, b
        node = edit.maker(value)
        read = read_affine(edit, node) if node is not None else None
        if read is None or read[1].scale.size != 1 or read[1].shift.size != 1:
            return
        scale, shift = float(read[1].scale.flat[0]), float(read[1].shift.flat[0])
        a, b = a * scale, a * shift + b
        value = read[0]


def _softplus(edit: Editor, node: Node) -> bool:
    """log(1 + exp(x))."""
    x, a, b = scalar_line(edit, node.inputs[0])
    inner = edit.maker(x, ops.Exp)
    if inner is None or a != 1.0 or b != 1.0:
        return False
    edit.splice(node, ops.Softplus(), inner.inputs)
    return True


def _ramp(edit: Editor, value: Value) -> Iterator[tuple[Value, float]]:
    """(x, k) with value = k · hard-sigmoid(x)."""
    clipped, a, b = scalar_line(edit, value)
    node = edit.maker(clipped, ops.Clip, ops.HardSigmoid)
    if node is None:
        return
    if isinstance(node.op, ops.HardSigmoid):
        if b == 0:
            yield node.inputs[0], a
        return
    op: Any = node.op
    low, high = op.low, op.high
    if not (math.isfinite(low) and math.isfinite(high)) or abs(a * low + b) > CLOSE * abs(a * high):
        return
    for x, slope, offset in _lines(edit, node.inputs[0]):
        if slope != 0 and _near((low - offset) / slope, -3.0) and _near((high - offset) / slope, 3.0):
            yield x, a * high + b
            return


def _hard_sigmoid(edit: Editor, node: Node) -> bool:
    for x, k in _ramp(edit, node.output):
        if _near(k, 1.0) and x.spec == node.output.spec:
            edit.splice(node, ops.HardSigmoid(), [x])
            return True
    return False


def _gated(edit: Editor, node: Node) -> bool:
    """x · f(x), times scalars, for the gates f of the known activations."""
    factors, scale = _factors(edit, node)
    if len(factors) != 2:
        return False
    for x, gate in (factors, factors[::-1]):
        if x.spec != node.output.spec or gate.spec != x.spec:
            continue
        for op, k in _activation(edit, x, gate):
            k *= scale
            if _near(k, 1.0):
                edit.splice(node, op, [x])
                return True
            if edit.maker(gate, ops.Clip) is not None and isinstance(node.op, ops.Mul) and scale == 1.0:
                made = edit.add(op, [x], node)
                factor = edit.constant(np.array(k, dtype=x.dtype), f"{node.scope or node.output.name}.factor")
                edit.splice(node, ops.Mul(), [made, factor])
                return True
    return False


def _factors(edit: Editor, node: Node, depth: int = 4) -> tuple[list[Value], float]:
    """The computed factors of a product and the product of its scalar ones."""
    found: list[Value] = []
    scale = 1.0

    def visit(value: Value, depth: int) -> None:
        nonlocal scale
        inner = edit.maker(value, ops.Mul, ops.Div)
        if inner is None or depth == 0 or inner.op.fields()["activation"]:
            found.append(value)
            return
        read = read_affine(edit, inner)
        if read is not None:
            if read[1].scale.size != 1 or read[1].shifts:
                found.append(value)
                return
            scale *= float(read[1].scale.flat[0])
            visit(read[0], depth - 1)
            return
        if isinstance(inner.op, ops.Div) or inner.output.shape != node.output.shape or len(found) > 2:
            found.append(value)
            return
        for v in inner.inputs:
            visit(v, depth - 1)

    visit(node.output, depth)
    return found, scale


def _activation(edit: Editor, x: Value, gate: Value) -> Iterator[tuple[Operator, float]]:
    """(operator, k) with x · gate = k · operator(x)."""
    for base, k in _ramp(edit, gate):
        if base is x:
            yield ops.HardSwish(), k
    core, a, b = scalar_line(edit, gate)
    node = edit.maker(core, ops.Sigmoid, ops.Tanh, ops.Erf)
    if node is None:
        return
    inner = node.inputs[0]
    if isinstance(node.op, ops.Sigmoid):
        if inner is x and b == 0:
            yield ops.Silu(), a
    elif isinstance(node.op, ops.Tanh) and b == 0:
        plus = edit.maker(inner, ops.Softplus)
        if plus is not None and plus.inputs[0] is x and plus.op == ops.Softplus():
            yield ops.Mish(), a
    elif a == b:
        if isinstance(node.op, ops.Erf):
            for base, slope, offset in _lines(edit, inner):
                if base is x and offset == 0 and _near(slope, math.sqrt(0.5)):
                    yield ops.Gelu(), 2 * a
                    return
            return
        cubic = _polynomial(edit, inner, x)
        c = math.sqrt(2 / math.pi)
        if cubic is not None and _near(cubic[1], c) and _near(cubic[3], 0.044715 * c) and cubic[0] == cubic[2] == 0:
            yield ops.Gelu(True), 2 * a


def _polynomial(edit: Editor, value: Value, x: Value, depth: int = 8) -> np.ndarray | None:
    """Coefficients up to x³ of a polynomial in x spelled with sums and products, or None."""
    if value is x:
        return np.array([0.0, 1.0, 0.0, 0.0])
    array = edit.array(value)
    if array is not None:
        return np.array([float(array.flat[0]), 0, 0, 0]) if array.size == 1 else None
    node = edit.maker(value, ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Pow, ops.Square)
    if node is None or depth == 0 or getattr(node.op, "activation", ""):
        return None
    parts = [_polynomial(edit, v, x, depth - 1) for v in node.inputs]
    if any(p is None for p in parts):
        return None
    p, q = np.asarray(parts[0]), np.asarray(parts[-1])
    match node.op:
        case ops.Add():
            return p + q
        case ops.Sub():
            return p - q
        case ops.Mul():
            return _times(p, q)
        case ops.Square():
            return _times(p, p)
        case ops.Div() if not np.any(q[1:]) and q[0] != 0:
            return p / q[0]
        case ops.Pow() if not np.any(q[1:]) and q[0] in (2.0, 3.0):
            square = _times(p, p)
            return square if q[0] == 2.0 or square is None else _times(square, p)
    return None


def _times(p: np.ndarray, q: np.ndarray) -> np.ndarray | None:
    product = np.convolve(p, q)
    return None if np.any(product[4:]) else product[:4]
