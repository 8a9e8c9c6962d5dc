"""A live model with a call() of its own, followed: call() is run on symbolic inputs, and what its layers and keras.ops
record on the way is a functional model, which is read as any other.

Layers that are not Keras' own are opened: in the place of a call of theirs stands what their call() does. What Keras
ships stays whole and is called by the path of attributes that leads to it.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.capture.base import CaptureError
from instep.capture.keras import handlers
from instep.capture.keras.network import snake
from instep.capture.keras.registry import LAYERS
from instep.capture.keras.signature import Asked, asked_of
from instep.capture.keras.written import WRITTEN, parameter

__all__ = ["Live", "followed", "needs_following"]

handlers.load()

_OWN = ("keras", "tf_keras")
#: Layers of Keras that hold others and do no more than call them: these are opened where one of those is.
_HOLDERS = ("Functional", "Sequential", "Model")
#: Attributes in which Keras and TensorFlow keep book of a layer's arrays.
_BOOKS = ("_trainable", "_non_trainable", "_self_", "_obj_reference", "_losses", "_metrics")


def needs_following(model: Any) -> bool:
    """Whether a config of the live ``model`` does not say all that it computes."""
    return _opened(model)


def _opened(layer: Any) -> bool:
    kind = type(layer)
    if kind.__name__ == "Lambda" or not (_own(kind) or _known(kind)):
        return True
    if kind.__name__ in (*_HOLDERS, *WRITTEN, "StackedRNNCells"):
        return any(_opened(inner) for inner in layer._flatten_layers(include_self=False, recursive=False))
    return False


def _own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _OWN


def _known(kind: type) -> bool:
    """Whether somebody registered what this class means."""
    return any(name.rpartition(">")[2] == kind.__name__ and ">" in name for name in LAYERS)


@contextmanager
def followed(model: Any, inputs: Any, label: str) -> Iterator[tuple[Any, Live]]:
    """A functional model of the layers that ``model`` calls, and what runs ``model`` itself. Raises CaptureError.

    For the while, layers are called by the paths that lead to them.
    """
    keras = sys.modules[_home(type(model))]
    asked = asked_of(model, inputs, label)
    _try(model, asked, label)
    with _Tracer(keras, model, label).run(asked) as functional:
        yield functional, Live(model, asked)


@dataclass
class Live:
    """A live model and how it takes its inputs."""

    model: Any
    asked: Asked

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the model itself computes."""
        given = [np.asarray(a, s.dtype) for a, s in zip(arrays, self.asked.specs, strict=True)]
        return [np.asarray(v) for v in _leaves(self.asked.call(self.model, given))]


def _home(kind: type) -> str:
    return next(c.__module__.partition(".")[0] for c in kind.__mro__ if _own(c))


def _try(model: Any, asked: Asked, label: str) -> None:
    """One run on zeros, which makes the weights of layers that wait for their input."""
    try:
        asked.call(model, [np.zeros(s.shape, s.dtype) for s in asked.specs])
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise CaptureError(
            f"{label} does not run on {asked.words()}: {type(error).__name__}: {said}; give its inputs with --input"
        ) from error


