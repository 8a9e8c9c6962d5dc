"""Constant subgraphs are computed ahead."""

from __future__ import annotations

import numpy as np

from instep.graph import ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor

__all__ = ["fold_constants"]

#: A result may grow to this many elements, or to twice its inputs. Attention biases read through an index table are
#: such: a GATHER in each run costs more than the bytes, and GPUs refuse operators that read constants alone.
SMALL = 1 << 20


@rewrite("a node that reads only constants gives one result, computed in float64 and stored in the value's dtype")
def fold_constants(edit: Editor) -> bool:
    changed = False
    weights = edit.graph.weights
    for node in edit.nodes():
        if any(v not in weights for v in node.inputs):
            continue
        held = sum(v.size for v in node.inputs)
        made = sum(v.size for v in node.outputs)
        if made > max(SMALL, 2 * held) or (isinstance(node.op, ops.Expand) and made > max(1024, held)):
            continue
        arrays = [weights[v] for v in node.inputs]
        arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
        with np.errstate(all="ignore"):
            results = node.op.evaluate(*arrays)
        edit.erase(node)
        for value, result in zip(node.outputs, results, strict=True):
            weights[value] = np.array(result, dtype=value.dtype, order="C").reshape(value.shape)
        changed = True
    return changed
