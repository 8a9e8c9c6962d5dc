"""Constants that stand for infinity, in numbers that float16 has."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__ = ["BELOW", "beyond", "bounds_of"]

#: A masked score. Beside scores within a quarter of it, it is more than 104 below any: exp of that is 0 in float32.
BELOW = -32768.0


def beyond(array: np.ndarray | None, largest: float) -> bool:
    """Whether a finite number of a float constant has a magnitude above ``largest``."""
    if array is None or array.dtype.kind != "f" or not array.size:
        return False
    return bool(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)) > largest)


def bounds_of(node: Node, array_of: Callable[[Value], np.ndarray | None]) -> Iterable[np.ndarray | None]:
    """The constants that an operator reads, and those that a clip holds itself."""
    if isinstance(node.op, ops.Clip):
        return [np.array([node.op.low, node.op.high])]
    return map(array_of, node.inputs)


@clearing("exp of a score that is more than 104 below another's is 0 beside it, in float32 as in float16")
def clamp_mask(b: Build, target: Target) -> bool:
    """A masked score −1e30 becomes one that float16 has, where the others are known (from real runs) to be far above.

    A row that is masked whole is uniform: it stays so where the mask takes the scores' place; added to them, it would
    no longer hide them, and the mask is left as it is. A bound beyond all values is none, however far beyond.
    """
    limits = target.profile.limits
    if limits is None:
        return False
    if isinstance(b.node.op, ops.Clip):
        return _clip(b, b.node.op, target.largest.get(b.x.name, np.inf), limits.largest)
    numbers = [v for v in b.node.inputs if beyond(b.edit.array(v), limits.largest)]
    others = [v for v in b.node.inputs if b.edit.array(v) is None and v.dtype.startswith("float")]
    if len(numbers) != 1 or len(others) != 1 or others[0].name not in target.largest:
        return False
    (number,), reach = numbers, target.largest[others[0].name]
    array = b.edit.array(number)
    assert array is not None
    if isinstance(b.node.op, ops.Maximum | ops.Minimum):
        made = np.clip(array, -limits.largest, limits.largest) if reach < limits.largest else None
    else:
        made = _mask(b, array, reach, limits.largest)
    if made is None:
        return False
    near = b.edit.constant(made.astype(array.dtype), number.name)
    b.edit.splice(b.node, b.node.op, [near if v is number else v for v in b.node.inputs])
    if not isinstance(b.node.op, ops.Maximum | ops.Minimum):
        b.node.output.source = None
    target.forget(b.node.output.name)
    return True


def _clip(b: Build, op: ops.Clip, reach: float, largest: float) -> bool:
    low, high = (limit if abs(limit) <= largest else np.copysign(np.inf, limit) for limit in (op.low, op.high))
    if reach >= largest or (low, high) == (op.low, op.high):
        return False
    return b.stand(b.x) if np.isinf(low) and np.isinf(high) else b.done(op.with_(low=float(low), high=float(high)), b.x)


def _mask(b: Build, array: np.ndarray, reach: float, largest: float) -> np.ndarray | None:
    """The mask with ``BELOW`` for what is beyond float16; None where that may change what the softmax behind gives."""
    softmax = b.edit.only_user(b.node.output, ops.Softmax)
    far = np.isfinite(array) & (array < -largest)
    rest = float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array) & ~far))
    if softmax is None or reach + rest > -BELOW / 4:
        return None
    if isinstance(b.node.op, ops.Where):
        return np.where(far, BELOW, array) if array.size == 1 else None
    if not isinstance(b.node.op, ops.Add) or b.node.op.activation or _hides_a_row(far, softmax, b.node.output):
        return None
    return np.where(far, BELOW, array)


def _hides_a_row(far: np.ndarray, softmax: Node, scores: Value) -> bool:
    """Whether some row of the softmax has nothing but masked scores."""
    assert isinstance(softmax.op, ops.Softmax)
    whole = np.broadcast_to(far, scores.shape)
    return bool(whole.all(axis=softmax.op.axis).any())
