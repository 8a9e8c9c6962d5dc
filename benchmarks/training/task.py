"""What is trained: a network of the zoo, a batch and a loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.graph import Graph, Value, ops

__all__ = ["RATE", "Task", "network"]

#: Learning rate: large enough that the step is not lost in the rounding of the weights.
RATE = 0.1


@dataclass
class Task:
    """A network (as its source lays it out) with the arrays of one batch. The loss is the mean over the outputs of the
    mean squared difference to the targets, and the L2 of the kernels that the network's text says."""

    graph: Graph
    inputs: list[np.ndarray]
    targets: list[np.ndarray]

    def save(self, path: Path) -> None:
        """The batch as .npz."""
        arrays = {f"input{i}": a for i, a in enumerate(self.inputs)}
        np.savez(path, **arrays, **{f"target{i}": a for i, a in enumerate(self.targets)})  # type: ignore[arg-type]

    def nudged(self, rng: np.random.Generator) -> Task:
        """The same with inputs moved by one unit in the last place."""
        from instep.verify.noise import nudge

        return Task(self.graph, [nudge(a, rng) for a in self.inputs], self.targets)


def network(name: str, batch: int, seed: int = 0) -> Task:
    """``zoo:name`` with ``batch`` examples of noise within the network's input range, dropout off.

    Raises InstepError where the zoo has no such network or it takes no batch.
    """
    import instep
    from instep.rewrite.driver import run
    from instep.rewrite.fold.identities import drop_dropouts

    plain = instep.parse(f"zoo:{name}", seed=seed)
    shapes = {n: (batch, *v.shape[1:]) for n, v in zip(plain.input_names, plain.inputs, strict=True)}
    graph, _ = run(instep.capture(f"zoo:{name}", inputs=shapes, seed=seed).graph, (drop_dropouts,))
    rng = np.random.default_rng(seed)
    low, high = graph.meta.get("range") or (0.0, 1.0)
    inputs = []
    for value in graph.inputs:
        if np.dtype(value.dtype).kind in "iu":
            inputs.append(rng.integers(0, _count(graph, value), value.shape).astype(value.dtype))
        else:
            inputs.append(rng.uniform(low, high, value.shape).astype(value.dtype))
    return Task(graph, inputs, [rng.normal(size=v.shape).astype(np.float32) for v in graph.outputs])


def _count(graph: Graph, value: Value) -> int:
    """How many rows the table has that an integer input chooses from."""
    for node in graph.nodes:
        if isinstance(node.op, ops.Gather) and value in node.inputs:
            return node.inputs[0].shape[node.op.axis]
    return 2
