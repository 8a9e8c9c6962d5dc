"""Something to run as the truth: the protocol every source fulfils."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from instep.graph import Spec
from instep.graph.reference import GraphReference

__all__ = ["GraphReference", "Reference"]


class Reference(Protocol):
    """The source network, able to show every captured value in float64 or float32.

    ``run`` takes the inputs in the source's order and layout and returns source value name → array; ``keep`` limits
    what is returned beside the outputs.
    """

    input_specs: list[Spec]
    input_names: list[str]

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str, keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]: ...
