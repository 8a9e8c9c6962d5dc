"""States which graphs are legal; every rewrite is checked against it."""

from __future__ import annotations

from instep.graph.core import Graph, GraphError

__all__ = ["validate"]


def validate(graph: Graph, *, after: str = "") -> None:
    """Raise GraphError unless ``graph`` is in static single assignment form, ordered, typed and uniquely named.

    ``after`` names the step that made it, for the message.
    """
    where = f" (after {after})" if after else ""
    known = set(graph.inputs) | set(graph.weights)
    if len(graph.input_names) != len(graph.inputs) or len(graph.output_names) != len(graph.outputs):
        raise GraphError(f"every input and output needs a name{where}")
    for value, array in graph.weights.items():
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
    for value in graph.outputs:
        if value not in known:
            raise GraphError(f"output %{value.name} is never made{where}")
    names: set[str] = set()
    for value in known:
        if value.name in names:
            raise GraphError(f"two values are called %{value.name}{where}")
        names.add(value.name)
