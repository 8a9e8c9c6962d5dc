"""Decompositions of elementwise operators."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Operator, Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []

#: From here on exp(-x) is less than half the last place of 1 in float32.
DEEP = 17.0


@decomposes(ops.Silu)
def silu(b: Build) -> bool:
    return b.done(ops.Mul(), b.x, b.add(ops.Sigmoid(), b.x))


@decomposes(ops.HardSigmoid)
def hard_sigmoid(b: Build) -> bool:
    clipped = b.add(ops.Add("relu6"), b.x, b.constant(3.0, "three"))
    return b.done(ops.Mul(), clipped, b.constant(1 / 6, "sixth"))


@decomposes(ops.Mish)
def mish(b: Build) -> bool:
    """tanh(log(1 + e)) = n / (n + 2) with e = exp(x), n = e · (e + 2); beyond 20 the quotient is 1 in float32."""
    e = b.add(ops.Exp(), b.add(ops.Minimum(), b.x, b.constant(20.0, "limit")))
    two = b.constant(2.0, "two")
    n = b.add(ops.Mul(), e, b.add(ops.Add(), e, two))
    return b.done(ops.Mul(), b.x, b.add(ops.Div(), n, b.add(ops.Add(), n, two)))


@decomposes(ops.Softplus)
def softplus(b: Build) -> bool:
    """max(x, 0) + log(1 + exp(-|x|)): nothing overflows. Beyond a threshold of DEEP the logarithm is 0 in float32; a
    smaller one is asked for."""
    beta, threshold = b.node.op.beta, b.node.op.threshold
    x = b.x if beta == 1 else b.add(ops.Mul(), b.x, b.constant(beta, "beta"))
    tail = b.add(ops.Exp(), b.add(ops.Neg(), b.add(ops.Abs(), x)))
    log = b.add(ops.Log(), b.add(ops.Add(), tail, b.constant(1.0, "one")))
    if threshold < DEEP:
        beyond = b.add(ops.Greater(), x, b.constant(threshold, "threshold"))
        log = b.add(ops.Where(), beyond, b.constant(0.0, "zero"), log)
    if beta == 1:
        return b.done(ops.Add(), b.add(ops.Relu(), x), log)
    return b.done(ops.Mul(), b.add(ops.Add(), b.add(ops.Relu(), x), log), b.constant(1 / beta, "inverse"))


@decomposes(ops.Elu)
def elu(b: Build) -> bool:
    """TFLite's ELU has alpha 1; it keeps the sign, so a leaky ReLU behind it scales the negative side."""
    alpha = b.node.op.alpha
    if alpha == 1:
        return False
    return b.done(ops.LeakyRelu(alpha), b.add(ops.Elu(), b.x))


@decomposes(ops.Dropout)
def dropout(b: Build) -> bool:
    """Nothing, outside of training."""
    return b.done(ops.Reshape(b.node.output.shape), b.x)


@decomposes(ops.Celu)
def celu(b: Build) -> bool:
    """alpha · elu(x / alpha): the positive side cancels."""
    alpha = b.node.op.alpha
    if alpha == 1:
        return b.done(ops.Elu(), b.x)
    inner = b.add(ops.Elu(), b.add(ops.Mul(), b.x, b.constant(1 / alpha, "inverse")))
    return b.done(ops.Mul(), inner, b.constant(alpha, "alpha"))


@decomposes(ops.Selu)
def selu(b: Build) -> bool:
    bent = b.add(ops.LeakyRelu(1.6732632423543772), b.add(ops.Elu(), b.x))
    return b.done(ops.Mul(), bent, b.constant(1.0507009873554805, "scale"))


