"""Questions about reductions, normalisations over an axis, rankings and scans."""

from __future__ import annotations

from collections.abc import Iterable

from instep.graph import ops
from instep.targets.probe.question import Given, Question, given, one, spell

__all__ = ["questions"]

SHAPE = (1, 4, 5, 8)
REDUCTIONS = [
    ("MEAN", ops.ReduceMean), ("SUM", ops.ReduceSum), ("REDUCE_MAX", ops.ReduceMax), ("REDUCE_MIN", ops.ReduceMin),
    ("REDUCE_PROD", ops.ReduceProd),
]  # fmt: skip
#: label → (shape, axes, keepdims)
AXES = {
    "axes=1,2": (SHAPE, (1, 2), True), "axes=1,2/drop": (SHAPE, (1, 2), False), "axes=3": (SHAPE, (3,), True),
    "axes=3/drop": (SHAPE, (3,), False), "axes=1": (SHAPE, (1,), True), "axes=2": (SHAPE, (2,), True),
    "axes=1/drop": (SHAPE, (1,), False), "axes=2,3": (SHAPE, (2, 3), True), "axes=1,2,3": (SHAPE, (1, 2, 3), True),
    "axes=1,2,3/drop": (SHAPE, (1, 2, 3), False), "axes=0": ((3, 4, 5, 8), (0,), True),
    "axes=all": (SHAPE, (0, 1, 2, 3), False),
    "batch=3": ((3, 4, 5, 8), (1, 2), True), "batch=3/drop": ((3, 4, 5, 8), (1, 2), False),
    "channels=5": ((1, 4, 5, 5), (3,), True),
    "channels=5/axes=1,2": ((1, 4, 5, 5), (1, 2), True), "rank=2": ((3, 8), (1,), True),
    "rank=2/drop": ((3, 8), (1,), False),
    "rank=3": ((2, 5, 8), (2,), True), "rank=3/axes=1": ((2, 5, 8), (1,), True),
    "rank=3/axes=1/drop": ((1, 5, 8), (1,), False),
    "rank=1": ((8,), (0,), True), "rank=5": ((1, 2, 3, 4, 8), (4,), True), "large": ((1, 40, 50, 8), (1, 2), True),
}  # fmt: skip
FEW = (
    "axes=1,2",
    "axes=3",
    "axes=3/drop",
    "axes=1,2,3",
    "axes=0",
    "batch=3",
    "channels=5",
    "rank=2",
    "rank=3",
    "rank=5",
)


#: Ranges in which a zero that fills a channel slice, or a place beside the image, would be seen.
RANGES = {
    "REDUCE_PROD": (0.7, 1.3), "REDUCE_MAX": (-2.0, -0.5), "REDUCE_MIN": (0.5, 2.0), "ARG_MAX": (-2.0, -0.5),
    "ARG_MIN": (0.5, 2.0),
}  # fmt: skip


def _reductions() -> Iterable[Question]:
    for i, (code, make) in enumerate(REDUCTIONS):
        for label, (shape, axes, keep) in AXES.items():
            if i > 1 and label not in FEW:
                continue
            low, high = RANGES.get(code, (None, None))
            yield one(label, code, make(axes, keep), Given(shape, low=low, high=high))
    for code in ("REDUCE_ANY", "REDUCE_ALL"):
        make = ops.ReduceAny if code == "REDUCE_ANY" else ops.ReduceAll
        yield one("axes=3", code, make((3,), True), given(*SHAPE, dtype="bool"))
    yield one("dtype=int32", "SUM", ops.ReduceSum((3,), True), given(*SHAPE, dtype="int32"))
    yield one("dtype=int32", "REDUCE_MAX", ops.ReduceMax((3,), True), given(*SHAPE, dtype="int32"))


