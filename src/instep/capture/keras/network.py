"""A network as its config has it: layers, and which of them is called with what. Plain data in, plain data out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from instep.capture.base import CaptureError
from instep.capture.keras.registry import FUNCTIONS, LAYERS

__all__ = [
    "Call",
    "Layer",
    "Network",
    "Numbers",
    "Ref",
    "is_network",
    "numbered",
    "plain",
    "read_network",
    "refs",
    "snake",
]

#: A network has some hundreds of layers; what has more than this is none.
_MAX_LAYERS, _MAX_DEPTH = 1 << 14, 16
#: Layers that configs call otherwise than their class is called, which archives go by.
_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


@dataclass(frozen=True)
class Ref:
    """A tensor: which output of which call of which layer."""

    layer: str
    call: int
    output: int


class Numbers(list[Any]):
    """An array of the config as nested lists, which remembers its dtype."""

    def __init__(self, values: list[Any], dtype: str) -> None:
        super().__init__(values)
        self.dtype = dtype


@dataclass
class Call:
    """One call of a layer; ``args`` and ``kwargs`` are plain data with Refs in it."""

    layer: Layer
    number: int
    args: list[Any]
    kwargs: dict[str, Any]


@dataclass
class Layer:
    """One layer: its class, its config, and the key under which an archive keeps its weights."""

    kind: str
    name: str
    config: dict[str, Any]
    key: str = ""
    #: "package>Class" where a package registered it, "" for what Keras ships
    registered: str = ""
    #: an operation of keras.ops, no layer
    operation: bool = False
    network: Network | None = None
    build: dict[str, Any] = field(default_factory=dict)


@dataclass
class Network:
    """A Functional or Sequential model. A Sequential one is its calls in a row."""

    name: str
    layers: list[Layer]
    calls: list[Call]
    inputs: list[Ref]
    outputs: list[Ref]
    input_names: list[str]
    output_names: list[str]
    #: input shapes with the batch, None where open, and dtypes; () where the config does not say
    shapes: list[tuple[int | None, ...] | None]
    dtypes: list[str]


def refs(tree: Any) -> Iterator[Ref]:
    """Every tensor in plain data."""
    if isinstance(tree, Ref):
        yield tree
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from refs(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from refs(part)


def is_network(entry: Any) -> bool:
    """Whether a serialised object is a model with a config of its own: Functional, Sequential or one made of them."""
    config = entry.get("config") if isinstance(entry, dict) else None
    if entry.get("class_name") == "Sequential" and isinstance(config, list):
        return True
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        return False
    return entry.get("class_name") == "Sequential" or {"input_layers", "output_layers"} <= set(config)


def read_network(entry: dict[str, Any], where: str, depth: int = 0) -> Network:
    """The network of a serialised Functional or Sequential model. Raises CaptureError."""
    config = entry["config"]
    if isinstance(config, list):  # a Sequential of the first Keras 2
        config = {"name": entry.get("name", "sequential"), "layers": config}
    if depth > _MAX_DEPTH or len(config["layers"]) > _MAX_LAYERS:
        raise CaptureError(f"{where}: {len(config['layers'])} layers, {depth} models deep: beyond all bounds")
    used: dict[str, int] = {}
    layers = [_layer(e, where, depth, used) for e in config["layers"]]
    names = [layer.name for layer in layers]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise CaptureError(f"{where}: two layers are called '{twice}'; name them apart in Keras and save again")
    name = str(config.get("name") or "model")
    if entry.get("class_name") == "Sequential":
        return _sequential(name, config, layers, where)
    return _functional(name, config, layers, where)


def _layer(entry: Any, where: str, depth: int, used: dict[str, int]) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise CaptureError(f"{where}: a layer of the config is {str(entry)[:80]!r}, not a class and its config")
    kind, config = entry["class_name"], entry.get("config")
    network = None
    if is_network(entry):
        network = read_network(entry, where, depth + 1)
        config = config if isinstance(config, dict) else {}
    if not isinstance(config, dict):
        raise CaptureError(f"{where}: the layer '{entry.get('name', kind)}' has no config")
    module, registered = str(entry.get("module") or ""), str(entry.get("registered_name") or "")
    operation = bool(re.match(r"keras\.(src\.)?ops\b", module))
    if not module and "trainable" not in config and network is None:
        # Keras 3 writes no modules into .h5 files; every layer has one of these two, and few operations have a dtype
        both = (kind in FUNCTIONS) == (kind in LAYERS)  # or neither
        operation = kind != "InputLayer" and ("dtype" not in config if both else kind in FUNCTIONS)
    build = entry.get("build_config")
    own = not module or module.split(".")[0] in ("keras", "builtins", "tf_keras")
    name = str(entry.get("name") or config.get("name") or kind.lower())
    return Layer(
        kind,
        name,
        config,
        "" if operation else numbered(snake(_CLASSES.get(str(kind), str(kind))), used),
        registered if ">" in registered or not own else "",
        operation,
        network,
        build if isinstance(build, dict) else {},
    )


def snake(name: str) -> str:
    """``naming.to_snake_case`` of Keras: how an archive calls layers of a class."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def numbered(name: str, used: dict[str, int]) -> str:
    """``name``, from the second of it on with a number, as an archive tells layers of one class apart."""
    count = used.get(name, -1) + 1
    used[name] = count
    return f"{name}_{count}" if count else name


