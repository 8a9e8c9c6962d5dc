"""Instep: your network, in step everywhere. Importing it imports no framework; each verb comes when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["bench", "capture", "convert", "show", "verify"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from instep.api import bench, capture, convert, show, verify

_VERBS = frozenset(__all__)


def __getattr__(name: str) -> Any:
    # PEP 562: `instep.convert` imports numpy and the rooms it needs only here, so that `import instep` costs nothing.
    # The rooms capture/ and verify/ are packages of the same name as two verbs: the functions win on the package.
    if name in _VERBS:
        verb = getattr(import_module("instep.api"), name)
        globals()[name] = verb
        return verb
    raise AttributeError(f"module 'instep' has no attribute {name!r}; the verbs are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
