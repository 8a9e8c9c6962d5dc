"""The verb ``probe``: what an engine answers to one-operator questions, and the profile that follows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instep.targets import Profile
    from instep.targets.probe import Answers

__all__ = ["Probe", "probe"]


@dataclass
class Probe:
    """What ``probe`` found out. ``changed`` holds the answers that differ from those that ship with Instep, as
    (question, shipped, now); ``file`` is the profile that was written."""

    answers: Answers
    target: str
    file: str = ""
    changed: list[tuple[str, str, str]] = field(default_factory=list)
    compared: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True when every answer is the one that the shipped profile rests on (or none ships)."""
        return not self.changed

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep probe --json`` prints."""
        return {
            "target": self.target,
            **self.answers.to_json(),
            "file": self.file or None,
            "compared": self.compared,
            "changed": [{"question": q, "shipped": was, "now": now} for q, was, now in self.changed],
            "seconds": round(self.seconds, 2),
        }


def probe(
    name: str,
    out: str | os.PathLike[str] | None = None,
    *,
    only: Sequence[str] = (),
    answers: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Probe:
    """Ask an engine one operator and one constraint at a time, and write the profile that its answers give.

    ``name``: an engine of ``instep.runtime``, or a target whose profile names one. ``only``: TFLite operators
    (``["CONV_2D"]``); empty asks all. ``out``: the profile to write (.yaml), ``answers``: a file for the answers
    themselves (.json). Files appear whole or not at all. ``progress`` is called with how many questions are answered,
    how many there are, and the last one's name. Raises ValueError for an unknown name or operator and where this
    machine lacks the engine.
    """
    import time

    from instep.targets.probe import ask, questions, recorded, write_profile

    start = time.perf_counter()
    engine, base = _engine(name)
    chosen = _chosen(only)
    for path in (out, answers):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no such folder")
    found = ask(engine, chosen, progress=progress)
    result = Probe(found, name)
    shipped = recorded().get(_family(engine))
    if shipped is not None:
        result.compared = True
        pairs = ((q, shipped.answers[q].kind, a.kind) for q, a in found.answers.items() if q in shipped.answers)
        result.changed = [(q, was, now) for q, was, now in pairs if was != now]
    if out is not None:
        result.file = str(write_profile(found, questions(), Path(out), base))
    if answers is not None:
        found.write(Path(answers))
    result.seconds = time.perf_counter() - start
    return result


def _family(engine: str) -> str:
    """Under which name an engine's answers ship: all sizes of one Ethos-U take the same operators."""
    return "-".join(engine.split("-")[:2]) if engine.startswith("ethos-") else engine


def _engine(name: str) -> tuple[str, Profile | None]:
    """(engine, shipped profile) behind the name of either."""
    from instep.runtime import engine_of
    from instep.targets import load, names

    shipped = [load(n) for n in names()]
    by_engine = {p.engine: p for p in shipped if p.engine}
    profile = next((p for p in shipped if p.name == name), None)
    if profile is not None and not profile.engine:
        raise ValueError(f"target {name!r} has no engine that could be asked; targets that have: {_known(by_engine)}")
    engine = engine_of(profile.engine if profile is not None else name).name
    base = (
        profile
        or by_engine.get(engine)
        or by_engine.get(_family(engine))
        or by_engine.get(engine.removesuffix("-fp16"))
    )
    return engine, base


def _known(by_engine: dict[str, Profile]) -> str:
    return ", ".join(sorted(p.name for p in by_engine.values()))


def _chosen(only: Sequence[str]) -> list[Any]:
    from instep.targets.probe import questions

    asked = list(questions().values())
    codes = {q.operator for q in asked}
    wanted = {word.upper() for word in only}
    unknown = sorted(wanted - codes)
    if unknown:
        raise ValueError(f"nothing is asked about {', '.join(unknown)}; operators: {', '.join(sorted(codes))}")
    return [q for q in asked if not wanted or q.operator in wanted]
