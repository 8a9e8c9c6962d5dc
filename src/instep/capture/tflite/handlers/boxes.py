"""Handlers of operators that choose among boxes: as many rounds as they may choose boxes, written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.custom import flexible
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []

#: Boxes that may be chosen, each a round of some twenty operators.
_MAX_ROUNDS = 512
#: What a box that is out of the choice scores.
_OUT = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Boxes:
    """Corners as [N, 2] of the lower and the upper ones, and areas [N]."""

    low: Value
    high: Value
    area: Value

    @classmethod
    def of(cls, b: Builder, low: Value, high: Value) -> _Boxes:
        return cls(low, high, b(ops.ReduceProd((1,), False), b(ops.Sub(), high, low)))

    def overlap(self, b: Builder, chosen: Value) -> Value:
        """Intersection over union of all boxes [N] and those that the indices [G] name: [G, N]. Of boxes without an
        area it is 0."""
        lows, highs, areas = (b(ops.Gather(0), v, chosen) for v in (self.low, self.high, self.area))
        groups = chosen.shape[0]
        low = b(ops.Maximum(), b.reshape(lows, (groups, 1, 2)), self.low)
        high = b(ops.Minimum(), b.reshape(highs, (groups, 1, 2)), self.high)
        common = b(ops.ReduceProd((2,), False), b(ops.Relu(), b(ops.Sub(), high, low)))
        union = b(ops.Sub(), b(ops.Add(), b.reshape(areas, (groups, 1)), self.area), common)
        return b(ops.Div(), common, b(ops.Maximum(), union, b.scalar(1e-30, union.dtype)))


def _suppressed(
    b: Builder, boxes: _Boxes, scores: Value, rounds: int, least: Value, most: Value, decay: float | None, own: bool
) -> tuple[Value, Value, Value]:
    """The best box of each of G groups [G, N], round after round, and what overlaps it out of the choice (Neubeck and
    Van Gool, ICPR 2006): indices and scores [G, rounds], and whether there was one.

    A box is out from an overlap of ``most`` on, and chosen above ``least``; ``decay`` lowers what overlaps less, by
    exp(decay · overlap²) (Bodla et al., arXiv 1704.04503). The chosen one is out as such (``own``), or by its overlap
    with itself: one without an area is then chosen again and again.
    """
    if not 0 < rounds <= _MAX_ROUNDS:
        raise Unsupported(f"it chooses {rounds} boxes, round after round; {_MAX_ROUNDS} are the most")
    found: list[tuple[Value, Value]] = []
    groups, count = scores.shape
    places = b.constant(np.arange(count), "places")
    lowest = b.scalar(_OUT, scores.dtype)
    gone: Value | None = None
    for _ in range(rounds):
        left = scores if gone is None else b(ops.Where(), gone, lowest, scores)
        chosen = b(ops.ArgMax(1), left)
        found.append((b.reshape(chosen, (groups, 1)), b(ops.ReduceMax((1,), True), left)))
        overlap = boxes.overlap(b, chosen)
        if decay is not None:
            factor = b(ops.Exp(), b(ops.Mul(), b(ops.Square(), overlap), b.scalar(decay, overlap.dtype)))
            scores = b(ops.Mul(), scores, factor)
        out = b(ops.GreaterEqual(), overlap, most)
        if own:
            out = b(ops.LogicalOr(), b(ops.Equal(), places, b.reshape(chosen, (groups, 1))), out)
        gone = out if gone is None else b(ops.LogicalOr(), gone, out)
    indices, best = (b.concat(list(parts), 1) for parts in zip(*found, strict=True))
    return indices, best, b(ops.Greater(), best, b(ops.Maximum(), least, lowest))


def _or_zero(b: Builder, kept: Value, x: Value) -> Value:
    """``x`` where ``kept``, whose axes are its first."""
    kept = b.reshape(kept, (*kept.shape, *(1,) * (x.rank - kept.rank)))
    return b(ops.Where(), kept, x, b.scalar(0, x.dtype))


def _count(b: Builder, kept: Value, dtype: str) -> Value:
    """How many are kept of a row."""
    return b(ops.ReduceSum((kept.rank - 1,), False), b.cast(kept, dtype))


def _limits(b: Builder, thresholds: Sequence[Value]) -> list[Value]:
    return [b.reshape(v, ()) for v in thresholds]


def _non_max_suppression(
    b: Builder, boxes: Value, scores: Value, count: Value, most: Value, least: Value, decay: float | None
) -> tuple[Value, Value, Value]:
    """Indices, scores and number of what is chosen (non_max_suppression.h); two corners of a box come in any order."""
    rounds = b.integer(count, "max_output_size")
    if boxes.rank != 2 or boxes.shape != (scores.size, 4):
        raise Unsupported(f"boxes of {list(boxes.shape)} do not fit scores of {list(scores.shape)}")
    first, second = b.slice(boxes, 1, 0, 2), b.slice(boxes, 1, 2, 4)
    low, high = b(ops.Minimum(), first, second), b(ops.Maximum(), first, second)
    most, least = _limits(b, (most, least))
    indices, best, kept = _suppressed(
        b, _Boxes.of(b, low, high), b.reshape(scores, (1, scores.size)), rounds, least, most, decay, own=False
    )
    chosen = [b.reshape(_or_zero(b, kept, v), (rounds,)) for v in (b.cast(indices, "int32"), best)]
    return chosen[0], chosen[1], b.reshape(_count(b, kept, "int32"), ())


@reads("NON_MAX_SUPPRESSION_V4", "NonMaxSuppressionV4Options")
def non_max_suppression_v4(
    b: Builder, boxes: Value, scores: Value, count: Value, most: Value, least: Value
) -> tuple[Value, ...]:
    indices, _, number = _non_max_suppression(b, boxes, scores, count, most, least, None)
    return indices, number


@reads("NON_MAX_SUPPRESSION_V5", "NonMaxSuppressionV5Options")
def non_max_suppression_v5(
    b: Builder, boxes: Value, scores: Value, count: Value, most: Value, least: Value, sigma: Value
) -> tuple[Value, ...]:
    width = b.array(sigma)
    if width is None or width.size != 1:
        raise Unsupported("its soft_nms_sigma is computed")
    decay = -0.5 / width.item() if width.item() > 0 else None
    return _non_max_suppression(b, boxes, scores, count, most, least, decay)


_DETECTION = flexible(
    "max_detections", "max_classes_per_detection", "detections_per_class", "use_regular_nms", "nms_score_threshold",
    "nms_iou_threshold", "num_classes", "y_scale", "x_scale", "h_scale", "w_scale",
)  # fmt: skip


@reads("CUSTOM:TFLite_Detection_PostProcess", _DETECTION)
def detection_post_process(b: Builder, encodings: Value, scores: Value, anchors: Value) -> tuple[Value, ...]:
    """Boxes [1, M, 4], classes, scores [1, M] and their number, zeros behind it (detection_postprocess.cc).

    What the fast variant of LiteRT leaves behind the number is what was in memory.
    """
    count, classes = anchors.shape[0], int(b.option("num_classes"))
    background = scores.shape[-1] - classes
    if encodings.shape[:2] != (1, count) or scores.shape[:2] != (1, count) or not 0 <= background <= 1:
        raise Unsupported(f"{list(encodings.shape)}, {list(scores.shape)} and {list(anchors.shape)} do not fit")
    low, high = _decoded(b, encodings, anchors)
    boxes = _Boxes.of(b, low, high)
    corners = b.concat([low, high], 1)
    # a score counts from the threshold on, and an overlap above it
    least = np.nextafter(np.float32(b.option("nms_score_threshold")), np.float32(-np.inf))
    most = np.nextafter(np.float32(b.option("nms_iou_threshold")), np.float32(np.inf))
    own = b.slice(b.reshape(scores, scores.shape[1:]), 1, background, scores.shape[-1])
    choose = _by_class if b.option("use_regular_nms", False) else _by_box
    indices, kinds, best, kept = choose(b, boxes, own, b.scalar(least, "float32"), b.scalar(most, "float32"))
    number = _count(b, b.reshape(kept, (1, kept.size)), "float32")
    if kinds.rank == 2:  # several classes of a box, each with the box
        shape = kinds.shape
        kept = b.reshape(b.expand(b.reshape(kept, (shape[0], 1)), shape), (kinds.size,))
        indices = b.reshape(b.expand(b.reshape(indices, (shape[0], 1)), shape), (kinds.size,))
    found = b(ops.Gather(0), corners, indices)
    flat = [b.reshape(v, (v.size,)) for v in (b.cast(kinds, "float32"), best)]
    results = [_or_zero(b, kept, v) for v in (found, *flat)]
    return (*(b.reshape(v, (1, *v.shape)) for v in results), number)


def _decoded(b: Builder, encodings: Value, anchors: Value) -> tuple[Value, Value]:
    """Lower and upper corners [N, 2] of boxes that are centres and sizes relative to their anchors'."""
    flat = b.reshape(encodings, encodings.shape[1:])

    def part(x: Value, first: int, names: str) -> Value:
        cut = b.slice(x, 1, first, first + 2)
        scales = [float(b.option(f"{n}_scale")) for n in names]
        return b(ops.Div(), cut, b.constant(np.asarray(scales, np.float32), "scales")) if names else cut

    middle, size = part(anchors, 0, ""), part(anchors, 2, "")
    centre = b(ops.Add(), b(ops.Mul(), part(flat, 0, "yx"), size), middle)
    half = b(ops.Mul(), b(ops.Mul(), b(ops.Exp(), part(flat, 2, "hw")), size), b.scalar(0.5, "float32"))
    return b(ops.Sub(), centre, half), b(ops.Add(), centre, half)


