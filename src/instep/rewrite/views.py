"""Rewrites of view chains: compose reshapes and permutes, and slice before moving."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from operator import mul

from instep.graph import Node, Value, ops
from instep.graph.operator import Operator
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.view_algebra import View, reshape_groups

__all__ = ["canonicalise_views", "hoist_slices", "shorten_views"]

VIEW = (ops.Reshape, ops.Permute)
#: What one more operator costs beside the bytes that it moves (a RESHAPE still copies, at memcpy speed).
OP_COST = 4096


def _cost(steps: list[Operator], value: Value) -> int:
    return sum(OP_COST + value.nbytes * (4 if isinstance(op, ops.Permute) else 1) for op in steps)


@rewrite("a chain of reshapes and permutes is one affine index map; the same map is written with fewer moves")
def canonicalise_views(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(*VIEW):
        if not edit.alive(node):
            continue
        users = edit.users[node.output]
        if not users and not edit.is_output(node.output):
            continue
        if users and not edit.is_output(node.output) and all(isinstance(u.op, VIEW) for u in users):
            continue  # the end of the chain decides
        changed |= _shorten(edit, node)
    return changed


def _shorten(edit: Editor, node: Node) -> bool:
    """Write the chain that ends in ``node`` from the ancestor where it is cheapest."""
    chain = [node]
    while (parent := edit.maker(chain[-1].inputs[0], *VIEW)) is not None:
        chain.append(parent)
    # what stands now, as far up as only this chain needs it
    private = [node]
    for link in chain[1:]:
        if edit.only_user(link.output) is None:
            break
        private.append(link)
    best = _price(private, [], node.output, chain)
    choice: tuple[Value, list[Operator]] | None = None
    for depth, link in enumerate(chain):
        written = _steps(link.inputs[0].shape, [n.op for n in reversed(chain[: depth + 1])])
        if written is None:
            break
        steps, moves = written
        price = _price(private[depth + 1 :], steps, node.output, chain[depth + 1 :])
        # at equal price the higher root wins where it lets a shared link die
        if price < best or (price == best and depth >= len(private) and not moves):
            best, choice = price, (link.inputs[0], steps)
    if choice is None:
        return False
    _write(edit, node, *choice)
    return True


def _steps(shape: tuple[int, ...], chain: list[Operator]) -> tuple[list[Operator], bool] | None:
    """``chain`` from a value of ``shape``, written with few moves; and whether it moves anything.

    One affine map as far as it goes. Where a reshape splits axes in another way than they were joined (windows of 7
    after a grid of 8), the map ends at the shape that both sides refine, [N, 56, 56, C], and the next begins there.
    None when they share no shape of four axes.
    """
    view = View(shape)
    if all(view.then(op) for op in chain):
        return view.to_ops(), view.moves
    first = View(shape)
    for i, op in enumerate(chain):
        before = first.out_shape
        if first.then(op):
            continue
        if not isinstance(op, ops.Reshape) or (common := _common(before, op.shape)) is None:
            return None
        above = _steps(shape, [*chain[:i], ops.Reshape(common)])
        below = _steps(common, [op, *chain[i + 1 :]])
        return None if above is None or below is None else (above[0] + below[0], True)
    return None


def _common(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...] | None:
    """The finest shape that both shapes refine, if it has at most four axes and is neither of them."""
    cuts = sorted(set(accumulate(before, mul)) & set(accumulate(after, mul)) | {1})
    shape = tuple(b // a for a, b in pairwise(cuts))
    return shape if len(shape) <= 4 and shape not in (before, after) else None


def _price(kept: list[Node], steps: list[Operator], value: Value, above: list[Node]) -> tuple[bool, int]:
    """(a value of more than four axes is kept alive, bytes and operators): the links that stay, then ``steps``.

    ``above`` are all links over the steps, private or shared: their ranks count, their cost does not.
    """
    made = [len(op.shape) if isinstance(op, ops.Reshape) else len(op.perm) for op in steps[:-1] if isinstance(op, VIEW)]
    deep = max([*made, *(n.output.rank for n in above)], default=0) > 4
    return deep, _cost([n.op for n in kept] + steps, value)


def _write(edit: Editor, node: Node, root: Value, steps: list[Operator]) -> None:
    if not steps:
        edit.replace(node, root)
        return
    value = root
    for op in steps[:-1]:
        value = edit.add(op, [value], node)
    edit.splice(node, steps[-1], [value])


@rewrite("a chain of reshapes and permutes is one affine index map; the same map is written with fewer operators")
def shorten_views(edit: Editor) -> bool:
    """Fewer operators, of whatever rank the network has: for frameworks that take any, and for people who read."""
    changed = False
    for node in edit.nodes(*VIEW):
        if not edit.alive(node):
            continue
        chain = [node]
        while (parent := edit.maker(chain[-1].inputs[0], *VIEW)) is not None and edit.only_user(parent.output):
            chain.append(parent)
        for count in range(len(chain), 0, -1):
            view = View(chain[count - 1].inputs[0].shape)
            if not all(view.then(n.op) for n in reversed(chain[:count])):
                continue
            steps = view.to_ops(max_rank=max(4, *(n.output.rank for n in chain)))
            is_output = edit.is_output(node.output)
            if len(steps) >= count or (is_output and not steps):
                continue
            _write(edit, node, chain[count - 1].inputs[0], steps)
            changed = True
            break
    return changed


@rewrite("slicing a view's result takes the same elements as viewing a slice of its input")
def hoist_slices(edit: Editor) -> bool:
    changed = False
    work = edit.nodes(ops.Slice)
    while work:
        node = work.pop()
        parent = edit.maker(node.inputs[0], *VIEW)
        if parent is None or not edit.alive(node) or edit.is_output(parent.output):
            continue
        siblings = edit.users[parent.output]
        if any(not isinstance(u.op, ops.Slice) for u in siblings):
            continue
        made = _through_permute(node, parent) if isinstance(parent.op, ops.Permute) else _through_reshape(node, parent)
        if made is None:
            continue
        cut, view = made
        sliced = edit.add(cut, [parent.inputs[0]], node)
        edit.splice(node, view, [sliced])
        if len(siblings) == 0:  # the last slice has left: all of them may rise further
            work.extend(n for n in edit.users[parent.inputs[0]] if isinstance(n.op, ops.Slice))
        changed = True
    return changed


def _through_permute(node: Node, parent: Node) -> tuple[ops.Slice, Operator] | None:
    cut, perm = node.op, parent.op.perm  # type: ignore[attr-defined]
    assert isinstance(cut, ops.Slice)
    back = [perm.index(i) for i in range(len(perm))]
    moved = ops.Slice(
        tuple(cut.starts[b] for b in back), tuple(cut.stops[b] for b in back), tuple(cut.steps[b] for b in back)
    )
    return moved, ops.Permute(perm)


def _through_reshape(node: Node, parent: Node) -> tuple[ops.Slice, Operator] | None:
    """Possible when each sliced axis leads its group of axes (or is alone in it)."""
    cut = node.op
    assert isinstance(cut, ops.Slice)
    before, after = parent.inputs[0].shape, parent.output.shape
    starts, stops, steps = [0] * len(before), list(before), [1] * len(before)
    for xs, ys in reshape_groups(before, after):
        sliced = [y for y in ys if (cut.starts[y], cut.stops[y], cut.steps[y]) != (0, after[y], 1)]
        if not sliced:
            continue
        if len(sliced) > 1:
            return None
        y = sliced[0]
        lead = [k for k in ys if after[k] != 1]
        heads = [x for x in xs if before[x] != 1]
        if not lead or lead[0] != y or not heads:
            return None
        x = heads[0]
        inner_y = math.prod(after[k] for k in lead[1:])
        inner_x = math.prod(before[k] for k in heads[1:])
        if cut.steps[y] != 1 and (len(lead) > 1 or len(heads) > 1):
            return None
        if cut.starts[y] * inner_y % inner_x or cut.stops[y] * inner_y % inner_x:
            return None
        starts[x] = cut.starts[y] * inner_y // inner_x
        stops[x] = cut.stops[y] * inner_y // inner_x
        steps[x] = cut.steps[y]
    return ops.Slice(tuple(starts), tuple(stops), tuple(steps)), ops.Reshape(node.output.shape)
