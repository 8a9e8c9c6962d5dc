"""Operators that move or choose elements as PyTorch."""

from __future__ import annotations

import math

from instep.emit.code.call import Call, Weight
from instep.emit.code.idioms import Select, Split, Stack, Unbind
from instep.emit.code.indexing import listed, picked
from instep.emit.torch.table import claimed, code, rule
from instep.graph import ops
from instep.graph.core import Graph, Node
from instep.graph.text.outline import End


@rule(ops.Reshape)
def reshape(node: Node, graph: Graph) -> Call:
    (x,), shape = node.inputs, node.op.shape
    if x.rank > 1 and len(shape) == 2 and shape[0] == x.shape[0] and x.size:
        fields = {"start_dim": 1}
        template = "torch.flatten({0}, {start_dim})"
        return Call([x], node.outputs, template, fields, defaults=fields, module="nn.Flatten")
    return code(node, "{0}.reshape({shape:args})" if shape else "{0}.squeeze()", shape=open_batch(x.shape, shape))


def open_batch(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    """``new`` with its first size left open, where the first axes may hold the batch, so that it may have any size."""
    if not old or not new or not math.prod(new):
        return new
    whole = new[0] % old[0] == 0 or old[0] % new[0] == 0
    return (-1, *new[1:]) if whole else new


@rule(ops.Permute)
def permute(node: Node, graph: Graph) -> Call:
    return code(node, "{0}.permute({dims:args})", dims=tuple(node.op.perm))


@rule(ops.Expand)
def expand(node: Node, graph: Graph) -> Call:
    (x,), shape = node.inputs, node.op.shape
    old = (0,) * (len(shape) - x.rank) + x.shape
    return code(
        node, "{0}.expand({sizes:args})", sizes=tuple(-1 if a == b else b for a, b in zip(old, shape, strict=True))
    )


@rule(ops.Slice)
def slices(node: Node, graph: Graph) -> Call:
    op, (x,) = node.op, node.inputs
    parts: list[str] = []
    fields: dict[str, int] = {}
    for axis, (start, stop, step) in enumerate(zip(op.starts, op.stops, op.steps, strict=True)):
        if (start, stop, step) == (0, x.shape[axis], 1):
            parts.append(":")
            continue
        # slices that end at a size from which a picture of another size would differ are written as they are
        fields |= {f"start_{axis}": start, f"stop_{axis}": End(stop) if stop == x.shape[axis] else stop}
        parts.append(f"{{start_{axis}:start}}:{{stop_{axis}:stop}}")
        if step != 1:
            fields[f"step_{axis}"] = step
            parts[-1] += f":{{step_{axis}}}"
    while parts and parts[-1] == ":":
        parts.pop()
    if not parts:
        return code(node, "{0}")
    return code(node, f"{{0}}[{', '.join(parts)}]", **fields)


@rule(Select)
def select(node: Node, graph: Graph) -> Call:
    template, fields = picked(node)
    return code(node, template, **fields)


@rule(Unbind)
def unbind(node: Node, graph: Graph) -> Call:
    return code(node, "torch.unbind({0}, {dim})", dim=node.op.axis)


@rule(Split)
def split(node: Node, graph: Graph) -> Call:
    sizes = node.op.sizes
    if len(set(sizes)) == 1:
        return code(node, "torch.chunk({0}, {chunks}, dim={dim})", chunks=len(sizes), dim=node.op.axis)
    return code(node, "torch.split({0}, {sizes}, dim={dim})", sizes=sizes, dim=node.op.axis)


@rule(Stack)
def stack(node: Node, graph: Graph) -> Call:
    return code(node, f"torch.stack({listed(node)}, dim={{dim}})", dim=node.op.axis)


@rule(ops.Concat)
def concat(node: Node, graph: Graph) -> Call:
    return code(node, f"torch.cat({listed(node)}, dim={{dim}})", dim=node.op.axis)


@rule(ops.Pad)
def pad(node: Node, graph: Graph) -> Call:
    op, (x,) = node.op, node.inputs
    kept = list(op.pads)
    while kept and kept[0] == (0, 0):
        kept.pop(0)
    if not kept:
        return code(node, "{0}")
    flat = tuple(n for pair in reversed(kept) for n in pair)
    if op.mode == "constant":
        if op.value == 0:
            return code(node, "F.pad({0}, {pad})", pad=flat)
        return code(node, "F.pad({0}, {pad}, value={value})", pad=flat, value=op.value)
    room = {"reflect": -1, "circular": 0, "replicate": math.inf}[op.mode]
    fits = all(max(p) <= n + room for p, n in zip(op.pads, x.shape, strict=True) if max(p))
    # PyTorch pads all axes but the first one or two so
    kept = list(op.pads[-max(len(kept), x.rank - 2) :])
    if fits and len(kept) <= 3 and x.rank - len(kept) in (1, 2):
        flat = tuple(n for pair in reversed(kept) for n in pair)
        return code(node, f'F.pad({{0}}, {{pad}}, mode="{op.mode}")', pad=flat)
    call = code(node, f'pad_by_index({{0}}, {{pads}}, "{op.mode}")', pads=op.pads)
    call.helpers = ("pad_by_index",)
    return call


@rule(ops.Flip)
def flip(node: Node, graph: Graph) -> Call:
    return code(node, "torch.flip({0}, {dims})", dims=tuple(node.op.axes))


@rule(ops.Roll)
def roll(node: Node, graph: Graph) -> Call:
    return code(node, "torch.roll({0}, {shifts}, {dims})", shifts=tuple(node.op.shifts), dims=tuple(node.op.axes))


@rule(ops.Gather)
def gather(node: Node, graph: Graph) -> Call:
    x, indices = node.inputs
    if (
        node.op.axis == 0
        and x.rank == 2
        and claimed(graph, node, [x])
        and "/" not in x.name
        and indices not in graph.weights
    ):
        fields = {"num_embeddings": x.shape[0], "embedding_dim": x.shape[1]}
        return Call([indices], node.outputs, "{layer}({0})", fields, "nn.Embedding", 2, {"weight": Weight(x)})
    return code(node, f"{{0}}[{':, ' * node.op.axis}{{1}}]")


@rule(ops.TakeAlong)
def take_along(node: Node, graph: Graph) -> Call:
    long = "{1}" if node.inputs[1].dtype == "int64" else "{1}.long()"
    return code(node, f"torch.gather({{0}}, {{dim}}, {long})", dim=node.op.axis)
