"""Elementwise operators spelled in others, for targets that lack them."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Operator, Value, ops
from instep.rewrite.lower.activations import ERF_LIMIT, erf
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []


@clearing("relu(x) + a · (x - relu(x)): the difference is 0 or x, both exact", "PRELU", "LEAKY_RELU")
def spell_prelu(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Prelu | ops.LeakyRelu):
        return False
    if isinstance(op, ops.LeakyRelu):
        channels = b.x.shape[-1:] or (1,)
        if target.has("PRELU") and not target.has("LEAKY_RELU") and b.x.rank > 1:
            return b.done(ops.Prelu(), b.x, b.constant(np.full((1,) * (b.x.rank - 2) + channels, op.slope), "slope"))
        slope = b.constant(op.slope, "slope")
        if target.has("MAXIMUM") and 0 <= op.slope <= 1 and not target.has("LEAKY_RELU"):
            return b.done(ops.Maximum(), b.x, b.add(ops.Mul(), b.x, slope))
    else:
        slope = b.node.inputs[1]
    positive = b.add(ops.Relu(), b.x)
    negative = b.add(ops.Sub(), b.x, positive)
    return b.done(ops.Add(), positive, b.add(ops.Mul(), negative, slope))


@clearing("x · relu6(x + 3) / 6 is the definition", "HARD_SWISH")
def spell_hard_swish(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.HardSwish):
        return False
    gate = b.add(ops.Add("relu6"), b.x, b.constant(3.0, "three"))
    return b.done(ops.Mul(), b.x, b.add(ops.Mul(), gate, b.constant(1 / 6, "sixth")))


@clearing("x / 2 · (1 + erf(x / √2)), or its tanh form where that is what the network computes", "GELU")
def spell_gelu(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.Gelu):
        return False
    half = b.add(ops.Mul(), b.x, b.constant(0.5, "half"))
    if b.node.op.approximate:
        cube = b.add(ops.Mul(), b.x, b.add(ops.Mul(), b.x, b.x))
        inner = b.add(ops.Add(), b.x, b.add(ops.Mul(), cube, b.constant(0.044715, "cubic")))
        bell = b.add(ops.Tanh(), b.add(ops.Mul(), inner, b.constant(math.sqrt(2 / math.pi), "root")))
    else:
        inner = b.add(ops.Mul(), b.x, b.constant(math.sqrt(0.5), "root"))
        if target.has("TANH") and not target.has("DIV"):
            bell = _erf_by_tanh(b, inner)
        else:
            bell = b.add(ops.Erf(), inner)
            erf(Build(b.edit, b.edit.producer[bell]))
    return b.done(ops.Mul(), half, b.add(ops.Add(), bell, b.constant(1.0, "one")))


#: erf(x) ≈ tanh(x · P(6 · (x/3.92)²)) on |x| ≤ 3.92, lowest powers first; relative error 1e-8 (2.5e-7 evaluated in
#: float32). Least squares on atanh(erf(x))/x, weighted by what tanh makes of its error, reweighted until that is level.
ERF_AS_TANH = (
    1.128379178028, 0.263206405595, -0.001356021516481, -0.009997252946228, 0.002975704542438, 0.0001540649768994,
    -0.0003689310440352, 0.000114726015819, -1.601696213875e-05, 8.71884519799e-07,
)  # fmt: skip


def _erf_by_tanh(b: Build, x: Value) -> Value:
    """Without a quotient. Beyond the range the square stands still at 6 and tanh goes on to ±1."""
    z = b.add(ops.Mul("relu6"), x, b.add(ops.Mul(), x, b.constant(6 / ERF_LIMIT**2, "range")))
    result = b.add(ops.Mul(), z, b.constant(ERF_AS_TANH[-1], "c"))
    for c in ERF_AS_TANH[-2:0:-1]:
        result = b.add(ops.Mul(), b.add(ops.Add(), result, b.constant(c, "c")), z)
    slope = b.add(ops.Add(), result, b.constant(ERF_AS_TANH[0], "c"))
    return b.add(ops.Tanh(), b.add(ops.Mul(), x, slope))


@clearing("exp(x) - 1 where x is negative, and 0 there is exact", "ELU")
def spell_elu(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.Elu) or not target.has("EXP"):
        return False
    positive = b.add(ops.Relu(), b.x)
    curve = b.add(ops.Exp(), b.add(ops.Sub(), b.x, positive))
    if b.node.op.alpha != 1:
        return False
    return b.done(ops.Add(), positive, b.add(ops.Sub(), curve, b.constant(1.0, "one")))


@clearing("the square is the product with itself", "SQUARE", "SQUARED_DIFFERENCE")
def spell_square(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Square | ops.SquaredDifference):
        return False
    value = b.x if isinstance(op, ops.Square) else b.add(ops.Sub(), *b.node.inputs)
    return b.done(ops.Mul(), value, value)


@clearing("the negative is the product with -1", "NEG")
def spell_neg(b: Build, target: Target) -> bool:
    return isinstance(b.node.op, ops.Neg) and b.done(ops.Mul(), b.x, b.constant(-1, "minus"))


@clearing("relu(x) + relu(-x): one of the two is 0", "ABS")
def spell_abs(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.Abs):
        return False
    other = b.add(ops.Relu(), b.add(ops.Mul(), b.x, b.constant(-1.0, "minus")))
    return b.done(ops.Add(), b.add(ops.Relu(), b.x), other)


@clearing("max(a, b) = a + relu(b - a), min(a, b) = a - relu(a - b)", "MAXIMUM", "MINIMUM", "RELU_N1_TO_1")
def spell_extremes(b: Build, target: Target) -> bool:
    op = b.node.op
    if not b.node.output.dtype.startswith("float") or isinstance(op, ops.Relu):
        return False
    if isinstance(op, ops.Maximum | ops.Minimum):
        a, c = b.node.inputs
        if b.edit.array(a) is not None:
            a, c = c, a
        if a.shape != b.node.output.shape:
            return False
        return b.stand(_larger(b, a, c) if isinstance(op, ops.Maximum) else _smaller(b, a, c))
    if not isinstance(op, ops.Clip):
        return False
    value = b.x
    if not math.isinf(op.low):
        value = _larger(b, value, b.constant(op.low, "low"))
    return b.stand(value if math.isinf(op.high) else _smaller(b, value, b.constant(op.high, "high")))


def _larger(b: Build, a: Value, c: Value) -> Value:
    """From c up: exact where c wins, and where a wins the differences of a constant bound cancel."""
    return b.add(ops.Add(), b.add(ops.Relu(), b.add(ops.Sub(), a, c)), c)


def _smaller(b: Build, a: Value, c: Value) -> Value:
    return b.add(ops.Sub(), c, b.add(ops.Relu(), b.add(ops.Sub(), c, a)))


@clearing("x - x is 0 · x, x / x is x · 1/x, and the larger of x and x is x")
def spell_same_operands(b: Build, target: Target) -> bool:
    op = b.node.op
    if len(b.node.inputs) != 2 or b.node.inputs[0] is not b.node.inputs[1]:
        return False
    if isinstance(op, ops.Maximum | ops.Minimum | ops.LogicalAnd | ops.LogicalOr):
        return b.stand(b.x)
    if isinstance(op, ops.Mul) and not op.activation:
        return b.done(ops.Square(), b.x)
    if isinstance(op, ops.Add) and not op.activation:
        return b.done(ops.Mul(), b.x, b.constant(2, "two"))
    if isinstance(op, ops.Sub | ops.SquaredDifference) and not getattr(op, "activation", ""):
        # 0 · x, not 0: what was infinite becomes NaN both ways
        return b.done(ops.Mul(), b.x, b.constant(0, "zero"))
    if isinstance(op, ops.MatMul):
        twin = b.add(ops.Mul(), b.x, b.constant(1, "one"))
        return b.done(op, b.x, twin)
    if isinstance(op, ops.Div) and not op.activation:
        return b.done(ops.Mul(), b.x, b.add(ops.Div(), b.constant(1, "one"), b.x))
    return False


@clearing("a condition of ones and zeros picks by products; both branches must be finite", "SELECT", "SELECT_V2")
def spell_select(b: Build, target: Target) -> bool:
    """Branches of the wrong shape are expanded first; where SELECT is missing, c · (a - b) + b."""
    if not isinstance(b.node.op, ops.Where):
        return False
    condition, chosen, other = b.node.inputs
    shape = b.node.output.shape
    if target.has("SELECT_V2"):
        return b.done(b.node.op, condition, _full(b, chosen, shape), _full(b, other, shape))
    picks = b.add(ops.Cast(b.node.output.dtype), condition)
    inverse = b.add(ops.Sub(), b.constant(1.0, "one"), picks)
    chosen, other = (_finite(b, v) for v in (chosen, other))
    return b.done(ops.Add(), b.add(ops.Mul(), picks, chosen), b.add(ops.Mul(), inverse, other))


def _finite(b: Build, value: Value) -> Value:
    """A constant with the largest floats for its infinities, which times 0 would be no number."""
    array = b.edit.array(value)
    if array is None or array.dtype.kind != "f" or np.all(np.isfinite(array)):
        return value
    most = np.finfo(array.dtype).max
    return b.constant(np.clip(array, -most, most), "finite")


def _full(b: Build, value: Value, shape: tuple[int, ...]) -> Value:
    if value.shape == shape:
        return value
    array = b.edit.array(value)
    if array is not None:
        return value if array.size == 1 else b.constant(np.broadcast_to(array, shape).copy(), "branch")
    return b.add(ops.Mul(), value, b.constant(np.ones(shape), "ones"))


@clearing("a product with ones repeats a value along the axes where it is broadcast")
def split_broadcast(b: Build, target: Target) -> bool:
    """Where both operands broadcast, the first is brought to the result's shape before."""
    shape = b.node.output.shape
    if not isinstance(b.node.op, ops.BINARY) or any(v.shape == shape for v in b.node.inputs):
        return False
    wide = _full(b, b.node.inputs[0], shape)
    return wide.shape == shape and b.done(b.node.op, wide, b.node.inputs[1])


