"""The tables of handlers: which function turns a layer, an activation or a function call of Keras into operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ACTIVATIONS", "FUNCTIONS", "LAYERS", "Unsupported", "activation", "function", "layer"]

Handler = Callable[..., Any]

#: Class name of a layer ("Conv2D"; "package>Class" for one that a package registered) to its handler.
LAYERS: dict[str, Handler] = {}
#: Name of an activation ("relu") to its handler.
ACTIVATIONS: dict[str, Handler] = {}
#: Operation of keras.ops by class ("Relu6"), or function of TensorFlow ("tf.nn.relu6"), to its handler.
FUNCTIONS: dict[str, Handler] = {}


class Unsupported(Exception):
    """A handler cannot express this layer; the message says which attribute is the reason."""


def _register(table: dict[str, Handler], names: tuple[str, ...]) -> Callable[[Handler], Handler]:
    def wrap(handler: Handler) -> Handler:
        for name in names:
            table[name] = handler
        return handler

    return wrap


def layer(*names: str) -> Callable[[Handler], Handler]:
    """Decorator: the handler of layers by class name.

    It gets the Builder and what the layer is called with, as Values (``mask`` and ``training`` left out), reads the
    layer's config by ``b.field`` and its weights by ``b.weight``, in the order in which Keras made them, and returns
    the Value of the result or a tuple of them.
    """
    return _register(LAYERS, names)


def activation(*names: str) -> Callable[[Handler], Handler]:
    """Decorator: the handler of activations by name; it gets the Builder, x and the activation's own arguments."""
    return _register(ACTIVATIONS, names)


def function(*names: str) -> Callable[[Handler], Handler]:
    """Decorator: the handler of functions: ``keras.ops`` by the name of the operation's class, TensorFlow's as "tf.…".

    It gets the Builder and the function's own arguments: tensors as Values, all else as plain data.
    """
    return _register(FUNCTIONS, names)
