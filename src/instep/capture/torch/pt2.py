"""Reads a .pt2 archive through torch.export.load without ever unpickling code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from instep.capture.base import CaptureError

__all__ = ["load_pt2"]


def load_pt2(path: str) -> Any:
    """The ExportedProgram in ``path``. Raises CaptureError when it cannot be read without pickle."""
    try:
        with _weights_only():
            return torch.export.load(path)
    except CaptureError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if (
            "weights_only" in str(error)
            or "Unpickl" in type(error).__name__
            or "unsupported global" in str(error).lower()
        ):
            raise CaptureError(
                f"{path} can only be read by unpickling code, which Instep never does; export it again with "
                "torch.export.save of a current PyTorch"
            ) from None
        raise CaptureError(f"{path} cannot be read as an exported program: {type(error).__name__}: {text}") from None


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """While inside, torch.load refuses everything but plain tensors, whatever its caller asked for."""
    original = torch.load

    def plain(*args: Any, **kwargs: Any) -> Any:
        kwargs["weights_only"] = True
        return original(*args, **kwargs)

    torch.load = plain
    try:
        yield
    finally:
        torch.load = original