#: Comparison → the one that says the same of its operands the other way round.
_TURNED: dict[type[Operator], type[Operator]] = {
    ops.Less: ops.Greater, ops.Greater: ops.Less, ops.LessEqual: ops.GreaterEqual, ops.GreaterEqual: ops.LessEqual,
}  # fmt: skip


@clearing("a > b is b < a, and a - b is -b + a")
def turn_operands(b: Build, target: Target) -> bool:
    """A constant as the second operand; a comparison turned, a difference the sum with the negative."""
    first, second = b.node.inputs if len(b.node.inputs) == 2 else (None, None)
    if first is None or second is None or b.edit.array(first) is None or b.edit.array(second) is not None:
        return False
    if type(b.node.op) in _TURNED:
        return b.done(_TURNED[type(b.node.op)](), second, first)
    if not isinstance(b.node.op, ops.Sub):
        return False
    return b.done(ops.Add(), b.add(ops.Mul(), second, b.constant(-1, "minus", second.dtype)), first)


@clearing("axes of size 1 in front change no broadcast")
def same_rank(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.BINARY):
        return False
    rank = b.node.output.rank
    inputs = [b.reshape(v, (1,) * (rank - v.rank) + v.shape) for v in b.node.inputs]
    return inputs != list(b.node.inputs) and b.done(b.node.op, *inputs)
