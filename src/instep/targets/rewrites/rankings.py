"""Rankings for targets that take the zeros that fill up a bundle of channels for values, or lack a minimum."""

from __future__ import annotations

import numpy as np

from instep.graph import ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []

#: Channels are kept in bundles of so many.
BUNDLE = 4


@clearing("elements behind the others that are the least there are come last, and of equal ones the first counts")
def pad_ranking(b: Build, target: Target) -> bool:
    op, x = b.node.op, b.x
    axis = op.axis % x.rank if isinstance(op, ops.ArgMax) else x.rank - 1
    if not isinstance(op, ops.ArgMax | ops.TopK) or axis != x.rank - 1 or not x.dtype.startswith("float"):
        return False
    missing = -x.shape[-1] % BUNDLE
    if not missing:
        return False
    least = b.constant(np.full((*x.shape[:-1], missing), np.finfo(x.dtype).min), "least", x.dtype)
    b.edit.update(b.node, inputs=[b.add(ops.Concat(axis), x, least), *b.node.inputs[1:]])
    return True


@clearing("the first of the least is the first of the largest of what is negated", "ARG_MIN")
def spell_arg_min(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.ArgMin):
        return False
    return b.done(ops.ArgMax(op.axis, op.keepdims), b.add(ops.Neg(), b.x))
