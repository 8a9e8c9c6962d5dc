"""Operators that act on each element: unary, binary (numpy broadcasting), comparisons, selection, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from instep.graph.operator import Operator, Spec, activate, broadcast, operator

__all__ = [
    "Abs", "Add", "Atan2", "BINARY", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal", "Erf",
    "Exp", "Floor", "FloorDiv", "FloorMod", "Gelu", "Greater", "GreaterEqual", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Less", "LessEqual", "Log", "LogicalAnd", "LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mish", "Mul",
    "Neg", "NotEqual", "Pow", "Prelu", "Reciprocal", "Relu", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Silu",
    "Sin", "Softplus", "Sqrt", "Square", "SquaredDifference", "Sub", "Tanh", "Where", "erf",
]  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """The error function to about 1e-16, after W. J. Cody, Math. Comp. 23 (1969); numpy has none."""
    x = np.asarray(x)
    wide = x.astype(np.float64)
    a = np.abs(wide)
    # |x| <= 0.5
    z = np.where(a <= 0.5, wide * wide, 0.0)
    num = (
        ((1.85777706184603153e-1 * z + 3.16112374387056560e0) * z + 1.13864154151050156e2) * z + 3.77485237685302021e2
    ) * z + 3.20937758913846947e3
    den = (
        ((z + 2.36012909523441209e1) * z + 2.44024637934444173e2) * z + 1.28261652607737228e3
    ) * z + 2.84423683343917062e3
    small = wide * num / den
    # 0.5 < |x| <= 4
    y = np.clip(a, 0.46875, 4.0)
    pn = (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    )
    pd = (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    )
    medium = np.polyval(pn, y) / np.polyval(pd, y) * np.exp(-y * y)
    # |x| > 4
    w = np.maximum(a, 4.0)
    r = 1.0 / (w * w)
    qn = (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    )
    qd = (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    )
    large = (1 / math.sqrt(math.pi) - r * np.polyval(qn, r) / np.polyval(qd, r)) / w * np.exp(-w * w)
    result = np.where(a <= 0.5, small, np.sign(wide) * (1.0 - np.where(a <= 4.0, medium, large)))
    return result.astype(x.dtype if x.dtype.kind == "f" else np.float64)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x)))).astype(x.dtype)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class _Unary(Operator):
    elementwise = True
    function: ClassVar[Callable[[np.ndarray], np.ndarray]]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.asarray(type(self).function(x)).astype(x.dtype, copy=False),)


def _unary(name: str, function: Callable[[np.ndarray], np.ndarray], doc: str, each: int = 0) -> type[_Unary]:
    body = {"function": staticmethod(function), "__doc__": doc, "__module__": __name__, "each": each}
    return operator(type(name, (_Unary,), body))


Relu = _unary("Relu", lambda x: np.maximum(x, 0), "max(x, 0).")
Sigmoid = _unary("Sigmoid", _sigmoid, "1 / (1 + exp(-x)).", each=64)
Tanh = _unary("Tanh", np.tanh, "tanh(x).", each=64)
Exp = _unary("Exp", np.exp, "exp(x).")
Log = _unary("Log", np.log, "Natural logarithm.")
Sqrt = _unary("Sqrt", np.sqrt, "Square root.")
Rsqrt = _unary("Rsqrt", lambda x: 1 / np.sqrt(x), "1 / sqrt(x).")
Abs = _unary("Abs", np.abs, "|x|.")
Neg = _unary("Neg", np.negative, "-x.")
Sin = _unary("Sin", np.sin, "Sine of radians.")
Cos = _unary("Cos", np.cos, "Cosine of radians.")
Floor = _unary("Floor", np.floor, "Largest integer not above x.")
Ceil = _unary("Ceil", np.ceil, "Smallest integer not below x.")
Round = _unary("Round", np.round, "Nearest integer, halves to even (IEEE 754, as torch.round and TFLite ROUND).")
Sign = _unary("Sign", np.sign, "-1, 0 or 1.")
Square = _unary("Square", np.square, "x · x.")
Reciprocal = _unary("Reciprocal", lambda x: 1 / x, "1 / x.", each=1)
Erf = _unary("Erf", erf, "The error function 2/√π ∫₀ˣ exp(-t²) dt.")
LogicalNot = _unary("LogicalNot", np.logical_not, "Boolean negation.")
Silu = _unary(
    "Silu", lambda x: x * _sigmoid(x), "x · sigmoid(x) (Elfwing et al., arXiv 1702.03118; torch.nn.SiLU).", each=65
)
HardSwish = _unary(
    "HardSwish", lambda x: x * np.clip(x + 3, 0, 6) / 6, "x · relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244)."
)
HardSigmoid = _unary(
    "HardSigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, "relu6(x + 3) / 6 (torch.nn.Hardsigmoid).", each=2
)
Mish = _unary("Mish", lambda x: x * np.tanh(_softplus(x)), "x · tanh(softplus(x)) (Misra, arXiv 1908.08681).", each=65)
Selu = _unary(
    "Selu",
    lambda x: 1.0507009873554805 * (np.maximum(x, 0) + 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "Scaled ELU with the fixed constants of Klambauer et al., arXiv 1706.02515.",
)


@operator
class Gelu(_Unary):
    """Gaussian error linear unit (Hendrycks & Gimpel, arXiv 1606.08415).

    ``approximate=False``: x · Φ(x) with the exact erf. ``approximate=True``: the tanh form
    0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 x³))). They differ by up to 5e-4: never swap them.
    """

    approximate: bool = False

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if self.approximate:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return ((0.5 * x * (1 + np.tanh(inner))).astype(x.dtype),)
        return ((0.5 * x * (1 + erf(x / math.sqrt(2)))).astype(x.dtype),)


@operator
class LeakyRelu(_Unary):
    """x where x ≥ 0, slope · x elsewhere. torch's default slope is 0.01, Keras' is 0.3."""

    slope: float = 0.01

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.where(x >= 0, x, x * self.slope).astype(x.dtype),)


@operator
class Elu(_Unary):
    """x where x > 0, alpha · (exp(x) - 1) elsewhere (Clevert et al., arXiv 1511.07289)."""

    alpha: float = 1.0

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype),)


@operator
class Celu(_Unary):
    """max(x, 0) + min(0, alpha · (exp(x / alpha) - 1)) (Barron, arXiv 1704.07483; torch.nn.CELU)."""

    alpha: float = 1.0

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return ((np.maximum(x, 0) + np.minimum(0, self.alpha * np.expm1(x / self.alpha))).astype(x.dtype),)


@operator
class Softplus(_Unary):
    """log(1 + exp(beta · x)) / beta, and x itself where beta · x > threshold (torch.nn.Softplus)."""

    beta: float = 1.0
    threshold: float = 20.0

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.where(x * self.beta > self.threshold, x, _softplus(x * self.beta) / self.beta).astype(x.dtype),)


@operator
class Clip(_Unary):
    """min(max(x, low), high); infinite bounds do nothing. ReLU6 is Clip(0, 6)."""

    low: float = -math.inf
    high: float = math.inf

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.minimum(np.maximum(x, self.low), self.high).astype(x.dtype),)


@operator
class Dropout(Operator):
    """Drops elements while training; x itself otherwise (Srivastava et al., JMLR 15 (2014); torch.nn.Dropout).

    While training each element is 0 with probability ``rate`` and x / (1 - rate) else, so that the mean stays. One
    draw holds along all ``shared`` axes: (2, 3) of [N, C, H, W] drops whole channels (Tompson et al., arXiv 1411.4280;
    torch.nn.Dropout2d; Keras' ``noise_shape`` and Flax' ``broadcast_dims`` have 1 there). Beware: TF1's ``keep_prob``
    is 1 - rate, and DeepOBS' layers drop single elements where ports of them have dropped channels.
    """

    rate: float = 0.5
    shared: tuple[int, ...] = ()

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, got {self.rate}")
        wrong = [a for a in self.shared if not 0 <= a < len(x.shape)]
        if wrong or len(set(self.shared)) < len(self.shared):
            raise ValueError(f"shared must be axes of {list(x.shape)}, each once, got {list(self.shared)}")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return inputs


@operator
class Cast(Operator):
    """Convert to ``dtype`` (numpy's name); floats go to integers by truncation towards zero.

    A cast between floating types keeps float64 data float64 in a float64 run: the truth has no rounding.
    """

    dtype: str = "float32"
    elementwise = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        return (Spec(x.shape, self.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if x.dtype == np.float64 and np.dtype(self.dtype).kind == "f":
            return (x,)
        return (x.astype(self.dtype),)


@operator
class Prelu(Operator):
    """x where x ≥ 0, slope · x elsewhere; inputs x and slope, slope broadcast to x (He et al., arXiv 1502.01852)."""

    elementwise = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, slope = inputs
        return (Spec(broadcast(x.shape, slope.shape), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, slope = inputs
        return (np.where(x >= 0, x, x * slope),)


class _Binary(Operator):
    elementwise = True
    function: ClassVar[Callable[..., Any]]
    to_bool: ClassVar[bool] = False

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        a, b = inputs
        if a.dtype != b.dtype:
            raise ValueError(f"both inputs must have one dtype, got {a.dtype} and {b.dtype}")
        return (Spec(broadcast(a.shape, b.shape), "bool" if self.to_bool else a.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = inputs
        result = np.asarray(type(self).function(a, b))
        if not self.to_bool:
            result = result.astype(np.result_type(a, b), copy=False)
        return (activate(result, getattr(self, "activation", "")),)


@operator
class Add(_Binary):
    """a + b with numpy broadcasting, then the fused ``activation``."""

    activation: str = ""
    function = staticmethod(np.add)
    each = 1


@operator
class Sub(_Binary):
    """a - b with numpy broadcasting, then the fused ``activation``."""

    activation: str = ""
    function = staticmethod(np.subtract)
    each = 1


@operator
class Mul(_Binary):
    """a · b with numpy broadcasting, then the fused ``activation``."""

    activation: str = ""
    function = staticmethod(np.multiply)
    each = 1


@operator
class Div(_Binary):
    """a / b with numpy broadcasting (true division), then the fused ``activation``."""

    activation: str = ""
    function = staticmethod(np.true_divide)
    each = 1


def _binary(name: str, function: Callable[..., np.ndarray], doc: str, to_bool: bool = False) -> type[_Binary]:
    body = {"function": staticmethod(function), "__doc__": doc, "__module__": __name__, "to_bool": to_bool}
    return operator(type(name, (_Binary,), body))


Pow = _binary("Pow", np.power, "a to the power b.")
Maximum = _binary("Maximum", np.maximum, "The larger of a and b.")
Minimum = _binary("Minimum", np.minimum, "The smaller of a and b.")
FloorDiv = _binary("FloorDiv", np.floor_divide, "floor(a / b).")
FloorMod = _binary("FloorMod", np.mod, "a - floor(a / b) · b: the sign of the divisor (torch.remainder).")
SquaredDifference = _binary("SquaredDifference", lambda a, b: np.square(a - b), "(a - b)².")
Atan2 = _binary("Atan2", np.arctan2, "Angle of the point (b, a).")
Equal = _binary("Equal", np.equal, "a = b.", True)
NotEqual = _binary("NotEqual", np.not_equal, "a ≠ b.", True)
Less = _binary("Less", np.less, "a < b.", True)
LessEqual = _binary("LessEqual", np.less_equal, "a ≤ b.", True)
Greater = _binary("Greater", np.greater, "a > b.", True)
GreaterEqual = _binary("GreaterEqual", np.greater_equal, "a ≥ b.", True)
LogicalAnd = _binary("LogicalAnd", np.logical_and, "a and b.", True)
LogicalOr = _binary("LogicalOr", np.logical_or, "a or b.", True)

#: All two-input elementwise operators.
BINARY: tuple[type[_Binary], ...] = (
    Add, Sub, Mul, Div, Pow, Maximum, Minimum, FloorDiv, FloorMod, SquaredDifference, Atan2,
    Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, LogicalAnd, LogicalOr,
)  # fmt: skip


@operator
class Where(Operator):
    """``a`` where ``condition`` (bool) holds, else ``b``; inputs condition, a, b, all broadcast."""

    elementwise = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        condition, a, b = inputs
        if condition.dtype != "bool" or a.dtype != b.dtype:
            raise ValueError(f"needs (bool, T, T), got ({condition.dtype}, {a.dtype}, {b.dtype})")
        return (Spec(broadcast(condition.shape, a.shape, b.shape), a.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.where(*inputs),)
