"""Decomposes every operator that TFLite lacks into ones that it has, each in its form best for XNNPACK."""

from __future__ import annotations

from collections.abc import Container, Iterable

from instep.graph import Operator
from instep.rewrite.driver import Rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.lower import (  # noqa: F401  (they fill the table)
    activations,
    comparisons,
    convolutions,
    joins,
    linear,
    norms,
    pools,
    reductions,
    sampling,
    shuffles,
    volumes,
)
from instep.rewrite.lower.table import DECOMPOSITIONS, Build, decomposes

__all__ = ["DECOMPOSITIONS", "Build", "decomposes", "expanding", "lower", "lowering"]

EXACT = "each decomposition states the operator's own formula in operators that TFLite has"


def lowering(avoid: frozenset[str] = frozenset()) -> Rewrite:
    """The rewrite "lower" that uses none of the forms in ``avoid``."""
    return Rewrite("lower", EXACT, lambda edit: _lower(edit, avoid))


#: With every form.
lower = lowering()


def expanding(known: Container[type[Operator]]) -> Rewrite:
    """The rewrite "expand": operators that are not in ``known`` and that have a decomposition give way to it."""
    why = "each decomposition states the operator's own formula in other operators"
    kinds = [kind for kind in DECOMPOSITIONS if kind not in known]
    return Rewrite("expand", why, lambda edit: _lower(edit, frozenset(), kinds))


def _lower(edit: Editor, avoid: frozenset[str], kinds: Iterable[type[Operator]] = DECOMPOSITIONS.keys()) -> bool:
    changed = False
    kinds = tuple(kinds)
    todo = edit.nodes(*kinds)
    seen: set[int] = set()
    while todo:
        for node in todo:
            if edit.alive(node):
                kind = type(node.op)
                while kind in kinds and DECOMPOSITIONS[kind](Build(edit, node, avoid)):
                    changed = True
                    if not edit.alive(node) or type(node.op) is kind:
                        break
                    kind = type(node.op)
        # Steps that a decomposition added may need one themselves.
        seen.update(id(n) for n in todo)
        todo = [n for n in edit.nodes(*kinds) if id(n) not in seen]
    return changed
