"""Questions about operators that cut, join, pad and reshape."""

from __future__ import annotations

from collections.abc import Iterable

from instep.graph import ops
from instep.targets.probe.question import Given, Question, chain, constant, one, spell

__all__ = ["questions"]

SHAPE = (1, 4, 5, 8)


def _ints(*values: int) -> Given:
    return constant(values=values, dtype="int32")


RESHAPES = [
    (SHAPE, (1, 20, 8)), (SHAPE, (1, 160)), (SHAPE, (160,)), (SHAPE, (20, 8)), (SHAPE, (1, 5, 4, 8)),
    (SHAPE, (1, 4, 5, 2, 4)),
    ((1, 4, 5, 2, 4), SHAPE), (SHAPE, (4, 5, 8)), (SHAPE, (1, 4, 40)), (SHAPE, (1, 2, 2, 40)), ((3, 4, 5, 8), (3, 160)),
    ((3, 4, 5, 8), (12, 40)), ((3, 160), (3, 4, 5, 8)), ((160,), SHAPE), ((1, 4, 6, 4), (4, 2, 3, 4)),
    ((1, 4, 5, 3), (1, 5, 12)),
    ((2, 5, 8), (1, 10, 8)), ((1, 4, 4, 8), (4, 4, 8, 1)),
]  # fmt: skip
#: label → (shape, starts, stops, steps)
SLICES = {
    "axis=1": (SHAPE, (0, 1, 0, 0), (1, 3, 5, 8), (1, 1, 1, 1)),
    "axis=2": (SHAPE, (0, 0, 2, 0), (1, 4, 5, 8), (1, 1, 1, 1)),
    "axis=3": (SHAPE, (0, 0, 0, 4), (1, 4, 5, 8), (1, 1, 1, 1)),
    "axis=3/odd": (SHAPE, (0, 0, 0, 3), (1, 4, 5, 5), (1, 1, 1, 1)),
    "axis=0": ((3, 4, 5, 8), (1, 0, 0, 0), (3, 4, 5, 8), (1, 1, 1, 1)),
    "batch=3": ((3, 4, 5, 8), (0, 1, 0, 0), (3, 3, 5, 8), (1, 1, 1, 1)),
    "rank=1": ((9,), (2,), (7,), (1,)), "rank=2": ((3, 8), (1, 2), (3, 7), (1, 1)),
    "rank=2/rows": ((1, 8), (0, 2), (1, 7), (1, 1)),
    "rank=3": ((2, 5, 8), (0, 1, 2), (2, 4, 8), (1, 1, 1)),
    "rank=3/batch": ((2, 5, 8), (1, 0, 0), (2, 5, 8), (1, 1, 1)),
    "rank=5": ((1, 2, 3, 4, 8), (0, 0, 1, 0, 0), (1, 2, 3, 4, 8), (1, 1, 1, 1, 1)),
}  # fmt: skip
STRIDED = {
    "stride=2": (SHAPE, (0, 0, 0, 0), (1, 4, 5, 8), (1, 2, 2, 1)),
    "stride=2/channels": (SHAPE, (0, 0, 0, 1), (1, 4, 5, 8), (1, 1, 1, 2)),
    "stride=3/offset": (SHAPE, (0, 1, 1, 0), (1, 4, 5, 8), (1, 3, 3, 1)),
    "batch=3": ((3, 4, 5, 8), (0, 0, 0, 0), (3, 4, 5, 8), (1, 2, 1, 1)),
    "stride=2/batch": ((4, 4, 5, 8), (0, 0, 0, 0), (4, 4, 5, 8), (2, 1, 1, 1)),
    "rank=2": ((3, 8), (0, 0), (3, 8), (1, 2)),
    "rank=3": ((2, 5, 8), (0, 0, 0), (2, 5, 8), (1, 2, 1)), "rank=1": ((9,), (0,), (9,), (2,)),
    "rank=5": ((1, 2, 3, 4, 8), (0, 0, 0, 0, 0), (1, 2, 3, 4, 8), (1, 1, 2, 1, 1)),
}  # fmt: skip
#: Strided slices with masks: label → (result, begin, end, strides, options)
MASKED = {
    "stride=1": ((1, 2, 5, 8), (0, 1, 0, 0), (1, 3, 5, 8), (1, 1, 1, 1), {}),
    "mask=begin-end": ((1, 2, 5, 8), (0, 1, 0, 0), (0, 3, 0, 0), (1, 1, 1, 1), {"begin_mask": 13, "end_mask": 13}),
    "mask=shrink": ((1, 5, 8), (0, 1, 0, 0), (1, 2, 5, 8), (1, 1, 1, 1), {"shrink_axis_mask": 2}),
    "mask=new-axis": ((1, 4, 5, 8, 1), (0, 0, 0, 0, 0), (1, 4, 5, 8, 1), (1, 1, 1, 1, 1), {"new_axis_mask": 16}),
    "mask=ellipsis": ((1, 4, 5, 3), (0, 2), (0, 5), (1, 1), {"ellipsis_mask": 1}),
    "stride=negative": ((1, 4, 5, 8), (0, -1, 0, 0), (1, -5, 5, 8), (1, -1, 1, 1), {}),
}  # fmt: skip
#: label → (shapes, axis)
JOINS = {
    "axis=0": ([SHAPE] * 2, 0), "axis=1": ([SHAPE, (1, 2, 5, 8)], 1), "axis=2": ([SHAPE, (1, 4, 3, 8)], 2),
    "axis=3": ([SHAPE] * 2, 3),
    "axis=3/odd": ([SHAPE, (1, 4, 5, 3)], 3), "axis=3/odd-first": ([(1, 4, 5, 3), SHAPE], 3),
    "batch=3": ([(3, 4, 5, 8)] * 2, 3),
    "parts=1": ([SHAPE], 3), "parts=3": ([SHAPE] * 3, 3), "parts=4": ([SHAPE] * 4, 3), "parts=5": ([SHAPE] * 5, 3),
    "parts=6": ([SHAPE] * 6, 3),
    "parts=9": ([SHAPE] * 9, 3), "parts=17": ([(1, 4, 5, 4)] * 17, 3), "rank=1": ([(8,)] * 2, 0),
    "rank=2": ([(3, 8)] * 2, 1), "rank=2/axis=0": ([(3, 8)] * 2, 0),
    "rank=3": ([(2, 5, 8)] * 2, 2), "rank=3/axis=0": ([(2, 5, 8)] * 2, 0), "rank=3/axis=1": ([(1, 5, 8)] * 2, 1),
    "rank=5": ([(1, 2, 3, 4, 8)] * 2, 4),
}  # fmt: skip
PADS = {
    "height-width": (SHAPE, ((0, 0), (1, 2), (0, 1), (0, 0))), "channels": (SHAPE, ((0, 0), (0, 0), (0, 0), (1, 3))),
    "all": (SHAPE, ((0, 0), (1, 0), (1, 2), (0, 1))), "batch": (SHAPE, ((1, 1), (0, 0), (0, 0), (0, 0))),
    "batch=3": ((3, 4, 5, 8), ((0, 0), (1, 1), (1, 1), (0, 0))), "rank=1": ((8,), ((1, 2),)),
    "rank=2": ((3, 8), ((0, 1), (2, 0))),
    "rank=3": ((2, 5, 8), ((0, 0), (1, 1), (0, 2))), "rank=3/batch=1": ((1, 5, 8), ((0, 0), (1, 1), (0, 2))),
    "rank=3/rows": ((2, 5, 8), ((0, 0), (1, 1), (0, 0))), "rank=3/channels": ((2, 5, 8), ((0, 0), (0, 0), (4, 0))),
    "rank=3/batch=1/rows": ((1, 5, 8), ((0, 0), (1, 2), (0, 0))),
    "rank=5": ((1, 2, 3, 4, 8), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))),
}  # fmt: skip


