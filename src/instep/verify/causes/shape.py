"""Mistakes of views, slices, joins, pads and gathers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.verify.causes.table import Arrays, Context, Found, Meaning, changed, explains, permutations, swapped

__all__: list[str] = []


@explains("off-by-one slice", ops.Slice)
def slice_off_by_one(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for axis, n in enumerate(node.inputs[0].shape):
        for by in (1, -1):
            a, b = op.starts[axis] + by, op.stops[axis] + by
            if op.starts[axis] == 0 and b > n and op.stops[axis] == n and op.steps[axis] == 1:
                continue
            if a >= 0 and (b <= n or (op.steps[axis] > 1 and a < n)):
                starts, stops = list(op.starts), list(op.stops)
                starts[axis], stops[axis] = a, min(b, n)
                yield (
                    f"axis {axis} from {a} instead of {op.starts[axis]}",
                    changed(node, starts=tuple(starts), stops=tuple(stops)),
                )


@explains("slice at the wrong place", ops.Slice)
def slice_elsewhere(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for axis, n in enumerate(node.inputs[0].shape):
        size = op.stops[axis] - op.starts[axis]
        if not 0 < size < n:
            continue
        places = [*range(0, n - size + 1, size), n - size, n - op.stops[axis]]
        for a in list(dict.fromkeys(places))[:16]:
            if a != op.starts[axis] and 0 <= a <= n - size:
                starts, stops = list(op.starts), list(op.stops)
                starts[axis], stops[axis] = a, a + size
                yield (
                    f"axis {axis} from {a} instead of {op.starts[axis]}",
                    changed(node, starts=tuple(starts), stops=tuple(stops)),
                )


@explains("slice step ignored", ops.Slice)
def slice_step(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for axis, step in enumerate(op.steps):
        if step > 1:
            count = node.output.shape[axis]
            starts, stops, steps = list(op.starts), list(op.stops), list(op.steps)
            stops[axis], steps[axis] = starts[axis] + count, 1
            yield (
                f"axis {axis} with step 1 instead of {step}",
                changed(node, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps)),
            )


@explains("order of a concatenation", ops.Concat)
def concat_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for order in permutations(len(node.inputs)):
        yield f"joined in the order {list(order)}", lambda ins, o=order: op.evaluate(*(ins[i] for i in o))


@explains("axis of a concatenation", ops.Concat)
def concat_axis(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    out = node.output.shape
    for axis in range(len(out)):
        if axis != op.axis:
            said = f"joined along axis {axis} instead of {op.axis}"
            yield said, lambda ins, a=axis: np.concatenate(ins, a).reshape(out)


@explains("interleaved concatenation", ops.Concat)
def concat_interleaved(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if len({v.shape for v in node.inputs}) == 1 and len(node.inputs) > 1:
        yield "the inputs' channels interleaved", lambda ins: np.stack(ins, op.axis + 1).reshape(node.output.shape)


@explains("concatenation repeats an input", ops.Concat)
def concat_repeats(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for i in range(len(node.inputs)):
        for j in range(len(node.inputs)):
            if i != j and node.inputs[i].shape == node.inputs[j].shape:

                def run(ins: Arrays, i: int = i, j: int = j) -> Any:
                    ins = list(ins)
                    ins[i] = ins[j]
                    return op.evaluate(*ins)

                yield f"input {i} replaced by input {j}", run


@explains("inverse permutation", ops.Permute)
def permute_inverse(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    inverse = tuple(int(i) for i in np.argsort(op.perm))
    if inverse != op.perm:
        yield (
            f"axes {list(inverse)} instead of {list(op.perm)}",
            lambda ins: ins[0].transpose(inverse).reshape(node.output.shape),
        )


@explains("reshape for a transpose", ops.Permute)
def permute_as_reshape(node: Node, context: Context) -> Iterator[Found]:
    yield "the memory kept as it is", lambda ins: np.ascontiguousarray(ins[0]).reshape(node.output.shape)


@explains("wrong permutation", ops.Permute)
def permute_other(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for perm in permutations(len(op.perm), 120):
        if perm != op.perm:
            yield (
                f"axes {list(perm)} instead of {list(op.perm)}",
                lambda ins, p=perm: ins[0].transpose(p).reshape(node.output.shape),
            )


@explains("reshape in the wrong order", ops.Reshape)
def reshape_order(node: Node, context: Context) -> Iterator[Found]:
    """Data permuted before or after the reshape: a flatten of NHWC data for NCHW, exchanged heads, …"""
    x, out = node.inputs[0].shape, node.output.shape

    def nontrivial(shape: tuple[int, ...]) -> list[int]:
        return [i for i, n in enumerate(shape) if n > 1]

    if 2 <= len(x) <= 6:
        for perm in permutations(len(x), 24):
            moved = [p for p in perm if x[p] > 1]
            if moved != nontrivial(x):
                said = f"input axes in the order {list(perm)} first"
                yield said, lambda ins, p=perm: ins[0].transpose(p).reshape(out)
                back = np.argsort(perm)
                shape = tuple(x[p] for p in perm)
                yield (
                    f"input memory read as if in the order {list(perm)}",
                    lambda ins, s=shape, b=back: np.ascontiguousarray(ins[0]).reshape(s).transpose(b).reshape(out),
                )
    if 2 <= len(out) <= 6:
        for perm in permutations(len(out), 24):
            shape = tuple(out[p] for p in perm)
            if [p for p in perm if out[p] > 1] != nontrivial(out):
                yield (
                    f"output axes laid out in the order {list(perm)}",
                    lambda ins, s=shape, p=perm: np.ascontiguousarray(ins[0]).reshape(s).transpose(np.argsort(p)),
                )


@explains("flip", ops.Flip)
def flip(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "not flipped", lambda ins: ins[0]
    rank = len(node.inputs[0].shape)
    for axes in [*((a,) for a in range(rank)), (rank - 2, rank - 1)]:
        if tuple(sorted(axes)) != tuple(sorted(op.axes)) and min(axes) >= 0:
            yield f"along axes {list(axes)} instead of {list(op.axes)}", changed(node, axes=axes)


@explains("roll direction", ops.Roll)
def roll_direction(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "rolled the other way", changed(node, shifts=tuple(-s for s in op.shifts))
    for i in range(len(op.shifts)):
        shifts = tuple(-s if i == j else s for j, s in enumerate(op.shifts))
        yield f"rolled the other way along axis {op.axes[i]}", changed(node, shifts=shifts)


@explains("roll", ops.Roll)
def roll(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "not rolled", lambda ins: ins[0]
    if len(op.axes) > 1:
        yield "axes exchanged", changed(node, axes=op.axes[::-1])
    for by in (1, -1):
        for i in range(len(op.shifts)):
            shifts = tuple(s + by if i == j else s for j, s in enumerate(op.shifts))
            yield f"rolled by {list(shifts)} instead of {list(op.shifts)}", changed(node, shifts=shifts)


@explains("wrong padding mode", ops.Pad)
def pad_mode(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for mode in ("constant", "reflect", "replicate", "circular"):
        if mode != op.mode:
            yield f"mode {mode!r} instead of {op.mode!r}", changed(node, mode=mode)

    def symmetric(ins: Arrays) -> Any:
        return np.pad(ins[0], op.pads, mode="symmetric")

    yield "symmetric (the border repeated by reflection)", symmetric


@explains("wrong padding value", ops.Pad)
def pad_value(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if op.mode == "constant":
        values = [0.0, 1.0, -1.0, 0.5, 255.0, -np.inf]
        bad = context.bad.get(node.output)
        if bad is not None:
            corner = tuple(0 if before else -1 for before, _ in op.pads)
            values.append(float(bad[corner]))
        for value in values:
            if value != op.value:
                yield f"padded with {value:g} instead of {op.value:g}", changed(node, value=value)


def _moved(node: Node, pads: tuple[tuple[int, int], ...]) -> Meaning | None:
    return changed(node, pads=pads) if min(min(p) for p in pads) >= 0 else None


@explains("padding shifted by one pixel", ops.Pad)
def pad_shifted(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    axes = [i for i, p in enumerate(op.pads) if sum(p)]
    for by in (1, -1):
        for chosen in [axes, *([a] for a in axes)]:
            pads = tuple((a + by, b - by) if i in chosen else (a, b) for i, (a, b) in enumerate(op.pads))
            run = _moved(node, pads)
            if run is not None:
                yield f"pads {pads} instead of {op.pads}", run


@explains("padding at the wrong side", ops.Pad)
def pad_side(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    flipped = tuple((b, a) for a, b in op.pads)
    if flipped != op.pads:
        yield f"pads {flipped} instead of {op.pads}", changed(node, pads=flipped)


@explains("index off by one", ops.Gather, ops.TakeAlong)
def gather_off(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    n = node.inputs[0].shape[op.axis]
    yield "index + 1", swapped(node, 1, lambda i: np.minimum(i + 1, n - 1))
    yield "index - 1", swapped(node, 1, lambda i: np.maximum(i - 1, 0))


@explains("indices in the wrong order", ops.Gather, ops.TakeAlong)
def gather_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    indices = context.graph.array(node.inputs[1])
    yield "indices reversed", swapped(node, 1, lambda i: np.flip(i))
    yield "the table reversed", swapped(node, 0, lambda x: np.flip(x, op.axis))
    if indices is not None and indices.ndim == 1:
        n = node.inputs[0].shape[op.axis]
        if sorted(indices.tolist()) == list(range(n)):
            yield "the inverse permutation", swapped(node, 1, np.argsort)
        if n == indices.size:
            yield "not gathered at all", lambda ins: ins[0]
    if len(node.inputs[1].shape) == 2:
        yield "index matrix transposed", swapped(node, 1, lambda i: i.T.reshape(i.shape))


@explains("tile and repeat mixed up", ops.Expand, ops.Concat)
def tile_for_repeat(node: Node, context: Context) -> Iterator[Found]:
    x, out = node.inputs[0].shape, node.output.shape
    if isinstance(node.op, ops.Concat) and len(set(node.inputs)) == 1 and len(node.inputs) > 1:
        op: Any = node.op
        yield "elements repeated instead of the whole tiled", lambda ins: np.repeat(ins[0], len(ins), op.axis)
    if isinstance(node.op, ops.Expand):
        for axis, (a, b) in enumerate(zip(x[::-1], out[::-1], strict=False)):
            if a == 1 and b > 1 and int(np.prod(x)) > 1:
                yield f"axis {len(out) - 1 - axis} filled in memory order", lambda ins: np.resize(ins[0], out)
                break
