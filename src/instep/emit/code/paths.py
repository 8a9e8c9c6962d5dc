"""Where in the program each layer and parameter lies: paths of identifiers, from scopes and the names of weights."""

from __future__ import annotations

from collections.abc import Collection, Container

from instep.emit.code.call import Call
from instep.emit.code.statements import identifier, unique
from instep.graph.core import Node

__all__ = ["Path", "Paths", "home"]

Path = tuple[str, ...]


def home(call: Call, node: Node, layers: Container[str] = (), arrays: Container[str] = ()) -> str:
    """The scope of a layer: where its weights' names say it is, else the node's.

    ``layers`` are the scopes of all layers: an array that is another layer's by its name is shared with that.
    ``arrays`` are the names of all arrays: conv.weight.1 is conv.weight in another order where that is there, too.
    """

    def place_of(name: str) -> str:
        place, _, last = name.rpartition(".")
        return place.rpartition(".")[0] if last.isdecimal() and place in arrays else place

    places = {place_of(w.value.name) for w in call.weights.values() if "/" not in w.value.name}
    place = places.pop() if len(places) == 1 else ""
    if place and (place == node.scope or not node.scope or place not in layers):
        return place
    return node.scope or node.output.name


class Paths:
    """Scopes as paths of identifiers, one to one; numbers stay numbers."""

    def __init__(self, reserved: Collection[str]) -> None:
        self.reserved = reserved
        self.words: dict[tuple[Path, str], str] = {}
        self.used: dict[Path, set[str]] = {}

    def of(self, scope: str) -> Path:
        """The path of ``scope``; the same for the same scope."""
        path: Path = ()
        for part in scope.split(".") if scope else ():
            word = self.words.get((path, part))
            if word is None:
                word = self.enter(path, part)
                self.words[path, part] = word
            path = (*path, word)
        return path

    def fresh(self, path: Path, part: str) -> Path:
        """A path within ``path``, called ``part`` if that may be, that no scope has."""
        return (*path, self.enter(path, part))

    def enter(self, path: Path, part: str) -> str:
        used = self.used.setdefault(path, set())
        if part.isdecimal() and str(int(part)) == part and part not in used and int(part) < 10_000:
            used.add(part)
            return part
        return unique(identifier(part, self.reserved), used)
