"""The table of rewrites that clear violations: each changes one node of a lowered graph into what a target takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from instep.rewrite.lower.table import Build
from instep.targets.profile import Profile

__all__ = ["CLEARINGS", "Clear", "Clearing", "Target", "clearing", "clearings_for"]


@dataclass(frozen=True)
class Target:
    """What a rewrite knows of where it goes: the profile, and what was seen of each value by name: the largest sum of
    its magnitudes (``energy``), the largest of them, and the ``lowest`` element."""

    profile: Profile
    energy: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)

    def forget(self, *names: str) -> None:
        """What was seen of these values holds no more: the rewrite has changed them."""
        for name in names:
            self.energy.pop(name, None)
            self.largest.pop(name, None)
            self.lowest.pop(name, None)

    def has(self, *codes: str) -> bool:
        """Whether the target has all of these TFLite operators."""
        return all(map(self.profile.has, codes))


#: Returns False when the node is left as it is, else rewrites it and returns True.
Clear = Callable[[Build, Target], bool]


@dataclass(frozen=True)
class Clearing:
    """A named rewrite. ``exact`` says why it changes no value; ``replaces`` the TFLite operators that it spells in
    others, for targets that lack them."""

    name: str
    exact: str
    function: Clear
    replaces: frozenset[str]


#: Every rewrite by name.
CLEARINGS: dict[str, Clearing] = {}


def clearing(exact: str, *replaces: str) -> Callable[[Clear], Clear]:
    """Decorator: the function clears violations, under its own name with dashes."""

    def register(function: Clear) -> Clear:
        name = function.__name__.replace("_", "-")
        CLEARINGS[name] = Clearing(name, exact, function, frozenset(replaces))
        return function

    return register


def clearings_for(code: str) -> tuple[str, ...]:
    """The rewrites that spell a TFLite operator in others."""
    return tuple(name for name, c in CLEARINGS.items() if code in c.replaces)
