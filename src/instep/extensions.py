"""Operators from other packages: what is registered under the entry point group "instep.extensions" is imported."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

__all__ = ["GROUP", "load_extensions"]

#: A package names its modules here; importing such a module registers operators, handlers, decompositions, lowerings.
GROUP = "instep.extensions"


@functools.cache
def load_extensions() -> tuple[str, ...]:
    """Import every registered extension, once. Returns their names.

    An extension that fails to import is an ImportError that names it and its package.
    """
    names = []
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "unknown package"
            raise ImportError(
                f"the extension '{point.name}' of {package} ({point.value}) failed to import: {error}; fix or "
                "uninstall that package"
            ) from error
        names.append(point.name)
    return tuple(names)
