"""Questions about comparisons, logic, selections and changes of type."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from instep.graph import ops
from instep.targets.probe.families.elementwise import INTEGERS
from instep.targets.probe.question import Given, Question, chain, constant, given, one, spell

__all__ = ["questions"]

COMPARISONS = [
    ("EQUAL", ops.Equal()), ("NOT_EQUAL", ops.NotEqual()), ("LESS", ops.Less()), ("LESS_EQUAL", ops.LessEqual()),
    ("GREATER", ops.Greater()), ("GREATER_EQUAL", ops.GreaterEqual()),
]  # fmt: skip
SHAPE = (1, 4, 5, 8)
TYPES = ("float32", "int32", "int64", "bool", "float16")
CODES = {"float32": 0, "float16": 1, "int32": 2, "int64": 4, "bool": 6}


def _comparisons() -> Iterable[Question]:
    for code, op in COMPARISONS:
        yield one("plain", code, op, SHAPE, SHAPE)
        yield chain("then=cast", code, [SHAPE, SHAPE], (op, (0, 1)), (ops.Cast("float32"), (2,)))
        yield chain("constant=scalar", code, [SHAPE, constant(values=0.25)], (op, (0, 1)), (ops.Cast("float32"), (2,)))
        ints = given(*SHAPE, dtype="int32", high=3)
        cast = (ops.Cast("float32"), (2,))
        yield chain("dtype=int32", code, [ints, ints], (op, (0, 1)), cast)
        for label, shape in INTEGERS.items():
            fixed = Given(shape, "int32", 0, 3, fixed=True)
            yield chain(f"dtype=int32/constant={label}", code, [ints, fixed], (op, (0, 1)), cast)
            if label == "rank-4":
                yield chain(f"dtype=int32/constant=first-{label}", code, [fixed, ints], (op, (0, 1)), cast)
        mean = (ops.ReduceMean((0, 1, 2, 3), False), (0,))
        yield chain("broadcast=rank-0", code, [SHAPE], mean, (op, (0, 1)), cast)
        yield chain("same-tensor", code, [SHAPE], (op, (0, 0)), (ops.Cast("float32"), (1,)))
    for code, op in (("LOGICAL_AND", ops.LogicalAnd()), ("LOGICAL_OR", ops.LogicalOr())):
        above = constant(values=0.25), constant(values=-0.5)
        steps = [(ops.Greater(), (0, 1)), (ops.Less(), (0, 2)), (op, (3, 4)), (ops.Cast("float32"), (5,))]
        yield chain("plain", code, [SHAPE, *above], *steps)
        yield one("inputs", code, op, given(*SHAPE, dtype="bool"), given(*SHAPE, dtype="bool"))
    steps = [(ops.Greater(), (0, 1)), (ops.LogicalNot(), (2,)), (ops.Cast("float32"), (3,))]
    yield chain("plain", "LOGICAL_NOT", [SHAPE, constant(values=0.25)], *steps)
    yield one("inputs", "LOGICAL_NOT", ops.LogicalNot(), given(*SHAPE, dtype="bool"))


def _selections() -> Iterable[Question]:
    branches = {
        "full": (SHAPE, SHAPE), "scalar-constants": (constant(values=0.5), constant(values=-2.0)),
        "one-constant": (SHAPE, constant(values=-2.0)), "channels-constant": (SHAPE, constant(8)),
        "rank-4-constant": (SHAPE, constant(1, 1, 1, 8)), "broadcast": (SHAPE, (1, 1, 1, 8)),
        "full-constant": (SHAPE, constant(*SHAPE)),
    }  # fmt: skip
    for label, (chosen, other) in branches.items():
        operands = [SHAPE, constant(values=0.1), chosen, other]
        yield chain(f"branches={label}", "SELECT_V2", operands, (ops.Greater(), (0, 1)), (ops.Where(), (4, 2, 3)))
        if label in ("full", "full-constant"):
            select = spell("SELECT", SHAPE)
            yield chain(f"branches={label}", "SELECT", operands, (ops.Greater(), (0, 1)), (select, (4, 2, 3)))
    conditions = {"broadcast": (1, 4, 5, 1), "channels": (1, 1, 1, 8), "rank-1": (8,), "rank-3": (4, 5, 8)}
    for label, shape in conditions.items():
        operands = [shape, constant(values=0.1), SHAPE, SHAPE]
        yield chain(f"condition={label}", "SELECT_V2", operands, (ops.Greater(), (0, 1)), (ops.Where(), (4, 2, 3)))
    operands = [given(*SHAPE, dtype="bool"), SHAPE, SHAPE]
    yield one("condition=input", "SELECT_V2", ops.Where(), *operands)
    fixed = constant(*SHAPE, values=[[[[c % 3 == 0 for c in range(8)]] * 5] * 4], dtype="bool")
    yield one("condition=constant", "SELECT_V2", ops.Where(), fixed, SHAPE, SHAPE)
    for label, shape in conditions.items():
        if len(shape) < 4:
            fixed = constant(*shape, values=np.arange(math.prod(shape)) % 3 == 0, dtype="bool")
            yield one(f"condition=constant-{label}", "SELECT_V2", ops.Where(), fixed, SHAPE, SHAPE)
    for rank, shape in ((2, (3, 8)), (3, (2, 5, 8)), (5, (1, 2, 2, 3, 4))):
        steps = (ops.Greater(), (0, 1)), (ops.Where(), (4, 2, 3))
        yield chain(f"rank={rank}", "SELECT_V2", [shape, constant(values=0.1), shape, shape], *steps)


def _casts() -> Iterable[Question]:
    for source in TYPES:
        for result in TYPES:
            if source == result or {source, result} <= {"int64", "float16", "bool"}:
                continue
            codes = {"in_data_type": CODES[source], "out_data_type": CODES[result]}
            op = spell("CAST", SHAPE, dtype=result, **codes)
            yield one(f"{source}-to-{result}", "CAST", op, given(*SHAPE, dtype=source))
    back = spell("CAST", SHAPE, in_data_type=2, out_data_type=0)
    whole = spell("CAST", SHAPE, dtype="int32", in_data_type=0, out_data_type=2)
    yield chain("float32-to-int32-and-back", "CAST", [given(*SHAPE, low=-6.0, high=6.0)], (whole, (0,)), (back, (1,)))


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _comparisons()
    yield from _selections()
    yield from _casts()
