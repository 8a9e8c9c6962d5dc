"""How far a value may be from the truth: the network's own rounding noise, and the classes made of it.

The truth is the source run in float64. The noise of a value is how far the source's own float32 runs (as it is, and
with its inputs moved by one unit in the last place) are from the truth. ``ratio`` = distance of the result / noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from instep.graph import Graph, Node, ops

__all__ = [
    "CLASSES", "HALF", "LIMITS", "NARROW", "SINGLE", "Arithmetic", "Distance", "Limits", "Noise", "arithmetic_of",
    "classify", "distance", "growth", "nudge", "ratio", "terms", "worst_class",
]  # fmt: skip

#: From best to worst. "not comparable" takes no part in a verdict.
CLASSES = ("in step", "drifting", "out of step")

#: The unit of rounding of float32, and of weights that are stored as float16 (2⁻¹¹, half of its spacing).
SINGLE = float(np.finfo(np.float32).eps)
HALF = 2.0**-11
#: The units of those that a network may compute in, by the names of their types.
NARROW = {"float16": HALF, "bfloat16": 2.0**-8}

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Limits:
    """Every constant of the judgement, with its reason."""

    #: In step up to this ratio. Healthy conversions stay below 5: another legal summation order and engine functions
    #: of 1-2 units in the last place are one more draw from the same noise; twice that is the margin.
    in_step: float = 10.0
    #: Drifting up to this ratio, out of step beyond. Between the two lie approximations (a rational erf, a table).
    drifting: float = 100.0
    #: Noise is never taken below this many eps of a value's RMS (and of its largest element): a float32 run can hit
    #: the truth exactly (shifts, maxima, powers of two) while a legal engine function is 1-2 units off.
    floor: float = 1.0
    #: ... nor below this many eps of the value's usual RMS on the other inputs: where a value cancels to zero (a
    #: constant image minus its mean) what is left is the rounding of what cancelled.
    floor_usual: float = 0.5
    #: ... nor below this: engines that flush denormals (JAX, TensorFlow) put 0 where layers whose weights decayed to
    #: nothing give 1e-41, and factors of up to 1e7 may follow.
    tiny: float = 2.0**-103
    #: The largest error of many elements scatters more than their RMS: it counts divided by this.
    peak_weight: float = 4.0
    #: A noise measured on few numbers can be small by luck (the ratio of two Gaussian draws is a Cauchy draw): noise
    #: grows by 1 + few / (number of measured elements).
    few: float = 8.0
    #: A sum of n terms in another legal order is off by this · √n eps (a random walk of roundings: one after the
    #: other, as TFLite's own kernels sum, it is 0.17 · √n; PyTorch sums in a tree and shows less).
    sums: float = 0.2
    #: The same for products of matrices and convolutions, which both sides sum in blocks.
    products: float = 0.05
    #: On the edge inputs (all zeros, one constant) every rounding of a sum errs in the same direction: n equal terms
    #: added one after the other are off by up to n / 8 eps, n / 16 on average.
    edge_sums: float = 1 / 16
    #: There the inputs move by this many units in the last place instead of one.
    edge_units: float = 64.0


LIMITS = Limits()


@dataclass(frozen=True)
class Arithmetic:
    """How an engine computes, where that differs from a CPU's float32.

    ``unit`` is its unit of rounding (0: the file's own). ``functions``: eps of a value's RMS that one operator, by its
    name in the graph or in a TFLite file, may cost. ``sums``: eps per √terms that a sum or mean may cost.
    """

    unit: float = 0.0
    functions: Mapping[str, float] = field(default_factory=dict)
    sums: float = 0.0


#: Vulkan asks of SIN and COS no more than an absolute error of 2⁻¹¹ within [-π, π] (Vulkan 1.3, "Precision and
#: Operation of SPIR-V Instructions"), and drivers use that: measured on SwiftShader up to 1350 eps of the RMS. EXP and
#: LOG may be 3 + 2|x| units off; measured 1.7. Every other operator is within 1 eps, as on the CPU, but for sums over
#: many elements (LayerNorm 13, means 17, sums 6), which GPUs add in pieces over many threads.
_VULKAN = {"Sin": 4096.0, "Cos": 4096.0, "SIN": 4096.0, "COS": 4096.0}
_ARITHMETIC = {
    "litert-gpu": Arithmetic(functions=_VULKAN),
    "litert-gpu-fp16": Arithmetic(unit=HALF, functions=_VULKAN),
}


def arithmetic_of(engine: str) -> Arithmetic:
    """The arithmetic of an engine; a CPU's float32 for those that are not in the table."""
    return _ARITHMETIC.get(engine, Arithmetic())


@dataclass(slots=True)
class Distance:
    """How far ``result`` is from ``truth``: RMS and largest element, over the places where both are finite.

    ``broken`` counts the places where one is NaN or infinite and the other is not (or infinite of another sign). The
    largest float32 counts as infinite: files spell the -inf of a padding so, which some engines refuse.
    """

    rms: float
    peak: float
    broken: int
    size: int


def _finite_parts(result: np.ndarray, truth: np.ndarray, skip: np.ndarray | None) -> tuple[np.ndarray, int]:
    result, truth = np.broadcast_arrays(np.asarray(result, np.float64), truth)
    with np.errstate(all="ignore"):
        delta = result - truth
        same = np.isnan(result) & np.isnan(truth)
        same |= np.isinf(truth) & (np.sign(result) == np.sign(truth)) & (np.abs(result) >= LARGEST)
    if skip is not None:
        same = same | skip
    good = np.isfinite(delta) & ~same
    broken = int(np.count_nonzero(~np.isfinite(delta) & ~same))
    return delta[good], broken


def _energy(flat: np.ndarray) -> float:
    """Σ x². Not ``np.dot``: BLAS would wake its threads for every value of the network."""
    return float(np.einsum("i,i->", flat, flat))


def distance(result: np.ndarray, truth: np.ndarray, skip: np.ndarray | None = None) -> Distance:
    """The distance of two arrays of one shape, whatever their memory order; ``skip`` marks places to leave out."""
    if truth.size == 0:
        return Distance(0.0, 0.0, 0, 0)
    if truth.dtype.kind not in "f":
        wrong = int(np.count_nonzero(np.asarray(result) != truth))
        share = wrong / truth.size
        return Distance(math.sqrt(share), float(wrong > 0), 0, truth.size)
    broken = 0
    with np.errstate(all="ignore"):
        delta = np.subtract(result, truth).ravel(order="K")
        total = _energy(delta)
    if skip is not None or not math.isfinite(total):
        delta, broken = _finite_parts(result, truth, skip)
        if delta.size == 0:
            return Distance(0.0, 0.0, broken, truth.size)
        top = max(float(delta.max()), -float(delta.min()))
        scale = top if top > 1e100 else 1.0
        total = _energy(delta / scale) * scale * scale
    peak = max(float(delta.max()), -float(delta.min()))
    return Distance(math.sqrt(total / delta.size), peak, broken, truth.size)


def _size_of(truth: np.ndarray) -> tuple[float, float]:
    """(RMS, largest magnitude) of the finite elements."""
    flat = truth.ravel(order="K")
    with np.errstate(all="ignore"):
        total = _energy(flat)
    if not math.isfinite(total):
        flat = flat[np.isfinite(flat)]
        total = _energy(flat)
    if not flat.size:
        return 0.0, 0.0
    return math.sqrt(total / flat.size), max(float(flat.max()), -float(flat.min()))


@dataclass
class Noise:
    """The rounding noise of one value on every input set, gathered set by set."""

    size: int = 0
    draws: int = 0
    #: how many eps of its magnitude a legal order of summation may cost (see ``growth``)
    growth: float = 1.0
    #: the same on edge inputs
    edge_growth: float = 1.0
    #: the unit of rounding of the result's weights
    unit: float = SINGLE
    rms: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    scale_rms: dict[str, float] = field(default_factory=dict)
    scale_peak: dict[str, float] = field(default_factory=dict)
    #: per set: the size of what was added up to the value, where its terms may cancel (see ``cancelling.py``)
    added: dict[str, float] = field(default_factory=dict)
    edges: set[str] = field(default_factory=set)
    #: per set: where the source's own float32 runs are not finite although the truth is (or the other way round)
    skip: dict[str, np.ndarray] = field(default_factory=dict)

    def begin(self, name: str, truth: np.ndarray, edge: bool = False, added: float = 0.0) -> None:
        """Take in the truth of the input set ``name``; ``edge`` sets say nothing of the others.

        ``added``: the size of the terms that the value is a sum of, where that is known.
        """
        self.size = truth.size
        self.rms[name] = self.peak[name] = 0.0
        self.added[name] = added
        if edge:
            self.edges.add(name)
        if truth.dtype.kind == "f":
            self.scale_rms[name], self.scale_peak[name] = _size_of(truth)

    def draw(self, name: str, truth: np.ndarray, single: np.ndarray) -> None:
        """Take in one float32 run of the source on that set."""
        self.draws += 1
        found = distance(single, truth)
        if found.broken:
            odd = np.isfinite(single) != np.isfinite(truth)
            self.skip[name] = self.skip[name] | odd if name in self.skip else odd
        self.rms[name] = max(self.rms[name], found.rms)
        self.peak[name] = max(self.peak[name], found.peak)

    def level(self, name: str, limits: Limits = LIMITS) -> tuple[float, float]:
        """(RMS, peak) noise to judge by on the input set ``name``.

        The largest of: what this set showed; the relative noise that the sets show in the middle (one lucky small
        draw does not count, nor one set on which the network jumps); the floors.
        """
        scale_rms, scale_peak = self.scale_rms.get(name, 0.0), self.scale_peak.get(name, 0.0)
        usual = sorted(s for s in self.scale_rms.values() if s > 0)
        usual_rms = usual[len(usual) // 2] if usual else 0.0
        shares = [self.rms[n] / s for n, s in self.scale_rms.items() if s > 1e-3 * usual_rms and n not in self.edges]
        share = sorted(shares)[(len(shares) - 1) // 2] if shares else 0.0
        unit = self.unit * (self.edge_growth if name in self.edges else self.growth)
        floor, usual_floor = limits.floor * unit, limits.floor_usual * unit
        tiny = limits.tiny if name in self.scale_rms else 0.0
        added = limits.floor * self.unit * self.growth * self.added.get(name, 0.0)
        rms = max(self.rms[name], share * scale_rms, floor * scale_rms, usual_floor * usual_rms, added, tiny)
        peak = max(self.peak[name], floor * scale_peak, rms)
        luck = 1.0 + limits.few / max(1, self.size * max(1, self.draws))
        return rms * luck, peak * luck


def ratio(found: Distance, noise: tuple[float, float], limits: Limits = LIMITS) -> float:
    """Distance in units of noise: the larger of the RMS ratio and the (weighted) peak ratio; inf where broken."""
    if found.broken:
        return math.inf
    if found.rms == 0.0:
        return 0.0
    rms, peak = noise
    if rms == 0.0:
        return math.inf
    return max(found.rms / rms, found.peak / peak / limits.peak_weight)


def classify(value: float, limits: Limits = LIMITS) -> str:
    """The class of a ratio: "in step", "drifting" or "out of step"."""
    if value <= limits.in_step:
        return CLASSES[0]
    return CLASSES[1] if value <= limits.drifting else CLASSES[2]


def worst_class(classes: list[str]) -> str:
    """The worst of some classes; "not comparable" when none can be compared."""
    known = [c for c in classes if c in CLASSES]
    return max(known, key=CLASSES.index) if known else "not comparable"


def nudge(array: np.ndarray, rng: np.random.Generator, units: float = 1.0, together: bool = False) -> np.ndarray:
    """``array`` (float32) with every element moved up or down by ``units`` in the last place, at random.

    Elements far below the array's RMS (exact zeros above all) move by units of that RMS, since what an engine
    rounds is the sums they enter. An array of zeros moves by units of 1. ``together`` moves all of them up.
    """
    if array.dtype.kind != "f":
        return array
    rms = _size_of(array.astype(np.float64))[0] or 1.0
    unit = np.spacing(np.maximum(np.abs(array), np.float32(rms)).astype(np.float32)) * np.float32(units)
    if together:
        return (array + unit).astype(array.dtype)
    sign = rng.integers(0, 2, array.shape, dtype=np.int8).astype(np.float32) * 2 - 1
    return (array + sign * unit).astype(array.dtype)


def terms(node: Node) -> tuple[int, int]:
    """(terms of each sum, terms of each product sum) of a node."""
    op, x, out = node.op, node.inputs[0], node.output
    if isinstance(op, (ops.Conv2d, ops.Conv3d)):
        return 0, node.inputs[1].size // node.inputs[1].shape[0]
    if isinstance(op, ops.MatMul):
        return 0, x.shape[-2 if op.transpose_a else -1]
    if isinstance(op, ops.Linear):
        return 0, x.shape[-1]
    if isinstance(op, ops.ConvTranspose2d):
        return 0, x.shape[1 if op.layout == "NCHW" else 3]
    if isinstance(op, (ops.ReduceMean, ops.ReduceSum, ops.AdaptiveAvgPool2d, ops.AvgPool2d)):
        return max(1, x.size // max(1, out.size)), 0
    if isinstance(op, (ops.LayerNorm, ops.RmsNorm)):
        return node.inputs[1].size, 0
    if isinstance(op, ops.GroupNorm):
        return x.size // x.shape[0] // op.groups, 0
    if isinstance(op, (ops.Softmax, ops.LogSoftmax)):
        return x.shape[op.axis], 0
    return (x.shape[op.axis], 0) if isinstance(op, ops.CumSum) else (0, 0)


def growth(
    graph: Graph, limits: Limits = LIMITS, *, edge: bool = False, arithmetic: Arithmetic | None = None
) -> dict[str, float]:
    """Value name → the eps that other legal orders of summation may have cost up to there (roots of summed squares).

    ``edge``: on inputs where all terms of a sum are equal. ``arithmetic``: of an engine with its own.
    """
    engine = arithmetic or Arithmetic()
    found: dict[str, float] = {}
    for node in graph.nodes:
        before = max((found.get(v.name, 1.0) for v in node.inputs), default=1.0)
        sums, products = terms(node)
        if isinstance(node.op, ops.MatMul) and not any(v in graph.weights for v in node.inputs):
            # TFLite's own kernel adds the products of two computed matrices one after the other: 2.4e-6 of 768
            sums, products = products, 0
        own = (limits.edge_sums * sums) ** 2 if edge else limits.sums**2 * sums
        own += limits.products**2 * products
        own += engine.sums**2 * sums + engine.functions.get(node.op.name, 0.0) ** 2
        for value in node.outputs:
            found[value.name] = math.sqrt(before**2 + own)
    return found
