"""Layers as a converter writes them: a weighted operator with the norm and scales behind or before it folded in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Value, ops

__all__ = ["Folded", "folded"]

WEIGHTED = (ops.Conv2d, ops.ConvTranspose2d, ops.Linear)
AFFINE = (ops.BatchNorm, ops.Mul, ops.Add, ops.Sub, ops.Div)


@dataclass
class Folded:
    """``node`` computes what ``last`` makes, with constants ``arrays``; ``whole`` when nothing more can be folded."""

    node: Node
    last: Node
    arrays: dict[Value, np.ndarray]
    whole: bool = True

    def named_arrays(self) -> list[tuple[str, np.ndarray]]:
        """The folded weight and bias with names for messages."""
        return [(f"{v.name} (folded)", a) for v, a in self.arrays.items()]


def _step(node: Node, value: Value, graph: Graph) -> bool:
    """Is ``node`` affine per channel in ``value``, all else constant?"""
    if not isinstance(node.op, AFFINE):
        return False
    others = [v for v in node.inputs if v is not value]
    if isinstance(node.op, ops.Div) and node.inputs[0] is not value:
        return False
    return len(others) == len(node.inputs) - 1 and all(v in graph.weights for v in others)


def _through(chain: Sequence[Node], start: Value, probe: np.ndarray, graph: Graph) -> np.ndarray:
    table = {start: probe}
    for node in chain:
        arrays = [table[v] if v in table else graph.weights[v].astype(np.float64) for v in node.inputs]
        table[node.output] = node.op.evaluate(*arrays)[0]
    return table[chain[-1].output]


def folded(nodes: Sequence[Node], graph: Graph) -> Iterator[Folded]:
    """Every chain in ``nodes`` of a weighted operator and affine ones behind it, at every length."""
    users = graph.users()
    inside = {id(n) for n in nodes}
    for node in nodes:
        if not isinstance(node.op, WEIGHTED) or node.inputs[1] not in graph.weights:
            continue
        op: Any = node.op
        chain: list[Node] = []
        value = node.output
        found: list[Folded] = []
        while len(users.get(value, [])) == 1:
            (reader,) = users[value]
            if id(reader) not in inside or not _step(reader, value, graph) or reader.output.shape != node.output.shape:
                break
            chain.append(reader)
            value = reader.output
            made = _fold(node, chain, graph, op)
            if made is None:
                break
            found.append(made)
        for fold in found:
            fold.whole = fold is found[-1]
            yield fold
    yield from _normed(nodes, graph)


#: What may stand between a norm and the layer that takes in its scale and shift (all keep the last axis).
VIEWS = (ops.Reshape, ops.Permute, ops.Roll, ops.Flip, ops.Slice, ops.ReduceMean)


def _normed(nodes: Sequence[Node], graph: Graph) -> Iterator[Folded]:
    """Linear layers with the scale and shift of a LayerNorm before them folded in (views in between or not)."""
    producer = {v: n for n in nodes for v in n.outputs}
    for node in nodes:
        if not isinstance(node.op, ops.Linear) or node.inputs[1] not in graph.weights:
            continue
        path: list[Node] = []
        before = producer.get(node.inputs[0])
        while before is not None and isinstance(before.op, VIEWS):
            path.insert(0, before)
            before = producer.get(before.inputs[0])
        if before is None or not isinstance(before.op, ops.LayerNorm):
            continue
        gamma, beta = (graph.weights.get(v) for v in before.inputs[1:])
        weight = graph.weights[node.inputs[1]].astype(np.float64)
        if gamma is None or beta is None or gamma.shape != (weight.shape[1],):
            continue
        bias = graph.weights[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(weight))
        arrays = [weight * gamma, bias + weight @ beta]
        w = Value(node.inputs[1].name, arrays[0].shape, "float64")
        b = Value(f"{node.scope or node.output.name}.bias", arrays[1].shape, "float64")
        op = _behind(node.op, before, path)
        made = Node(op, [before.inputs[0], w, b], list(node.outputs), node.scope, node.origin)
        yield Folded(made, node, dict(zip((w, b), arrays, strict=True)))


def _behind(op: Any, norm: Node, path: list[Node]) -> Any:
    """``op`` as an operator of the norm's input: normalised without scale and shift, through the views, then ``op``."""
    plain: Any = type(op)

    def evaluate(self: Any, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *rest = inputs
        shape = norm.inputs[1].shape
        y = norm.op.evaluate(x, np.ones(shape), np.zeros(shape))[0]
        for view in path:
            y = view.op.evaluate(y)[0]
        return plain.evaluate(self, y, *rest)

    return type(op.name, (plain,), {"evaluate": evaluate})(**op.fields())


def _fold(node: Node, chain: list[Node], graph: Graph, op: Any) -> Folded | None:
    axis = -1 if isinstance(op, ops.Linear) else (1 if op.layout == "NCHW" else 3)
    shape = [1] * len(node.output.shape)
    channels = shape[axis] = node.output.shape[axis]
    try:
        zero = _through(chain, node.output, np.zeros(shape), graph)
        one = _through(chain, node.output, np.ones(shape), graph)
    except (ValueError, IndexError):
        return None
    if zero.shape != tuple(shape):
        return None
    shift, scale = zero.reshape(-1), (one - zero).reshape(-1)
    weight = graph.weights[node.inputs[1]].astype(np.float64)
    if isinstance(op, ops.ConvTranspose2d):
        if op.groups != 1 or op.layout != "NCHW":
            return None
        weight = weight * scale[None, :, None, None]
    else:
        weight = weight * scale.reshape([-1] + [1] * (weight.ndim - 1))
    bias = np.zeros(channels)
    if len(node.inputs) > 2:
        if node.inputs[2] not in graph.weights:
            return None
        bias = graph.weights[node.inputs[2]].astype(np.float64)
    bias = bias * scale + shift
    w = Value(node.inputs[1].name, weight.shape, "float64")
    b = Value(f"{node.scope or node.output.name}.bias", bias.shape, "float64")
    last = chain[-1]
    made = Node(op, [node.inputs[0], w, b], [node.output], node.scope, node.origin)
    return Folded(made, last, {w: weight, b: bias})
