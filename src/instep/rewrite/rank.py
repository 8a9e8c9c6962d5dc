"""Lowers ranks: an operator on more than four axes runs on fewer, its untouched neighbouring axes merged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from instep.graph import Node, Value, ops
from instep.graph.operator import Operator
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.layout.rules import ONE_AXIS, tensor_inputs

__all__ = ["flatten_gathers", "lower_rank"]

MAX_RANK = 4
#: Axes as runs: each run becomes one axis.
Runs = list[list[int]]


@rewrite("taking by a table of indices is taking by its entries in order, viewed as the table's shape")
def flatten_gathers(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Gather):
        index = node.inputs[1]
        if index.rank == 1:
            continue
        flat = _reshaped(edit, node, index, (index.size,))
        _finish(edit, node, node.op, [node.inputs[0], flat])
        changed = True
    return changed


@rewrite("axes that an operator treats alike are one longer axis; merging them renames indices and nothing else")
def lower_rank(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes():
        if isinstance(node.op, ops.Reshape | ops.Permute | ops.Conv3d) or not edit.alive(node):
            continue
        if max(v.rank for v in (*node.inputs, *node.outputs)) <= MAX_RANK:
            continue
        changed |= _lower(edit, node)
    return changed


def _lower(edit: Editor, node: Node) -> bool:
    if isinstance(node.op, ops.MatMul):
        return _lower_matmul(edit, node)
    if isinstance(node.op, ops.Slice | ops.Pad) and len(_touched(node)) > 2:
        return _one_axis_at_a_time(edit, node)
    rank = max(v.rank for v in (*tensor_inputs(node), *node.outputs))
    labels = _labels(node, rank)
    if labels is None:
        return False
    broadcasting = node.op.elementwise or isinstance(node.op, ops.Expand)
    shapes = [v.shape for v in tensor_inputs(node)] + ([node.output.shape] if broadcasting else [])
    runs = _runs(labels, [_padded(shape, rank) for shape in shapes])
    if len(runs) > MAX_RANK:
        if node.op.elementwise:
            return _spread_out(edit, node, rank)
        if isinstance(node.op, ops.Expand):
            flat = _reshaped(edit, node, node.inputs[0], _padded(node.inputs[0].shape, rank))
            edit.replace(node, _expand(edit, node, flat, node.output.shape))
            return True
        if isinstance(node.op, ops.Slice | ops.Pad):
            return _one_axis_at_a_time(edit, node)
        if isinstance(node.op, ops.REDUCTIONS):
            return _one_run_at_a_time(edit, node, runs)
        return False
    inputs = _inputs(edit, node, runs, rank)
    _finish(edit, node, _on_runs(node, runs), inputs)
    return True


def _padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + tuple(shape)


def _touched(node: Node) -> list[int]:
    op, shape = node.op, node.inputs[0].shape
    if isinstance(op, ops.Slice):
        return [i for i, n in enumerate(shape) if (op.starts[i], op.stops[i], op.steps[i]) != (0, n, 1)]
    assert isinstance(op, ops.Pad)
    return [i for i, p in enumerate(op.pads) if p != (0, 0)]


def _labels(node: Node, rank: int) -> list[object] | None:
    """A label for every axis: neighbours of equal label may merge. None when the operator is not known here."""
    op = node.op
    if op.elementwise or isinstance(op, ops.Expand):
        shapes = [_padded(v.shape, rank) for v in (*node.inputs, node.output)]
        return [tuple(s[i] == 1 for s in shapes) for i in range(rank)]
    if isinstance(op, (*ops.REDUCTIONS, ops.LayerNorm, ops.RmsNorm)):
        return [i in op.axes for i in range(rank)]  # type: ignore[attr-defined]
    if isinstance(op, ops.GroupNorm):
        return [i if i in (0, op.axis) else "free" for i in range(rank)]
    if isinstance(op, ops.TakeAlong):
        same = [a == b for a, b in zip(node.inputs[0].shape, node.inputs[1].shape, strict=True)]
        return [i if i == op.axis or not s else "free" for i, s in enumerate(same)]
    if isinstance(op, (*ONE_AXIS, ops.ArgMax, ops.ArgMin)):
        return [i if i == op.axis else "free" for i in range(rank)]  # type: ignore[attr-defined]
    if isinstance(op, ops.Linear | ops.TopK):
        return [i == rank - 1 for i in range(rank)]
    if isinstance(op, ops.Slice | ops.Pad):
        touched = _touched(node)
        return [i if i in touched else "free" for i in range(rank)]
    if isinstance(op, ops.Flip | ops.Roll):
        return [i if i in op.axes else "free" for i in range(rank)]
    return None


def _runs(labels: Sequence[object], shapes: Sequence[Sequence[int]]) -> Runs:
    """Neighbouring axes of one label, and axes of size 1 everywhere that nothing touches, fall into one run."""
    runs: Runs = []
    last: object = None
    for axis, label in enumerate(labels):
        idle = all(s[axis] == 1 for s in shapes) and not isinstance(label, int | bool)
        if runs and (label == last or idle):
            runs[-1].append(axis)
        else:
            runs.append([axis])
            last = label
    return runs


def _merged(shape: Sequence[int], runs: Runs) -> tuple[int, ...]:
    return tuple(math.prod(shape[a] for a in run) for run in runs)


def _inputs(edit: Editor, node: Node, runs: Runs, rank: int) -> list[Value]:
    wide = {id(v) for v in tensor_inputs(node)}
    result = []
    for value in node.inputs:
        if isinstance(node.op, ops.LayerNorm | ops.RmsNorm) and value is not node.inputs[0]:
            at = {axis: i for i, axis in enumerate(node.op.axes)}
            shape = tuple(math.prod(value.shape[at[a]] for a in run) for run in runs if run[0] in at)
        elif id(value) in wide:
            shape = _merged(_padded(value.shape, rank), runs)
        else:
            shape = value.shape
        result.append(_reshaped(edit, node, value, shape))
    return result


def _reshaped(edit: Editor, node: Node, value: Value, shape: tuple[int, ...]) -> Value:
    scalar = value.size == 1 and value in edit.graph.weights and value.rank <= MAX_RANK and value.dtype[0] == "f"
    if value.shape == shape or scalar:
        return value
    if (array := edit.array(value)) is not None:
        return edit.constant(array.reshape(shape), value.name)
    made = edit.add(ops.Reshape(shape), [value], node)
    if value.source is not None:
        made.source = value.source.reshaped(shape)
    return made


def _on_runs(node: Node, runs: Runs) -> Operator:
    """The node's operator on the merged axes."""
    op = node.op
    at = {axis: i for i, run in enumerate(runs) for axis in run}
    if isinstance(op, ops.Expand):
        return ops.Expand(_merged(op.shape, runs))
    if isinstance(op, (*ops.REDUCTIONS, ops.LayerNorm, ops.RmsNorm)):
        return op.with_(axes=tuple(sorted({at[a] for a in op.axes})))  # type: ignore[attr-defined]
    if isinstance(op, (*ONE_AXIS, ops.ArgMax, ops.ArgMin)):
        return op.with_(axis=at[op.axis])  # type: ignore[attr-defined]
    if isinstance(op, ops.Flip | ops.Roll):
        return op.with_(axes=tuple(at[a] for a in op.axes))
    shape = node.inputs[0].shape
    if isinstance(op, ops.Slice):
        touched = set(_touched(node))
        picked = [next((a for a in run if a in touched), None) for run in runs]
        merged = _merged(shape, runs)
        return ops.Slice(
            tuple(0 if a is None else op.starts[a] for a in picked),
            tuple(merged[i] if a is None else op.stops[a] for i, a in enumerate(picked)),
            tuple(1 if a is None else op.steps[a] for a in picked),
        )
    if isinstance(op, ops.Pad):
        touched = set(_touched(node))
        return op.with_(pads=tuple(next((op.pads[a] for a in run if a in touched), (0, 0)) for run in runs))
    return op


