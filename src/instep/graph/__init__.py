"""The one description of a network: values, typed operators, weights. Imports numpy only."""

from instep.graph import ops
from instep.graph.core import Graph, GraphError, Node, SourceView, Value
from instep.graph.operator import OPERATORS, Operator, Spec, activate, operator

__all__ = [
    "OPERATORS",
    "Graph",
    "GraphError",
    "Node",
    "Operator",
    "SourceView",
    "Spec",
    "Value",
    "activate",
    "operator",
    "ops",
]
