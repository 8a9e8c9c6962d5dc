"""What a piece of hardware accepts, as data, and the rewrites that make a network acceptable to it."""

from __future__ import annotations

from instep.targets.check import Placement, Violation, check_facts, place
from instep.targets.facts import Facts, facts_of_file, facts_of_graph
from instep.targets.lines import ProfileError
from instep.targets.profile import Profile, load, names

__all__ = [
    "Facts", "Placement", "Profile", "ProfileError", "Violation", "check_facts", "facts_of_file", "facts_of_graph",
    "load", "names", "place",
]  # fmt: skip
