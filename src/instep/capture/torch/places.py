"""Where a node of an exported program comes from: its module path and its source line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from torch.fx import Node

from instep.capture.torch.tracing import user_file, user_frame

__all__ = ["blocks_of", "place_of", "short_path", "user_line"]

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_origins: dict[str, str] = {}


def place_of(node: Node) -> tuple[str, str]:
    """(scope, origin): the module path, and ``file.py:line`` of the innermost frame that is not the framework's."""
    stack = node.meta.get("nn_module_stack")
    scope = ""
    if stack:
        scope = next(reversed(stack.values()))[0].split("@")[0]
        if scope.startswith("L['self']"):
            scope = scope.removeprefix("L['self']").lstrip(".")
    trace = node.meta.get("stack_trace") or ""
    if trace not in _origins:
        _origins[trace] = _origin(trace)
    return scope, _origins[trace]


def blocks_of(nodes: Iterable[Node]) -> dict[str, str]:
    """The class of each module that is none of PyTorch's own, by its path."""
    found: dict[str, str] = {}
    for node in nodes:
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            scope = path.split("@")[0].removeprefix("L['self']").lstrip(".")
            if scope and not name.startswith("torch."):
                found.setdefault(scope, name.rpartition(".")[2])
    return found


def _origin(trace: str) -> str:
    frames = _FRAME.findall(trace)
    for path, line in reversed(frames):
        if user_file(path):
            return f"{short_path(path)}:{line}"
    return ""


def short_path(path: str) -> str:
    """A path as a reader knows it: below site-packages or the working folder, else the file's name."""
    for mark in ("site-packages" + os.sep, "dist-packages" + os.sep):
        if mark in path:
            return path.rsplit(mark, 1)[1].replace(os.sep, "/")
    here = os.getcwd() + os.sep
    return path.removeprefix(here).replace(os.sep, "/") if path.startswith(here) else os.path.basename(path)


def user_line() -> str:
    """``file.py:line`` of the network's own code that is being run."""
    frame = user_frame()
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}" if frame is not None else ""
