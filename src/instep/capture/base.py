"""What a capture hands back, whatever the framework: the graph, a reference that runs the source, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from instep.graph import Graph, SourceView, Spec

__all__ = ["CaptureError", "Captured", "Found", "Reference"]


class CaptureError(ValueError):
    """A source that cannot be captured; the message names what, where (scope, source line) and what to do."""


class Reference(Protocol):
    """Runs the source network in its own framework."""

    input_specs: list[Spec]
    input_names: list[str]

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str = "float32", keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Every captured value by name (only those in ``keep`` when given; outputs always), computed in ``dtype``."""
        ...


@dataclass
class Captured:
    """A captured network: ``graph`` in stage "captured", ``reference`` = the source itself, ``notes`` for the user."""

    graph: Graph
    reference: Reference
    notes: list[str] = field(default_factory=list)
    source: str = ""
    #: seconds of the parts: "load" (building the module), "export" (torch.export), "convert" (into the Graph)
    seconds: dict[str, float] = field(default_factory=dict)
    #: what can be run beside what was captured of it: a file, a live model; None where ``reference`` runs the source
    origin: Any = None

    def __post_init__(self) -> None:
        for value in self.graph.outputs:
            if value.source is None and value in self.graph.weights:  # no operator makes it, yet the network shows it
                value.source = SourceView.whole(value.name, value.shape)


@dataclass
class Found:
    """What the Python code that ``text`` names gave: a network of PyTorch or Keras, the code's module, notes."""

    text: str
    network: Any
    space: ModuleType
    #: the shapes of its inputs, where the file beside exported code tells them
    shapes: list[tuple[int, ...]] | None = None
    notes: list[str] = field(default_factory=list)
    #: the file that can be run beside what is captured, where it is one that does without its factory's arguments
    file: str | None = None
