"""Quantised files: their unit of rounding, real numbers to their integers, inputs in the range that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instep.graph import Graph, SourceView
from instep.runtime import TFLiteInfo, tflite_info
from instep.runtime.info import TensorInfo
from instep.verify.inputs import InputSet
from instep.verify.lossy import Figures
from instep.verify.noise import HALF, SINGLE
from instep.verify.reference import Reference

__all__ = ["EIGHT_BITS", "fitted", "holds_integers", "in_range", "integers_of", "is_quantised", "judged_as"]

#: The unit of rounding of eight-bit integers that span a value's range symmetrically: half of their spacing.
EIGHT_BITS = 2.0**-8
#: Input sets of the proof's own making whose size means nothing; zeros and constants stay what they are.
SCALABLE = ("noise", "natural", "mosaic", "large")


def is_quantised(info: TFLiteInfo) -> bool:
    """Does the file hold integers that stand for real numbers, as weights or as values?"""
    return any(holds_integers(t) for t in info.tensors)


def holds_integers(tensor: TensorInfo) -> bool:
    """Do its integers stand for real numbers?"""
    return bool(tensor.scale) and tensor.dtype.startswith(("int", "uint"))


def judged_as(info: TFLiteInfo, figures: Figures | None) -> tuple[float, Figures | None, list[str]]:
    """(unit of rounding, figures to measure, notes) for a file: in units of the coarsest numbers that it stores."""
    if is_quantised(info):
        said = ["the file is quantised: values are judged in units of eight bits' rounding, 2⁻⁸"]
        if figures is None:
            said.append("state thresholds (--min sqnr=30 …) to judge what the quantisation may lose")
        return EIGHT_BITS, figures or Figures(), said
    if any(t.dtype == "float16" and t.constant_bytes for t in info.tensors):
        return HALF, figures, ["the weights are float16: values are judged in units of its rounding, 2⁻¹¹"]
    return SINGLE, figures, []


def integers_of(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """The integers by which ``tensor`` holds the real numbers of ``array``; ``array`` itself where it holds floats."""
    if array.dtype.kind != "f" or not holds_integers(tensor):
        return array
    limits = np.iinfo(tensor.dtype)
    steps = np.round(array.astype(np.float64) / tensor.scale[0]) + tensor.zero_point[0]
    return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)


def fitted(sets: Sequence[InputSet], file: str | Path, reference: Reference, graph: Graph | None) -> list[InputSet]:
    """``sets`` in the range that ``file`` holds, if its inputs are quantised (see ``in_range``)."""
    from instep.verify.align import match_inputs

    info = tflite_info(file)
    if not any(holds_integers(info.tensors[i]) for i in info.inputs):
        return list(sets)
    names = [v.name for v in graph.inputs] if graph is not None else list(reference.input_names)
    return in_range(sets, info, match_inputs(info, names, list(reference.input_specs)), names)


def in_range(
    sets: Sequence[InputSet], info: TFLiteInfo, views: Sequence[SourceView], names: Sequence[str]
) -> list[InputSet]:
    """``sets`` with the arrays of the proof's own making moved into the range that the file's inputs hold.

    A quantised input clips what lies outside and cannot tell apart what lies within one step, so noise around zero
    would say nothing of a network that takes 0..255. ``views`` and ``names`` say which source input each of the file's
    inputs shows. The user's own inputs and pictures stay as they are.
    """
    ranges: dict[int, tuple[float, float]] = {}
    for index, view in zip(info.inputs, views, strict=True):
        tensor = info.tensors[index]
        if holds_integers(tensor):
            limits = np.iinfo(tensor.dtype)
            low, high = ((int(e) - tensor.zero_point[0]) * tensor.scale[0] for e in (limits.min, limits.max))
            ranges[list(names).index(view.name)] = (low, high)

    def placed(name: str, number: int, array: np.ndarray) -> np.ndarray:
        return _spread(array, *ranges[number]) if number in ranges and name in SCALABLE else array

    return [InputSet(s.name, tuple(placed(s.name, i, a) for i, a in enumerate(s.arrays)), s.edge) for s in sets]


def _spread(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """``array`` scaled to reach from ``low`` to ``high``."""
    least, most = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    if array.dtype.kind != "f" or least == most:
        return array
    return (low + (array - least) / (most - least) * (high - low)).astype(array.dtype)
