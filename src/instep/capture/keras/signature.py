"""How a live model with a call() of its own takes its inputs: their names, shapes, and in which arguments they come."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from instep.capture.base import CaptureError
from instep.graph import Spec

__all__ = ["Asked", "asked_of"]

_SILENT = ("training", "mask")


@dataclass
class Asked:
    """The inputs of a model, and the form of its call: one tensor per argument, or all in the first as list or dict."""

    names: list[str]
    specs: list[Spec]
    form: str

    def call(self, model: Any, given: Sequence[Any]) -> Any:
        """What ``model`` makes of ``given``, one per name."""
        named = dict(zip(self.names, given, strict=True))
        if self.form == "arguments":
            return model(**named) if len(given) > 1 else model(given[0])
        return model(named if self.form == "dict" else list(given))

    def words(self) -> str:
        return ", ".join(f"{n} {list(s.shape)} {s.dtype}" for n, s in zip(self.names, self.specs, strict=True))


def asked_of(model: Any, inputs: Any, label: str) -> Asked:
    """From what the user gives, else from what the model was called with before. Raises CaptureError."""
    made = list(getattr(model, "inputs", None) or ())
    if made:
        return _of_functional(made, inputs, label)
    parameters = [
        p for p in inspect.signature(model.call).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    names = [p.name for p in parameters if p.name not in _SILENT and not p.name.endswith("_mask")]
    if not names:
        raise CaptureError(f"{label}: its call() takes no inputs")
    inputs = _known(model, names) if inputs is None else inputs
    if inputs is None:
        raise CaptureError(
            f"{label} has a call() of its own and was not called yet, which would show the shapes of its inputs; give "
            "them with --input, e.g. --input 1,224,224,3"
        )
    if isinstance(inputs, dict):
        form = "arguments" if set(inputs) <= set(names) else "dict"
        order = [n for n in names if n in inputs] if form == "arguments" else sorted(inputs)
        return Asked(order, [_spec(inputs[n], label) for n in order], form)
    specs = [_spec(entry, label) for entry in inputs]
    if len(specs) == 1:
        return Asked(names[:1], specs, "arguments")
    if len(names) < len(specs):
        return Asked([f"{names[0]}{i}" for i in range(len(specs))], specs, "list")
    return Asked(names[: len(specs)], specs, "arguments")


def _of_functional(made: list[Any], inputs: Any, label: str) -> Asked:
    """A functional or Sequential model says itself what its inputs are; ``inputs`` settle open sizes."""
    names = [str(t.name) for t in made]
    own = [(_one(tuple(t.shape)), _kind(t.dtype)) for t in made]
    if isinstance(inputs, dict):
        inputs = [inputs.get(name) for name in names]
    given = [None] * len(made) if inputs is None else list(inputs)
    if len(given) != len(made):
        raise CaptureError(f"{label} has {len(made)} inputs ({', '.join(names)}), {len(given)} were given")
    specs = [
        _spec(Spec(shape, kind) if entry is None else Spec(_spec(entry, label).shape, kind), label)
        for (shape, kind), entry in zip(own, given, strict=True)
    ]
    return Asked(names, specs, "arguments" if len(names) == 1 else "list")


def _known(model: Any, names: list[str]) -> Any:
    """Shapes that a model was built with, one sample where the batch is open."""
    shapes = getattr(model, "_build_shapes_dict", None)
    if isinstance(shapes, dict) and shapes:
        if len(shapes) == 1:
            shape = next(iter(shapes.values()))
            return _several(shape)
        return {k.removesuffix("_shape"): _one(v) for k, v in shapes.items() if k.removesuffix("_shape") in names}
    return _several(getattr(model, "_build_input_shape", None))


def _several(shape: Any) -> Any:
    if shape is None:
        return None
    if isinstance(shape, dict):
        return {k: _one(v) for k, v in shape.items()}
    shape = list(shape)
    return [_one(s) for s in shape] if shape and not isinstance(shape[0], int | None) else [_one(shape)]


def _one(shape: Any) -> tuple[int, ...]:
    batch, *rest = shape
    return (1 if batch is None else int(batch), *(int(n) if n is not None else -1 for n in rest))


def _kind(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _spec(entry: Any, label: str) -> Spec:
    if not isinstance(entry, Spec):
        shape = entry if isinstance(entry, list | tuple) else entry.shape
        kind = "float32" if isinstance(entry, list | tuple) else _kind(entry.dtype)
        entry = Spec(tuple(int(n) for n in shape), {"float64": "float32"}.get(kind, kind))
    if any(n < 1 for n in entry.shape):
        raise CaptureError(f"{label} leaves sizes of its inputs open; give them with --input, e.g. --input 1,224,224,3")
    return entry
