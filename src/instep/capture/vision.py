"""torchvision, where its compiled part does not load.

Its Python side describes two operators of the compiled one and fails without them ("operator torchvision::nms does not
exist"), whoever imports it and wherever: at the top of a user's file, in a factory, in forward(). They are declared
just before that.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["prepare_torchvision"]

#: The module of torchvision that asks for the operators; it is imported after the compiled part was tried.
_ASKS = "torchvision._meta_registrations"
_library: list[Any] = []


class _Declares(MetaPathFinder):
    """Finds nothing; looks on as modules are imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == _ASKS and not _library:
            _declare()


def _declare() -> None:
    import torch

    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    if missing:
        _library.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in missing:
        _library[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def prepare_torchvision() -> None:
    """See to it that every later import of torchvision finds its operators. Imports nothing."""
    if not any(isinstance(finder, _Declares) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Declares())
