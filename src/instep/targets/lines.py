"""Reads YAML as plain data that knows the line of every entry, and refuses what could harm: aliases, tags, depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["LinedDict", "LinedList", "ProfileError", "read_yaml"]

#: Bounds on what a person writes by hand.
MAX_BYTES, MAX_DEPTH, MAX_EVENTS = 1 << 19, 12, 50_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ProfileError(ValueError):
    """A profile with a mistake in it; the message begins with ``file:line:``."""

    def __init__(self, path: str, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}")
        self.line = line


class LinedDict(dict[str, Any]):
    """A mapping with the line it begins on, and the line of each entry."""

    line = 1

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class LinedList(list[Any]):
    """A list with the line it begins on, and the line of each element."""

    line = 1

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def read_yaml(path: Path, shown: str = "") -> LinedDict:
    """The mapping that the file holds. Raises ProfileError, or OSError when the file cannot be read."""
    shown = shown or str(path)
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise ProfileError(shown, 1, f"{len(raw)} bytes; a profile has at most {MAX_BYTES}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(shown, raw[: error.start].count(b"\n") + 1, "this is no UTF-8 text") from None
    try:
        _guard(text, shown)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ProfileError(shown, mark.line + 1 if mark else 1, f"no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ProfileError(shown, 1, f"no YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ProfileError(shown, 1, "a profile is a mapping (name: …, description: …)")
    return _plain(root, shown)


def _guard(text: str, shown: str) -> None:
    """Walk the events, which needs no stack, before anything is built from them."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        line = event.start_mark.line + 1
        if count > MAX_EVENTS:
            raise ProfileError(shown, line, f"more than {MAX_EVENTS} entries")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ProfileError(shown, line, "anchors and aliases are not read here; write the entry out")
        if getattr(event, "tag", None):
            raise ProfileError(shown, line, f"the tag {event.tag!r} is not read here; write plain values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ProfileError(shown, line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _plain(node: yaml.Node, shown: str) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        made = LinedDict()
        made.line = line
        for key_node, value_node in node.value:
            key, at = _plain(key_node, shown), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ProfileError(shown, at, f"the key {key!r} must be a word")
            if key in made:
                raise ProfileError(shown, at, f"{key!r} is given a second time (first on line {made.lines[key]})")
            made[key], made.lines[key] = _plain(value_node, shown), at
        return made
    if isinstance(node, yaml.SequenceNode):
        items = LinedList()
        items.line = line
        for child in node.value:
            items.append(_plain(child, shown))
            items.lines.append(child.start_mark.line + 1)
        return items
    return _scalar(node, shown, line)


def _scalar(node: yaml.Node, shown: str, line: int) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    try:
        match kind:
            case "str":
                return text
            case "int":
                return int(text.replace("_", ""), 0)
            case "float":
                return float(text.replace("_", ""))
            case "bool":
                return text.lower() in ("true", "yes", "on")
            case "null":
                return None
    except ValueError:
        pass
    raise ProfileError(shown, line, f"{text!r} is no text, number or truth value; put it in quotes if it is text")
