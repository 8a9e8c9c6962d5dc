"""Two files of the same build: where every operator of the one has its place in the other, no search is needed."""

from __future__ import annotations

from instep.graph import SourceView
from instep.runtime import TFLiteInfo
from instep.verify.mapping import Mapping

__all__ = ["same_build"]


def same_build(first: TFLiteInfo, second: TFLiteInfo, prefix: str = "source:") -> Mapping | None:
    """The tensors of ``second`` as those of ``first`` at the same places; None unless both are built alike.

    Alike: the same operators in the same order, which read the same values, with values of the same shapes. Constants,
    options and the order in which an operator reads its values may differ: those are faults to be found. ``prefix``
    goes before the first file's tensor names.
    """
    if len(first.ops) != len(second.ops):
        return None
    twin: dict[int, int] = {}
    for a, b in zip(second.inputs, first.inputs, strict=False):
        twin[a] = b
    made = {i for op in second.ops for i in op.outputs} | set(second.inputs)
    if len(first.inputs) != len(second.inputs) or len(first.outputs) != len(second.outputs):
        return None
    for ours, theirs in zip(second.ops, first.ops, strict=True):
        if ours.name != theirs.name or len(ours.outputs) != len(theirs.outputs):
            return None
        read = [i for i in ours.inputs if i in made]
        known = set(twin.values())
        if sorted(twin[i] for i in read if i in twin) != sorted(i for i in theirs.inputs if i in known):
            return None
        twin.update(zip(ours.outputs, theirs.outputs, strict=True))
    if any(second.tensors[a].shape != first.tensors[b].shape for a, b in twin.items() if a >= 0 and b >= 0):
        return None
    if any(a not in twin for a in second.outputs) or [twin[a] for a in second.outputs] != list(first.outputs):
        return None

    def view(index: int) -> SourceView:
        tensor = first.tensors[twin[index]]
        return SourceView.whole(prefix + tensor.name, tensor.shape)

    values = {second.tensors[a].name: view(a) for a in twin if a >= 0 and a not in second.inputs}
    return Mapping(values, [view(a) for a in second.inputs], [view(a) for a in second.outputs])
