"""The part of a loss that keeps kernels small, as a function of exported code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from instep.emit.code.layout import fitted
from instep.emit.code.program import Program

__all__ = ["factors", "offer", "penalty"]

#: So many kernels are named one by one; of more, those are named that are free of the penalty.
_NAMED = 3


def factors(made: Program) -> dict[str, float]:
    """By the dotted path of a kernel the factor of Σ w² / 2 in the loss, in the network's order; tied ones once."""
    decay = made.graph.meta.get("decay", {})
    found = {".".join(p): decay.get(w.value.name) for p, w in made.weights.items() if p not in made.ties}
    return {path: float(factor) for path, factor in found.items() if factor and math.isfinite(factor)}


def penalty(made: Program, network: str, square: str) -> list[str]:
    """The text of a function ``penalty(network)``, for users to add to the loss; none where no kernel decays.

    ``network`` is the argument's name, ``square`` an expression for the sum of the squares of ``w``. The dialect's
    prelude has ``kernels(network, free)``, all arrays with several axes that are trained but those of these names, and
    ``kernel(network, name)``.
    """
    decay = factors(made)
    if not decay:
        return []
    lines = [
        f"def penalty({network}):",
        '    """What joins the loss while training: decay · Σ w² / 2 of the kernels."""',
    ]
    free = [
        ".".join(p) for p, w in made.weights.items()
        if p not in made.ties and len(w.shape or w.value.shape) > 1 and ".".join(p) not in decay
    ]  # fmt: skip
    if len(set(decay.values())) == 1 and len(free) < len(decay) > _NAMED:
        made.helpers.add("kernels")
        if free:
            names = ", ".join(f'"{name}"' for name in free)
            lines += fitted(f"free = ({names}{',' * (len(free) == 1)})", "    ")
        given = f"{network}, free" if free else network
        factor = next(iter(decay.values()))
        lines += fitted(f"return {factor!r} / 2 * sum({square} for w in kernels({given}))", "    ")
        return ["\n".join(lines)]
    made.helpers.add("kernel")
    table = ", ".join(f'"{path}": {factor!r}' for path, factor in decay.items())
    lines += fitted(f"decay = {{{table}}}", "    ")
    lines += fitted(f"kernels = [(factor, kernel({network}, name)) for name, factor in decay.items()]", "    ")
    return ["\n".join([*lines, f"    return sum(factor / 2 * {square} for factor, w in kernels)"])]


def offer(model: Any, space: Mapping[str, Any]) -> None:
    """Give a live ``model`` the code's function ``penalty`` (in ``space``) as the method ``model.penalty()``.

    None where no kernel decays, or where the network has something of that name itself.
    """
    if "penalty" in space and not hasattr(model, "penalty"):
        type(model).penalty = space["penalty"]
