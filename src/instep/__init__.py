"""Instep: your network, in step everywhere. Importing it imports no framework; a name comes when first used."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: each verb and the file of ``instep.verbs`` that has it
_VERBS = {
    "bench": "show",
    "bisect": "debug",
    "build": "export",
    "capture": "capture",
    "check": "targets",
    "convert": "convert",
    "cut": "debug",
    "dump": "text",
    "export": "export",
    "legalize": "targets",
    "parse": "text",
    "port": "export",
    "probe": "probe",
    "show": "show",
    "stages": "debug",
    "verify": "verify",
}

#: what declares an operator of one's own (docs/add-an-operator.md), and where it is
_DECLARES = {
    "Operator": "graph.operator",
    "Spec": "graph.operator",
    "decomposes": "rewrite.lower",
    "handles": "capture.torch.registry",
    "operator": "graph.operator",
}
#: how pixels become a network's inputs, for `convert(…, picture=…)` and others
_VALUES = {"Picture": "verify.inputs"}
_PLACES = {verb: f"verbs.{file}" for verb, file in _VERBS.items()} | _DECLARES | _VALUES

__all__ = [
    "Operator", "Picture", "Spec", "bench", "bisect", "build", "capture", "check", "convert", "cut", "decomposes",
    "dump", "export", "handles", "legalize", "operator", "parse", "port", "probe", "show", "stages", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from instep.api import (
        bench,
        bisect,
        build,
        capture,
        check,
        convert,
        cut,
        dump,
        export,
        legalize,
        parse,
        port,
        probe,
        show,
        stages,
        verify,
    )
    from instep.capture.torch.registry import handles
    from instep.graph.operator import Operator, Spec, operator
    from instep.rewrite.lower import decomposes
    from instep.verify.inputs import Picture


class _Package(ModuleType):
    """The package as a module on which verbs win: ``capture`` and ``verify`` are rooms as well as functions, and
    importing a room would put the room where the function has to be. ``from instep.verify import …`` still works.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # `instep.convert` imports the rooms it needs only here, so that `import instep` costs nothing
        if name in _PLACES:
            found = getattr(import_module(f"instep.{_PLACES[name]}"), name)
            super().__setattr__(name, found)
            return found
        raise AttributeError(f"module 'instep' has no attribute {name!r}; the verbs are {', '.join(_VERBS)}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
