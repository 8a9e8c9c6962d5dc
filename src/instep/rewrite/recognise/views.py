"""Sees pixel shuffles, channel gathers and nearest-neighbour enlargements in chains of views."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.graph import Node, Operator, Spec, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.channel_order import dcr_from_crd
from instep.rewrite.fold.weights import channel_axis, sole_user

__all__ = ["known_form", "recognise_focus", "recognise_views"]

VIEWS = (ops.Reshape, ops.Permute, ops.Expand)
#: Values of more elements are not tried (the index map is computed whole).
LARGEST = 1 << 22


@rewrite("the chain moves every element to where the one operator moves it (its index map is computed and compared)")
def recognise_views(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(*VIEWS):
        if not edit.alive(node) or node.output.rank != 4 or _goes_on(edit, node):
            continue
        for x, chain in _chains(edit, node):
            found = known_form(x, chain)
            if found is not None:
                _replace(edit, node, x, found)
                changed = True
                break
    return changed


def _goes_on(edit: Editor, node: Node) -> bool:
    return sole_user(edit, node.output) and isinstance(edit.users[node.output][0].op, VIEWS)


def _chains(edit: Editor, tail: Node) -> list[tuple[Value, list[Operator]]]:
    """(x, operators from x to the tail) for every rank-4 value the chain of views comes through, farthest first."""
    chain: list[Operator] = []
    found: list[tuple[Value, list[Operator]]] = []
    node: Node | None = tail
    while node is not None and len(chain) < 8:
        chain = [node.op, *chain]
        x = node.inputs[0]
        if x.rank == 4 and len(chain) > 1:
            found.append((x, chain))
        node = edit.maker(x, *VIEWS) if sole_user(edit, x) else None
    return found[::-1]


def known_form(x: Value, chain: list[Operator]) -> list[Operator | np.ndarray] | None:
    """The chain as one operator (after or before a gather of channels, given as its indices), or None."""
    plain = not any(isinstance(op, ops.Expand) for op in chain)
    turns = sum(isinstance(op, ops.Permute) for op in chain)
    # within four axes two permutes at least are needed: other tools spell a pixel shuffle so
    if plain and turns < 2 and all(len(op.shape) <= 4 for op in chain if isinstance(op, ops.Reshape)):
        return None
    if x.size > LARGEST:
        return None
    index = np.arange(x.size, dtype=np.int32).reshape(x.shape)
    moved = index
    for op in chain:
        if np.prod(op.infer(Spec(moved.shape))[0].shape) > LARGEST:
            return None
        (moved,) = op.evaluate(moved)
    return _match(index, moved)


def _match(index: np.ndarray, moved: np.ndarray) -> list[Operator | np.ndarray] | None:
    for layout in ("NCHW", "NHWC"):
        axis = channel_axis(ops.DepthToSpace(1, layout=layout), 4)
        rows = 2 if layout == "NCHW" else 1
        h, w = index.shape[rows : rows + 2]
        oh, ow = moved.shape[rows : rows + 2]
        c, oc = index.shape[axis], moved.shape[axis]
        if index.shape[0] != moved.shape[0]:
            return None
        if (h, w) == (oh, ow):
            order = _order_along(index, moved, axis)
            if order is not None:
                return [order, ops.Gather(axis)]
        elif oh > h and ow > w and oh % h == 0 and ow % w == 0:
            r = oh // h
            if oc == c and np.array_equal(index.repeat(r, rows).repeat(ow // w, rows + 1), moved):
                return [ops.Resize2d((oh, ow), "nearest", "asymmetric", layout=layout)]
            if oc * r * r == c and r == ow // w:
                (back,) = ops.SpaceToDepth(r, "CRD", layout).evaluate(moved)
                order = _order_along(index, back, axis)
                if order is not None:
                    return _ordered(order, r, ops.DepthToSpace(r, "CRD", layout), axis)
        elif oh and h % oh == 0 and h // oh == w // ow and w % ow == 0 and oc == c * (h // oh) ** 2:
            r = h // oh
            (deep,) = ops.SpaceToDepth(r, "CRD", layout).evaluate(index)
            order = _order_along(deep, moved, axis)
            if order is not None:
                return _ordered(order, r, ops.SpaceToDepth(r, "CRD", layout), axis)
    return None


def _order_along(before: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray | None:
    """``order`` with after == before.take(order, axis), or None."""
    first = [0] * before.ndim
    cut: list[Any] = list(first)
    cut[axis] = slice(None)
    column = before[tuple(cut)]
    place = {int(v): i for i, v in enumerate(column)}
    order = [place.get(int(v), -1) for v in after[tuple(cut)]]
    if -1 in order:
        return None
    taken = before.take(order, axis)
    return np.array(order) if taken.shape == after.shape and np.array_equal(taken, after) else None


def _ordered(order: np.ndarray, r: int, op: Any, axis: int) -> list[Operator | np.ndarray]:
    crd = np.arange(len(order))
    dcr = dcr_from_crd(len(order), r)
    if np.array_equal(order, crd):
        return [op]
    # DepthToSpace reads channel order[i] at place i of CRD order: DCR order is the inverse of "DCR from CRD"
    if isinstance(op, ops.DepthToSpace) and np.array_equal(order, np.argsort(dcr)):
        return [op.with_(order="DCR")]
    if isinstance(op, ops.SpaceToDepth):
        return [op.with_(order="DCR")] if np.array_equal(order, dcr) else [op, order, ops.Gather(axis)]
    return [order, ops.Gather(axis), op]


def _replace(edit: Editor, node: Node, x: Value, found: list[Operator | np.ndarray]) -> None:
    """Turn ``node`` into the found operators on ``x``; an array is the indices of the gather after it."""
    indices: Value | None = None
    for i, step in enumerate(found):
        if isinstance(step, np.ndarray):
            indices = edit.constant(step.astype(np.int32), f"{node.scope or node.output.name}.order")
            continue
        inputs = [x] if not isinstance(step, ops.Gather) or indices is None else [x, indices]
        if i == len(found) - 1:
            edit.splice(node, step, inputs)
        else:
            x = edit.add(step, inputs, node)


@rewrite("the strided slices of a value, joined, are its places of each block side by side")
def recognise_focus(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Concat):
        makers = [edit.maker(v, ops.Slice) for v in node.inputs]
        if len(makers) < 4 or any(m is None for m in makers) or node.output.rank != 4:
            continue
        slices = [m for m in makers if m is not None]
        x = slices[0].inputs[0]
        if any(s.inputs[0] is not x for s in slices) or x.size > LARGEST or x.size != node.output.size:
            continue
        if not any(step > 1 for step in slices[0].op.steps):  # type: ignore[attr-defined]
            continue
        index = np.arange(x.size, dtype=np.int32).reshape(x.shape)
        (moved,) = node.op.evaluate(*(s.op.evaluate(index)[0] for s in slices))
        found = _match(index, moved)
        if found is not None:
            _replace(edit, node, x, found)
            changed = True
    return changed
