"""Questions about operators that reorder elements: transposes, pixel shuffles, gathers, reversals, tiles."""

from __future__ import annotations

from collections.abc import Iterable

from instep.graph import ops
from instep.targets.probe.question import Given, Question, chain, constant, one, spell

__all__ = ["questions"]

#: Permutations by rank; sizes are all different so that none goes unseen.
PERMUTATIONS = [
    (1, 0), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 1, 3, 2), (0, 2, 1, 3), (0, 2, 3, 1),
    (0, 3, 1, 2), (0, 3, 2, 1), (1, 0, 2, 3), (2, 1, 0, 3), (3, 2, 1, 0), (1, 2, 3, 0), (3, 0, 1, 2), (2, 3, 0, 1),
    (1, 0, 3, 2), (0, 1, 2, 4, 3), (0, 2, 1, 3, 4), (0, 3, 1, 4, 2), (0, 1, 3, 2, 4, 5), (0, 2, 4, 1, 3, 5),
]  # fmt: skip
LENGTHS = (1, 3, 4, 5, 2, 6)
WIDE = (2, 3, 4, 5)


def _transposes() -> Iterable[Question]:
    for perm in PERMUTATIONS:
        label = "".join(map(str, perm))
        yield one(f"perm={label}", "TRANSPOSE", ops.Permute(perm), LENGTHS[: len(perm)])
        if 2 <= len(perm) <= 4:
            yield one(f"perm={label}/batch=2", "TRANSPOSE", ops.Permute(perm), WIDE[: len(perm)])
    for label, shape, perm in (
        ("1x1xWxC", (1, 1, 6, 8), (0, 1, 3, 2)), ("1xHx1xC", (1, 6, 1, 8), (0, 3, 2, 1)),
        ("1xHx1xC-up", (1, 6, 1, 8), (0, 2, 1, 3)), ("Hx1xC", (6, 1, 8), (2, 1, 0)),
        ("wide", (1, 32, 6, 64), (0, 2, 1, 3)),
    ):  # fmt: skip
        yield one(f"shape={label}", "TRANSPOSE", ops.Permute(perm), shape)
    from_input = Given((4,), "int32", values=(0, 2, 1, 3), fixed=True)
    yield one("perm=int32-constant", "TRANSPOSE", spell("TRANSPOSE", (1, 4, 3, 5)), (1, 3, 4, 5), from_input)


def _pixel_shuffles() -> Iterable[Question]:
    for block, channels, size, batch in (
        (2, 16, (3, 4), 1), (2, 4, (3, 4), 1), (2, 12, (3, 4), 1), (3, 18, (3, 4), 1), (4, 48, (3, 4), 1),
        (2, 16, (3, 4), 2), (2, 20, (3, 4), 1), (3, 27, (2, 3), 1), (8, 64, (2, 2), 1), (2, 16, (3, 4), 9),
    ):  # fmt: skip
        label = f"block={block}/channels={channels}/batch={batch}"
        yield one(label, "DEPTH_TO_SPACE", ops.DepthToSpace(block, "DCR", "NHWC"), (batch, *size, channels))
        small = channels // block**2
        large = (batch, size[0] * block, size[1] * block, small)
        label = f"block={block}/channels={small}/batch={batch}"
        yield one(label, "SPACE_TO_DEPTH", ops.SpaceToDepth(block, "DCR", "NHWC"), large)
    for code in ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"):
        yield one("block=1", code, spell(code, (1, 3, 4, 8), block_size=1), (1, 3, 4, 8))
    pads = constant(values=[[0, 0], [0, 0]], dtype="int32")
    block = constant(values=[2, 2], dtype="int32")
    yield one("block=2", "SPACE_TO_BATCH_ND", spell("SPACE_TO_BATCH_ND", (4, 2, 3, 8)), (1, 4, 6, 8), block, pads)
    yield one("block=2", "BATCH_TO_SPACE_ND", spell("BATCH_TO_SPACE_ND", (1, 4, 6, 8)), (4, 2, 3, 8), block, pads)


