"""The verbs about networks as text: parse, dump, fmt; and what the zoo holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.whole import write_text

if TYPE_CHECKING:
    from instep.graph import Graph

__all__ = ["Entry", "dump", "fmt", "parse", "zoo"]


@dataclass(frozen=True)
class Entry:
    """One network of the zoo."""

    name: str
    parameters: int
    macs: int
    input: str
    source: str
    #: the number of the seed document that asks for it
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse(
    source: str | os.PathLike[str],
    *,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Graph:
    """The Graph of a text: of a ``.yaml`` or ``.json`` file, of ``zoo:NAME``, or of the text itself.

    ``inputs`` (shapes), ``args`` (the network's arguments), ``weights`` (a ``.safetensors`` file) and ``seed`` (of the
    initialisers) as in ``capture``. Raises TextError with file and line.
    """
    from instep.graph.text import parse as run

    if isinstance(source, str) and source.startswith("zoo:"):
        from instep.zoo import path_of

        source = path_of(source.removeprefix("zoo:"))
    return run(source, inputs=inputs, args=args, weights=weights, seed=seed)


def dump(graph: Graph) -> str:
    """The text of a Graph; ``parse`` gives the Graph back, its weights as initialised. ``export`` keeps weights too."""
    from instep.graph.text import dump as run

    return run(graph)


def fmt(file: str | os.PathLike[str], *, check: bool = False) -> bool:
    """Rewrite a text in the one style there is; True when it was so already. ``check`` only looks.

    Raises TextError, and changes nothing, where the text is none or a step names what is not there.
    """
    from instep.graph.text.formatter import format_text
    from instep.graph.text.parse import check_text

    path = Path(file)
    text = path.read_text("utf-8")
    made = format_text(text, os.fspath(file))
    check_text(text, os.fspath(file), path.parent)
    if made != text and not check:
        write_text(path, made)
    return made == text


def zoo() -> list[Entry]:
    """What the zoo holds."""
    from instep.graph.text import parse as run
    from instep.report.table import table_of_graph
    from instep.zoo import names, path_of

    found = []
    for name in names():
        graph = run(path_of(name), initial=False)
        table = table_of_graph(graph, name)
        shapes = ", ".join("×".join(map(str, v.shape)) for v in graph.inputs)
        source, seed = str(graph.meta.get("from", "")), graph.meta.get("document")
        found.append(Entry(name, table.parameters, table.macs, shapes, source, seed))
    return found
