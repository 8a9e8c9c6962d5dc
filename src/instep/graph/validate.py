"""States which graphs are legal, at every time and at each stage; every rewrite is checked against it."""

from __future__ import annotations

from collections.abc import Callable

from instep.graph.core import Graph, GraphError, Node
from instep.graph.pending import drawn

__all__ = ["STAGES", "validate"]


def _fused(node: Node) -> str | None:
    return "has a fused activation" if getattr(node.op, "activation", "") else None


def _channels_first(node: Node) -> str | None:
    return "still reads NCHW" if node.op.spatial and getattr(node.op, "layout", "NHWC") != "NHWC" else None


def _foreign_dtype(node: Node) -> str | None:
    known = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
    strange = [v.dtype for v in (*node.inputs, *node.outputs) if v.dtype not in known]
    return f"handles {strange[0]}, which no file format here has" if strange else None


#: What must not be, stage by stage: each function says what is wrong with a node, or None.
STAGES: dict[str, tuple[Callable[[Node], str | None], ...]] = {
    "captured": (_fused,),
    "laid out": (_channels_first,),
    "lowered": (_channels_first, _foreign_dtype),
}


def validate(graph: Graph, *, after: str = "", stage: str = "") -> None:
    """Raise GraphError unless ``graph`` is in static single assignment form, ordered, typed and uniquely named.

    ``after`` names the step that made it, for the message. ``stage`` (a key of ``STAGES``) checks what that stage
    promises too.
    """
    where = f" (after {after})" if after else ""
    known = set(graph.inputs) | set(graph.weights)
    if len(graph.input_names) != len(graph.inputs) or len(graph.output_names) != len(graph.outputs):
        raise GraphError(f"every input and output needs a name{where}")
    for value, array in drawn(graph.weights):
        if value.shape != array.shape or value.dtype != str(array.dtype):
            raise GraphError(f"constant {value} holds {array.dtype}{list(array.shape)}{where}")
    for node in graph.nodes:
        for value in node.inputs:
            if value not in known:
                raise GraphError(f"{node.describe()} reads %{value.name} before it is made{where}")
        try:
            specs = node.op.infer(*(v.spec for v in node.inputs))
        except (ValueError, IndexError, TypeError) as error:
            raise GraphError(f"{node.describe()}: {error}{where}") from error
        for value, spec in zip(node.outputs, specs, strict=True):
            if value in known:
                raise GraphError(f"{node.describe()} makes %{value.name} a second time{where}")
            if value.spec != spec:
                raise GraphError(f"{node.describe()} makes {spec}, but {value} is declared{where}")
            known.add(value)
    for rule in STAGES[stage] if stage else ():
        for node in graph.nodes:
            if (wrong := rule(node)) is not None:
                raise GraphError(f"{node.describe()} {wrong}: the graph is not {stage}{where}")
    for value in graph.outputs:
        if value not in known:
            raise GraphError(f"output %{value.name} is never made{where}")
    names: set[str] = set()
    for value in known:
        if value.name in names:
            raise GraphError(f"two values are called %{value.name}{where}")
        names.add(value.name)