def _finish(edit: Editor, node: Node, op: Operator, inputs: list[Value]) -> None:
    """Compute ``op(inputs)`` and view it as what the node made, output by output."""
    results = [edit.add(op, inputs, node)]
    made = edit.producer[results[0]]
    for old, new in zip(node.outputs, made.outputs, strict=True):
        if old.source is not None:
            new.source = old.source.reshaped(new.shape)
    if len(node.outputs) == 1:
        edit.splice(node, ops.Reshape(node.output.shape), [made.output])
        return
    for old, new in zip(list(node.outputs), made.outputs, strict=True):
        edit.redirect(old, edit.add(ops.Reshape(old.shape), [new], node))
    edit.erase(node)


def _one_axis_at_a_time(edit: Editor, node: Node) -> bool:
    """A slice or pad of more axes than fit, as one step per axis (each then merges the others)."""
    op, value = node.op, node.inputs[0]
    for axis in _touched(node):
        step: Operator
        if isinstance(op, ops.Slice):
            only = [i == axis for i in range(value.rank)]
            step = ops.Slice(
                tuple(s if o else 0 for s, o in zip(op.starts, only, strict=True)),
                tuple(s if o else n for s, o, n in zip(op.stops, only, value.shape, strict=True)),
                tuple(s if o else 1 for s, o in zip(op.steps, only, strict=True)),
            )
        else:
            assert isinstance(op, ops.Pad)
            step = op.with_(pads=tuple(p if i == axis else (0, 0) for i, p in enumerate(op.pads)))
        value = edit.add(step, [value], node)
        _lower(edit, edit.producer[value])
    edit.replace(node, value)
    return True


