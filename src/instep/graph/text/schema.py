"""The JSON Schema of texts, made from the table of layers, for editors that complete and check as one types."""

from __future__ import annotations

from typing import Any

from instep.graph.text.fields import REQUIRED
from instep.graph.text.plain_layers import enter_operators
from instep.graph.text.structs import FACTS, SECTIONS, TYPES, VERSION
from instep.graph.text.table import LAYERS, Layer

__all__ = ["schema"]

_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a network's text."""
    enter_operators()
    steps = {"type": "array", "items": {"$ref": "#/$defs/step"}}
    args = {"type": "object", "additionalProperties": {"anyOf": [
        {"type": "string", "pattern": f"^({'|'.join(TYPES)})\\s*(=.*)?$"},
        {"type": ["number", "boolean", "array"]},
    ]}}  # fmt: skip
    struct = {
        "type": "object",
        "properties": {"doc": {"type": "string"}, "args": args, "in": _NAMES, "body": steps, "out": _NAMES},
        "required": ["body"],
        "additionalProperties": False,
    }
    shape = {"anyOf": [{"type": "array"}, {"type": "string", "pattern": "^[a-z]+[0-9]*\\s*\\[.*\\]$"}]}
    top: dict[str, Any] = {name: {} for name in SECTIONS} | {name: {} for name in FACTS}
    top |= {
        "instep": {"const": VERSION},
        "layout": {"enum": ["NCHW", "NHWC"]},
        "args": args,
        "let": {"type": "object"},
        "input": {"type": "object", "additionalProperties": shape, "minProperties": 1},
        "defaults": {"type": "object", "properties": {n: _fields(item, True) for n, item in LAYERS.items()}},
        "networks": {"type": "object", "additionalProperties": {"type": "string", "pattern": "\\.(ya?ml|json)$"}},
        "structs": {"type": "object", "additionalProperties": struct},
        "body": steps,
        "output": {"anyOf": [*_NAMES["anyOf"], {"type": "object", "additionalProperties": {"type": "string"}}]},
        "state": {"type": "object", "additionalProperties": {"type": "string"}},
        "weights": {"type": "string"},
    }
    patterns: dict[str, Any] = {
        "^(for|if|elif)\\s": steps,
        "^else$": steps,
        "^let$": {"type": "object"},
        "^require$": {"type": "string"},
    }
    patterns |= {f"^([^=()]+=\\s*)?{name}\\s*(\\([^()]*\\))?$": _fields(item) for name, item in LAYERS.items()}
    step = {"anyOf": [{"type": "string"}, {
        "type": "object", "minProperties": 1, "maxProperties": 1, "patternProperties": patterns,
    }]}  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A network of Instep as text",
        "type": "object",
        "properties": top,
        "required": ["input", "body"],
        "additionalProperties": False,
        "$defs": {"step": step},
    }


def _fields(layer: Layer, partial: bool = False) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for f in layer.fields:
        entry = dict(f.kind.schema)
        if f.doc or f.kind.what:
            entry["description"] = f.doc or f.kind.what
        if f.default is not REQUIRED and isinstance(f.default, str | int | float | bool):
            entry["default"] = f.default if _sayable(f.default) else str(f.default)
        properties[f.name] = entry
    properties["at"] = {"type": "string", "description": "the scope of its weights; default: the step's name"}
    body = {
        "type": ["object", "null"],
        "description": layer.doc,
        "properties": properties,
        "additionalProperties": False,
    }
    # that a field is missing cannot be said here: the text's own defaults may give it
    if len([f for f in layer.fields if f.default is REQUIRED]) == 1 and not partial:
        return {"anyOf": [body, {"not": {"type": ["object", "null"]}}]}
    return body


def _sayable(value: Any) -> bool:
    """Whether JSON can say the number."""
    return isinstance(value, str) or abs(value) != float("inf")
