"""Questions about operators that act on each element alone, of one operand or two."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from instep.graph import ops
from instep.targets.probe.question import Given, Question, chain, constant, given, one, spell

__all__ = ["INTEGERS", "questions"]

#: Shapes that every operator of one operand meets: all ranks, a batch, channels that fill no slice of four.
SHAPES = {
    "plain": (1, 5, 6, 8), "rank=0": (), "rank=1": (8,), "rank=2": (3, 8), "rank=3": (2, 5, 8),
    "rank=5": (1, 2, 3, 4, 8),
    "rank=6": (1, 2, 1, 3, 4, 4), "batch=3": (3, 5, 4, 8), "channels=5": (1, 4, 5, 5), "channels=1": (1, 7, 6, 1),
}  # fmt: skip
FEW = ("plain", "rank=1", "rank=2", "rank=3", "batch=3")

POSITIVE = (0.1, 4.0)
#: Operator, what it is in the graph, the range of its operand where not all numbers will do.
UNARY = [
    ("ABS", ops.Abs(), None), ("CEIL", ops.Ceil(), None), ("COS", ops.Cos(), None), ("ELU", ops.Elu(), None),
    ("EXP", ops.Exp(), None), ("FLOOR", ops.Floor(), None), ("GELU", ops.Gelu(), None),
    ("HARD_SWISH", ops.HardSwish(), None), ("LEAKY_RELU", ops.LeakyRelu(0.1), None), ("LOG", ops.Log(), POSITIVE),
    ("LOGISTIC", ops.Sigmoid(), None), ("NEG", ops.Neg(), None), ("RELU", ops.Relu(), None),
    ("RELU6", ops.Clip(0.0, 6.0), (-8.0, 8.0)), ("RELU_N1_TO_1", ops.Clip(-1.0, 1.0), None),
    ("ROUND", ops.Round(), None), ("RSQRT", ops.Rsqrt(), POSITIVE), ("SIGN", ops.Sign(), None),
    ("SIN", ops.Sin(), None), ("SQRT", ops.Sqrt(), POSITIVE), ("SQUARE", ops.Square(), None),
    ("TANH", ops.Tanh(), None),
]  # fmt: skip
#: Operators of one operand that Instep never writes.
SPELLED = ["RELU_0_TO_1"]

#: Operator, what it is in the graph, and the range of its second operand.
BINARY = [
    ("ADD", ops.Add(), None), ("SUB", ops.Sub(), None), ("MUL", ops.Mul(), None), ("DIV", ops.Div(), POSITIVE),
    ("MAXIMUM", ops.Maximum(), None), ("MINIMUM", ops.Minimum(), None), ("POW", ops.Pow(), POSITIVE),
    ("SQUARED_DIFFERENCE", ops.SquaredDifference(), None), ("FLOOR_DIV", ops.FloorDiv(), POSITIVE),
    ("FLOOR_MOD", ops.FloorMod(), POSITIVE), ("ATAN2", ops.Atan2(), None),
]  # fmt: skip
#: How two operands may meet: their shapes, and which of them is a constant.
MEETINGS = {
    "same": ((1, 4, 5, 8), (1, 4, 5, 8), ""), "rank=1": ((8,), (8,), ""), "rank=2": ((3, 8), (3, 8), ""),
    "rank=3": ((2, 5, 8), (2, 5, 8), ""), "rank=5": ((1, 2, 3, 4, 8), (1, 2, 3, 4, 8), ""),
    "batch=3": ((3, 4, 5, 8), (3, 4, 5, 8), ""),
    "constant=full": ((1, 4, 5, 8), (1, 4, 5, 8), "second"), "constant=channels": ((1, 4, 5, 8), (8,), "second"),
    "constant=scalar": ((1, 4, 5, 8), (), "second"), "constant=one": ((1, 4, 5, 8), (1,), "second"),
    "constant=rank-4": ((1, 4, 5, 8), (1, 1, 1, 8), "second"), "constant=first": ((), (1, 4, 5, 8), "first"),
    "constant=first-channels": ((8,), (1, 4, 5, 8), "first"), "constant=rank-2": ((1, 4, 5, 8), (1, 8), "second"),
    "constant=rows": ((1, 4, 5, 8), (1, 4, 1, 1), "second"), "constant=image": ((1, 4, 5, 8), (1, 4, 5, 1), "second"),
    "constant=on-rank-2": ((3, 8), (8,), "second"), "constant=on-rank-3": ((2, 5, 8), (8,), "second"),
    "constant=rank-4-on-3": ((1, 5, 8), (1, 1, 1, 8), "second"),
    "constant=rank-4-on-2": ((1, 8), (1, 4, 5, 8), "second"),
    "constant=full-on-rank-3": ((2, 5, 8), (2, 5, 8), "second"), "constant=rows-on-rank-2": ((7, 8), (7, 1), "second"),
    "broadcast=channels": ((1, 4, 5, 8), (1, 1, 1, 8), ""), "broadcast=image": ((1, 4, 5, 8), (1, 4, 5, 1), ""),
    "broadcast=rows": ((1, 4, 5, 8), (1, 4, 1, 8), ""), "broadcast=columns": ((1, 4, 5, 8), (1, 1, 5, 8), ""),
    "broadcast=batch": ((3, 4, 5, 8), (1, 4, 5, 8), ""), "broadcast=first": ((1, 1, 1, 8), (1, 4, 5, 8), ""),
    "broadcast=both": ((1, 4, 1, 8), (1, 1, 5, 8), ""), "broadcast=one": ((1, 4, 5, 8), (1, 1, 1, 1), ""),
    "broadcast=rank-1": ((1, 4, 5, 8), (8,), ""), "broadcast=rank-2": ((1, 4, 5, 8), (5, 8), ""),
    "broadcast=rank-2-single": ((1, 4, 5, 8), (1, 8), ""), "broadcast=rank-3": ((1, 4, 5, 8), (4, 5, 8), ""),
    "broadcast=rank-3-on-2": ((2, 5, 8), (5, 8), ""), "broadcast=rank-3-rows": ((2, 5, 8), (1, 5, 8), ""),
    "broadcast=rank-0": ((1, 4, 5, 8), (), ""),
}  # fmt: skip
#: Shapes of constants of integers beside an image.
INTEGERS = {"channels": (8,), "rank-3": (4, 1, 1), "rank-4": (1, 1, 1, 8), "full": (1, 4, 5, 8)}
FEW_MEETINGS = ("same", "rank=2", "rank=3", "rank=5", "batch=3", "constant=channels", "constant=scalar",
                "constant=first", "broadcast=channels", "broadcast=both", "broadcast=rank-3")  # fmt: skip


def _given(shape: tuple[int, ...], span: tuple[float, float] | None, fixed: bool = False) -> Given:
    low, high = span or (None, None)
    return Given(shape, "float32", low, high, fixed=fixed)


def _binary() -> Iterable[Question]:
    for i, (code, op, span) in enumerate(BINARY):
        for label, (a, b, fixed) in MEETINGS.items():
            if i > 3 and label not in FEW_MEETINGS:
                continue  # the rule of broadcasting is one for all; the rest is asked of the four that networks use
            if code == "ATAN2" and len(a) != len(b):
                continue  # TFLite's ATAN2 takes operands of one rank
            first = span if code == "POW" else None
            yield one(label, code, op, _given(a, first, fixed == "first"), _given(b, span, fixed == "second"))
        low, high = span or (None, None)
        operand = given(1, 4, 5, 8, low=low, high=high)
        yield chain("same-tensor", code, [operand], (op, (0, 0)))
    for code, op in (("ADD", ops.Add("relu")), ("SUB", ops.Sub("relu6")), ("MUL", ops.Mul("relu1"))):
        yield one(f"activation={op.activation}", code, op, (1, 4, 5, 8), (1, 4, 5, 8))
    for code in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
        op = next(o for c, o, _ in BINARY if c == code)
        ints = given(1, 4, 5, 8, dtype="int32")
        yield one("dtype=int32", code, op, ints, ints)
        for label, shape in INTEGERS.items():
            yield one(f"dtype=int32/constant={label}", code, op, ints, constant(*shape, dtype="int32"))
            if label == "rank-4":
                yield one(f"dtype=int32/constant=first-{label}", code, op, constant(*shape, dtype="int32"), ints)
    for code in ("ADD", "MUL"):
        kind = spell(code, (1, 4, 5, 8), dtype="int64")
        yield one("dtype=int64", code, kind, given(1, 4, 5, 8, dtype="int64"), given(1, 4, 5, 8, dtype="int64"))
    for parts in (2, 3):
        yield one(f"parts={parts}", "ADD_N", spell("ADD_N", (1, 4, 5, 8)), *[(1, 4, 5, 8)] * parts)


def questions() -> Iterable[Question]:
    """Every question of the family."""
    for i, (code, op, span) in enumerate(UNARY):
        for label, shape in SHAPES.items():
            if label not in FEW and i % 4 and code not in ("TANH", "RELU", "LOGISTIC"):
                continue
            yield one(label, code, op, _given(shape, span))
    for code in SPELLED:
        yield one("plain", code, spell(code, (1, 5, 6, 8)), (1, 5, 6, 8))
    for dtype in ("int32", "int64"):
        shape = given(1, 4, 5, 8, dtype=dtype, low=-4, high=4)
        if dtype == "int32":
            yield one(f"dtype={dtype}", "ABS", spell("ABS", (1, 4, 5, 8), dtype=dtype), shape)
        yield one(f"dtype={dtype}", "NEG", spell("NEG", (1, 4, 5, 8), dtype=dtype), shape)
    yield one("approximate=true", "GELU", ops.Gelu(True), (1, 5, 6, 8))
    for slope in (0.0, 0.5, 1.0, 1.5, -0.2):
        yield one(f"alpha={slope}", "LEAKY_RELU", ops.LeakyRelu(slope), (1, 5, 6, 8))
    yield from _prelu()
    yield from _binary()


def _prelu() -> Iterable[Question]:
    slopes = {
        "channels": (8,), "rank-3": (1, 1, 8), "rank-4": (1, 1, 1, 8), "one": (1,), "full": (4, 5, 8),
        "rows": (4, 1, 8), "image": (4, 5, 1),
    }  # fmt: skip
    for label, shape in slopes.items():
        alpha = Given(shape, low=0.05, high=0.6, fixed=True)
        op = ops.Prelu() if label == "channels" else spell("PRELU", (1, 4, 5, 8))
        yield one(f"alpha={label}", "PRELU", op, (1, 4, 5, 8), alpha)
    wide = constant(values=np.linspace(-1.5, 2.5, 8, dtype=np.float32))
    yield one("alpha=beyond-one", "PRELU", ops.Prelu(), (1, 4, 5, 8), wide)
    yield one("alpha=computed", "PRELU", spell("PRELU", (1, 4, 5, 8)), (1, 4, 5, 8), given(1, 1, 8, low=0.1, high=0.5))
    for label in ("rank=2", "rank=3", "rank=1", "batch=3"):
        shape = SHAPES[label]
        yield one(label, "PRELU", spell("PRELU", shape), shape, Given((8,), low=0.05, high=0.6, fixed=True))