def _one_run_at_a_time(edit: Editor, node: Node, runs: Runs) -> bool:
    """A reduction over axes with others between them, as one reduction for each stretch of neighbouring axes."""
    op, value = node.op, node.inputs[0]
    for run in (r for r in runs if r[0] in op.axes):  # type: ignore[attr-defined]
        value = edit.add(op.with_(axes=tuple(run), keepdims=True), [value], node)  # type: ignore[call-arg]
        _lower(edit, edit.producer[value])
    edit.splice(node, ops.Reshape(node.output.shape), [value])
    return True


def _spread_out(edit: Editor, node: Node, rank: int) -> bool:
    """An elementwise operator whose inputs broadcast along too many alternating axes: expand the worst input first."""
    shape = node.output.shape
    worst = max(
        (i for i, v in enumerate(node.inputs) if v.size > 1 and _padded(v.shape, rank) != shape),
        key=lambda i: _alternations(_padded(node.inputs[i].shape, rank), shape),
    )
    value = node.inputs[worst]
    if (array := edit.array(value)) is not None:
        expanded = edit.constant(ops.Expand(shape).evaluate(array)[0], value.name)
    else:
        flat = value if value.rank == rank else edit.add(ops.Reshape(_padded(value.shape, rank)), [value], node)
        expanded = _expand(edit, node, flat, shape)
    edit.update(node, inputs=[expanded if i == worst else v for i, v in enumerate(node.inputs)])
    return _lower(edit, node)


def _alternations(a: Sequence[int], b: Sequence[int]) -> int:
    flags = [x == y for x, y in zip(a, b, strict=True)]
    return sum(p != q for p, q in itertools.pairwise(flags))


def _expand(edit: Editor, like: Node, value: Value, shape: Sequence[int]) -> Value:
    """Broadcast ``value`` to ``shape`` of the same rank, one axis at a time, each step on merged axes."""
    grown = list(value.shape)
    for axis, size in enumerate(shape):
        if grown[axis] == size:
            continue
        grown[axis] = size
        value = edit.add(ops.Expand(tuple(grown)), [value], like)
        _lower(edit, edit.producer[value])
    return value


def _lower_matmul(edit: Editor, node: Node) -> bool:
    """Merge the batch axes of a product; where the operands broadcast differently, expand the smaller one."""
    rank, batch = node.output.rank, node.output.shape[:-2]
    shapes = [_padded(v.shape, rank)[:-2] for v in node.inputs]
    runs = _runs([tuple(s[i] == 1 for s in shapes) for i in range(rank - 2)], shapes)
    inputs = []
    for value, shape in zip(node.inputs, shapes, strict=True):
        if len(runs) <= MAX_RANK - 2:
            inputs.append(_reshaped(edit, node, value, (*_merged(shape, runs), *value.shape[-2:])))
            continue
        if shape != batch:
            flat = _reshaped(edit, node, value, (*shape, *value.shape[-2:]))
            value = _expand(edit, node, flat, (*batch, *value.shape[-2:]))
        inputs.append(_reshaped(edit, node, value, (math.prod(batch), *value.shape[-2:])))
    _finish(edit, node, node.op, inputs)
    return True
