"""Clipping activations are fused into the operator that makes their input."""

from __future__ import annotations

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import adopt, sole_user

__all__ = ["TAKERS", "fuse_activations", "fused_name"]

#: Operators that have a fused activation.
TAKERS = (
    ops.Conv2d, ops.ConvTranspose2d, ops.Conv3d, ops.Linear, ops.Add, ops.Sub, ops.Mul, ops.Div, ops.MaxPool2d,
    ops.AvgPool2d,
)  # fmt: skip


def fused_name(node: Node) -> str:
    """The fused activation that ``node`` is, or ""."""
    if isinstance(node.op, ops.Relu):
        return "relu"
    if isinstance(node.op, ops.Clip):
        return {(0.0, float("inf")): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "relu1"}.get(
            (float(node.op.low), float(node.op.high)), ""
        )
    return ""


@rewrite("a fused activation is the same clip, applied where the value is made")
def fuse_activations(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Relu, ops.Clip):
        name = fused_name(node)
        maker = edit.maker(node.inputs[0], *TAKERS)
        if not name or maker is None or not sole_user(edit, node.inputs[0]):
            continue
        if maker.op.fields()["activation"] or (node.output.dtype != "float32" and node.output.dtype != "float64"):
            continue
        adopt(edit, node.inputs[0], node)
        edit.update(maker, maker.op.with_(activation=name))
        changed = True
    return changed
