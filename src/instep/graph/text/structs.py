"""What a text declares before anything is built: arguments with types and defaults, structs, whole networks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instep.graph.text.errors import fail
from instep.graph.text.fields import ANY, BOOL, COUNT, FLOAT, INT, PAIR, REQUIRED, WORD, Field, Kind
from instep.graph.text.hints import FIELDS, WORDS, meant
from instep.graph.text.steps import Step, read_body
from instep.graph.text.tree import MAX_BYTES, Items, Pairs, Scalar, Tree, plain, read_tree

__all__ = ["FACTS", "SECTIONS", "TYPES", "VERSION", "Struct", "Unit", "literal", "read_unit"]

#: The version of the form that is read and written.
VERSION = 1

_LIST = Kind("a list", lambda v: _tuple(v), {"type": ["array", "string"]})

#: The types of arguments.
TYPES: dict[str, Kind] = {
    "int": INT, "count": COUNT, "float": FLOAT, "bool": BOOL, "str": WORD, "pair": PAIR, "list": _LIST, "any": ANY,
}  # fmt: skip

#: Facts about a network that travel with it and change nothing. ``document``: the number of the seed document that asks
#: for it; ``training``: loss, batch and the like as its source has them. ``names`` says what files of trained weights
#: call its layers (capture/foreign.py).
FACTS = ("name", "doc", "source", "document", "training", "range", "parameters", "macs", "licence", "names")
#: All that may stand at the top of a text, in the order that the formatter gives them.
SECTIONS = (
    "instep", *FACTS, "weights", "layout", "args", "let", "input", "defaults", "networks", "structs", "body", "output",
    "state",
)  # fmt: skip

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARGUMENT = re.compile(r"(?P<type>[a-z]+)\s*(?:=\s*(?P<default>\S.*))?", re.S)
#: Deepest networks within networks, most files of one network.
MAX_DEPTH, MAX_FILES = 8, 64


def _tuple(value: Any) -> Any:
    if not isinstance(value, tuple | list):
        raise ValueError
    return tuple(value)


@dataclass
class Struct:
    """A named block: arguments, the names of what it reads, its steps, the names of what it gives back."""

    name: str
    args: tuple[Field, ...]
    inputs: tuple[str, ...]
    body: list[Step]
    #: names with their lines; None: what the last step gives
    outputs: tuple[Scalar, ...] | None
    line: int
    unit: Unit


@dataclass
class Unit:
    """One file: its structs, defaults and constants, and the network itself as the struct ``main``."""

    file: str
    folder: Path | None
    structs: dict[str, Struct] = field(default_factory=dict)
    defaults: dict[str, Pairs] = field(default_factory=dict)
    let: Pairs | None = None
    layout: str = "NCHW"
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Tree] = field(default_factory=dict)
    #: the names of what the network gives, and which value each is
    outputs: dict[str, Scalar] = field(default_factory=dict)
    state: dict[str, Scalar] = field(default_factory=dict)
    weights: str = ""
    #: the line of ``weights``
    weights_line: int = 0
    main: Struct = None  # type: ignore[assignment]


def read_unit(
    text: str, file: str, folder: Path | None, depth: int = 0, known: dict[Path, Struct] | None = None
) -> Unit:
    """Read the declarations of a text. ``known``: the networks of other files read so far. Raises TextError."""
    known = {} if known is None else known
    root = read_tree(text, file)
    if not isinstance(root, Pairs):
        fail(file, root.line, "a network is a mapping with 'input' and 'body'")
    unit = Unit(file, folder)
    for key, value in root.pairs:
        if key.value not in SECTIONS:
            near = meant(key.value, SECTIONS, FIELDS, end="? Known") or "; known"
            fail(file, key.line, f"'{key.value}' is no section{near}: {', '.join(SECTIONS)}")
        if key.value in FACTS:
            unit.facts[key.value] = plain(value)
    sections = {k.value: v for k, v in root.pairs}
    _version(file, sections.get("instep"))
    _layout(unit, sections.get("layout"))
    for name, tree in _pairs(sections.get("defaults"), file, "defaults"):
        if not isinstance(tree, Pairs):
            fail(file, tree.line, f"the defaults of '{name.value}' are fields: {{padding: same}}")
        unit.defaults[name.value] = tree
    let = sections.get("let")
    unit.let = let if isinstance(let, Pairs) else None
    if let is not None and unit.let is None:
        fail(file, let.line, "'let' is a mapping of names to values")
    for name, tree in _pairs(sections.get("networks"), file, "networks"):
        unit.structs[_name(name, file)] = _network(unit, tree, depth, known)
    for name, tree in _pairs(sections.get("structs"), file, "structs"):
        unit.structs[_name(name, file)] = _struct(name, tree, unit)
    _main(unit, sections, root.line)
    return unit


def _pairs(tree: Tree | None, file: str, what: str) -> list[tuple[Scalar, Tree]]:
    if tree is None or (isinstance(tree, Scalar) and tree.value is None):
        return []
    if not isinstance(tree, Pairs):
        fail(file, tree.line, f"'{what}' is a mapping of names")
    return tree.pairs


def _name(name: Scalar, file: str) -> str:
    if _IDENTIFIER.fullmatch(name.value) is None:
        fail(file, name.line, f"'{name.value}' is no name; letters, digits and _, not beginning with a digit")
    return name.value


def _version(file: str, tree: Tree | None) -> None:
    if tree is not None and (not isinstance(tree, Scalar) or type(tree.value) is not int or tree.value != VERSION):
        got = repr(tree.value)[:80] if isinstance(tree, Scalar) else "more than a number"
        fail(file, tree.line, f"instep must be {VERSION}, the version of the form that is understood here, got {got}")


def _layout(unit: Unit, tree: Tree | None) -> None:
    if tree is None:
        return
    if not isinstance(tree, Scalar) or tree.value not in ("NCHW", "NHWC"):
        fail(unit.file, tree.line, "layout must be NCHW or NHWC")
    unit.layout = tree.value


def _struct(name: Scalar, tree: Tree, unit: Unit) -> Struct:
    file = unit.file
    if not isinstance(tree, Pairs):
        fail(file, tree.line, f"struct '{name.value}' is a mapping with 'args', 'in', 'body' and 'out'")
    known = ("doc", "args", "in", "body", "out")
    for key, _ in tree.pairs:
        if key.value not in known:
            near = meant(key.value, known, FIELDS, end="? Known") or "; known"
            fail(file, key.line, f"struct '{name.value}' has no part '{key.value}'{near}: {', '.join(known)}")
    outputs = tree.get("out")
    return Struct(
        name.value,
        read_args(tree.get("args"), file, f"struct '{name.value}'"),
        tuple(n.value for n in _names(tree.get("in"), file)) if tree.get("in") is not None else ("x",),
        read_body(tree.get("body"), file, name.line, f"struct '{name.value}'"),
        None if outputs is None else _names(outputs, file),
        name.line,
        unit,
    )


def _names(tree: Tree | None, file: str) -> tuple[Scalar, ...]:
    items = tree.items if isinstance(tree, Items) else [tree] if tree is not None else []
    found = []
    for item in items:
        if not isinstance(item, Scalar) or item.value is None or isinstance(item.value, bool):
            fail(file, item.line, "a name or a list of names belongs here")
        found.append(Scalar(str(item.value), item.line))
    return tuple(found)


def _one(tree: Tree, file: str) -> Scalar:
    found = _names(tree, file)
    if len(found) != 1:
        fail(file, tree.line, f"one name belongs here, got {len(found)}")
    return found[0]


def read_args(tree: Tree | None, file: str, what: str) -> tuple[Field, ...]:
    """``{nf: int, mid: int = nf // 2}`` as fields; a plain value is its own default and type."""
    found = []
    for name, value in _pairs(tree, file, "args"):
        _name(name, file)
        found.append(_argument(name, value, file, what))
    return tuple(found)


def _argument(name: Scalar, tree: Tree, file: str, what: str) -> Field:
    if isinstance(tree, Pairs):
        fail(file, tree.line, f"{what}: argument '{name.value}' is written 'int', 'int = 64' or with a value")
    if isinstance(tree, Items):
        return Field(name.value, TYPES["list"], tree)
    if isinstance(tree.value, bool | int | float):
        types: dict[type, str] = {bool: "bool", int: "int", float: "float"}
        return Field(name.value, TYPES[types[type(tree.value)]], tree)
    match = _ARGUMENT.fullmatch(tree.value.strip()) if isinstance(tree.value, str) else None
    if match is None or match["type"] not in TYPES:
        near = meant(match["type"], TYPES, WORDS) if match else ""
        fail(
            file,
            tree.line,
            f"{what}: argument '{name.value}' needs a type ({', '.join(TYPES)}), got '{tree.value}'{near}",
        )
    default: Any = REQUIRED if match["default"] is None else Scalar(literal(match["default"]), tree.line)
    return Field(name.value, TYPES[match["type"]], default)


def literal(text: str) -> Any:
    """What a text writes as true, false or null; any other word is itself."""
    return {"true": True, "false": False, "null": None}.get(text, text)


def _network(unit: Unit, tree: Tree, depth: int, known: dict[Path, Struct]) -> Struct:
    """Another file as a struct; a file that several name is read once."""
    file = unit.file
    if not isinstance(tree, Scalar) or not isinstance(tree.value, str) or not re.search(r"\.(ya?ml|json)$", tree.value):
        fail(file, tree.line, "a network is the name of a .yaml or .json file")
    if depth >= MAX_DEPTH:
        fail(file, tree.line, f"networks within networks deeper than {MAX_DEPTH}")
    if unit.folder is None:
        fail(file, tree.line, "a network of another file needs a file to lie beside")
    path = unit.folder / tree.value
    if os.path.isabs(tree.value) or unit.folder.resolve() not in path.resolve().parents:
        fail(file, tree.line, f"'{tree.value}' lies outside the folder of {file}")
    if (found := known.get(path.resolve())) is not None:
        return found
    if len(known) >= MAX_FILES:
        fail(file, tree.line, f"more than {MAX_FILES} files")
    try:
        if path.stat().st_size > MAX_BYTES:
            fail(file, tree.line, f"'{tree.value}' has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"there is no such file beside {file}" if isinstance(error, FileNotFoundError) else str(error)
        fail(file, tree.line, f"'{tree.value}' cannot be read: {why}")
    known[path.resolve()] = read_unit(text, tree.value, path.parent, depth + 1, known).main
    return known[path.resolve()]


def _main(unit: Unit, sections: dict[str, Tree], line: int) -> None:
    file = unit.file
    for name, tree in _pairs(sections.get("input"), file, "input"):
        unit.inputs[name.value] = tree
    if not unit.inputs:
        fail(file, line, "a network needs 'input', e.g. input: {x: [1, 3, 64, 64]}")
    output = sections.get("output")
    if isinstance(output, Pairs):
        for name, tree in output.pairs:
            unit.outputs[name.value] = _one(tree, file)
    elif output is not None:
        unit.outputs = {n.value: n for n in _names(output, file)}
    for name, tree in _pairs(sections.get("state"), file, "state"):
        unit.state[name.value] = _one(tree, file)
    weights = sections.get("weights")
    if weights is not None:
        if not isinstance(weights, Scalar) or not isinstance(weights.value, str):
            fail(file, weights.line, "'weights' is the name of a .safetensors file")
        unit.weights, unit.weights_line = weights.value, weights.line
    unit.main = Struct(
        str(unit.facts.get("name") or "network"),
        read_args(sections.get("args"), file, "the network"),
        tuple(unit.inputs),
        read_body(sections.get("body"), file, line, "the network"),
        tuple(unit.outputs.values()) or None,
        line,
        unit,
    )
