"""The Snake activation as an operator of Instep: in texts, in captured networks, in every framework and in proofs."""

from __future__ import annotations

from typing import Any

import numpy as np

import instep
from instep import Spec
from instep.emit.code.call import Call
from instep.emit.torch.table import rule
from instep.graph import Graph, Node, Value, ops
from instep.rewrite.lower import Build

__all__ = ["Snake"]


@instep.operator
class Snake(instep.Operator):
    """x + sin²(a·x) / a with a number a > 0 (Ziyin, Hartwig and Ueda, 2020, arXiv 2006.08195)."""

    alpha: float = 1.0

    elementwise = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if self.alpha <= 0:
            raise ValueError(f"Snake needs alpha above 0, got {self.alpha}")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (x + np.square(np.sin(self.alpha * x)) / self.alpha,)


@instep.decomposes(Snake)
def _in_known_operators(b: Build) -> bool:
    """TFLite, Keras and JAX get it spelled out; one that has it itself registers a form, as PyTorch below."""
    alpha = b.node.op.alpha
    wave = b.add(ops.Square(), b.add(ops.Sin(), b.add(ops.Mul(), b.x, b.constant(alpha, "alpha"))))
    return b.done(ops.Add(), b.x, b.add(ops.Mul(), wave, b.constant(1.0 / alpha, "inverse")))


@rule(Snake)
def _in_torch(node: Node, graph: Graph) -> Call:
    code = "{0} + torch.sin({alpha} * {0}).square() / {alpha}"
    return Call(node.inputs, node.outputs, code, {"alpha": float(node.op.alpha)})


@instep.handles("instep_snake.snake.default")
def _from_torch(b: Any, x: Value, alpha: float) -> Value:
    """A network that calls ``torch.ops.instep_snake.snake`` (see network.py) is captured with one operator."""
    return b(Snake(alpha), x)
