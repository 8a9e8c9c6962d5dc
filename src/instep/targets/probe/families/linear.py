"""Questions about matrix products: ranks, what is constant, transposed operands, two views of one tensor."""

from __future__ import annotations

from collections.abc import Iterable

from instep.graph import ops
from instep.targets.probe.question import Given, Question, chain, constant, given, one, spell

__all__ = ["questions"]

#: label → (shape of x, outputs, activation)
LINEAR = {
    "rank=2": ((3, 8), 6, ""), "rank=2/batch=1": ((1, 8), 6, ""), "rank=3": ((1, 5, 8), 6, ""),
    "rank=3/batch=2": ((2, 5, 8), 6, ""), "rank=4": ((1, 4, 5, 8), 6, ""), "rank=4/batch=2": ((2, 4, 5, 8), 6, ""),
    "rank=5": ((1, 2, 3, 4, 8), 6, ""), "channels=5/outputs=3": ((2, 5), 3, ""), "activation=relu": ((3, 8), 6, "relu"),
    "outputs=1": ((1, 8), 1, ""), "rank=4/tokens": ((1, 1, 7, 8), 6, ""), "channels=1": ((1, 1), 4, ""),
    "rank=1": ((8,), 6, ""),
}  # fmt: skip
#: label → (a, b, which is a constant, transpose a, transpose b)
PRODUCTS = {
    "rank=2": ((3, 8), (8, 5), "", 0, 0), "rank=3": ((2, 3, 8), (2, 8, 5), "", 0, 0),
    "rank=3/batch=1": ((1, 3, 8), (1, 8, 5), "", 0, 0), "rank=4": ((1, 2, 3, 8), (1, 2, 8, 5), "", 0, 0),
    "rank=4/batch=2": ((2, 2, 3, 8), (2, 2, 8, 5), "", 0, 0), "rank=5": ((1, 1, 2, 3, 8), (1, 1, 2, 8, 5), "", 0, 0),
    "rank=4/channels=4": ((1, 2, 4, 8), (1, 2, 8, 4), "", 0, 0), "rank=4/odd": ((1, 3, 7, 5), (1, 3, 5, 9), "", 0, 0),
    "transpose=b": ((1, 2, 3, 8), (1, 2, 5, 8), "", 0, 1), "transpose=a": ((1, 2, 8, 3), (1, 2, 8, 5), "", 1, 0),
    "transpose=both": ((1, 2, 8, 3), (1, 2, 5, 8), "", 1, 1), "transpose=b/rank=3": ((2, 3, 8), (2, 5, 8), "", 0, 1),
    "transpose=b/rank=2": ((3, 8), (5, 8), "", 0, 1), "transpose=a/rank=3": ((2, 8, 3), (2, 8, 5), "", 1, 0),
    "transpose=b/odd": ((1, 3, 7, 5), (1, 3, 9, 5), "", 0, 1),
    "transpose=a/odd": ((1, 3, 5, 7), (1, 3, 5, 9), "", 1, 0),
    "broadcast=a": ((1, 1, 3, 8), (1, 2, 8, 5), "", 0, 0), "broadcast=b": ((1, 2, 3, 8), (1, 1, 8, 5), "", 0, 0),
    "broadcast=rank": ((1, 2, 3, 8), (8, 5), "", 0, 0), "constant=b/rank=2": ((3, 8), (8, 5), "b", 0, 0),
    "constant=b/rank=3-by-2": ((1, 3, 8), (8, 5), "b", 0, 0),
    "constant=b/rank=4-by-2": ((1, 2, 3, 8), (8, 5), "b", 0, 0),
    "constant=b/rank=4": ((1, 2, 3, 8), (1, 2, 8, 5), "b", 0, 0),
    "constant=b/rank=3": ((2, 3, 8), (2, 8, 5), "b", 0, 0),
    "constant=b/rank=4/one": ((1, 2, 3, 8), (1, 1, 8, 5), "b", 0, 0),
    "constant=b/rank=3/one": ((1, 3, 8), (1, 8, 5), "b", 0, 0),
    "constant=b/rank=2/transpose=b": ((1, 2, 3, 8), (5, 8), "b", 0, 1),
    "constant=b/rank=4/transpose=b": ((1, 2, 3, 8), (1, 2, 5, 8), "b", 0, 1),
    "constant=b/batch=3": ((3, 2, 3, 8), (3, 2, 8, 5), "b", 0, 0),
    "constant=b/odd": ((1, 3, 7, 5), (1, 3, 5, 9), "b", 0, 0),
    "constant=b/rank=2/odd": ((7, 5), (5, 9), "b", 0, 0),
    "constant=b/rank=2/square/transpose=b": ((4, 8), (8, 8), "b", 0, 1),
    "constant=b/transpose=a": ((1, 2, 8, 3), (1, 2, 8, 5), "b", 1, 0),
    "constant=a": ((1, 2, 3, 8), (1, 2, 8, 5), "a", 0, 0), "constant=a/rank=2": ((3, 8), (8, 5), "a", 0, 0),
    "constant=a/rank=2-by-4": ((3, 8), (1, 2, 8, 5), "a", 0, 0), "constant=a/rank=3": ((2, 3, 8), (2, 8, 5), "a", 0, 0),
}  # fmt: skip


def _linear() -> Iterable[Question]:
    for label, (shape, outputs, activation) in LINEAR.items():
        weight, bias = (Given(s, low=-0.5, high=0.5, fixed=True) for s in ((outputs, shape[-1]), (outputs,)))
        yield one(label, "FULLY_CONNECTED", ops.Linear(activation), shape, weight, bias)
    op = spell("FULLY_CONNECTED", (3, 6))
    yield one("bias=none", "FULLY_CONNECTED", op, (3, 8), constant(6, 8))
    yield one("filter=computed", "FULLY_CONNECTED", op, (3, 8), given(6, 8), constant(6))
    flat = spell("FULLY_CONNECTED", (5, 6))
    yield one("flattens=rank-3", "FULLY_CONNECTED", flat, (1, 5, 8), constant(6, 8), constant(6))
    deep = spell("FULLY_CONNECTED", (1, 6))
    yield one("flattens=image", "FULLY_CONNECTED", deep, (1, 2, 2, 8), constant(6, 32), constant(6))


def _products() -> Iterable[Question]:
    for label, (a, b, fixed, left, right) in PRODUCTS.items():
        operands = [Given(shape, fixed=fixed == side) for side, shape in (("a", a), ("b", b))]
        yield one(label, "BATCH_MATMUL", ops.MatMul(bool(left), bool(right)), *operands)
    by = ops.MatMul(False, True)
    yield chain("same-tensor/transpose=b", "BATCH_MATMUL", [(1, 2, 3, 8)], (by, (0, 0)))
    first, second = (ops.Reshape(shape) for shape in ((4, 6, 8), (4, 8, 6)))
    yield chain("views/rank=3", "BATCH_MATMUL", [(1, 4, 6, 8)], (first, (0,)), (second, (0,)), (ops.MatMul(), (1, 2)))
    first, second = (ops.Reshape(shape) for shape in ((1, 4, 6, 8), (1, 4, 8, 6)))
    yield chain("views/rank=4", "BATCH_MATMUL", [(4, 6, 8)], (first, (0,)), (second, (0,)), (ops.MatMul(), (1, 2)))


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _linear()
    yield from _products()
