"""A conversion that aims at a target: the rewrites that follow the plain pipeline, and the error where they fail."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from instep.report.findings import Finding, findings

if TYPE_CHECKING:
    from instep.graph import Graph
    from instep.rewrite.driver import PassReport
    from instep.targets import Violation
    from instep.targets.numbers import Numbers
    from instep.verify.inputs import Picture

__all__ = ["Aim", "TargetError"]

#: Findings beyond this many are counted, not listed.
SHOWN = 8


class TargetError(ValueError):
    """A network that cannot be made acceptable to a target; ``violations`` are what is left. Nothing was written."""

    exit_status = 1

    def __init__(self, target: str, violations: Sequence[Violation]) -> None:
        self.target = target
        self.violations = list(violations)
        found = findings(v.to_json() for v in self.violations)
        shown = [f"  {_told(one)}" for one in found[:SHOWN]]
        if len(found) > SHOWN:
            shown.append(f"  … and {sum(len(one.violations) for one in found[SHOWN:])} more")
        few = "1 violation" if len(self.violations) == 1 else f"{len(self.violations)} violations"
        super().__init__(
            f"{few} of {target} cannot be cleared; nothing was written (--force writes the file all the same)\n"
            + "\n".join(shown)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data: what `--json` prints instead of a result."""
        return {"ok": False, "target": self.target, "file": None, "violations": [v.to_json() for v in self.violations]}


def _told(found: Finding) -> str:
    """The operator, its scopes, what is wrong, the reason code, and why no rewrite clears it."""
    first = found.first
    why = f"; the rewrite {' or '.join(first['clears'])} does not fit here" if first["clears"] else ""
    why = f"; {first['tried']}" if first["tried"] else why
    return f"{found.operator} '{found.scope}': {found.message} [{first['code']}]{why}"


class Aim:
    """The target of a conversion: follows the plain pipeline and makes its graph acceptable to the target.

    ``left`` and ``cleared`` hold the violations afterwards.
    """

    def __init__(
        self, target: str, *, images: Any = None, picture: Picture | None = None, seed: int = 0, force: bool = False
    ) -> None:
        from instep.targets import load

        self.profile = load(target)
        self.asked = {"images": None if images is None else os.fspath(images), "picture": picture, "seed": seed}
        self.force = force
        self.numbers: Numbers | None = None
        self.left: list[Violation] = []
        self.cleared: list[Violation] = []

    def reach(
        self,
        graph: Graph,
        passes: list[PassReport],
        *,
        prove: Callable[[Graph, Graph, str], object] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> tuple[Graph, list[PassReport]]:
        """The lowered graph in a form that the target accepts, and what every rewrite did, those of ``passes`` first.

        Raises TargetError when errors are left, unless ``force``.
        """
        from instep.targets.legalize import legalize

        if self.numbers is None:
            self.numbers = self._measure(graph)
        result = legalize(graph, self.profile, numbers=self.numbers, prove=prove, progress=progress)
        self.left, self.cleared = result.left, result.cleared
        if result.errors and not self.force:
            raise TargetError(self.profile.name, result.errors)
        return result.graph, [*passes, *result.passes]

    def _measure(self, graph: Graph) -> Numbers:
        """What the graph's squares reach, where the target's numbers end early, and what else its rules ask for."""
        from instep.targets.numbers import Numbers, measure_some

        if self.profile.limits is None and not self.profile.watched:
            return Numbers()
        largest = self.profile.limits.largest if self.profile.limits is not None else math.inf
        return measure_some(graph, self.profile.watched, largest=largest, **self.asked)
