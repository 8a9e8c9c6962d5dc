"""PyTorch as a dialect: its table, helper functions and literals."""

from __future__ import annotations

from typing import Any

from instep.emit.code.call import Rule
from instep.emit.torch import elementwise, linear, pools, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.torch.prelude import PRELUDE
from instep.emit.torch.table import TABLE, literal
from instep.graph.operator import Operator

__all__ = ["TORCH", "TorchDialect"]


class TorchDialect:
    """How PyTorch code is written."""

    name = "torch"
    layout = "NCHW"
    table: dict[type[Operator], Rule] = TABLE
    prelude: dict[str, str] = PRELUDE

    def literal(self, value: Any) -> str:
        return literal(value)


TORCH = TorchDialect()