def _gathers() -> Iterable[Question]:
    for axis, picks in ((0, [0]), (1, [2, 0, 2]), (2, [4, 3]), (3, [1, 0, 3, 2]), (3, [6, 1, 5]), (3, [7])):
        index = constant(values=picks, dtype="int32")
        label = f"axis={axis}/count={len(picks)}"
        yield one(label, "GATHER", ops.Gather(axis), (1, 4, 5, 8), index)
    many = constant(values=[2, 0], dtype="int32")
    yield one("axis=0/batch=3", "GATHER", ops.Gather(0), (3, 4, 5, 8), many)
    yield one("axis=3/batch=3", "GATHER", ops.Gather(3), (3, 4, 5, 8), many)
    for rank, shape in ((1, (8,)), (2, (3, 8)), (3, (2, 5, 8)), (5, (1, 2, 3, 4, 8))):
        yield one(f"rank={rank}/axis=last", "GATHER", ops.Gather(rank - 1), shape, many)
    yield one("rank=2/axis=0", "GATHER", ops.Gather(0), (3, 8), many)
    grid = constant(values=[[0, 2], [1, 3]], dtype="int32")
    yield one("indices=rank-2", "GATHER", ops.Gather(3), (1, 4, 5, 8), grid)
    single = constant(values=3, dtype="int32")
    yield one("indices=scalar", "GATHER", ops.Gather(3), (1, 4, 5, 8), single)
    from_input = Given((3,), "int32", high=5)
    yield one("indices=computed", "GATHER", ops.Gather(2), (1, 4, 5, 8), from_input)
    table = constant(10, 8)
    yield one("embedding", "GATHER", ops.Gather(0), table, Given((3,), "int32", high=5))
    yield one(
        "plain", "GATHER_ND", spell("GATHER_ND", (2, 8)), (4, 5, 8), constant(values=[[0, 1], [2, 3]], dtype="int32")
    )
    yield one("rank=4", "GATHER_ND", spell("GATHER_ND", (2, 8)), (1, 4, 5, 8),
              constant(values=[[0, 0, 1], [0, 2, 3]], dtype="int32"))  # fmt: skip


def _reversals() -> Iterable[Question]:
    for axes in ((0,), (1,), (2,), (3,), (1, 2)):
        label = "axes=" + ",".join(map(str, axes))
        batch = 3 if axes == (0,) else 1
        yield one(label, "REVERSE_V2", ops.Flip(axes), (batch, 4, 5, 8))
    for channels in (3, 5, 6, 12):
        yield one(f"axes=3/channels={channels}", "REVERSE_V2", ops.Flip((3,)), (1, 4, 5, channels))
    yield chain("twice", "REVERSE_V2", [(1, 4, 5, 8)], (ops.Flip((1,)), (0,)), (ops.Flip((2,)), (1,)))
    yield chain("twice/channels", "REVERSE_V2", [(1, 4, 5, 8)], (ops.Flip((3,)), (0,)), (ops.Flip((2,)), (1,)))
    for rank, shape in ((2, (3, 8)), (3, (2, 5, 8)), (5, (1, 2, 3, 4, 4))):
        yield one(f"rank={rank}", "REVERSE_V2", ops.Flip((rank - 1,)), shape)


def _repeats() -> Iterable[Question]:
    for times in ((1, 2, 1, 1), (1, 2, 3, 1), (1, 1, 1, 2), (2, 1, 1, 1), (1, 1, 1, 3)):
        made = tuple(n * t for n, t in zip((1, 3, 4, 5), times, strict=True))
        label = "multiples=" + ",".join(map(str, times))
        yield one(label, "TILE", spell("TILE", made), (1, 3, 4, 5), constant(values=times, dtype="int32"))
    for rank, shape, times in ((2, (3, 8), (2, 1)), (3, (2, 5, 8), (1, 2, 1)), (5, (1, 2, 3, 4, 4), (1, 2, 1, 1, 1))):
        made = tuple(n * t for n, t in zip(shape, times, strict=True))
        yield one(f"rank={rank}", "TILE", spell("TILE", made), shape, constant(values=times, dtype="int32"))
    for label, shape, out in (
        ("rank=4", (1, 1, 1, 8), (1, 4, 5, 8)), ("rank=2", (1, 8), (3, 8)), ("rank=1-to-4", (8,), (1, 4, 5, 8)),
    ):  # fmt: skip
        op = spell("BROADCAST_TO", out, version=2)
        yield one(label, "BROADCAST_TO", op, shape, constant(values=out, dtype="int32"))


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _transposes()
    yield from _pixel_shuffles()
    yield from _gathers()
    yield from _reversals()
    yield from _repeats()
