"""What the plain pipeline does anyway: ranks merged, constants folded, other tools' operators spelled as ours."""

from __future__ import annotations

from instep.rewrite.fold.constants import fold_constants as fold
from instep.rewrite.lower.table import Build
from instep.rewrite.rank import lower_rank as lower
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []


@clearing(
    "a network that is read and written again holds the same function in Instep's own operators",
    "GATHER_ND", "SCATTER_ND", "BROADCAST_TO", "EXPAND_DIMS", "SQUEEZE", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "SHAPE",
    "FILL", "RANGE", "L2_NORMALIZATION", "LOG_SOFTMAX", "STABLEHLO_COMPOSITE", "STABLEHLO_PAD", "SPACE_TO_BATCH_ND",
    "BATCH_TO_SPACE_ND", "RELU_0_TO_1", "ADD_N", "TILE", "CONV_3D", "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION",
)  # fmt: skip
def respell(b: Build, target: Target) -> bool:
    """Reading the file does it; nothing is left to do on the graph."""
    return False


@clearing("axes that an operator treats alike are one longer axis; merging them renames indices and nothing else")
def lower_rank(b: Build, target: Target) -> bool:
    return lower.function(b.edit)


@clearing("a node that reads only constants gives one result")
def fold_constants(b: Build, target: Target) -> bool:
    return fold.function(b.edit)