def _by_box(b: Builder, boxes: _Boxes, scores: Value, least: Value, most: Value) -> tuple[Value, ...]:
    """The best class of each box alone decides, then the box gives its best classes."""
    per_box, rounds = int(b.option("max_classes_per_detection")), int(b.option("max_detections"))
    if not 0 < per_box <= scores.shape[1]:
        raise Unsupported(f"it gives {per_box} classes of {scores.shape[1]} to a box")
    top, kinds = b.node(ops.TopK(per_box), scores).outputs
    first = b.reshape(b.slice(top, 1, 0, 1), (1, scores.shape[0]))
    indices, _, kept = _suppressed(b, boxes, first, rounds, least, most, None, own=True)
    indices, kept = (b.reshape(v, (rounds,)) for v in (indices, kept))
    return indices, b(ops.Gather(0), kinds, indices), b(ops.Gather(0), top, indices), kept


def _by_class(b: Builder, boxes: _Boxes, scores: Value, least: Value, most: Value) -> tuple[Value, ...]:
    """Each class chooses by itself; the best of all are kept."""
    per_class, wanted = int(b.option("detections_per_class", 100)), int(b.option("max_detections"))
    rounds, classes = min(per_class, wanted, scores.shape[0]), scores.shape[1]
    if wanted > classes * rounds:
        raise Unsupported(f"it gives {wanted} boxes, of which {classes} classes with {rounds} each cannot be")
    indices, best, kept = _suppressed(b, boxes, b.permute(scores, (1, 0)), rounds, least, most, None, own=True)
    ranked = b(ops.Where(), kept, best, b.scalar(_OUT, best.dtype))
    top, places = b.node(ops.TopK(wanted), b.reshape(ranked, (ranked.size,))).outputs
    kinds = b(ops.FloorDiv(), places, b.scalar(rounds, places.dtype))
    indices = b(ops.Gather(0), b.reshape(indices, (indices.size,)), places)
    return indices, kinds, top, b(ops.Greater(), top, least)
