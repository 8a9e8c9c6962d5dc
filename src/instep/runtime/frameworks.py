"""A network of a framework, inside the child process: an exported source file, or a file of the framework's own.

A source file is a Python file with a function ``load``: called with the path of the ``.safetensors`` file beside it (or
with nothing where there is none), it gives the network, which takes its inputs one after the other, or the parameters
of a function ``apply(parameters, *inputs)``. The file is run, so it is as trustworthy as whoever wrote it.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from instep.runtime.modules import module_facts
from instep.runtime.sessions import Readable

__all__ = ["ModuleSession"]


class ModuleSession:
    """A network with its weights. ``kept``: what its layers give, by their paths, where the framework shows it."""

    resident: bool | None = None
    placed: tuple[int, int] | None = None

    def __init__(self, path: str, engine: str, keep_all: bool) -> None:
        self.network = _said(_FRAMEWORKS[engine.partition("-")[0]], Path(path), keep_all)
        self.outputs: list[Readable] = []
        self.kept: list[Readable] = []
        self.given: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def give(self, arrays: Sequence[np.ndarray]) -> None:
        self.given = [np.array(a) for a in arrays]

    def invoke(self) -> None:
        results, inside = _said(self.network, self.given)
        self.values = [np.asarray(a) for a in (*results, *inside.values())]
        names = [f"output{n}" for n in range(len(results))]
        readable = [Readable(name, place) for place, name in enumerate([*names, *inside])]
        self.outputs, self.kept = readable[: len(names)], readable[len(names) :]

    def read(self, tensor: Readable) -> np.ndarray:
        return self.values[tensor.key]


#: A network: arrays → its outputs, and what its layers gave, by their paths.
Network = Callable[[list[np.ndarray]], "tuple[list[Any], dict[str, Any]]"]


def _said(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` gives; whatever a network's code raises is a RuntimeError that says so."""
    try:
        return function(*arguments)
    except (MemoryError, RuntimeError):
        raise
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _module(path: Path) -> ModuleType:
    """The Python file at ``path``, run."""
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else "_exported_network"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _loaded(path: Path) -> Any:
    """What the ``load`` of a source file gives, with the weights beside it."""
    module = _module(path)
    load, apply = getattr(module, "load", None), getattr(module, "apply", None)
    if not callable(load):
        raise RuntimeError(f"{path.name} has no function load(), which gives the network with its weights")
    weights = path.with_suffix(".safetensors")
    made = load(str(weights)) if weights.is_file() and inspect.signature(load).parameters else load()
    return functools.partial(apply, made) if isinstance(made, Mapping) and callable(apply) else made


def _flat(results: Any) -> list[Any]:
    if isinstance(results, Mapping):
        return [a for v in results.values() for a in _flat(v)]
    return [a for v in results for a in _flat(v)] if isinstance(results, list | tuple) else [results]


# -- PyTorch ---------------------------------------------------------------------------------------------------------
def _torch(path: Path, keep_all: bool) -> Network:
    import torch

    net: Any = torch.export.load(path).module() if path.suffix == ".pt2" else _loaded(path).eval()
    inside: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                inside.setdefault(name, output.detach().numpy().copy())

        return hook

    for name, module in net.named_modules():
        if keep_all and name and path.suffix == ".py":
            module.register_forward_hook(keep(name))

    def network(arrays: list[np.ndarray]) -> tuple[list[Any], dict[str, Any]]:
        inside.clear()
        with torch.no_grad():
            results = _flat(net(*(torch.from_numpy(a) for a in arrays)))
        return [r.detach().numpy() for r in results], dict(inside)

    return network


# -- Keras -----------------------------------------------------------------------------------------------------------
def _keras(path: Path, keep_all: bool) -> Network:
    import keras

    model = _saved(path) if path.suffix in (".keras", ".h5") else _loaded(path)
    layers: dict[str, Any] = {}
    if keep_all and isinstance(model, keras.Model) and hasattr(model, "operations"):
        made = {layer.name: layer for layer in model.layers if len(layer._inbound_nodes) == 1}
        layers = {n: one.output for n, one in made.items() if isinstance(one.output, keras.KerasTensor)}
    asked = keras.Model(model.inputs, [*_flat(model.outputs), *layers.values()]) if layers else model
    # preprocessing layers that draw numbers (RandomFlip) take a call that does not say so for training
    rest = {"training": False} if isinstance(asked, keras.Model) else {}

    def network(arrays: list[np.ndarray]) -> tuple[list[Any], dict[str, Any]]:
        given = [keras.ops.convert_to_tensor(a) for a in arrays]
        functional = hasattr(asked, "inputs") and asked.inputs is not None
        called = asked(given if len(given) > 1 else given[0], **rest) if functional else asked(*given, **rest)
        results = [keras.ops.convert_to_numpy(r) for r in _flat(called)]
        count = len(results) - len(layers)
        return results[:count], dict(zip(layers, results[count:], strict=True))

    return network


def _saved(path: Path) -> Any:
    """A model that Keras saved. One of ours that has layers of its own says in which file beside it they are."""
    import keras

    code = module_facts(path).get("code")
    if code:
        _module(path.with_name(Path(str(code)).name))
    return keras.saving.load_model(path, compile=False)


# -- JAX -------------------------------------------------------------------------------------------------------------
def _jax(path: Path, keep_all: bool) -> Network:
    import jax
    from jax.core import Tracer

    net = _loaded(path)
    inside: dict[str, Any] = {}
    if keep_all:
        _record(net, inside)
    run = net if keep_all else jax.jit(lambda *arrays: net(*arrays))

    def network(arrays: list[np.ndarray]) -> tuple[list[Any], dict[str, Any]]:
        inside.clear()
        given = [jax.numpy.asarray(a) for a in arrays]
        results = _flat(run(*given))
        if any(isinstance(v, Tracer) for v in inside.values()):
            # what is within a step of jax.lax.scan has a value where the steps are run one by one
            with jax.disable_jit():
                run(*given)
        return [np.asarray(r) for r in results], {k: np.asarray(v) for k, v in inside.items()}

    return network


def _record(net: Any, inside: dict[str, Any]) -> None:
    """Have every Flax module within ``net`` put what it gives into ``inside``, under its path."""
    from flax import nnx
    from jax.core import Tracer

    if not isinstance(net, nnx.Module):
        return
    rows = {path for path, module in nnx.iter_modules(net) if isinstance(module, nnx.Sequential)}
    paths = {
        # nnx.Sequential keeps its own in ``layers``, which no other framework's path has
        id(module): ".".join(str(part) for n, part in enumerate(path) if part != "layers" or path[:n] not in rows)
        for path, module in nnx.iter_modules(net)
        if path
    }
    for kind in {type(module) for _, module in nnx.iter_modules(net)}:
        own = kind.__dict__.get("__call__")
        if own is None:
            continue

        def recorded(self: Any, *args: Any, _own: Any = own, **options: Any) -> Any:
            result = _own(self, *args, **options)
            if id(self) in paths and hasattr(result, "shape"):
                held = inside.get(paths[id(self)])
                inside[paths[id(self)]] = result if held is None or isinstance(held, Tracer) else held
            return result

        kind.__call__ = recorded


_FRAMEWORKS: dict[str, Callable[[Path, bool], Network]] = {"torch": _torch, "keras": _keras, "jax": _jax}