def _cuts() -> Iterable[Question]:
    for label, (shape, starts, stops, steps) in SLICES.items():
        yield one(label, "SLICE", ops.Slice(starts, stops, steps), shape)
    for label, (shape, starts, stops, steps) in STRIDED.items():
        yield one(label, "STRIDED_SLICE", ops.Slice(starts, stops, steps), shape)
    for label, (result, begin, end, strides, options) in MASKED.items():
        op = spell("STRIDED_SLICE", result, **options)
        yield one(label, "STRIDED_SLICE", op, SHAPE, _ints(*begin), _ints(*end), _ints(*strides))
    for parts, axis in ((2, 3), (4, 3), (8, 3), (2, 1), (5, 2), (1, 3)):
        small = tuple(n // parts if i == axis else n for i, n in enumerate(SHAPE))
        op = spell("SPLIT", *[small] * parts, num_splits=parts)
        yield one(f"axis={axis}/parts={parts}", "SPLIT", op, constant(values=axis, dtype="int32"), SHAPE)
    op = spell("SPLIT", *[(3, 4)] * 2, num_splits=2)
    yield one("rank=2", "SPLIT", op, constant(values=1, dtype="int32"), (3, 8))
    op = spell("SPLIT", *[(3, 4, 5, 4)] * 2, num_splits=2)
    yield one("batch=3", "SPLIT", op, constant(values=3, dtype="int32"), (3, 4, 5, 8))
    halves = spell("SPLIT", *[(1, 4, 5, 4)] * 2, num_splits=2)
    axis = constant(values=3, dtype="int32")
    yield chain("then=reversed-concat", "SPLIT", [axis, SHAPE], (halves, (0, 1)), (ops.Concat(3), (3, 2)))
    yield chain("then=concat", "SPLIT", [axis, SHAPE], (halves, (0, 1)), (ops.Concat(3), (2, 3)))
    swapped = (halves, (0, 1)), (ops.Concat(3), (3, 2)), (ops.Tanh(), (4,))
    yield chain("then=reversed-concat-tanh", "SPLIT", [axis, SHAPE], *swapped)
    twice = (halves, (0, 1)), (ops.Tanh(), (2,)), (ops.Concat(3), (4, 3))
    yield chain("then=tanh-concat", "SPLIT", [axis, SHAPE], *twice)
    before = (ops.Tanh(), (1,)), (halves, (0, 2)), (ops.Concat(3), (4, 3))
    yield chain("after=tanh/then=reversed-concat", "SPLIT", [axis, SHAPE], *before)
    more = (halves, (0, 1)), (ops.Concat(3), (3, 1, 2))
    yield chain("then=wider-concat", "SPLIT", [axis, SHAPE], *more)
    across = (halves, (0, 1)), (ops.Concat(2), (3, 2))
    yield chain("then=concat-across", "SPLIT", [axis, SHAPE], *across)
    slices = [ops.Slice((0, 0, 0, n), (1, 4, 5, n + 4), (1, 1, 1, 1)) for n in (0, 4)]
    yield chain("then=reversed-concat", "SLICE", [SHAPE], (slices[0], (0,)), (slices[1], (0,)), (ops.Concat(3), (2, 1)))
    for label, sizes in (("even", (4, 4)), ("odd", (3, 5)), ("three", (2, 4, 2))):
        op = spell("SPLIT_V", *[(1, 4, 5, n) for n in sizes], num_splits=len(sizes))
        yield one(f"sizes={label}", "SPLIT_V", op, SHAPE, _ints(*sizes), axis)
    for axis_number in (0, 1, 3):
        rest = tuple(n for i, n in enumerate(SHAPE) if i != axis_number)
        count = SHAPE[axis_number]
        op = spell("UNPACK", *[rest] * count, axis=axis_number, num=count)
        yield one(f"axis={axis_number}", "UNPACK", op, SHAPE)


def _joins() -> Iterable[Question]:
    for label, (shapes, axis) in JOINS.items():
        yield one(label, "CONCATENATION", ops.Concat(axis), *shapes)
    yield one("constant=second", "CONCATENATION", ops.Concat(3), SHAPE, constant(*SHAPE))
    yield one("constant=first", "CONCATENATION", ops.Concat(3), constant(1, 4, 5, 3), SHAPE)
    yield chain("same-tensor", "CONCATENATION", [SHAPE], (ops.Concat(3), (0, 0)))
    op = spell("CONCATENATION", (1, 4, 5, 16), axis=-1)
    yield one("axis=-1", "CONCATENATION", op, SHAPE, SHAPE)
    for axis, result in ((0, (2, 4, 5, 8)), (1, (4, 2, 5, 8)), (3, (4, 5, 8, 2))):
        op = spell("PACK", result, axis=axis, values_count=2)
        yield one(f"rank=3/axis={axis}", "PACK", op, (4, 5, 8), (4, 5, 8))
    yield one("rank=4", "PACK", spell("PACK", (2, *SHAPE), axis=0, values_count=2), SHAPE, SHAPE)
    yield one("rank=2/axis=1", "PACK", spell("PACK", (3, 2, 8), axis=1, values_count=2), (3, 8), (3, 8))


def _pads() -> Iterable[Question]:
    for label, (shape, pads) in PADS.items():
        yield one(label, "PAD", ops.Pad(pads), shape)
        yield one(label, "PADV2", ops.Pad(pads, "constant", 1.5), shape)
        if all(a < n and b < n for n, (a, b) in zip(shape, pads, strict=True)):
            yield one(label, "MIRROR_PAD", ops.Pad(pads, "reflect"), shape)
    pads = constant(values=[[0, 0], [1, 1], [1, 1], [0, 0]], dtype="int32")
    yield one("mode=symmetric", "MIRROR_PAD", spell("MIRROR_PAD", (1, 6, 7, 8), mode=1), SHAPE, pads)


def _views() -> Iterable[Question]:
    for shape, result in RESHAPES:
        label = "x".join(map(str, shape)) + "-to-" + "x".join(map(str, result))
        yield one(label, "RESHAPE", ops.Reshape(result), shape)
    yield one("constant", "RESHAPE", ops.Reshape((1, 160)), constant(*SHAPE))
    yield one("rank=4", "SQUEEZE", spell("SQUEEZE", (4, 5, 8), squeeze_dims=[0]), SHAPE)
    yield one("to=rank-2", "SQUEEZE", spell("SQUEEZE", (1, 8), squeeze_dims=[1, 2]), (1, 1, 1, 8))
    yield one("rank=3", "EXPAND_DIMS", spell("EXPAND_DIMS", SHAPE), (4, 5, 8), constant(values=0, dtype="int32"))
    yield one("rank=2", "EXPAND_DIMS", spell("EXPAND_DIMS", (3, 1, 8)), (3, 8), constant(values=1, dtype="int32"))
    depth, on, off = constant(values=6, dtype="int32"), constant(values=1.0), constant(values=0.0)
    op = spell("ONE_HOT", (3, 6), axis=-1)
    yield one("rank=1", "ONE_HOT", op, Given((3,), "int32", high=5), depth, on, off)
    flat = spell("ONE_HOT", (1, 1, 1, 6), axis=-1)
    yield one("rank=3", "ONE_HOT", flat, Given((1, 1, 1), "int32", high=5), depth, on, off)
    yield one("plain", "SHAPE", spell("SHAPE", (4,), dtype="int32", out_type=2), SHAPE)
    yield one("plain", "FILL", spell("FILL", (1, 2, 3)), _ints(1, 2, 3), Given(()))
    yield one("rank=4", "ZEROS_LIKE", spell("ZEROS_LIKE", SHAPE), SHAPE)
    diagonal = constant(values=[[0], [2]], dtype="int32")
    yield one("plain", "SCATTER_ND", spell("SCATTER_ND", (4, 8)), diagonal, (2, 8), _ints(4, 8))


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _cuts()
    yield from _joins()
    yield from _pads()
    yield from _views()