# -- Sequential --------------------------------------------------------------------------------------------------------
def _sequential(name: str, config: dict[str, Any], layers: list[Layer], where: str) -> Network:
    first = layers[0] if layers else None
    if first is None:
        raise CaptureError(f"{where}: the Sequential model '{name}' has no layers")
    shape: Any = None
    for place, key in (
        (first.config, "batch_shape"), (first.config, "batch_input_shape"), (config, "build_input_shape"),
        (config, "batch_input_shape"), (first.build, "input_shape"),
    ):  # fmt: skip
        shape = shape or plain_shape(place.get(key))
    if shape is None and first.network is not None:
        shape = first.network.shapes[0]
    dtype = str(first.config.get("dtype") if isinstance(first.config.get("dtype"), str) else "float32")
    start = f"{first.name}_input"
    if first.kind == "InputLayer":
        start, layers = first.name, layers[1:]
    elif first.kind == "Embedding":
        dtype = "int32"
    calls, at = [], Ref(start, 0, 0)
    for layer in layers:
        calls.append(Call(layer, 0, [at], {}))
        at = Ref(layer.name, 0, 0)
    last = layers[-1].name if layers else start
    return Network(name, layers, calls, [Ref(start, 0, 0)], [at], [start], [last], [shape], [dtype])


def plain_shape(shape: Any) -> tuple[int | None, ...] | None:
    """A shape as configs write it (``{"class_name": "__tuple__", "items": […]}`` too), or None."""
    if isinstance(shape, dict):
        shape = shape.get("items")
    if not isinstance(shape, list | tuple) or not shape:
        return None
    if any(n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 0) for n in shape):
        return None
    return tuple(shape)


# -- Functional --------------------------------------------------------------------------------------------------------
def _functional(name: str, config: dict[str, Any], layers: list[Layer], where: str) -> Network:
    by_name = {layer.name: layer for layer in layers}
    calls: list[Call] = []
    for layer, entry in zip(layers, config["layers"], strict=True):
        nodes = entry.get("inbound_nodes")
        for number, node in enumerate(nodes if isinstance(nodes, list) else []):
            args, kwargs = _node(node, where, layer.name)
            calls.append(Call(layer, number, args, kwargs))
    inputs, input_names = _ends(config["input_layers"], by_name, where, "input")
    outputs, output_names = _ends(config["output_layers"], by_name, where, "output")
    if not inputs or not outputs:
        raise CaptureError(f"{where}: the model '{name}' has {len(inputs)} inputs and {len(outputs)} outputs")
    if any(isinstance(n, dict) for e in config["layers"] for n in e.get("inbound_nodes") or ()):
        outputs = [_counted(ref, by_name[ref.layer]) for ref in outputs]
    else:
        _shift(calls, outputs)
    shapes, dtypes = [], []
    for ref in inputs:
        own = by_name[ref.layer].config
        shapes.append(plain_shape(own.get("batch_shape")) or plain_shape(own.get("batch_input_shape")))
        dtype = own.get("dtype")
        dtypes.append(dtype if isinstance(dtype, str) else "float32")
    return Network(name, layers, calls, inputs, outputs, input_names, output_names, shapes, dtypes)


def _ends(tree: Any, layers: dict[str, Layer], where: str, what: str) -> tuple[list[Ref], list[str]]:
    """Inputs or outputs, and their names: the keys of a dict, else the layers' names."""
    found: list[Ref] = []
    names: list[str] = []

    def walk(part: Any, name: str) -> None:
        if _is_history(part):
            if part[0] not in layers:
                raise CaptureError(f"{where}: the {what} '{part[0]}' is no layer of the model")
            found.append(Ref(*part[:3]))
            names.append(name or part[0])
        elif isinstance(part, dict):
            for key in sorted(part):
                walk(part[key], str(key))
        elif isinstance(part, list):
            for inner in part:
                walk(inner, name)
        else:
            raise CaptureError(f"{where}: an {what} of the model is {str(part)[:80]!r}")

    walk(tree, "")
    return found, names


