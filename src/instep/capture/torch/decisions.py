"""What forward() decides on constants (``if self.flag:``, ``mask.tolist()``), answered while it is traced.

A trace knows shapes and no values: torch.export takes ``bool(tensor)`` for a decision on data, whatever the tensor is
made of. Where it is made of parameters, buffers and constants alone, the steps recorded so far say how, and they are
run on the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch._subclasses.fake_tensor import is_fake
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from instep.capture.base import CaptureError
from instep.capture.torch.places import user_line
from instep.capture.torch.program import Step, call, refuse_random

__all__ = ["DecidedByConstants"]

_OF_ONE = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "is_nonzero")
_OF_TWO = ("equal", "allclose")
#: what hands out the values of tensors as Python's own
_ASKING = {getattr(torch.Tensor, name) for name in _OF_ONE + _OF_TWO} | {torch.is_nonzero, torch.equal, torch.allclose}
#: what is as long as the values of a tensor say
_REPEATING = {torch.repeat_interleave, torch.Tensor.repeat_interleave}
_UNKNOWN = object()


class DecidedByConstants(TorchFunctionMode):
    """While inside, a traced forward() is told the values of its constants; ``notes`` gets what training could change.

    ``module`` is the network whose parameters and buffers are the first inputs of the traced program, in that order.
    """

    def __init__(self, module: torch.nn.Module, notes: list[str]) -> None:
        super().__init__()
        held = dict(module.named_parameters(remove_duplicate=False))
        self._held = list((held | dict(module.named_buffers(remove_duplicate=False))).items())
        self._notes = notes
        self._said: dict[str, list[str]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        mode = get_proxy_mode() if func in _ASKING or func in _REPEATING else None
        if mode is None:
            return func(*args, **kwargs)
        if func not in _REPEATING:
            answer = self._answer(mode.tracer, func, args, kwargs)
            return func(*args, **kwargs) if answer is _UNKNOWN else answer
        return func(*args, **kwargs, **self._size(mode.tracer, *args, **kwargs))

    def _size(self, tracer: Any, x: Any, repeats: Any = None, dim: int | None = None, **given: Any) -> dict[str, int]:
        """The argument that tells repeat_interleave how long its result is, where constants say it."""
        if not isinstance(repeats, torch.Tensor) or given.get("output_size") is not None:
            return {}
        total = self._answer(tracer, torch.Tensor.sum, (repeats,), {})
        if total is _UNKNOWN:
            return {}
        return {
            "output_size": int(total) * ((x.numel() if dim is None else x.shape[dim]) if repeats.numel() == 1 else 1)
        }

    def _answer(self, tracer: Any, func: Any, args: Any, kwargs: Any) -> Any:
        """What ``func`` says of its constants, or _UNKNOWN where an input has a say in it."""
        tensors = {id(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        slots = {key: get_proxy_slot(t, tracer, None) for key, t in tensors.items()}
        nodes = {key: slot.proxy.node for key, slot in slots.items() if slot is not None}
        steps = _making(tracer.graph, nodes.values())
        inputs = {node: i for i, node in enumerate(n for n in tracer.graph.nodes if n.op == "placeholder")}
        foreign = any(is_fake(t) and key not in nodes for key, t in tensors.items())
        if foreign or any(inputs.get(step, -1) >= len(self._held) for step in steps):
            return _UNKNOWN  # on data: PyTorch refuses it, or has no need of the value
        read = {step: self._held[inputs[step]] for step in steps if step in inputs}
        with _disable_current_modes(), torch._C._DisablePythonDispatcher(), torch._C.DisableTorchFunction():
            values = {step: tensor.detach().clone() for step, (_, tensor) in read.items()}
            _run(tracer.root, steps, values)
            real = {**tensors, **{key: values[node] for key, node in nodes.items()}}
            args, kwargs = tree_map_only(torch.Tensor, lambda t: real[id(t)], (args, kwargs))
            answer = func(*args, **kwargs)
        self._note([name for name, _ in read.values()], answer)
        return answer

    def _note(self, names: list[str], answer: Any) -> None:
        """Constants of forward() itself never change; what has a name might."""
        if names:
            said = self._said.setdefault(f"{_listed(names)} at {user_line()}", [])
            said.append(repr(answer) if len(repr(answer)) < 40 else "its values")

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if error[0] is not None:
            return  # the trace failed, and another may follow
        for what, answers in self._said.items():
            first, *others = dict.fromkeys(answers)  # torch.export calls forward() more than once
            more = f" and {len(others)} more" if others[3:] else "".join(f", {other}" for other in others)
            self._notes.append(f"decided at conversion from {what}: {first}{more}")


def _listed(names: list[str]) -> str:
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if names[1:] else "")


def _making(graph: Graph, asked: Iterable[Node]) -> list[Node]:
    """The recorded steps that what ``asked`` hold now is made by, in order, with all that write into their memory."""
    wanted = set(asked)
    memory = {key for node in wanted for key in _memory(node)}
    found = []
    for node in reversed(graph.nodes):
        if node not in wanted and not any(w in wanted or memory & _memory(w) for w in _written(node)):
            continue
        found.append(node)
        wanted.update(node.all_input_nodes)
        memory.update(key for read in node.all_input_nodes for key in _memory(read))
    return found[::-1]


def _memory(node: Node) -> set[int]:
    return {t.untyped_storage()._cdata for t in tree_leaves(node.meta.get("val")) if isinstance(t, torch.Tensor)}


def _written(node: Node) -> list[Node]:
    """The arguments of a step that it writes to."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    named = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | node.kwargs
    outs = [named.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [n for n in tree_leaves(outs) if isinstance(n, Node)]


@torch.no_grad()
def _run(root: Any, steps: list[Node], values: dict[Node, Any]) -> None:
    """Run recorded ``steps`` on real tensors; ``values`` holds the network's inputs, and the results afterwards."""
    for node in steps:
        if node.op == "get_attr":
            values[node] = getattr(root, str(node.target)).detach().clone()
        elif node.op == "call_function":
            step = Step("call", node.name, node.target)
            args, kwargs = tree_map_only(Node, values.__getitem__, (node.args, node.kwargs))
            try:
                refuse_random(step)
                values[node] = call(step, args, kwargs, None)
            except Exception as error:
                raise CaptureError(
                    f"{user_line()}: forward() decides on a constant that cannot be computed before its inputs are "
                    f"known ({error}); decide it when the network is made"
                ) from None
