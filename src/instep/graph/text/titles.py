"""What structs are called, and the conditions of their steps: by the source where it says, else by what they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from instep.graph.core import Graph
from instep.graph.text.shape import PLAIN_ACTS, Item, Shape
from instep.graph.text.table import snake
from instep.graph.text.variants import word_of

__all__ = ["condition", "numbered", "title_of", "titles_of"]

#: Steps that a few others are not called after: they say how numbers lie, not what is made of them.
_LYING = ("reshape", "permute", "param", "identity")
#: Names that values have which the source has none for.
_BARE = re.compile(r"[cwy](_\d+)?")


def titles_of(graph: Graph) -> dict[str, str]:
    """What the blocks of ``graph`` are called in its source, by scope."""
    found = graph.meta.get("blocks")
    return found if isinstance(found, dict) else {}


def _stem(scope: str) -> str:
    """The word of a scope, without number; in the singular where the scope is one of a list."""
    stem = word_of(scope)
    one = scope.rpartition(".")[2].isdigit() and len(stem) > 3 and stem.endswith("s") and not stem.endswith("ss")
    return stem[:-1] if one else stem


def title_of(shapes: list[Shape], titles: Mapping[str, str]) -> str:
    """A struct's name without number: the source's, or one from its scopes: ``blocks.0`` and ``blocks.1`` are Block."""
    stems = []
    for shape in shapes:
        title = re.sub(r"[^A-Za-z0-9_]", "", str(titles.get(shape.scope, ""))).strip("_")
        if shape.round:
            stems.append(f"{title or _stem(shape.scope)}_round")
            continue
        if title:
            stems.append(title)
            continue
        stem = _stem(shape.scope)
        inner = {_stem(i.child.scope) for i in shape.items if i.child is not None}
        group = stem in inner and shape.scope.rpartition(".")[2].isdigit()
        stems.append(f"{stem}_stage" if group else stem or "Part")
    stem = Counter(stems).most_common(1)[0][0]
    stem = "".join(p[:1].upper() + p[1:] for p in stem.split("_")) or "Part"
    return stem if stem[0].isalpha() else f"Part{stem}"


def numbered(stem: str, used: set[str]) -> str:
    """``stem``, with a number where that is ``used``."""
    name, count = stem, 1
    while name in used:
        count += 1
        name = f"{stem}{count}"
    used.add(name)
    return name


# -- conditions ----------------------------------------------------------------------------------------------------
def condition(shape: Shape, callees: Sequence[str | None], places: Sequence[int]) -> str:
    """What an argument is called that says whether the steps at ``places`` are there.

    ``callees`` are the structs that the steps of ``shape`` call, by place.
    """
    items = [shape.items[p] for p in places]
    others = [i for p, i in enumerate(shape.items) if p not in places]
    words = {_first_word(n) for i in items for n in i.names}
    word = words.pop() if len(words) == 1 and all(i.names for i in items) else ""
    if word.isidentifier() and not all(_unnamed(i) for i in items):
        return word
    behind = next((i.kind for i in shape.items[places[-1] + 1 :] if i.kind != "param"), "")
    added = [i for i in items if i.kind == "add"]
    if behind == "softmax" and (added or any(i.kind == "where" for i in items)):
        return "mask"
    if any({*(i.inputs or ())} & {*shape.inputs} for i in added):
        return "residual"
    if all(i.kind in (*PLAIN_ACTS, "gelu") for i in items):
        return "act"
    if len(items) == 1 and callees[places[0]] and callees.count(callees[places[0]]) == 1:
        return snake(callees[places[0]] or "")
    if places[0] == 0 and _pointwise(items[0]):
        return "expand"
    return _source_word(items, others) or _operator(items) or _position(shape, places)


def _first_word(name: str) -> str:
    return name.partition(".")[0].rstrip("0123456789_")


def _unnamed(item: Item) -> bool:
    """Whether the source has no name for a step: what it is called here, the text chose."""
    return item.child is None and (item.fields["at"] == "." or (item.kind == "param" and _named_bare(item)))


def _named_bare(item: Item) -> bool:
    return all(_BARE.fullmatch(n) for n in item.names)


def _source_word(items: Sequence[Item], others: Sequence[Item]) -> str:
    """The first word that the source has for a step of ``items``, and for none of the ``others``."""
    elsewhere = {_first_word(n) for i in others for n in i.names}
    named = (_first_word(n) for i in items if not _unnamed(i) for n in i.names)
    return next((w for w in named if w.isidentifier() and w not in elsewhere), "")


def _operator(items: Sequence[Item]) -> str:
    """The one operator that ``items`` are, but for how numbers lie."""
    kinds = {i.kind for i in items if i.child is None and i.kind not in _LYING} or {
        i.kind for i in items if i.child is None and i.kind == "permute"
    }
    return kinds.pop() if len(kinds) == 1 and all(i.child is None for i in items) else ""


def _position(shape: Shape, places: Sequence[int]) -> str:
    if places[0] == 0:
        return "first"
    return "tail" if places[-1] == len(shape.items) - 1 else "more"


def _pointwise(item: Item) -> bool:
    """Whether a step begins with a convolution of each place by itself."""
    while item.child is not None and item.child.items:
        item = item.child.items[0]
    return item.kind == "conv" and item.fields.get("kernel") in (1, [1, 1])
