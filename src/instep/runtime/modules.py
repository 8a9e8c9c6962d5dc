"""What a network's file of a framework says of itself: Instep's own facts, and which framework it is for."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path
from typing import Any

from instep.runtime.engines import FRAMEWORKS, available

__all__ = ["FACTS", "engine_for", "framework_of", "module_facts", "stamp"]

#: The member of a ``.keras`` or ``.pt2`` file, and the key of a ``.safetensors`` file's metadata, that holds the facts.
FACTS = "instep"

#: The engines that can run a file, by what it is made for; the usual one first.
_ENGINES = {
    "torch": ("torch",),
    "keras": ("keras-tensorflow", "keras-jax"),
    "jax": ("jax",),
}
_IMPORTED = {"torch": "torch", "keras": "keras", "tensorflow": "keras", "jax": "jax", "flax": "jax"}
_SUFFIXES = {".pt2": "torch", ".keras": "keras", ".h5": "keras"}


def module_facts(path: str | Path) -> dict[str, Any]:
    """What Instep wrote of ``path`` (a source file with its weights, a ``.keras`` or a ``.pt2`` file); else {}."""
    path = Path(path)
    beside = path.with_suffix(".safetensors")
    if path.suffix == ".py":
        text = _header(beside).get("__metadata__", {}).get(FACTS, "") if beside.is_file() else ""
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            names = [n for n in packed.namelist() if n == FACTS or n.endswith(f"/extra/{FACTS}")]
            text = packed.read(names[0]).decode() if names else ""
    else:
        text = ""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def stamp(path: str | Path, facts: dict[str, Any]) -> None:
    """Write ``facts`` into a ``.safetensors`` file (its header alone is written anew) or a ``.keras`` file."""
    path = Path(path)
    text = json.dumps(facts, separators=(",", ":"), default=str)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr(FACTS, text)
        return
    header = _header(path)
    header["__metadata__"] = {**header.get("__metadata__", {}), FACTS: text}
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(path, "rb") as old, open(part, "wb") as new:
            old.seek(8 + int.from_bytes(old.read(8), "little"))
            new.write(len(data).to_bytes(8, "little") + data)
            while chunk := old.read(1 << 22):
                new.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def engine_for(path: str | Path) -> str:
    """The engine that a file is run on when none is named: of those that can, the first that this machine has.

    ValueError for a source file that imports none of the frameworks.
    """
    path = Path(path)
    engines = _ENGINES.get(framework_of(path))
    if engines is None:
        raise ValueError(f"{path} imports none of PyTorch, Keras and JAX; name its engine: {', '.join(FRAMEWORKS)}")
    return next((e for e in engines if available(e) is None), engines[0])


def framework_of(path: str | Path) -> str:
    """The framework that a file is for: by what it says of itself, its suffix, or what its code imports; else "".

    ValueError for a source file that is no Python.
    """
    path = Path(path)
    return str(
        (path.is_file() and module_facts(path).get("framework")) or _SUFFIXES.get(path.suffix) or _imported(path)
    )


def _imported(path: Path) -> str:
    if path.suffix != ".py" or not path.is_file():
        return ""
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no Python source: {error}") from None
    found = []
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            found += [a.name for a in item.names]
        elif isinstance(item, ast.ImportFrom) and item.module:
            found.append(item.module)
    known = [_IMPORTED[n.partition(".")[0]] for n in found if n.partition(".")[0] in _IMPORTED]
    # Keras code may use its backend's functions besides
    return "keras" if "keras" in known else next(iter(known), "")


#: A header larger than this is no header.
_LARGEST = 100 << 20


def _header(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size)) if size <= _LARGEST else {}
        except ValueError:
            return {}
    return header if isinstance(header, dict) else {}
