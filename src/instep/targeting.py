"""The verbs about targets: which there are, whether a network is acceptable to one, and what to do where it is not."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instep.graph import Graph
    from instep.report.results import Conversion
    from instep.rewrite.driver import PassReport
    from instep.targets import Placement, Violation
    from instep.targets.numbers import Numbers
    from instep.verify.inputs import Picture

__all__ = ["Aim", "Check", "Judgement", "TargetError", "check", "legalize"]


@dataclass
class Judgement:
    """What one target says of a file. ``ran`` names the inputs that its numbers were measured on."""

    target: str
    fallback: str
    violations: list[Violation]
    placement: Placement
    ran: list[str] = field(default_factory=list)

    def of(self, *levels: str) -> list[Violation]:
        """The violations of these levels ("error", "warning", "note")."""
        return [v for v in self.violations if v.level in levels]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "target": self.target,
            "fallback": self.fallback,
            "errors": len(self.of("error")),
            "warnings": len(self.of("warning")),
            "notes": len(self.of("note")),
            "on_target": self.placement.on_target,
            "operators": self.placement.operators,
            "partitions": self.placement.partitions,
            "ran_on": self.ran,
            "violations": [v.to_json() for v in self.violations],
        }


@dataclass
class Check:
    """What ``check`` found out: one judgement for each target."""

    source: str
    file: str
    judgements: list[Judgement]
    strict: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[Violation]:
        """All of them, target after target."""
        return [v for j in self.judgements for v in j.violations]

    @property
    def ok(self) -> bool:
        """True when no target reports an error (with ``strict``: nor a warning)."""
        levels = ("error", "warning") if self.strict else ("error",)
        return not any(j.of(*levels) for j in self.judgements)

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep check --json`` prints."""
        return {
            "ok": self.ok,
            "source": self.source,
            "file": self.file,
            "strict": self.strict,
            "targets": [j.to_json() for j in self.judgements],
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "notes": self.notes,
        }


class TargetError(ValueError):
    """A network that cannot be made acceptable to a target; ``violations`` are what is left. Nothing was written."""

    exit_status = 1

    def __init__(self, target: str, violations: Sequence[Violation]) -> None:
        self.target = target
        self.violations = list(violations)
        shown = [f"  {v}" for v in self.violations[:8]]
        if len(self.violations) > 8:
            shown.append(f"  … and {len(self.violations) - 8} more")
        few = "1 violation" if len(self.violations) == 1 else f"{len(self.violations)} violations"
        super().__init__(
            f"{few} of {target} cannot be cleared; nothing was written (--force writes the file all the same)\n"
            + "\n".join(shown)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data: what `--json` prints instead of a result."""
        return {"ok": False, "target": self.target, "file": None, "violations": [v.to_json() for v in self.violations]}


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
        """What the graph's squares reach, where the target's numbers end early."""
        from instep.targets.numbers import Numbers, measure_squares

        return Numbers() if self.profile.limits is None else measure_squares(graph, **self.asked)


def legalize(file: str | os.PathLike[str], target: str, out: str | os.PathLike[str], **options: Any) -> Conversion:
    """Make a TFLite file of any origin acceptable to ``target``, and prove the result against the file.

    As ``convert`` with a ``.tflite`` source and ``target``; ``options`` are those of ``convert``.
    """
    from instep.api import convert

    if not str(file).endswith(".tflite"):
        raise ValueError(f"{file}: legalize takes a .tflite file; for a source use convert(…, target={target!r})")
    return convert(file, out, target=target, **options)


def check(
    source: Any,
    target: str | Sequence[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    run: bool = True,
    strict: bool = False,
    seed: int = 0,
    progress: Callable[[str, str], None] | None = None,
) -> Check:
    """Whether targets accept a network, and if not, which operator they refuse, why, and which rewrite clears it.

    ``source``: a TFLite file of any origin, or whatever ``capture`` takes; that is converted by the plain pipeline
    first. ``target``: one name or several, of shipped profiles or of ``.yaml`` files of your own. Where a target
    computes in float16, the file runs once on noise, once on a picture-like input and on ``images``, and its values
    are held against float16's range; ``run=False`` leaves that out. ``strict`` counts warnings as failures.
    Raises ProfileError, CaptureError, TFLiteError or ValueError.
    """
    from instep.runtime import tflite_info
    from instep.targets import check_facts, facts_of_file, load, place
    from instep.targets.numbers import Numbers, check_numbers, measure

    tell = progress or (lambda room, what: None)
    chosen = [load(name) for name in ([target] if isinstance(target, str) else target)]
    if not chosen:
        raise ValueError("name at least one target; `instep targets` lists them")
    seconds: dict[str, float] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        if isinstance(source, str | os.PathLike) and str(source).endswith(".tflite"):
            shown, path = str(source), Path(source)
        else:
            path = Path(folder) / "network.tflite"
            start = time.perf_counter()
            shown, more = _plain_file(source, path, weights, inputs, args, seed, tell)
            notes += more
            seconds["convert"] = time.perf_counter() - start
        start = time.perf_counter()
        tell("check", ", ".join(p.name for p in chosen))
        facts = facts_of_file(tflite_info(path))
        numbers = Numbers()
        if run and any(p.limits is not None for p in chosen):
            tell("check", "running the file for float16's range")
            shown_images = None if images is None else os.fspath(images)
            numbers = measure(path, facts, images=shown_images, picture=picture, seed=seed)
            if numbers.failed:
                notes.append(f"values were not measured: {numbers.failed}")
        judgements = []
        for profile in chosen:
            found = [*check_facts(facts, profile), *check_numbers(facts, profile, numbers)]
            ran = numbers.inputs if profile.limits is not None else []
            judgements.append(Judgement(profile.name, profile.fallback, found, place(facts, profile, found), ran))
        seconds["check"] = time.perf_counter() - start
    return Check(shown, str(source) if shown == str(source) else "", judgements, strict, seconds, notes)


def _plain_file(
    source: Any, path: Path, weights: Any, inputs: Any, args: Any, seed: int, tell: Callable[[str, str], None]
) -> tuple[str, list[str]]:
    """Convert ``source`` by the plain pipeline into ``path``; what it is called, and the notes of its capture."""
    from instep.api import capture
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite

    tell("capture", str(source) if isinstance(source, str) else type(source).__name__)
    captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    graph, _ = to_tflite(captured.graph, progress=lambda name: tell("rewrite", name))
    write(graph, path, metadata={"source": captured.source})
    return captured.source, list(captured.notes)
