"""Settings for torch.export that cost less and say more: cheap source lines, no generated code, no log lines."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch

import instep

__all__ = ["as_network", "paused_garbage_collection", "swift", "user_file", "user_frame"]

_LIBRARY = os.path.join(os.path.dirname(torch.__file__), "")
_TALKATIVE = ("torch.export", "torch._export", "torch.fx", "torch._dynamo", "torch._subclasses")
_OWN = os.path.join(os.path.dirname(instep.__file__), "")


def user_file(path: str) -> bool:
    """True for a source file that is neither PyTorch's nor Instep's."""
    return not path.startswith((_LIBRARY, _OWN, "<")) and not path.endswith("contextlib.py")


def as_network(forward: Callable[[], Any]) -> Any:
    """``forward()``: what is called in it is part of the network, and whoever calls this is not."""
    return forward()


def user_frame() -> FrameType | None:
    """The innermost frame of the network's own code that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not as_network.__code__:
        if user_file(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


class _Place:
    """Stands in for torch's CapturedTraceback while it traces: one frame, the innermost of the user's.

    torch walks, symbolises and formats the whole stack for each node, a sixth of the time of an export, and then keeps
    only frames of functions called ``forward``.
    """

    def __init__(self, frames: list[traceback.FrameSummary]) -> None:
        self.frames = frames

    @classmethod
    def extract(cls, *_: Any, **__: Any) -> _Place:
        frame = user_frame()
        if frame is None:
            return cls([])
        code = frame.f_code
        return cls([traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False, line="")])

    def summary(self) -> traceback.StackSummary:
        return traceback.StackSummary.from_list(self.frames)


def _silent(*_: Any, **__: Any) -> None:
    """Stands in for print."""


@contextlib.contextmanager
def _replaced(module: str, path: str, value: Any, *builtin: Any) -> Iterator[None]:
    """``module``'s attribute ``path`` is ``value`` for a while; nothing happens where this torch has none.

    ``builtin`` is what the name means where the module has no such attribute.
    """
    *parents, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        before = getattr(owner, name, *builtin)
    except (ImportError, AttributeError):
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Tracing makes hundreds of thousands of living objects; looking for garbage among them finds none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def swift() -> Iterator[None]:
    """While inside, torch.export takes source lines cheaply, generates no code and says nothing."""
    levels = {n: logging.getLogger(n).level for n in _TALKATIVE}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(_replaced("torch.fx.proxy", "CapturedTraceback", _Place))
            stack.enter_context(
                _replaced("torch.fx.proxy", "TracerBase._filter_traceback_frames", lambda tracer, summary: summary)
            )
            # on an error torch prints all that it has traced, before Instep's sentence
            stack.enter_context(_replaced("torch.export._trace", "print", _silent, print))
            # sub-graphs are read node by node here: Python code for them is never run
            stack.enter_context(_replaced("torch.fx._lazy_graph_module", "_use_lazy_graph_module_flag", True))
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