def _normalisations() -> Iterable[Question]:
    shapes = {
        "plain": SHAPE, "channels=5": (1, 4, 5, 5), "channels=1": (1, 4, 5, 1), "batch=3": (3, 4, 5, 8),
        "rank=1": (8,), "rank=2": (3, 8),
        "rank=2/batch=1": (1, 10), "rank=3": (2, 5, 8), "rank=5": (1, 2, 3, 4, 8), "channels=300": (1, 1, 3, 300),
        "size=1": (1, 1, 1, 40),
    }  # fmt: skip
    for label, shape in shapes.items():
        last = len(shape) - 1
        yield one(label, "SOFTMAX", ops.Softmax(last), shape)
        yield one(label, "LOG_SOFTMAX", ops.LogSoftmax(last), shape)
    for beta in (0.5, 2.0):
        yield one(f"beta={beta}", "SOFTMAX", spell("SOFTMAX", SHAPE, beta=beta), SHAPE)
    for label in ("plain", "channels=5", "rank=2", "batch=3"):
        yield one(label, "L2_NORMALIZATION", spell("L2_NORMALIZATION", shapes[label]), shapes[label])
    radius = {"radius": 2, "bias": 1.0, "alpha": 0.5, "beta": 0.5}
    code = "LOCAL_RESPONSE_NORMALIZATION"
    yield one("plain", code, spell(code, SHAPE, **radius), SHAPE)


def _rankings() -> Iterable[Question]:
    for code, make in (("ARG_MAX", ops.ArgMax), ("ARG_MIN", ops.ArgMin)):
        low, high = RANGES[code]

        def drawn(*shape: int, low: float = low, high: float = high) -> Given:
            return Given(shape, low=low, high=high)

        for axis in (1, 2, 3):
            yield one(f"axis={axis}", code, make(axis), drawn(*SHAPE))
        for channels in (2, 3, 5, 6, 7, 9, 10, 12, 13, 19):
            yield one(f"channels={channels}", code, make(3), drawn(1, 4, 5, channels))
        yield one("axis=1/channels=5", code, make(1), drawn(1, 4, 6, 5))
        yield one("channels=130", code, make(3), drawn(1, 2, 3, 130))
        yield one("batch=3", code, make(3), drawn(3, 4, 5, 8))
        yield one("batch=3/axis=1", code, make(1), drawn(3, 4, 5, 8))
        yield one("axis=0", code, make(0), drawn(3, 4, 5, 8))
        yield one("rank=2", code, make(1), drawn(3, 8))
        yield one("rank=2/axis=0", code, make(0), drawn(3, 8))
        yield one("rank=3", code, make(2), drawn(2, 5, 8))
        yield one("rank=3/axis=1", code, make(1), drawn(2, 5, 8))
        yield one("rank=1", code, make(0), drawn(8))
    for channels in (3, 4, 5, 6, 7, 8, 9, 12, 16, 18, 40):
        for k in (1, 2, 4):
            if k < channels:
                yield one(f"channels={channels}/k={k}", "TOPK_V2", ops.TopK(k), (1, 2, 3, channels))
    for label, shape in (("rank=1", (8,)), ("rank=2", (3, 8)), ("rank=3", (2, 5, 8)), ("batch=3", (3, 4, 5, 8))):
        yield one(label, "TOPK_V2", ops.TopK(2), shape)
    for axis in (0, 1, 2, 3):
        yield one(f"axis={axis}", "CUMSUM", ops.CumSum(axis), (3 if axis == 0 else 1, 4, 5, 8))
    yield one("rank=2/axis=0", "CUMSUM", ops.CumSum(0), (3, 8))
    yield one("rank=3/axis=0", "CUMSUM", ops.CumSum(0), (2, 5, 8))
    yield one("rank=1", "CUMSUM", ops.CumSum(0), (8,))
    for label, shape in (("rank=2", (3, 8)), ("rank=3", (2, 5, 8)), ("channels=5", (1, 4, 5, 5))):
        yield one(label, "CUMSUM", ops.CumSum(len(shape) - 1), shape)
    axis = Given((), "int32", values=3, fixed=True)
    yield one("exclusive", "CUMSUM", spell("CUMSUM", SHAPE, exclusive=True), SHAPE, axis)
    yield one("reverse", "CUMSUM", spell("CUMSUM", SHAPE, reverse=True), SHAPE, axis)


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _reductions()
    yield from _normalisations()
    yield from _rankings()
