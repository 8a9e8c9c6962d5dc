"""From a text to a Graph: declarations, arguments and inputs, the steps, then the weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph.core import Graph, Value
from instep.graph.operator import Spec
from instep.graph.pending import Pending
from instep.graph.text.build import Builder
from instep.graph.text.check import check
from instep.graph.text.errors import TextError, fail
from instep.graph.text.fields import COUNT, WORD
from instep.graph.text.frame import Frame
from instep.graph.text.given import unknown_field
from instep.graph.text.hints import LAYERS_ELSEWHERE, meant
from instep.graph.text.initial import initialise
from instep.graph.text.plain_layers import enter_operators
from instep.graph.text.sidecar import known_values, load_weights, restore
from instep.graph.text.structs import Unit, literal, read_unit
from instep.graph.text.table import LAYERS
from instep.graph.text.tree import MAX_BYTES, Items, Pairs, Scalar, Tree
from instep.graph.validate import validate

__all__ = ["check_text", "is_text", "parse"]

_TYPED = re.compile(r"(?P<dtype>[a-z]+[0-9]*)\s*\[(?P<shape>.*)\]", re.S)


def is_text(source: Any) -> bool:
    """Whether ``source`` names a network's text (.yaml, .yml, .json)."""
    return isinstance(source, str | os.PathLike) and bool(re.search(r"\.(ya?ml|json)$", os.fspath(source)))


def parse(
    source: str | os.PathLike[str],
    *,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    initial: bool = True,
) -> Graph:
    """The Graph of a text, or of a ``.yaml`` or ``.json`` file.

    ``inputs``: shapes instead of the text's (a list, or a dict by name); sizes that are arguments settle them.
    ``args``: values for the network's arguments. ``weights``: a ``.safetensors`` file or arrays by name; without them
    the text's own file, else each layer's initialiser, drawn from ``seed``. ``initial=False`` leaves weights at zero
    without using memory for them. Raises TextError (a GraphError) with file and line.
    """
    text, file, folder = _read(source)
    enter_operators()
    unit = read_unit(text, file, folder)
    _check_defaults(unit, set())
    builder = Builder(unit, _known(unit, weights))
    frame = Frame("", unit, {}, {})
    sizes = _given(unit, inputs)
    _arguments(builder, frame, dict(args or {}), sizes)
    graph = builder.graph
    for name, tree in unit.inputs.items():
        spec = _spec(builder, frame, name, tree)
        value = Value(builder.unique(name), _settled(unit, name, spec.shape, sizes.get(name)), spec.dtype)
        graph.inputs.append(value)
        graph.input_names.append(name)
    try:
        results = builder.enter(unit.main, list(graph.inputs), frame, "the network")
    except TextError as error:
        raise TextError(f"{error}{builder.used()}") from None
    check(unit)
    graph.outputs = list(results)
    names = list(unit.outputs)
    graph.output_names = names or (["output"] if len(results) == 1 else [f"output_{i}" for i in range(len(results))])
    graph.meta = _meta(unit, builder)
    _states(unit, graph)
    _weights(builder, weights, seed, initial)
    validate(graph, after=f"reading {file}")
    return graph


def check_text(text: str, file: str, folder: Path | None) -> None:
    """Raise a TextError where ``text`` declares or names what is not there, as far as that is known unbuilt."""
    enter_operators()
    unit = read_unit(text, file, folder)
    _check_defaults(unit, set())
    check(unit)


def _check_defaults(unit: Unit, seen: set[int]) -> None:
    """What ``defaults`` names are layers, structs and fields of theirs; in files of sub-networks too."""
    seen.add(id(unit))
    for name, given in unit.defaults.items():
        struct, layer = unit.structs.get(name), LAYERS.get(name)
        if struct is None and layer is None:
            near = meant(name, [*unit.structs, *LAYERS], LAYERS_ELSEWHERE)
            fail(unit.file, given.line, f"defaults: there is no layer or struct '{name}'{near}")
        fields = struct.args if struct else layer.fields if layer else ()
        for key, _ in given.pairs:
            if key.value not in {f.name for f in fields}:
                fail(unit.file, key.line, f"defaults: {name} has no field {unknown_field(key.value, fields)}")
    for struct in unit.structs.values():
        if id(struct.unit) not in seen:
            _check_defaults(struct.unit, seen)