def _is_history(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) in (3, 4)
        and isinstance(part[0], str)
        and all(isinstance(n, int) and not isinstance(n, bool) for n in part[1:3])
    )


def _node(node: Any, where: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """(args, kwargs) of one call, in Keras 3's form or Keras 2's."""
    if isinstance(node, dict):
        args, kwargs = plain(node.get("args", [])), plain(node.get("kwargs", {}))
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise CaptureError(f"{where}: layer '{name}' is called with {str(node)[:80]!r}")
        return args, kwargs
    if not isinstance(node, list) or not node:
        raise CaptureError(f"{where}: layer '{name}' is called with {str(node)[:80]!r}")
    entries = [node] if _is_entry(node) else node
    kwargs = {}
    for entry in entries:
        if _is_entry(entry) and len(entry) == 4 and isinstance(entry[3], dict):
            kwargs |= {k: _tensors(v) for k, v in entry[3].items()}
    first = [_tensor(e, where, name) for e in entries]
    return ([first[0]] if len(first) == 1 else [first]), kwargs


def _is_entry(part: Any) -> bool:
    """A tensor or a constant, as Keras 2 writes what a layer is called with."""
    constant = isinstance(part, list) and len(part) in (3, 4) and part[0] == "_CONSTANT_VALUE"
    return constant or _is_history(part)


def _tensor(entry: Any, where: str, name: str) -> Any:
    if not _is_entry(entry):
        raise CaptureError(f"{where}: layer '{name}' reads {str(entry)[:80]!r}, which is no tensor")
    return _tensors(entry)


def _tensors(tree: Any) -> Any:
    """Keras 2 writes a tensor as [layer, call, output] and a constant as ["_CONSTANT_VALUE", -1, value]."""
    if isinstance(tree, list) and len(tree) in (3, 4) and tree[0] == "_CONSTANT_VALUE":
        return plain(tree[2])
    if _is_history(tree):
        return Ref(*tree[:3])
    if isinstance(tree, list):
        return [_tensors(t) for t in tree]
    if isinstance(tree, dict) and {"start", "stop", "step"} == set(tree):
        return slice(*(_whole(tree[k]) for k in ("start", "stop", "step")))
    if isinstance(tree, dict) and tree.get("class_name") == "__ellipsis__":
        return Ellipsis
    return plain(tree)


def plain(tree: Any) -> Any:
    """Keras 3's serialised arguments as plain data: Refs, numbers, words, lists, slices."""
    if isinstance(tree, list):
        return [plain(t) for t in tree]
    if not isinstance(tree, dict):
        return tree
    kind, config = tree.get("class_name"), tree.get("config")
    if kind == "__keras_tensor__" and isinstance(config, dict) and _is_history(config.get("keras_history")):
        return Ref(*config["keras_history"][:3])
    if kind == "__slice__" and isinstance(config, dict):
        return slice(*(_whole(config.get(k)) for k in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return Ellipsis
    if kind in ("__numpy__", "__tensor__") and isinstance(config, dict):
        value = plain(config.get("value"))
        return Numbers(value, str(config.get("dtype") or "float32")) if isinstance(value, list) else value
    if kind == "__tuple__":
        return [plain(t) for t in tree.get("items") or []]
    return {str(k): plain(v) for k, v in tree.items()}


def _whole(number: Any) -> Any:
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise CaptureError(f"a slice from {str(number)[:80]!r} is computed while the network runs")
    return number


def _counted(ref: Ref, layer: Layer) -> Ref:
    """Keras 3 counts the making of a nested functional model as its call 0, where it names the outputs alone."""
    own = layer.network is not None and layer.kind != "Sequential" and ref.call > 0
    return Ref(ref.layer, ref.call - 1, ref.output) if own else ref


def _shift(calls: list[Call], outputs: list[Ref]) -> None:
    """Keras 2 counts so everywhere, and Sequential models too; the file does not keep that call."""
    highest: dict[str, int] = {}
    for ref in [*outputs, *(r for c in calls for r in refs([c.args, c.kwargs]))]:
        highest[ref.layer] = max(highest.get(ref.layer, 0), ref.call)
    kept: dict[str, int] = {}
    for call in calls:
        kept[call.layer.name] = kept.get(call.layer.name, 0) + 1
    for call in calls:
        name = call.layer.name
        if call.layer.network is not None:
            call.number += max(highest.get(name, 0) - kept[name] + 1, 0)