class _Tracer:
    """Runs call() on symbolic inputs, with the calls of opened layers replaced."""

    def __init__(self, keras: Any, model: Any, label: str) -> None:
        self.keras, self.model, self.label = keras, model, label
        self.base = keras.layers.Layer
        self.legacy = not hasattr(keras, "KerasTensor")
        self.paths: dict[int, str] = {}
        self.names: set[str] = set()
        self.named: set[int] = set()
        self.stack: list[tuple[str, Any]] = []
        self.whole = 0
        self.undo = ExitStack()
        self.kept: list[Any] = []

    @contextmanager
    def run(self, asked: Asked) -> Iterator[Any]:
        """The functional model; behind it, layers have the names that the user gave them."""
        with self.undo:
            given = [
                self.keras.Input(batch_shape=s.shape, dtype=s.dtype, name=n)
                for s, n in zip(asked.specs, asked.names, strict=True)
            ]
            self.names |= set(asked.names)
            self.place(self.model, "")
            self.symbolic(given[0])
            with self.patched():
                made = self.guarded(asked, given)
            yield self.keras.Model(given, made, name=re.sub(r"\W", "_", str(self.model.name)))

    def guarded(self, asked: Asked, given: Sequence[Any]) -> Any:
        try:
            made = asked.call(self.model, given)
        except Exception as error:
            raise CaptureError(self.why(error)) from error
        made = dict(made) if isinstance(made, dict) else made
        flat = {k: _single(v) for k, v in made.items()} if isinstance(made, dict) else list(_leaves(made))
        leaves = list(flat.values()) if isinstance(flat, dict) else flat
        if not leaves or any(not _symbolic(v) for v in leaves):
            raise CaptureError(
                f"{self.label}: its call() gives what does not depend on its inputs; Instep needs tensors"
            )
        return flat

    def why(self, error: Exception) -> str:
        path, layer = self.stack[-1] if self.stack else ("", self.model)
        lines = traceback.extract_tb(error.__traceback__)
        mine = [f for f in lines if f"{_folder(self.keras)}" not in f.filename and __file__ != f.filename]
        mine = [f for f in mine if f.name != "call" or "instep" not in f.filename] or lines
        try:
            own = inspect.getsourcefile(type(layer))
        except TypeError:
            own = None
        at = next((f for f in reversed(mine) if f.filename == own), mine[-1])
        line = (at.line or linecache.getline(at.filename, at.lineno or 0)).strip()[:120]
        said = (str(error).strip().splitlines() or [""])[0][:300]
        where = f"{type(layer).__name__} '{path}'" if path else type(layer).__name__
        return (
            f"{self.label}: call() of {where} cannot be followed at {at.filename.rpartition('/')[2]}:{at.lineno} "
            f"`{line}`: {said} ({type(error).__name__}). It is run on tensors without numbers: write it with "
            f"{self.allowed()}, and let no `if` or loop hang on values"
        )

    def allowed(self) -> str:
        if self.legacy:
            return "Keras' layers and TensorFlow's functions of tensors, not with NumPy"
        return "Keras' layers and keras.ops, not with functions of TensorFlow, JAX or NumPy"

    # -- names -------------------------------------------------------------------------------------------------------
    def place(self, layer: Any, path: str) -> None:
        """Paths of all layers below an opened one."""
        self.paths[id(layer)] = path
        for name, inner in _held(layer):
            if id(inner) in self.paths:
                continue
            full = f"{path}.{name}" if path else name
            if _opened(inner):
                self.place(inner, full)
            else:
                self.paths[id(inner)] = full

    def rename(self, operation: Any, wanted: str) -> None:
        """For the while, ``operation`` is called ``wanted``, or that with a number."""
        if id(operation) in self.named:
            return
        self.named.add(id(operation))
        self.kept.append(operation)
        wanted = wanted.replace("/", ".")
        name, i = wanted, 1
        while name in self.names:
            name, i = f"{wanted}_{i}", i + 1
        self.names.add(name)
        attribute = "_name" if self.legacy and hasattr(operation, "_name") else "name"
        before = getattr(operation, attribute)
        setattr(operation, attribute, name)
        self.undo.callback(setattr, operation, attribute, before)

    def functions(self) -> Any:
        """Where reshape and stack are, for symbolic tensors."""
        return sys.modules["tensorflow"] if self.legacy else self.keras.ops

    def scope(self) -> str:
        return self.stack[-1][0] if self.stack else ""

    def below(self, name: str) -> str:
        return f"{self.scope()}.{name}" if self.scope() else name

    # -- weights of opened layers ------------------------------------------------------------------------------------
    def symbolic(self, first: Any) -> None:
        """The arrays that opened layers hold become results of layers, so that what is done to them is recorded."""
        known: dict[int, Any] = {}

        def swapped(thing: Any, path: str) -> Any:
            if self.variable(thing):
                if id(thing) not in known:
                    layer = parameter(self.keras)(np.asarray(thing), bool(getattr(thing, "trainable", True)))
                    self.rename(layer, path)
                    known[id(thing)] = layer(first)
                    self.kept.append(thing)
                return known[id(thing)]
            if isinstance(thing, list | tuple) and any(self.variable(t) for t in thing):
                return [swapped(t, f"{path}.{i}") for i, t in enumerate(thing)]
            if isinstance(thing, dict) and any(self.variable(t) for t in thing.values()):
                return {k: swapped(t, f"{path}.{k}") for k, t in thing.items()}
            return thing

        for layer in [v for v in self.model._flatten_layers() if _opened(v)]:
            path = self.paths.get(id(layer), layer.name)
            for name, thing in list(vars(layer).items()):
                if name.startswith(_BOOKS):
                    continue
                other = swapped(thing, ".".join(p for p in (path, name.strip("_")) if p))
                if other is not thing:
                    vars(layer)[name] = other
                    self.undo.callback(vars(layer).__setitem__, name, thing)

    def variable(self, thing: Any) -> bool:
        made = sys.modules["tensorflow"].Variable if self.legacy else self.keras.Variable
        return isinstance(thing, made)

    # -- calls -------------------------------------------------------------------------------------------------------
    @contextmanager
    def patched(self) -> Iterator[None]:
        original = self.base.__call__
        tracer = self

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if tracer.whole or not any(_symbolic(v) for v in _leaves([args, kwargs])):
                return original(layer, *args, **kwargs)
            if _opened(layer):
                return tracer.follow(layer, args, kwargs)
            tracer.rename(layer, tracer.paths.get(id(layer)) or tracer.below(_plain(layer.name)))
            tracer.whole += 1
            try:
                return original(layer, *args, **kwargs)
            finally:
                tracer.whole -= 1

        self.base.__call__ = call
        try:
            yield
        finally:
            self.base.__call__ = original

    def follow(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What call() of an opened layer does, recorded."""
        takes = inspect.signature(layer.call).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        kwargs = {k: v for k, v in kwargs.items() if free or k in takes or k not in ("training", "mask")}
        if "training" in takes and kwargs.get("training") is None and len(args) <= list(takes).index("training"):
            kwargs["training"] = False
        first = args[0] if args else next(iter(kwargs.values()))
        masks = _mapped(lambda v: getattr(v, "_keras_mask", None), first)
        masked = any(m is not None for m in _leaves(masks))
        if masked and "mask" in takes and kwargs.get("mask") is None and len(args) <= list(takes).index("mask"):
            kwargs["mask"] = masks
        path = self.paths.get(id(layer))
        self.stack.append((self.below(_plain(layer.name)) if path is None else path, layer))
        written = WRITTEN.get(type(layer).__name__)
        made = written(self.functions(), layer, *args, **kwargs) if written else layer.call(*args, **kwargs)
        self.recorded(made, [args, kwargs])
        self.stack.pop()
        if masked and getattr(layer, "supports_masking", False):
            layer._set_mask_metadata(first, made, kwargs.get("mask", masks))
        return made

    def recorded(self, made: Any, given: Any) -> None:
        """Operations between ``given`` and ``made`` that have no name yet are named by the layer at hand."""
        seen = {id(v) for v in _leaves(given)}
        found: list[Any] = []
        stack = [v for v in _leaves(made) if _symbolic(v)]
        while stack:
            tensor = stack.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            history = tensor._keras_history
            operation, node = history[0], history[0]._inbound_nodes[history[1]]
            if not isinstance(operation, self.base):
                found.append(operation)
            stack += [v for v in _leaves(node.input_tensors) if _symbolic(v)]
        for operation in reversed(found):
            self.rename(operation, self.below(_plain(operation.name)))


# -- layers within layers ----------------------------------------------------------------------------------------------
def _held(layer: Any) -> list[tuple[str, Any]]:
    """The layers that an opened layer holds, with what they are called there: attributes, else their own names."""
    inner = {id(v): v for v in layer._flatten_layers(include_self=False, recursive=False)}
    found: dict[int, str] = {}
    if type(layer).__name__ not in _HOLDERS:
        for private in (False, True):
            for name, thing in vars(layer).items():
                if name.startswith("_") is private:
                    for path, part in _within(thing, name.strip("_")):
                        if id(part) in inner:
                            found.setdefault(id(part), path)
    return [(found.get(key, _plain(v.name)), v) for key, v in inner.items()]


def _within(thing: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, list | tuple):
        for i, part in enumerate(thing):
            yield from _within(part, f"{name}.{i}")
    elif isinstance(thing, dict):
        for key, part in thing.items():
            yield from _within(part, f"{name}.{key}")
    elif hasattr(thing, "_flatten_layers"):
        yield name, thing


def _plain(name: str) -> str:
    """A name that Keras made, without its number and its module: "tf.math.multiply_3" is "multiply"."""
    return snake(re.sub(r"_\d+$", "", str(name).rpartition(".")[2])) or "layer"


# -- trees -------------------------------------------------------------------------------------------------------------
def _symbolic(thing: Any) -> bool:
    return hasattr(thing, "_keras_history") and not hasattr(thing, "assign")


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            yield from _leaves(tree[key])
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _leaves(part)
    elif tree is not None:
        yield tree


def _mapped(function: Any, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _mapped(function, v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_mapped(function, v) for v in tree]
    return function(tree)


def _single(tree: Any) -> Any:
    found = list(_leaves(tree))
    if len(found) != 1:
        raise CaptureError("call() gives a dict with lists in it; let it give a dict or a list of tensors")
    return found[0]


def _folder(keras: Any) -> str:
    return str(keras.__file__).rpartition("/")[0]
