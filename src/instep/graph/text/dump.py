"""From a Graph to its text: outline by scopes, names, equal blocks folded, lines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instep.graph.core import Graph, Value
from instep.graph.text.fold import Folded, fold
from instep.graph.text.inline import inlined
from instep.graph.text.leaves import layout_of, outline
from instep.graph.text.naming import shape_of
from instep.graph.text.outline import told_apart
from instep.graph.text.plain_layers import enter_operators
from instep.graph.text.shape import Shape
from instep.graph.text.sidecar import save_weights
from instep.graph.text.structs import FACTS, VERSION
from instep.graph.text.titles import titles_of
from instep.graph.text.writing import entry, flow, struct_text
from instep.whole import write_text

__all__ = ["dump", "save"]

#: Most operators of a network whose blocks are seen in more than one way.
SIZE = 8_000


def dump(graph: Graph, *, weights: str = "") -> str:
    """The text of ``graph``; ``parse`` gives the graph back.

    Structure, attributes, scopes and the weights' names are in the text. The weights' numbers, and the names of values
    in between, are in the file ``weights`` beside it (``save`` writes both); without one, weights are as initialised.
    """
    return _text(graph, _best(graph), weights)


def save(graph: Graph, path: str | os.PathLike[str]) -> list[Path]:
    """Write the text of ``graph`` to ``path`` and its weights beside it as ``.safetensors``; the files written."""
    target = Path(path)
    beside = target.with_suffix(".safetensors")
    best = _best(graph)
    shape = best.shape
    text = _text(graph, best, beside.name if graph.weights else "")
    written = [target]
    if graph.weights:
        save_weights(graph, beside, list(dict.fromkeys(shape.constants)), shape.renamed)
        written.append(beside)
    write_text(target, text)
    return written


@dataclass(frozen=True)
class _Draft:
    """A way to fold a network: its structs, and those of them that stand for blocks of more than one form."""

    shape: Shape
    main: Folded
    structs: list[Folded]
    merged: list[Folded]

    def cost(self) -> tuple[int, int, int]:
        """Arguments that calls have no use for, lines, letters."""
        lines = [line for struct in self.structs for line in ("", *_struct(struct))] + struct_text(self.main, "  ")
        return sum(s.idle for s in self.merged), len(lines), sum(map(len, lines))


def _best(graph: Graph) -> _Draft:
    """The shortest draft of all ways to see the blocks of ``graph``."""
    enter_operators()
    titles = titles_of(graph)
    best = _shortest(shape_of(outline(graph), graph), titles)
    if len(graph.nodes) > SIZE:
        return best
    root = outline(graph)
    if told_apart(root, titles):
        best = min(best, _shortest(shape_of(root, graph), titles), key=_Draft.cost)
    return best


def _shortest(shape: Shape, titles: dict[str, str]) -> _Draft:
    """Blocks that lack steps of others are structs of their own where that takes less."""
    best, apart = _drafted(shape, titles), frozenset[Any]()
    while True:
        keys = [k for struct in best.merged for k in struct.keys]
        others = [(_drafted(shape, titles, apart | {k}), apart | {k}) for k in keys]
        draft, without = min(others, key=lambda other: other[0].cost(), default=(best, apart))
        if draft.cost() >= best.cost():
            return best
        best, apart = draft, without


def _drafted(shape: Shape, titles: dict[str, str], apart: frozenset[Any] = frozenset()) -> _Draft:
    main, structs = fold(shape, derive=True, sizes=True, titles=titles, apart=apart)
    merged = [s for s in structs if len(s.keys) > 1]
    return _Draft(shape, *inlined(main, structs), merged)


def _text(graph: Graph, best: _Draft, weights: str) -> str:
    main, structs = best.main, best.structs
    shape = main.shape  # in its terms: what was said in place of calls has other names than they had
    lines = [f"instep: {VERSION}"]
    facts = {k: v for k, v in graph.meta.items() if k in FACTS and _said(v)}
    facts.setdefault("name", str(graph.meta.get("source") or "network"))
    if facts.get("source") == facts["name"]:
        del facts["source"]
    if "from" in graph.meta:  # what a text calls its source; the graph's own is the text
        facts["source"] = graph.meta["from"]
    lines += [line for k in FACTS if k in facts for line in entry(k, facts[k])]
    if weights:
        lines += entry("weights", weights)
    if layout_of(graph) != "NCHW":
        lines += entry("layout", layout_of(graph))
    lines += entry("input", {n: _input(v) for n, v in zip(shape.inputs, graph.inputs, strict=True)})
    if structs:
        lines += ["", "structs:"]
        for struct in structs:
            lines += [*_struct(struct), ""]
    else:
        lines.append("")
    lines += ["body:", *struct_text(main, "  ")]
    if not shape.items:
        lines[-1] = "body: []"
    if shape.outputs is not None:
        lines += entry("output", dict(zip(graph.output_names, shape.outputs, strict=True)))
    elif graph.output_names != ["output"]:
        lines += entry("output", {graph.output_names[0]: "_"})
    state = graph.meta.get("state")
    if isinstance(state, dict) and state:
        lines += entry("state", state)
    return "\n".join(lines) + "\n"


def _said(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_said(v) for v in value)
    if isinstance(value, dict):
        return all(v is None or _said(v) for v in value.values())
    return isinstance(value, str | int | float | bool)


def _input(value: Value) -> list[int] | str:
    shape = list(value.shape)
    return shape if value.dtype == "float32" else f"{value.dtype}{flow(shape)}"


def _default(struct: Folded, name: str) -> str:
    return f" = {flow(struct.defaults[name])}" if name in struct.defaults else ""


def _struct(struct: Folded) -> list[str]:
    lines = [f"  {struct.name}:"]
    if struct.args:
        lines += entry("args", {a: f"{kind}{_default(struct, a)}" for a, kind in struct.args.items()}, "    ")
    if struct.shape.inputs != ("x",):
        lines += entry("in", struct.shape.inputs, "    ")
    lines += ["    body:", *struct_text(struct, "      ")]
    if struct.shape.outputs is not None:
        outputs = list(struct.shape.outputs)
        lines += entry("out", outputs[0] if len(outputs) == 1 else outputs, "    ")
    return lines