#: erf(x) ≈ x · P(x²) / Q(x²) on |x| ≤ 3.92, lowest powers first; relative error 2e-8 (3e-7 evaluated in float32).
#: Least squares on Cody's erf, reweighted until the error is level. Beyond the range erf is ±1 in float32.
ERF_LIMIT = 3.92
ERF_P = (
    1.1283791461622632, 0.19040470409724022, 0.052748498980431095, 0.0037655420315038405, 0.0002848810415770585,
    2.0501012781282135e-06,
)  # fmt: skip
ERF_Q = (
    1.0, 0.5020745170531915, 0.11410839013423948, 0.014969069250542158, 0.001162517216954242, 3.8091771685448694e-05
)  # fmt: skip


@decomposes(ops.Erf)
def erf(b: Build) -> bool:
    x = b.add(ops.Clip(-ERF_LIMIT, ERF_LIMIT), b.x)
    z = b.add(ops.Mul(), x, x)

    def polynomial(coefficients: tuple[float, ...]) -> Value:
        result = b.add(ops.Mul(), z, b.constant(coefficients[-1]))
        for c in coefficients[-2:0:-1]:
            result = b.add(ops.Mul(), b.add(ops.Add(), result, b.constant(c)), z)
        return b.add(ops.Add(), result, b.constant(coefficients[0]))

    return b.done(ops.Mul(), x, b.add(ops.Div(), polynomial(ERF_P), polynomial(ERF_Q)))


@decomposes(ops.Prelu)
def prelu(b: Build) -> bool:
    """One slope for all channels: LEAKY_RELU takes half the time of PRELU."""
    slope = b.array(1)
    if slope is None or not np.all(slope == slope.flat[0]) or slope.ndim > b.x.rank:
        return False
    return b.x.shape == b.node.output.shape and b.done(ops.LeakyRelu(float(slope.flat[0])), b.x)


@decomposes(ops.Reciprocal)
def reciprocal(b: Build) -> bool:
    return b.done(ops.Div(), b.constant(1.0, "one"), b.x)


@decomposes(ops.Atan2)
def atan2(b: Build) -> bool:
    """TFLite's kernel does not broadcast: multiplying by ones does."""
    shape = b.node.output.shape
    if all(v.shape == shape for v in b.node.inputs):
        return False
    ones = b.constant(np.ones(shape), "ones")
    return b.done(ops.Atan2(), *(v if v.shape == shape else b.add(ops.Mul(), v, ones) for v in b.node.inputs))


@decomposes(ops.Pow)
def power(b: Build) -> bool:
    """Constant exponents that have an operator of their own; POW is no XNNPACK operator."""
    exponent = b.array(1)
    if exponent is None or exponent.size != 1 or exponent.dtype.kind != "f":
        return False
    if len(exponent.shape) > b.x.rank:
        return False
    known: dict[float, Operator] = {2.0: ops.Square(), 0.5: ops.Sqrt(), -0.5: ops.Rsqrt(), -1.0: ops.Reciprocal()}
    p = float(exponent.reshape(-1)[0])
    if p in known:
        return b.done(known[p], b.x)
    if p == 1:
        return b.stand(b.x)
    if p == 3:
        return b.done(ops.Mul(), b.x, b.add(ops.Square(), b.x))
    if p == 4:
        return b.done(ops.Square(), b.add(ops.Square(), b.x))
    return False


@decomposes(ops.Clip)
def clip(b: Build) -> bool:
    """A clip that clips nothing goes; integers have MAXIMUM and MINIMUM only."""
    op = b.node.op
    if math.isinf(op.low) and math.isinf(op.high):
        return b.stand(b.x)
    if np.dtype(b.node.output.dtype).kind == "f":
        if op.low != 0 or op.high in (6.0, math.inf):
            return False
        # A ReLU fuses into the layer before it, a MAXIMUM does not.
        return b.done(ops.Minimum(), b.add(ops.Relu(), b.x), b.constant(op.high, "high"))
    steps = [(kind, v) for kind, v in ((ops.Maximum, op.low), (ops.Minimum, op.high)) if not math.isinf(v)]
    value = b.x
    for kind, bound in steps[:-1]:
        value = b.add(kind(), value, b.constant(bound, "bound"))
    kind, bound = steps[-1]
    return b.done(kind(), value, b.constant(bound, "bound"))
