"""Networks whose forward() computes their own weights through ``.data``: merged branches, standardised kernels.

``self.merged.weight.data = w`` is not a step of a traced program, and ``.data`` as an operand is a constant that
tracing has no value of. Such a network is run until its weights stay as they are; then what forward() writes into them
is what they hold, and the writes can be left out.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.capture.torch.tracing import user_file

__all__ = ["data_as_steps", "settle", "untraceable_data"]


def untraceable_data(error: BaseException) -> bool:
    """Is this what torch.export says of values that ``.data`` took out of the trace?"""
    return "fake tensor in the exported program constant's list" in str(error)


def settle(module: torch.nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> list[str]:
    """Run the network twice: the names of the parameters that the first call changed.

    Raises CaptureError when the second changes one again.
    """
    before = _held(module)
    module(*copy.deepcopy(tuple(args)), **copy.deepcopy(kwargs))
    once = _held(module)
    module(*copy.deepcopy(tuple(args)), **copy.deepcopy(kwargs))
    restless = _changed(once, _held(module))
    if restless:
        raise CaptureError(
            f"forward() changes the parameter '{restless[0]}' on every call, and a file always computes the same; "
            "compute the parameters before the network is captured"
        )
    return _changed(before, once)


def _held(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters(remove_duplicate=False)}


def _changed(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    return [n for n, t in b.items() if n not in a or a[n].shape != t.shape or not torch.equal(a[n], t)]


@contextlib.contextmanager
def data_as_steps() -> Iterator[None]:
    """While inside, ``tensor.data`` in the user's code is a step (detach), and writing to it is nothing."""
    plain: Any = torch._C.TensorBase.data  # type: ignore[attr-defined]

    def read(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach() if _asked_by_user() else plain.__get__(tensor)

    def write(tensor: torch.Tensor, value: torch.Tensor) -> None:
        if not _asked_by_user():
            plain.__set__(tensor, value)

    torch.Tensor.data = property(read, write)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del torch.Tensor.data


def _asked_by_user() -> bool:
    return user_file(sys._getframe(2).f_code.co_filename)
