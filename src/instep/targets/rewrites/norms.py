"""Normalisations in a form that float16 computes right: scaled before they are squared."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__ = ["power_for"]

#: The sum of squares is brought to about this: far below 65504, and the eps beside it far above what vanishes.
SAFE = 1024.0


def power_for(energy: float) -> float:
    """The power of two to divide by so that a sum of squares ``energy`` becomes at most SAFE.

    1 where the energy is not finite: what noise takes beyond float32 says nothing of pictures.
    """
    if not math.isfinite(energy):
        return 1.0
    return 2.0 ** max(0, math.ceil(math.log2(max(energy, 1.0) / SAFE) / 2))


@clearing("1 / √(mean(x²) + eps) = 1/k · 1 / √(mean((x/k)²) + eps/k²), and a power of two divides exactly")
def scale_before_square(b: Build, target: Target) -> bool:
    """The node squares (MUL of a value with itself, or SQUARE); what follows must be mean, + eps, 1/√."""
    square = b.node
    itself = isinstance(square.op, ops.Mul) and square.inputs[0] is square.inputs[1]
    if not itself and not isinstance(square.op, ops.Square):
        return False
    energy = target.energy.get(square.output.name, 0.0)
    k = power_for(energy)
    mean = b.edit.only_user(square.output, ops.ReduceMean, ops.ReduceSum)
    if k == 1 or mean is None:
        return False
    steps: list[Value] = [mean.output]
    node = b.edit.only_user(mean.output, ops.Mul, ops.Linear, ops.ReduceMean, ops.Reshape, ops.Add)
    while node is not None and not isinstance(node.op, ops.Add):
        if isinstance(node.op, ops.Mul) and b.edit.array(node.inputs[1 - node.inputs.index(steps[-1])]) is None:
            return False
        steps.append(node.output)
        node = b.edit.only_user(node.output, ops.Mul, ops.Linear, ops.ReduceMean, ops.Reshape, ops.Add)
    if node is None:
        return False
    eps_at = 1 - node.inputs.index(steps[-1])
    eps = b.edit.array(node.inputs[eps_at])
    root = b.edit.only_user(node.output, ops.Rsqrt, ops.Sqrt)
    if eps is None or root is None or node.op.activation:
        return False
    small = b.edit.constant((eps / k**2).astype(eps.dtype), f"{node.output.name}.eps")
    inputs = [small if i == eps_at else v for i, v in enumerate(node.inputs)]
    b.edit.update(node, inputs=inputs)
    scaled = b.add(ops.Mul(), square.inputs[0], b.constant(1 / k, "scale"))
    b.edit.splice(square, ops.Square(), [scaled])
    for value in (square.output, *steps, node.output):
        value.source = None
        target.forget(value.name)
    # 1/√ grew by k, √ shrank by k
    factor = 1 / k if isinstance(root.op, ops.Rsqrt) else k
    inner = b.edit.add(root.op, [node.output], root)
    back = b.edit.constant(np.asarray(factor, eps.dtype), f"{root.output.name}.k")
    b.edit.splice(root, ops.Mul(), [inner, back])
    return True
