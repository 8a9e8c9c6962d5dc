"""A step of SGD in each framework, with batch norms in training mode: what every weight is afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.training.judging import KEPT
from benchmarks.training.task import RATE, Task

from instep.emit.code.call import Weight
from instep.emit.code.program import program
from instep.graph import Graph

if TYPE_CHECKING:
    from benchmarks.training.kinks import Kinks

__all__ = ["FRAMEWORKS", "step", "torch_step"]

#: framework → the environment that its process needs
FRAMEWORKS: dict[str, dict[str, str]] = {
    "torch": {},
    "keras-tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "keras-jax": {"KERAS_BACKEND": "jax"},
    "flax": {},
}

Arrays = dict[str, np.ndarray]


def step(framework: str, task: Task) -> Arrays:
    """Every weight after one step, by its name in the graph and as the graph of ``task`` lays it out."""
    if framework == "torch":
        return torch_step(task)
    from instep.rewrite.pipelines import to_channels_last

    last, _ = to_channels_last(task.graph)
    moved = [v.source.apply(a) if v.source else a for v, a in zip(last.inputs, task.inputs, strict=True)]
    targets = [v.source.apply(a) if v.source else a for v, a in zip(last.outputs, task.targets, strict=True)]
    run: Callable[..., Arrays] = {"flax": _flax_step}.get(framework, _keras_step)
    return _as_source(run(last, moved, targets), last, task)


def _as_source(arrays: Mapping[str, np.ndarray], last: Graph, task: Task) -> Arrays:
    """Arrays of the graph with channels last as the source has them, by how the graphs' own weights differ."""
    first = {v.name: a for v, a in task.graph.weights.items()}
    start = {v.name: np.asarray(a) for v, a in last.weights.items()}
    found = {n: a for n, a in arrays.items() if n.endswith(KEPT)}
    for name, array in arrays.items():
        if name in first:
            found[name] = array.transpose(_back(start[name], np.asarray(first[name]), name)).reshape(first[name].shape)
    return found


def _back(moved: np.ndarray, source: np.ndarray, name: str) -> tuple[int, ...]:
    """The transposition that takes a weight with channels last to how the source has it."""
    orders = {2: [(0, 1), (1, 0)], 4: [(0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 1, 2), (3, 2, 0, 1)]}
    for order in orders.get(moved.ndim, [tuple(range(moved.ndim))]):
        again = moved.transpose(order)
        if again.size == source.size and np.array_equal(again.reshape(source.shape), source):
            return order
    raise ValueError(f"{name}: the graph with channels last holds no transposition of it")


# -- PyTorch ---------------------------------------------------------------------------------------------------------
def torch_step(task: Task, double: bool = False, kinks: Kinks | None = None) -> Arrays:
    """The step in PyTorch, in float32 or float64, its forward pass under ``kinks``."""
    import torch

    from instep.emit.torch import build, penalty
    from instep.emit.torch.dialect import TORCH

    torch.manual_seed(0)
    kind = torch.float64 if double else torch.float32
    model = build(task.graph).to(kind).train()
    inputs = [torch.from_numpy(a) for a in task.inputs]
    with kinks or nullcontext():
        results = model(*(x.to(kind) if x.is_floating_point() else x for x in inputs))
    results = results if isinstance(results, tuple | list) else (results,)
    pairs = zip(results, task.targets, strict=True)
    losses = [((y - torch.from_numpy(t).to(kind)) ** 2).mean() for y, t in pairs]
    loss = torch.stack(losses).mean() + penalty(task.graph)(model)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    loss.backward()
    optimiser.step()
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    made = program(task.graph, TORCH)
    found: Arrays = {}
    for path, weight in made.weights.items():
        if (array := state.get(".".join(path))) is not None:
            found |= _named(weight, array, task.graph)
    return found


def _named(weight: Weight, array: np.ndarray, graph: Graph) -> Arrays:
    """The graph's constants that a layer's array holds, by name; as ``NAME/kept`` the array where it is a sum."""
    found = {v.name: a for v, a in weight.back(array, graph.weights).items()}
    return found if weight.plus is None else found | {f"{weight.value.name}{KEPT}": array}


# -- Keras, Flax -----------------------------------------------------------------------------------------------------
def _keras_step(graph: Graph, inputs: list[np.ndarray], targets: list[np.ndarray]) -> Arrays:
    import keras

    from instep.emit.keras import build, state
    from instep.emit.keras.dialect import KERAS

    assert keras.backend.backend() == os.environ["KERAS_BACKEND"]
    model = build(graph)

    def loss(truth: Any, result: Any) -> Any:
        mean: Any = keras.ops.mean(keras.ops.square(result - truth))
        return mean / len(targets)

    model.compile(optimizer=keras.optimizers.SGD(RATE), loss=[loss] * len(targets))
    one = len(targets) == 1
    model.train_on_batch(list(inputs), targets[0] if one else list(targets))
    found = {}
    for name, weight in zip(state(graph), program(graph, KERAS).weights.values(), strict=True):
        layer, _, attribute = name.rpartition(".")
        holder = model.get_layer(layer or name)
        variable = next(v for v in holder.weights if v.name == attribute) if layer else holder.weights[0]
        found |= _named(weight, np.asarray(keras.ops.convert_to_numpy(variable)), graph)
    return found


def _flax_step(graph: Graph, inputs: list[np.ndarray], targets: list[np.ndarray]) -> Arrays:
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from instep.emit.jax import build, penalty
    from instep.emit.jax.dialect import NNX

    model, decay = build(graph), penalty(graph)
    model.train()

    @nnx.jit
    def update(model: Any, optimiser: Any) -> None:
        def loss(model: Any) -> Any:
            results = model(*inputs)
            results = results if isinstance(results, tuple | list) else (results,)
            errors = [jnp.mean((y - t) ** 2) for y, t in zip(results, targets, strict=True)]
            return sum(errors) / len(targets) + decay(model)

        optimiser.update(model, nnx.grad(loss)(model))

    update(model, nnx.Optimizer(model, optax.sgd(RATE), wrt=nnx.Param))
    found = {}
    for path, weight in program(graph, NNX).weights.items():
        place: Any = model
        for part in path:
            place = place.layers if isinstance(place, nnx.Sequential) else place
            place = place[int(part)] if isinstance(place, nnx.List) else getattr(place, part)
        found |= _named(weight, np.asarray(place.get_value()), graph)
    return found
