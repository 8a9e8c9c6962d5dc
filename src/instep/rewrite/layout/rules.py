"""How each operator follows a change of its axes' order: tables and small functions for the layout rewrite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from instep.graph import Node, Value, ops
from instep.graph.operator import Operator
from instep.rewrite.view_algebra import reshape_groups

__all__ = [
    "Perm", "axis_penalty", "channels_first", "channels_last", "compose_reshape", "inverse", "is_uniform",
    "last_two_swapped", "moved", "reduced_perm", "tensor_inputs",
]  # fmt: skip

Perm = tuple[int, ...]

#: Operators whose one ``axis`` field moves with the axes.
ONE_AXIS = (
    ops.Softmax,
    ops.LogSoftmax,
    ops.CumSum,
    ops.BatchNorm,
    ops.GroupNorm,
    ops.Concat,
    ops.Gather,
    ops.TakeAlong,
)
#: Operators with one entry per axis, or a list of axes.
PER_AXIS = (ops.Slice, ops.Pad, ops.Flip, ops.Roll, ops.Expand, ops.LayerNorm, ops.RmsNorm, ops.Dropout)
#: Operators that work along the last axis and do not mind the order of the others.
LAST_AXIS = (ops.Linear, ops.TopK)
#: Operators that every runtime does best, or only, along the last axis.
BEST_LAST = (ops.Softmax, ops.LogSoftmax, ops.LayerNorm, ops.RmsNorm)


def inverse(perm: Sequence[int]) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def channels_last(rank: int) -> Perm:
    """The order that moves axis 1 to the end."""
    return (0, *range(2, rank), 1)


def channels_first(rank: int) -> Perm:
    """The order that moves the last axis to axis 1."""
    return (0, rank - 1, *range(1, rank - 1))


def last_two_swapped(perm: Perm) -> bool:
    n = len(perm)
    return n >= 2 and perm == (*range(n - 2), n - 1, n - 2)


def compose_reshape(before: Sequence[int], after: Sequence[int], perm: Perm) -> Perm | None:
    """The order of ``after`` under which reshaping ``before`` stored as ``perm`` moves nothing, or None."""
    groups = reshape_groups(before, after)
    where = {axis: i for i, (left, _) in enumerate(groups) for axis in left}
    real = [p for p in perm if before[p] != 1]
    seen: list[int] = []
    for p in real:
        if not seen or seen[-1] != where[p]:
            seen.append(where[p])
    if len(seen) != len(set(seen)):
        return None
    for i in seen:
        mine = [p for p in real if where[p] == i]
        if mine != sorted(mine):
            return None
    # groups without a real axis on the left hold only ones: they stay where they are, in front of their successor
    order: list[int] = []
    rest = [i for i in range(len(groups)) if i not in seen]
    for i in seen:
        while rest and rest[0] < i and rest[0] < min(seen[seen.index(i) :]):
            order.append(rest.pop(0))
        order.append(i)
    order.extend(rest)
    return tuple(axis for i in order for axis in groups[i][1])


def reduced_perm(perm: Perm, axes: Sequence[int]) -> Perm:
    """``perm`` after the logical ``axes`` are gone."""
    kept = sorted(set(perm) - set(axes))
    return tuple(kept.index(p) for p in perm if p not in axes)


def tensor_inputs(node: Node) -> list[Value]:
    """The inputs that carry the node's axes (not indices, weights of norms or of matrix products)."""
    if node.op.elementwise or isinstance(node.op, ops.Concat | ops.TakeAlong):
        return list(node.inputs)
    return node.inputs[:1]


def is_uniform(node: Node, perm: Perm) -> bool:
    """Whether the node computes the same when all its tensors' axes are ordered by ``perm``."""
    op = node.op
    if isinstance(op, ops.Gather) and node.inputs[1].rank != 1:
        # other indices than a row of them change the number of axes, as an embedding of tokens does
        return False
    if op.elementwise or isinstance(op, (*ops.REDUCTIONS, ops.ArgMax, ops.ArgMin)):
        return not isinstance(op, ops.ArgMax | ops.ArgMin) or op.keepdims
    if isinstance(op, ops.GroupNorm):
        return perm[0] == 0
    if isinstance(op, LAST_AXIS):
        return perm[-1] == len(perm) - 1
    return isinstance(op, (ONE_AXIS, PER_AXIS))


def axis_penalty(node: Node, perm: Perm) -> int:
    """Bytes that running in the order ``perm`` costs, because the operator wants its axis last."""
    if not isinstance(node.op, BEST_LAST):
        return 0
    axes = node.op.axes if isinstance(node.op, ops.LayerNorm | ops.RmsNorm) else (node.op.axis,)  # type: ignore[attr-defined]
    tail = set(perm[len(perm) - len(axes) :])
    return 0 if tail == set(axes) else 2 * node.output.nbytes


def moved(
    node: Node, perm: Perm, inputs: list[Value], constant: Callable[[Value, Perm], Value]
) -> tuple[Operator, list[Value]]:
    """The node's operator for axes ordered by ``perm``, and its inputs (already in that order)."""
    op, at = node.op, inverse(perm)
    if isinstance(op, ONE_AXIS):
        return op.with_(axis=at[op.axis]), inputs  # type: ignore[attr-defined]
    if isinstance(op, ops.ArgMax | ops.ArgMin):
        return op.with_(axis=at[op.axis]), inputs
    if isinstance(op, ops.REDUCTIONS):
        return op.with_(axes=tuple(sorted(at[a] for a in op.axes))), inputs  # type: ignore[attr-defined]
    if isinstance(op, ops.Flip):
        return op.with_(axes=tuple(sorted(at[a] for a in op.axes))), inputs
    if isinstance(op, ops.Dropout):
        return op.with_(shared=tuple(sorted(at[a] for a in op.shared))), inputs
    if isinstance(op, ops.Roll):
        return op.with_(axes=tuple(at[a] for a in op.axes)), inputs
    if isinstance(op, ops.Slice):
        fields = {f: tuple(getattr(op, f)[p] for p in perm) for f in ("starts", "stops", "steps")}
        return op.with_(**fields), inputs
    if isinstance(op, ops.Pad):
        return op.with_(pads=tuple(op.pads[p] for p in perm)), inputs
    if isinstance(op, ops.Expand):
        return op.with_(shape=tuple(op.shape[p] for p in perm)), inputs
    if isinstance(op, ops.LayerNorm | ops.RmsNorm):
        order = sorted(op.axes, key=lambda a: at[a])
        weight_perm = tuple(op.axes.index(a) for a in order)
        vectors = [constant(v, weight_perm) for v in inputs[1:]]
        return op.with_(axes=tuple(sorted(at[a] for a in op.axes))), [inputs[0], *vectors]
    return op, inputs
