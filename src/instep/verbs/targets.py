"""The verbs ``check`` and ``legalize``: whether a network is acceptable to targets, and what to do where it is not."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.verbs.capture import capture
from instep.verbs.common import Clock, Progress, silent
from instep.verbs.convert import convert, plain_file
from instep.verbs.sources import is_tflite

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.report.results import Conversion
    from instep.targets import Placement, Violation
    from instep.targets.facts import Facts
    from instep.targets.numbers import Numbers
    from instep.targets.profile import Profile
    from instep.verify.inputs import Picture

__all__ = ["Check", "Judgement", "check", "legalize"]


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


def legalize(file: str | os.PathLike[str], target: str, out: str | os.PathLike[str], **options: Any) -> Conversion:
    """Make a TFLite file of any origin acceptable to ``target``, and prove the result against the file.

    As ``convert`` with a ``.tflite`` source and ``target``; ``options`` are those of ``convert``.
    """
    if not is_tflite(file):
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
    attempt: bool = True,
    strict: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Check:
    """Whether targets accept a network, and if not, which operator they refuse, why, and which rewrite clears it.

    ``source``: a TFLite file of any origin, or whatever ``capture`` takes; that is converted by the plain pipeline
    first. ``target``: one name or several, of shipped profiles or of ``.yaml`` files of your own. Where a target
    computes in float16, the file runs once on noise, once on a picture-like input and on ``images``, and its values
    are held against float16's range; ``run=False`` leaves that out. The rewrites that violations name are tried on the
    network, as ``legalize`` does, so that those are named that clear them; ``attempt=False`` leaves that out and names
    what may. ``strict`` counts warnings as failures.
    Raises ProfileError, CaptureError, TFLiteError or ValueError.
    """
    from instep.runtime import tflite_info
    from instep.targets import check_facts, facts_of_file, load, place
    from instep.targets.numbers import Numbers, check_numbers, measure, note

    tell = progress or silent
    chosen = [load(name) for name in ([target] if isinstance(target, str) else target)]
    if not chosen:
        raise ValueError("name at least one target; `instep targets` lists them")
    clock = Clock()
    notes: list[str] = []
    captured: Captured | None = None
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        if is_tflite(source):
            shown, path = str(source), Path(source)
        else:
            path = Path(folder) / "network.tflite"
            tell("capture", str(source) if isinstance(source, str) else type(source).__name__)
            with clock("convert"):
                captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
                plain_file(captured, path, tell)
            shown, notes = captured.source, list(captured.notes)
        tell("check", ", ".join(p.name for p in chosen))
        with clock("check"):
            facts = facts_of_file(tflite_info(path))
            numbers = Numbers()
            if run and any(p.limits is not None or p.watched for p in chosen):
                tell("check", "running the file for what its values reach")
                shown_images = None if images is None else os.fspath(images)
                numbers = measure(path, facts, images=shown_images, picture=picture, seed=seed)
                if numbers.failed:
                    notes.append(f"values were not measured: {numbers.failed}")
                note(facts, numbers)
            judgements = []
            for profile in chosen:
                found = [*check_facts(facts, profile), *check_numbers(facts, profile, numbers)]
                ran = numbers.inputs if profile.limits is not None or profile.watched else []
                judgements.append(Judgement(profile.name, profile.fallback, found, place(facts, profile, found), ran))
    if attempt and any(map(_may_clear, judgements)):
        asked = {"images": None if images is None else os.fspath(images), "picture": picture, "seed": seed}
        tell("check", "which of the rewrites clear it")
        with clock("attempt"):
            try:
                captured = captured or capture(source, inputs=inputs, seed=seed)
                for judgement, profile in zip(judgements, chosen, strict=True):
                    if _may_clear(judgement):
                        judgement.violations = _tried(judgement, facts, captured, profile, numbers, asked)
            except ValueError as error:
                notes.append(f"rewrites are named as the rules name them, they were not tried: {error}")
    return Check(shown, str(source) if shown == str(source) else "", judgements, strict, clock.seconds, notes)


def _may_clear(judgement: Judgement) -> bool:
    return any(not v.fixed and v.level != "note" for v in judgement.violations)


def _tried(
    judgement: Judgement, facts: Facts, captured: Captured, profile: Profile, numbers: Numbers, asked: dict[str, Any]
) -> list[Violation]:
    """The violations with the rewrites that clear each in truth; ``numbers`` are the file's. GraphError, EmitError or
    ValueError."""
    from instep.rewrite.pipelines import to_tflite
    from instep.targets.foretell import foretold
    from instep.targets.numbers import measure_some

    graph, _ = to_tflite(captured.graph, avoid=profile.avoid)
    measured = numbers.inputs and (profile.limits is not None or profile.watched)
    if not measured:
        return foretold(judgement.violations, facts, graph, profile)
    largest = profile.limits.largest if profile.limits is not None else math.inf
    some = measure_some(graph, profile.watched, largest=largest, **asked)
    numbers = replace(some, largest={**numbers.largest, **some.largest})
    return foretold(judgement.violations, facts, graph, profile, numbers=numbers)