def _known(unit: Unit, weights: Any) -> int:
    """How many values the file of weights knows the names of, which lies beside the text or was given."""
    if isinstance(weights, str | os.PathLike):
        return known_values(weights)
    beside = unit.weights if unit.folder is not None and Path(unit.weights).name == unit.weights else ""
    return known_values(unit.folder / beside) if beside and unit.folder is not None else 0


def _read(source: str | os.PathLike[str]) -> tuple[str, str, Path | None]:
    if isinstance(source, str) and "\n" in source:
        return source, "<text>", None
    if not is_text(source):
        if isinstance(source, os.PathLike) or not source.lstrip().startswith("{"):
            raise TextError(f"{os.fspath(source)} is no text of a network; one ends in .yaml or .json")
        return source, "<text>", None
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TextError(f"{path}: {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        return path.read_text("utf-8"), str(source), path.parent
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is no UTF-8 text ({error}); save it as UTF-8") from None


def _arguments(builder: Builder, frame: Frame, given: dict[str, Any], sizes: dict[str, tuple[int, ...]]) -> None:
    """Settle the network's arguments: those given, those that an input's given sizes name, then the defaults."""
    unit = builder.unit
    for name, shape in sizes.items():
        tree = unit.inputs[name]
        items = tree.items if isinstance(tree, Items) else []
        for item, size in zip(items, shape, strict=False):
            if isinstance(item, Scalar) and any(a.name == item.value for a in unit.main.args):
                given.setdefault(str(item.value), size)
    known = [a.name for a in unit.main.args]
    for name in given:
        if name not in known:
            fail(unit.file, 0, f"the network has no argument '{name}'; it has {', '.join(known) or 'none'}")
    words = {a.name for a in unit.main.args if a.kind is WORD}
    read = {n: literal(v) if isinstance(v, str) and n not in words else v for n, v in given.items()}
    tree = Pairs([(Scalar(n, 0), _tree(v)) for n, v in read.items()], 0)
    builder.let(unit.let, frame)
    builder.reader.fields(tree, unit.main.args, frame, "the network", None, frame, builder.line)


def _tree(value: Any) -> Tree:
    if isinstance(value, tuple | list):
        return Items([_tree(v) for v in value], 0)
    if isinstance(value, dict):
        return Pairs([(Scalar(str(k), 0), _tree(v)) for k, v in value.items()], 0)
    return Scalar(value, 0)


def _given(unit: Unit, inputs: Any) -> dict[str, tuple[int, ...]]:
    if inputs is None:
        return {}
    names = list(unit.inputs)
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(names):
            fail(unit.file, 0, f"the network has {len(names)} inputs ({', '.join(names)}), {len(inputs)} were given")
        inputs = dict(zip(names, inputs, strict=True))
    for name in inputs:
        if name not in names:
            fail(unit.file, 0, f"the network has no input '{name}'; it has {', '.join(names)}")
    return {n: _shape(e) for n, e in inputs.items() if e is not None}


def _shape(entry: Any) -> tuple[int, ...]:
    if isinstance(entry, Spec):
        return entry.shape
    return tuple(int(n) for n in (entry if isinstance(entry, list | tuple) else np.shape(entry)))


def _settled(unit: Unit, name: str, said: tuple[int, ...], given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an input: what is given agrees with what the text says, in all but the batch."""
    if given is None:
        return said
    batch = 1 if len(said) > 1 else 0
    if len(given) == len(said) and given[batch:] == said[batch:]:
        return given
    fail(
        unit.file, unit.inputs[name].line,
        f"input '{name}' is {list(said)} here, and {list(given)} was given; make the sizes that may differ arguments "
        "of the network (the batch, the first of them, may)",
    )  # fmt: skip


def _spec(builder: Builder, frame: Frame, name: str, tree: Tree) -> Spec:
    """``[1, 3, H, W]``, or ``int64[1, 50]`` for numbers that are no float32."""
    dtype, items = "float32", tree
    if isinstance(tree, Scalar) and isinstance(tree.value, str) and (match := _TYPED.fullmatch(tree.value.strip())):
        dtype = match["dtype"]
        items = Items([_part(p, tree.line) for p in match["shape"].split(",") if p.strip()], tree.line)
    if not isinstance(items, Items):
        fail(builder.file, tree.line, f"input '{name}' needs a shape such as [1, 3, 64, 64] or int64[1, 50]")
    try:
        np.dtype(dtype)
    except TypeError:
        fail(builder.file, tree.line, f"input '{name}': there is no dtype '{dtype}'")
    what = f"input '{name}': a size"
    return Spec(tuple(builder.reader.read(t, COUNT, frame, what, builder.file) for t in items.items), dtype)


def _part(text: str, line: int) -> Scalar:
    text = text.strip()
    return Scalar(int(text) if text.isdigit() and len(text) < 12 else text, line)


def _meta(unit: Unit, builder: Builder) -> dict[str, Any]:
    meta = dict(unit.facts)
    meta["source"] = str(unit.facts.get("name") or Path(unit.file).stem)
    if unit.facts.get("source"):
        meta["from"] = unit.facts["source"]
    if unit.layout != "NCHW":
        meta["layout"] = unit.layout
    if unit.state:
        meta["state"] = {before: after.value for before, after in unit.state.items()}
    if builder.inline:
        meta["constants"] = [v.name for v in builder.inline]
    if builder.blocks:
        meta["blocks"] = builder.blocks
    if builder.decay:
        meta["decay"] = builder.decay
    return meta


def _states(unit: Unit, graph: Graph) -> None:
    """A state goes in under one name and comes out under another, in one shape."""
    inputs = dict(zip(graph.input_names, graph.inputs, strict=True))
    outputs = dict(zip(graph.output_names, graph.outputs, strict=True))
    for before, said in unit.state.items():
        after, what = said.value, f"state {before}: {said.value}"
        for kind, name, known in (("input", before, inputs), ("output", after, outputs)):
            if name not in known:
                fail(unit.file, said.line, f"{what}: the network has no {kind} '{name}'; it has {', '.join(known)}")
        if inputs[before].spec != outputs[after].spec:
            fail(unit.file, said.line, f"{what}: {_typed(inputs[before])} comes back as {_typed(outputs[after])}")


def _typed(value: Value) -> str:
    return f"{value.dtype}{list(value.shape)}"


def _weights(builder: Builder, weights: Any, seed: int, initial: bool) -> None:
    """Give every weight its array: loaded by name, or as its initialiser says."""
    graph, unit = builder.graph, builder.unit
    names: dict[str, Any] = {}
    if weights is None and unit.weights and initial:
        if unit.folder is None or Path(unit.weights).name != unit.weights:
            fail(unit.file, unit.weights_line, f"weights: '{unit.weights}' must be a file beside the text")
        weights = unit.folder / unit.weights
        if not weights.is_file():
            fail(unit.file, unit.weights_line, f"weights: there is no file '{unit.weights}' beside the text; without "
                 "this line weights are drawn from a seed, --weights FILE gives others")  # fmt: skip
        graph.meta["loaded"] = True
    arrays = None
    if weights is not None:
        wanted = {n: v for n, (v, _) in builder.weights.items()}
        wanted |= {v.name: v for v in graph.weights}
        arrays, names = load_weights(weights, wanted, set(builder.constants), unit.file)
    made = Pending()
    for name, (value, weight) in builder.weights.items():
        if arrays is not None:
            made[value] = arrays[name]
        elif initial:
            made.later(value, partial(initialise, weight.initial, name, value.shape, weight.fans, value.dtype, seed))
        else:
            made[value] = np.broadcast_to(np.zeros((), value.dtype), value.shape)
    made.update(graph.weights)
    graph.weights = made
    if names:
        restore(graph, names, builder.inline)
        if builder.inline:
            graph.meta["constants"] = [v.name for v in builder.inline]
    if builder.buffers:
        graph.meta["buffers"] = [v.name for v in graph.weights if v in builder.buffers]
