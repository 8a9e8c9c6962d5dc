"""The functions and classes that exported code brings along, from files that are read as text."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources

__all__ = ["definitions"]


@cache
def definitions(*files: str) -> dict[str, str]:
    """The functions and classes of ``files`` ("instep.emit.keras.prelude/layers.py"), by name, in order."""
    found: dict[str, str] = {}
    for file in files:
        package, _, name = file.partition("/")
        text = resources.files(package).joinpath(name).read_text("utf-8")
        lines = text.splitlines()
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                first = min([item.lineno, *(d.lineno for d in item.decorator_list)])
                found[item.name] = "\n".join(lines[first - 1 : item.end_lineno])
    return found
