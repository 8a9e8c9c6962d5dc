"""Operators without a handler, in the words of other operators: ours (``definitions``) or PyTorch's own.

PyTorch defines most of its operators by others (``torch._decomp.core_aten_decompositions``; PyTorch documentation,
"IRs", Core ATen). The proof still runs the operator itself: only the graph is made of its parts.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch

from instep.capture.torch.definitions import definition
from instep.capture.torch.program import FREE, Step, map_steps, steps_in
from instep.capture.torch.registry import Unsupported

__all__ = ["Spelled", "spelled"]


@dataclass
class Spelled:
    """An operator as ``steps`` in order of execution; ``result``: the step, or steps, of what it returns."""

    steps: list[Step]
    result: Any


def spelled(step: Step) -> Spelled | None:
    """What ``step`` computes, in other operators; None where there are no other words for it.

    The steps read those that ``step`` reads and are at its place in the source. Raises Unsupported where the words
    that there are do not cover the step's arguments.
    """
    function = _definition(step.target)
    if function is None:
        return None
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    read = list(dict.fromkeys(steps_in((step.args, step.kwargs))))
    if not all(isinstance(s.val, torch.Tensor) for s in read):
        return None

    def call(*tensors: torch.Tensor) -> Any:
        held = dict(zip(read, tensors, strict=True))
        return function(*map_steps(step.args, held.__getitem__), **map_steps(step.kwargs, held.__getitem__))

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            like = [torch.empty_strided(s.val.shape, s.val.stride(), dtype=s.val.dtype) for s in read]
            traced = make_fx(call)(*like)
    except Unsupported:
        raise
    except Exception:
        return None  # the decomposition asks for what a trace cannot say; the caller names the operator
    return _steps(traced, step, read)


def _definition(target: Any) -> Any:
    """The function that computes what the operator ``target`` does by other operators, or None."""
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
        return None
    if (ours := definition(target)) is not None:
        return ours
    from torch._decomp import core_aten_decompositions

    table = core_aten_decompositions()  # a dict whose ``get`` finds nothing
    if target in table:
        return table[target]
    return target.decompose if target._can_decompose() else None


def _steps(traced: torch.fx.GraphModule, whole: Step, read: list[Step]) -> Spelled | None:
    held: dict[torch.fx.Node, Any] = {}
    given = iter(read)
    steps: list[Step] = []

    def resolve(arg: Any) -> Any:
        if isinstance(arg, torch.fx.Node):
            return held[arg]
        if isinstance(arg, list | tuple):
            return (list if isinstance(arg, list) else tuple)(map(resolve, arg))
        if isinstance(arg, dict):
            return {k: resolve(v) for k, v in arg.items()}
        return arg

    for node in traced.graph.nodes:
        if node.op == "placeholder":
            held[node] = next(given)
        elif node.op == "output":
            return Spelled(steps, resolve(node.args[0]))
        elif node.op == "get_attr":
            tensor = operator.attrgetter(str(node.target))(traced)
            held[node] = Step("weight", f"{whole.name}.{node.name}", val=tensor, tensor=tensor)
        elif getattr(getattr(node.target, "_schema", None), "is_mutable", False):
            return None
        else:
            args, kwargs = resolve(node.args), resolve(node.kwargs)
            depends = max((s.depends for s in steps_in((args, kwargs))), default=FREE)
            held[node] = Step(
                "call", f"{whole.name}.{node.name}", node.target, tuple(args), dict(kwargs), node.meta.get("val"),
                whole.scope, whole.origin, depends,
            )  # fmt: skip
            steps.append(held[node])
    return None
