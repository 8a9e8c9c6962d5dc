"""What of a PyTorch network is not trained: arrays without a gradient, and batch norms that stay in eval mode."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Container
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from instep.graph import Graph, ops

__all__ = ["note_untrained", "staying_in_eval"]


def staying_in_eval(network: nn.Module) -> set[str]:
    """The names of the batch norms that keep to their running statistics while ``network`` is trained.

    A network says so by a ``train`` of its own, which puts them back into eval mode, or comes so: in training mode, but
    for norms. A part that is in eval mode as a whole was put so by whoever used it last, and says nothing.
    """
    norms = {name: m for name, m in network.named_modules(remove_duplicate=False) if isinstance(m, _BatchNorm)}
    above = {name: network.get_submodule(name.rpartition(".")[0]) for name in norms}
    found = {name for name, m in norms.items() if above[name].training and not m.training}
    own = [type(m).train for m in network.modules() if type(m).train is not nn.Module.train]
    # a class may call something else "train": that one is not set to a mode
    if not norms or not own or any("mode" not in inspect.signature(train).parameters for train in own):
        return found
    try:
        trained = copy.deepcopy(network).train()
    except Exception:  # nothing that a network needs in order to be captured
        return found
    return found | {name for name in norms if not trained.get_submodule(name).training}


def note_untrained(graph: Graph, exported: Any, still: Container[str]) -> None:
    """Enter what is not trained: ``meta["buffers"]``, and the batch norms that are fixed.

    These are the layers in ``still``, and those whose scale or shift is a buffer: a batch norm that is trained has
    parameters there, one that is written to be frozen has not.
    """
    if buffers := _buffers(exported, graph):
        graph.meta["buffers"] = buffers
    held = {s.target for s in exported.graph_signature.input_specs if s.kind.name == "BUFFER"}
    for node in graph.nodes:
        if not isinstance(node.op, ops.BatchNorm):
            continue
        layer = node.inputs[3].name.rpartition(".")[0]
        if layer in still or any(v.name in held for v in node.inputs[1:3]):
            node.op = replace(node.op, fixed=True)


def _buffers(exported: Any, graph: Graph) -> list[str]:
    """The arrays that the network keeps and does not train: parameters without a gradient, buffers, and constants of
    its own forward() (those of a scope say so by their names). A batch norm's statistics are so where its weights are.
    A network that trains none of its parameters is in use, and says nothing of what is to be trained.
    """
    parameters = {s.target for s in exported.graph_signature.input_specs if s.kind.name == "PARAMETER"}
    trained = {name for name in parameters if exported.state_dict[name].requires_grad} or parameters
    norms = [n for n in graph.nodes if isinstance(n.op, ops.BatchNorm)]
    kept = {v.name for v in graph.weights if "/" not in v.name} - trained
    read = {v for n in graph.nodes if n not in norms for v in n.inputs} | set(graph.outputs)
    read |= {v for n in norms for v in n.inputs if any(w.name in kept for w in n.inputs[1:3])}
    return [v.name for v in graph.weights if v in read and v.name in kept]
