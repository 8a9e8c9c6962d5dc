"""Networks as text: one YAML file each, with its source, input range and published parameter count."""

from __future__ import annotations

from pathlib import Path

from instep.graph.text import TextError

__all__ = ["names", "path_of"]

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The networks of the zoo, in alphabetical order."""
    return sorted(p.stem for p in _FOLDER.glob("*.yaml"))


def path_of(name: str) -> Path:
    """The text of one network. Raises TextError with what comes near."""
    if name not in names():
        import difflib

        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean zoo:{near[0]}?" if near else ""
        raise TextError(f"the zoo has no network '{name}'{hint} (instep zoo list)")
    return _FOLDER / f"{name}.yaml"
