"""What handlers build with: the layer at hand, its checked fields, its weights under the graph's names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from instep.capture.building import Building
from instep.capture.keras.hdf5 import Weights
from instep.capture.keras.network import Layer
from instep.capture.keras.registry import ACTIVATIONS, LAYERS, Unsupported
from instep.graph import Graph, Node, Operator, SourceView, Value

__all__ = ["Builder", "Place"]

MAX_ELEMENTS, MAX_RANK = (1 << 31) - 1, 16
#: Recurrent layers are unrolled; more steps than this make no network that anyone wants to read.
MAX_STEPS = 512
_MAX_NODES = 1 << 17
#: Arrays whose regulariser has another name than they have.
_REGULARISED = {
    "depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise", "recurrent_kernel": "recurrent",
}  # fmt: skip


class Place:
    """A layer within the network: its scope, its weights, and those that were read already (layers may be shared).

    ``trained``: whether what holds it is trained; a layer that is not is none of it.
    """

    def __init__(self, layer: Layer, scope: str, weights: Weights, trained: bool = True) -> None:
        self.layer, self.scope, self.weights = layer, scope, weights
        self.trained = trained and layer.config.get("trainable") is not False
        self.read: dict[str, Value] = {}
        self.inner: dict[str, Place] = {}

    def inside(self, layer: Layer, attribute: str, name: str) -> Place:
        """A layer that this layer holds in ``attribute``."""
        if attribute not in self.inner:
            scope = f"{self.scope}.{name}" if name else self.scope
            self.inner[attribute] = Place(layer, scope, self.weights.inside(attribute), self.trained)
        return self.inner[attribute]


class Builder(Building):
    """Adds to ``graph`` what the layer at ``place`` means; ``major`` is the version of Keras that wrote it."""

    place: Place

    def __init__(self, graph: Graph, major: int, enter: Callable[..., Any]) -> None:
        super().__init__(graph)
        self.major = major
        self.enter = enter
        self.narrow: set[str] = set()
        #: the weights of layers that are trained, and of those with trainable=False
        self.trained: list[Value] = []
        self.frozen: list[Value] = []
        self.notes: list[str] = []

    def remark(self, note: str) -> None:
        """Tell the user, once."""
        if note not in self.notes:
            self.notes.append(note)

    # -- fields --------------------------------------------------------------------------------------------------
    def field(self, name: str, default: Any = None) -> Any:
        """A field of the layer's config as it stands; ``default`` where the config leaves it out."""
        return self.place.layer.config.get(name, default)

    def whole(self, name: str, default: int | None = None, low: int = 1) -> int:
        """An integer of at least ``low``."""
        value = self.field(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_ELEMENTS:
            raise Unsupported(f"its {name} must be an integer of at least {low}, got {_short(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number; numbers that Keras serialised as arrays count."""
        return _number(self.field(name, default), name)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.field(name, default)
        if not isinstance(value, bool | int):
            raise Unsupported(f"its {name} must be true or false, got {_short(value)}")
        return bool(value)

    def sizes(self, name: str, n: int, default: Any = None, low: int = 1) -> tuple[int, ...]:
        """One integer, or ``n`` of them."""
        value = _items(self.field(name, default))
        values = value if isinstance(value, list | tuple) else [value] * n
        if len(values) != n or any(not isinstance(v, int) or isinstance(v, bool) or v < low for v in values):
            raise Unsupported(f"its {name} must be {n} integers of at least {low}, got {_short(value)}")
        return tuple(values)

    def pairs(self, name: str, n: int, default: Any) -> list[tuple[int, int]]:
        """(before, after) of ``n`` axes: one integer, one per axis, or two per axis."""
        value = _items(self.field(name, default))
        if isinstance(value, int) and not isinstance(value, bool):
            value = [value] * n
        if n == 1 and isinstance(value, list | tuple) and all(isinstance(v, int) for v in value) and len(value) == 2:
            value = [value]
        pairs = []
        for entry in value if isinstance(value, list | tuple) else ():
            entry = _items(entry)
            pair = (entry, entry) if isinstance(entry, int) else tuple(entry) if isinstance(entry, list | tuple) else ()
            if len(pair) != 2 or any(not isinstance(v, int) or isinstance(v, bool) or v < 0 for v in pair):
                break
            pairs.append(pair)
        if len(pairs) != n:
            raise Unsupported(f"its {name} must be {n} pairs of integers, got {_short(value)}")
        return pairs

    def axes(self, name: str, rank: int, default: Any = -1) -> tuple[int, ...]:
        """Non-negative axes, sorted."""
        value = _items(self.field(name, default))
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(sorted({self.axis(v, rank) for v in values}))

    def axis(self, number: Any, rank: int) -> int:
        """A non-negative axis."""
        if not isinstance(number, int) or isinstance(number, bool) or not -rank <= number < rank:
            raise Unsupported(f"axis {_short(number)} does not exist in rank {rank}")
        return number % rank

    def all_axes(self, axis: Any, rank: int) -> tuple[int, ...]:
        """The axes that a function is given, sorted; None is all of them."""
        if axis is None:
            return tuple(range(rank))
        return tuple(sorted({self.axis(a, rank) for a in (axis if isinstance(axis, list) else [axis])}))

    def layout(self) -> str:
        """The graph's name of ``data_format``."""
        value = self.field("data_format") or "channels_last"
        if value not in ("channels_last", "channels_first"):
            raise Unsupported(f"its data_format is {_short(value)}")
        return "NHWC" if value == "channels_last" else "NCHW"

    # -- weights -------------------------------------------------------------------------------------------------
    def weight(
        self, role: str, shape: Sequence[int], name: str, arrange: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Value:
        """The layer's next array, called ``role`` by Keras and of this shape, as the constant ``scope.name``.

        ``arrange`` turns Keras' axes into the graph's. Handlers ask in the order in which Keras makes the weights.
        """
        place = self.place
        if role in place.read:
            return place.read[role]
        sizes = tuple(int(n) for n in shape)
        if math.prod(sizes) > MAX_ELEMENTS:
            raise Unsupported(f"its {role} would have the shape {list(sizes)}: beyond all bounds")
        array = place.weights.take(role, sizes)
        if array.dtype.kind == "f" and array.dtype != np.float32:
            self.narrow.add(str(array.dtype))
            array = array.astype(np.float32)
        if arrange is not None:
            array = arrange(array)
        full = ".".join(part for part in (place.scope, name) if part)
        place.read[role] = self.graph.constant(np.asarray(array, order="C"), self.unique(full))
        (self.trained if place.trained else self.frozen).append(place.read[role])
        if decay := self._decay(role):
            self.graph.meta.setdefault("decay", {})[place.read[role].name] = decay
        return place.read[role]

    def _decay(self, role: str) -> float:
        """The factor of Σ w² / 2 that the layer's regulariser of this array adds to the loss: Keras' L2 is half of it.

        Of other regularisers (L1, a class of one's own) the graph knows nothing: the outputs are the same.
        """
        made = self.field(f"{_REGULARISED.get(role, role)}_regularizer")
        config = made.get("config") if isinstance(made, dict) else None
        if not isinstance(config, dict) or made.get("class_name") not in ("L2", "L1L2") or config.get("l1"):
            return 0.0
        factor = _items(config.get("l2", 0.0))
        return 2 * _number(factor, "l2")

    def made(self, role: str, array: np.ndarray, name: str) -> Value:
        """A weight in another form: ``scope.name``."""
        place = self.place
        if role not in place.read:
            full = f"{place.scope}.{name}" if place.scope else name
            place.read[role] = self.graph.constant(array, self.unique(full))
        return place.read[role]

    def constant(self, array: np.ndarray, hint: str = "constant") -> Value:
        return self.graph.constant(np.asarray(array, order="C"), self.apart(hint))

    def told(self, role: str, array: np.ndarray) -> Value:
        """Numbers that the layer has and does not train: of its config, or ones and zeros."""
        if role not in self.place.read:
            self.place.read[role] = self.constant(array, role)
        return self.place.read[role]

    def kept(self, value: Value) -> Value:
        """A weight that the layer keeps and does not train."""
        known = self.graph.meta.setdefault("buffers", [])
        if value.name not in known:
            known.append(value.name)
        return value

    # -- layers within layers --------------------------------------------------------------------------------------
    @contextmanager
    def inside(self, layer: Layer, attribute: str, name: str = "") -> Any:
        """For the while, ``layer`` is at hand, which the present one holds in ``attribute``."""
        outer, stem, scope = self.place, self.stem, self.scope
        self.place = outer.inside(layer, attribute, name)
        self.stem = self.scope = self.place.scope
        try:
            yield
        finally:
            self.place, self.stem, self.scope = outer, stem, scope

    def call(self, x: Value, *rest: Any, mask: Value | None = None, **kwargs: Any) -> Any:
        """What the layer at hand makes of ``x``; ``mask`` is for those that take one."""
        layer = self.place.layer
        if layer.network is not None:
            masks = None if rest else [mask]
            place, found = self.place, self.enter(layer.network, [x, *rest], self.place, masks)
            self.place, self.stem, self.scope = place, place.scope, place.scope
            return found[0] if len(found) == 1 else found
        handler = self.handler(layer)
        if mask is not None and "mask" in inspect.signature(handler).parameters:
            kwargs["mask"] = mask
        return handler(self, x, *rest, **kwargs)

    def handler(self, layer: Layer) -> Callable[..., Any]:
        """The handler of a layer. Raises Unsupported with what to do."""
        kind = layer.registered or layer.kind
        found = LAYERS.get(kind)
        if found is None and not layer.registered.count(">"):
            found = LAYERS.get(layer.kind)
        if found is None:
            raise Unsupported(_why(layer))
        return found

    # -- adding ----------------------------------------------------------------------------------------------------
    def node(self, op: Operator, *inputs: Value) -> Node:
        node = super().node(op, *inputs)
        for value in node.outputs:
            if value.rank > MAX_RANK or math.prod(value.shape) > MAX_ELEMENTS:
                raise Unsupported(f"it makes a tensor of shape {list(value.shape)[:MAX_RANK]}: beyond all bounds")
            if 0 in value.shape:
                raise Unsupported(f"it makes an empty tensor, of shape {list(value.shape)}")
            value.source = SourceView.whole(value.name, value.shape)
        if len(self.graph.nodes) > _MAX_NODES:
            raise Unsupported(f"the network has more than {_MAX_NODES} operators")
        return node

    def floating(self, x: Value) -> Value:
        """Whole numbers and truths as fractions, which most functions of Keras make of them."""
        return x if np.dtype(x.dtype).kind == "f" else self.cast(x, "float32")

    def numbers(self, value: Any, what: str) -> np.ndarray:
        """A number or nested lists of numbers as an array."""
        try:
            array = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            raise Unsupported(f"its {what} must be numbers, got {_short(value)}") from None
        if array.size > 1 << 20:
            raise Unsupported(f"its {what} holds {array.size} numbers")
        return array

    def operand(self, x: Any, dtype: str) -> Value:
        """A tensor, a number or a list of numbers as a Value of ``dtype``."""
        if isinstance(x, list):
            return self.constant(self.numbers(x, "operand").astype(dtype))
        if not isinstance(x, Value) and not isinstance(x, int | float | bool):
            raise Unsupported(f"an operand is {_short(x)}, neither a tensor nor a number")
        return super().operand(x, dtype)

    def activated(self, x: Value, act: Any) -> Value:
        """``x`` through an activation as configs write it: a name, a serialised function, or a layer."""
        name, arguments = act, {}
        if isinstance(act, dict):
            config = act.get("config")
            if act.get("class_name") in ("function", "__function__") or isinstance(config, str):
                name = config
            elif isinstance(act.get("class_name"), str) and isinstance(config, dict):
                inner = Layer(act["class_name"], str(config.get("name", "activation")), config)
                with self.inside(inner, "activation"):
                    return self.call(x)
        if name is None:
            return x
        if isinstance(name, dict) or name not in ACTIVATIONS:
            raise Unsupported(
                f"its activation {_short(name)} is not Keras' own, and what it computes is not in the file; use one of "
                "Keras', or write it with layers"
            )
        return ACTIVATIONS[name](self, x, **arguments)


def _items(value: Any) -> Any:
    """The items of what Keras 2 wrote as ``{"class_name": "__tuple__", "items": […]}``."""
    if isinstance(value, dict) and "items" in value:
        return value["items"]
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("value") if isinstance(inner, dict) else value.get("value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Unsupported(f"its {name} must be a number, got {_short(value)}")
    return float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _why(layer: Layer) -> str:
    if layer.kind == "Lambda":
        return "a Lambda is Python code in the file, which Instep never runs; write it with layers or keras.ops instead"
    if layer.registered:
        return (
            f"the class {layer.registered[:80]} is not Keras' own and what it computes is not in the file; build it of "
            "Keras' layers, or register what it means (instep.capture.keras.registry.layer)"
        )
    return (
        f"{layer.kind[:80]} has no meaning as graph operators yet; build it of other layers, or register what it means"
    )
