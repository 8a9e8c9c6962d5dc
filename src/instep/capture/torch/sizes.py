"""Sizes that PyTorch leaves open while it traces: known after all where they follow from constants, else unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from instep.capture.torch.program import INPUT, Program, Step, map_steps, steps_in

__all__ = ["DATA_DEPENDENT", "Unknown", "known_shape", "leaves", "settled"]

DATA_DEPENDENT = (
    "{place} makes a shape or number that depends on the data of a tensor (a bool-mask index, nonzero, unique, "
    "nms, .item()); use torch.where or a fixed index instead, or return what it reads and do it behind the network"
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A number that depends on data. PyTorch's own checks may ask for it; a step that computes with it is refused."""

    place: str


def known_shape(val: Any) -> bool:
    """Are all sizes of this fake value (or of all values in a list) plain numbers?"""
    if isinstance(val, (list, tuple)):
        return all(map(known_shape, val))
    return not isinstance(val, torch.Tensor) or all(isinstance(d, int) for d in val.shape)


def leaves(arg: Any) -> Iterator[Any]:
    """What is inside nested arguments."""
    if isinstance(arg, (list, tuple)):
        for a in arg:
            yield from leaves(a)
    elif isinstance(arg, dict):
        yield from leaves(list(arg.values()))
    else:
        yield arg


def settled(target: Any, args: Any, kwargs: Any, constants: Program) -> Any:
    """What the result looks like (tensors without data) where PyTorch left its sizes open; None where data decide.

    What a fixed mask or fixed numbers pick has a size that can be counted: the operator is run on zeros in place of
    computed values. Everything behind it is run without data, so that views keep sharing their memory.
    """
    if torch.Tag.dynamic_output_shape in target.tags:
        deciding = (args[1:], kwargs) if target is torch.ops.aten.index.Tensor else (args, kwargs)
        if any(s.depends == INPUT for s in steps_in(deciding)):
            return None

        def real(step: Step) -> Any:
            return (
                torch.zeros(step.val.shape, dtype=step.val.dtype) if step.depends == INPUT else constants.constant(step)
            )

        with torch.no_grad():
            result = target(*map_steps(args, real), **map_steps(kwargs, real))
        return torch.empty_like(result, device="meta")

    def bare(step: Step) -> Any:
        val = step.val
        if not isinstance(val, torch.Tensor) or val.device.type == "meta":
            return val
        return torch.empty_strided(val.shape, val.stride(), dtype=val.dtype, device="meta")

    return target(*map_steps(args, bare), **map_steps(kwargs, bare))
