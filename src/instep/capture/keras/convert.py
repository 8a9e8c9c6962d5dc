"""Network → Graph: calls the layers in order, through their handlers, and says where something does not fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instep.capture.base import CaptureError
from instep.capture.keras import handlers
from instep.capture.keras.builder import Builder, Place
from instep.capture.keras.hdf5 import Weights
from instep.capture.keras.masks import TAKING_OFF, behind, given, leaves
from instep.capture.keras.network import Call, Layer, Network, Numbers, Ref, refs
from instep.capture.keras.registry import FUNCTIONS, Unsupported
from instep.graph import Graph, GraphError, SourceView, Spec, Value, ops

__all__ = ["convert"]

handlers.load()

#: What a config whose fields contradict each other may raise.
_FAULTS = (
    GraphError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, ZeroDivisionError,
    AssertionError, MemoryError, RecursionError,
)  # fmt: skip
#: Arguments of calls that say nothing about a network at rest.
_SILENT = ("training",)


def convert(
    network: Network, weights: Weights, specs: Sequence[Spec], label: str, major: int
) -> tuple[Graph, list[str]]:
    """The graph of ``network`` with inputs of ``specs``, and notes for the user. Raises CaptureError."""
    return _Converter(label, major).run(network, weights, specs)


class _Converter:
    def __init__(self, label: str, major: int) -> None:
        self.label = label
        self.graph = Graph()
        self.build = Builder(self.graph, major, self.walk)
        self.build.origin = label
        self.places: dict[tuple[int, str], Place] = {}
        self.bases: dict[str, Place] = {}
        self.all: dict[tuple[str, str], list[tuple[Layer, Weights]]] = {}
        self.notes = self.build.notes

    def run(self, network: Network, weights: Weights, specs: Sequence[Spec]) -> tuple[Graph, list[str]]:
        graph, root = self.graph, Place(Layer("Functional", network.name, {}), "", weights)
        self.network, self.weights = network, weights
        for name, spec in zip(network.input_names, specs, strict=True):
            value = Value(self.build.unique(name), spec.shape, spec.dtype)
            value.source = SourceView.whole(value.name, value.shape)
            graph.inputs.append(value)
        graph.input_names = list(network.input_names)
        graph.outputs = self.walk(network, list(graph.inputs), root)
        graph.output_names = _distinct(network.output_names)
        graph.prune()
        if self.build.trained:
            self.keep(self.build.frozen)
        if self.build.narrow:
            self.notes.append(f"weights are stored as {', '.join(sorted(self.build.narrow))}; they are read as float32")
        return graph, self.notes

    def keep(self, frozen: Sequence[Value]) -> None:
        """What the network does not train while it trains other layers; one that trains none is in use, and says
        nothing of what is to be trained."""
        for value in frozen:
            self.build.kept(value)
        for node in self.graph.nodes:
            # of all layers it is the batch norm alone that trainable=False puts into inference mode, too
            if isinstance(node.op, ops.BatchNorm) and not set(frozen).isdisjoint(node.inputs):
                node.op = replace(node.op, fixed=True)

    # -- walking -----------------------------------------------------------------------------------------------------
    def walk(
        self, network: Network, inputs: Sequence[Value], home: Place, masks: Sequence[Value | None] | None = None
    ) -> list[Value]:
        """What ``network`` makes of ``inputs``; its layers lie below the scope of ``home``."""
        return self.masked(network, inputs, home, masks)[0]

    def masked(
        self, network: Network, inputs: Sequence[Value], home: Place, masks: Sequence[Value | None] | None = None
    ) -> tuple[list[Value], list[Value | None]]:
        """As ``walk``, with the masks of the inputs and of what becomes of them."""
        if len(inputs) != len(network.inputs):
            raise CaptureError(
                f"{self.label}: the model '{home.scope or network.name}' has {len(network.inputs)} inputs, "
                f"{len(inputs)} are given"
            )
        table: dict[tuple[str, int], tuple[Value, ...]] = {}
        hidden: dict[tuple[str, int], tuple[Value | None, ...]] = {}
        for ref, value, mask in zip(network.inputs, inputs, masks or [None] * len(inputs), strict=True):
            table[ref.layer, ref.call], hidden[ref.layer, ref.call] = (value,), (mask,)
        for call in self.ordered(network, table):
            key = call.layer.name, call.number
            table[key], hidden[key] = self.translate(call, table, hidden, home)
            if self.build.major >= 3 and call.layer.kind in TAKING_OFF:
                for ref in refs([call.args, call.kwargs]):
                    hidden[ref.layer, ref.call] = (None,) * len(hidden[ref.layer, ref.call])
        return [self.find(r, table) for r in network.outputs], [self.find(r, hidden) for r in network.outputs]

    def ordered(self, network: Network, table: Mapping[tuple[str, int], Any]) -> list[Call]:
        """The calls that the outputs need, each behind what it reads."""
        known = {(c.layer.name, c.number): c for c in network.calls if (c.layer.name, c.number) not in table}
        done: set[tuple[str, int]] = set()
        order: list[Call] = []
        stack: list[tuple[str, int, bool]] = [(r.layer, r.call, False) for r in reversed(network.outputs)]
        open_: set[tuple[str, int]] = set()
        while stack:
            name, number, ready = stack.pop()
            key = (name, number)
            if key in done or key in table:
                continue
            call = known.get(key)
            if call is None:
                raise CaptureError(f"{self.label}: call {number} of layer '{name}' is read, but never made")
            if ready:
                done.add(key)
                order.append(call)
                continue
            if key in open_:
                raise CaptureError(f"{self.label}: layer '{name}' reads its own result")
            open_.add(key)
            stack.append((name, number, True))
            for ref in refs([call.args, call.kwargs]):
                if (ref.layer, ref.call) not in done:
                    stack.append((ref.layer, ref.call, False))
        # file order among those that are needed, where it is an order: people know their networks by it
        position = {(c.layer.name, c.number): i for i, c in enumerate(network.calls)}
        sorted_ = sorted(order, key=lambda c: position[c.layer.name, c.number])
        seen = set(table)
        for call in sorted_:
            if any((r.layer, r.call) not in seen for r in refs([call.args, call.kwargs])):
                return order
            seen.add((call.layer.name, call.number))
        return sorted_

    def find(self, ref: Ref, table: Mapping[tuple[str, int], tuple[Any, ...]]) -> Any:
        made = table.get((ref.layer, ref.call))
        if made is None or not 0 <= ref.output < len(made):
            raise CaptureError(f"{self.label}: output {ref.output} of layer '{ref.layer}' is read, but never made")
        return made[ref.output]

    # -- layers ------------------------------------------------------------------------------------------------------
    def translate(
        self,
        call: Call,
        table: Mapping[tuple[str, int], tuple[Value, ...]],
        hidden: Mapping[tuple[str, int], tuple[Value | None, ...]],
        home: Place,
    ) -> tuple[tuple[Value, ...], tuple[Value | None, ...]]:
        """What a layer gives, and the masks of that."""
        layer = call.layer
        where = f"{layer.kind} '{_joined(home.scope, layer.name)}' ({self.label})"
        place = self.place(layer, home)
        build = self.build
        build.place, build.stem, build.scope = place, place.scope, place.scope
        count = len(self.graph.nodes)
        try:
            args = self.resolved(call.args, table)
            kwargs = self.resolved(call.kwargs, table)
            masks = [self.hidden(a, hidden) for a in call.args]
            named = {k: self.hidden(v, hidden) for k, v in call.kwargs.items()}
            result, masks = self.apply(layer, args, kwargs, masks, named)
        except Unsupported as error:
            raise CaptureError(f"{where} is not supported here: {error}") from None
        except CaptureError as error:
            raise CaptureError(str(error) if "(" + self.label in str(error) else f"{where}: {error}") from None
        except _FAULTS as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise CaptureError(f"{where} could not be captured: {text}") from error
        values = tuple(result)
        if any(not isinstance(v, Value) for v in values):
            raise CaptureError(f"{where} could not be captured: it gives no tensor")
        if layer.network is None:
            self.named(values, place.scope, count)
        return values, tuple(masks)

    def place(self, layer: Layer, home: Place) -> Place:
        key = (id(layer), home.scope)
        if key in self.places:
            return self.places[key]
        own = home.weights.layer(layer.key, layer.name)
        if own.empty:
            own = self.elsewhere(layer) or own
        place = self.places[key] = Place(layer, _joined(home.scope, layer.name), own, home.trained)
        if own.base and layer.network is None:
            first = self.bases.setdefault(own.base, place)
            place.read, place.inner = first.read, first.inner
        return place

    def elsewhere(self, layer: Layer) -> Weights | None:
        """An archive keeps the weights of a layer that several models share with the first of these alone."""
        if not self.all:
            self.index(self.network, self.weights)
        for other, weights in self.all.get((layer.kind, layer.name), ()):
            if not weights.empty and _bare(other.config) == _bare(layer.config):
                return weights
        return None

    def index(self, network: Network, weights: Weights) -> None:
        for layer in network.layers:
            inner = weights.layer(layer.key, layer.name)
            self.all.setdefault((layer.kind, layer.name), []).append((layer, inner))
            if layer.network is not None:
                self.index(layer.network, inner)

    def resolved(self, tree: Any, table: Mapping[tuple[str, int], tuple[Value, ...]]) -> Any:
        if isinstance(tree, Ref):
            return self.find(tree, table)
        if isinstance(tree, Numbers):
            return tree
        if isinstance(tree, list):
            return [self.resolved(t, table) for t in tree]
        if isinstance(tree, dict):
            return {k: self.resolved(v, table) for k, v in tree.items()}
        return tree

    def hidden(self, tree: Any, table: Mapping[tuple[str, int], tuple[Any, ...]]) -> Any:
        """The masks of the tensors in ``tree``, which lie as these do."""
        if isinstance(tree, Ref):
            return self.find(tree, table)
        return [self.hidden(t, table) for t in tree] if isinstance(tree, list) else None

    def apply(
        self, layer: Layer, args: list[Any], kwargs: dict[str, Any], masks: list[Any], named: dict[str, Any]
    ) -> tuple[Sequence[Value], Sequence[Value | None]]:
        build = self.build
        # Keras 3 lets the run say whether it is training, whatever the call said
        if kwargs.get("training") is True and build.major < 3:
            raise Unsupported("it is called with training=True: it is random or follows its input at every run")
        kwargs = {k: v for k, v in kwargs.items() if k not in _SILENT}
        self.remark(layer)
        if layer.network is not None:
            return self.nested(layer, args, kwargs, masks)
        if layer.operation or layer.kind in ("TFOpLambda", "SlicingOpLambda"):
            if layer.operation:
                own = {k: v for k, v in layer.config.items() if k != "name"}
                made = self.function(layer.kind, "keras.ops", args, own | kwargs)
            else:
                made = self.function(f"tf.{layer.config.get('function', '')}", "TensorFlow", args, kwargs)
            values = made if isinstance(made, tuple | list) else [made]
            return values, [None] * len(values)
        explicit = kwargs.get("mask")
        handler = build.handler(layer)
        made = handler(build, *args, **given(build, layer, handler, args, masks, kwargs, named))
        values = made if isinstance(made, tuple | list) else [made]
        return values, behind(build, layer, args, masks, values, explicit)

    def nested(
        self, layer: Layer, args: list[Any], kwargs: dict[str, Any], masks: list[Any]
    ) -> tuple[Sequence[Value], Sequence[Value | None]]:
        """What a model within the model gives."""
        explicit = kwargs.pop("mask", None)
        inputs = _flat([*args, *kwargs.values()])
        if layer.kind not in ("Functional", "Sequential", "Model"):
            self.notes.append(
                f"'{layer.name}' is of the class {layer.registered or layer.kind}; its layers were captured as its "
                "config has them, what a call() of its own adds is not in the file"
            )
        assert layer.network is not None
        known = leaves(masks if explicit is None else explicit)
        own = known if len(known) == len(inputs) else None
        return self.masked(layer.network, inputs, self.build.place, own)

    def function(self, name: str, home: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        handler = FUNCTIONS.get(name) or FUNCTIONS.get(name.replace("tf.compat.v1.", "tf.", 1))
        if handler is None:
            raise Unsupported(
                f"the function {name[:80]} of {home} has no meaning as graph operators yet; use a layer instead, or "
                "register what it means"
            )
        # TensorFlow's own names of the first argument
        for first in (
            "x",
            "input_tensor",
            "tensor",
            "input",
            "features",
            "images",
            "value",
            "values",
            "condition",
            "a",
        ):
            if not args and isinstance(kwargs.get(first), Value | list) and first not in ("a", "values"):
                args = [kwargs.pop(first)]
        # what a function calls b (TensorFlow's second matrix) is b_ to handlers, whose b builds
        named = {"b_" if k == "b" else k: v for k, v in kwargs.items() if k != "name"}
        takes = inspect.signature(handler).parameters
        if "dtype" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            named.pop("dtype", None)
        return handler(self.build, *args, **named)

    def remark(self, layer: Layer) -> None:
        dtype = layer.config.get("dtype")
        policy = dtype.get("config", {}) if isinstance(dtype, dict) else {"name": dtype}
        name = str(policy.get("name") if isinstance(policy, dict) else "")
        if name in ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64") and not any(
            n.startswith("layers compute") for n in self.notes
        ):
            self.notes.append(f"layers compute in {name}; they are captured in float32")
            self.graph.meta["computes"] = name.removeprefix("mixed_")
        if isinstance(dtype, dict) and "Quantized" in str(dtype.get("class_name")):
            raise Unsupported("it is quantised; save the network as it was before quantize()")

    def named(self, values: Sequence[Value], scope: str, count: int) -> None:
        """Results of a layer are called as the layer is."""
        made = {v for n in self.graph.nodes[count:] for v in n.outputs}
        for i, value in enumerate(values):
            if value in made and value.name.startswith(f"{scope}."):
                self.build.names.discard(value.name)
                value.name = self.build.unique(scope if not i else f"{scope}:{i}")
                value.source = SourceView.whole(value.name, value.shape)


def _bare(tree: Any) -> Any:
    """A config without the numbers by which Keras knows shared objects again."""
    if isinstance(tree, dict):
        return {k: _bare(v) for k, v in tree.items() if k != "shared_object_id"}
    return [_bare(v) for v in tree] if isinstance(tree, list) else tree


def _joined(scope: str, name: str) -> str:
    """Below ``scope``; Keras 2 allows slashes in names."""
    name = name.replace("/", ".")
    return f"{scope}.{name}" if scope else name


def _flat(tree: Any) -> list[Value]:
    if isinstance(tree, Value):
        return [tree]
    if isinstance(tree, dict):
        return [v for k in sorted(tree) for v in _flat(tree[k])]
    if isinstance(tree, list | tuple):
        return [v for t in tree for v in _flat(t)]
    if tree is None:
        return []
    raise Unsupported(f"a model is called with {str(tree)[:60]}")


def _distinct(names: Sequence[str]) -> list[str]:
    """``names`` with what came before numbered on."""
    result: list[str] = []
    for name in names:
        unique, i = name, 1
        while unique in result:
            unique, i = f"{name}.{i}", i + 1
        result.append(unique)
    return result
