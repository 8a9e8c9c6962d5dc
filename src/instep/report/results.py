"""What the verbs return: plain dataclasses that know their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instep.rewrite.driver import PassReport
    from instep.runtime import Placement
    from instep.verify.verdict import Verdict

__all__ = ["Bench", "Conversion", "Port", "Verification"]


@dataclass
class Verification:
    """What ``verify`` found out. ``verdict`` has every row; ``to_json`` the figures and the worst values."""

    source: str
    file: str
    verdict: Verdict
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    report: str | None = None

    @property
    def ok(self) -> bool:
        """True when the file is in step with its source."""
        return self.verdict.ok

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep verify --json`` prints."""
        return {
            **self.verdict.to_json(),
            "ok": self.ok,
            "source": self.source,
            "file": self.file,
            "seconds": _rounded(self.seconds),
            "notes": [*self.notes, *self.verdict.notes],
            "report": self.report,
        }


@dataclass
class Conversion:
    """A finished conversion: the file, what it is made of, and the proof (None with ``verify=False``)."""

    source: str
    file: str
    bytes: int
    ops: dict[str, int]
    ops_captured: dict[str, int]
    max_rank: int
    parameters: int
    macs: int
    io: str
    half: bool
    verdict: Verdict | None
    passes: list[PassReport]
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    report: str | None = None
    target: str | None = None
    violations: list[dict[str, Any]] = field(default_factory=list)
    #: the frameworks that reading the source brought in, as people call them
    imported: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when no proof failed: neither that of the file nor, with ``prove_each``, that of a rewrite."""
        return (self.verdict is None or self.verdict.ok) and not self.unfaithful

    @property
    def unfaithful(self) -> list[PassReport]:
        """With ``prove_each``: the rewrites after which an output had moved by more than ten times its noise."""
        return [p for p in self.passes if (change := _change(p.proof)) is not None and not change <= 10]

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep convert --json`` prints."""
        proof: dict[str, Any] = {
            "verdict": None,
            "noise_ratio": None,
            "max_abs": None,
            "correlation": None,
            "worst": [],
        }
        if self.verdict is not None:
            proof = self.verdict.to_json()
        return {
            **proof,
            "ok": self.ok,
            "source": self.source,
            "file": self.file,
            "bytes": self.bytes,
            "ops": self.ops,
            "ops_captured": self.ops_captured,
            "max_rank": self.max_rank,
            "parameters": self.parameters,
            "macs": self.macs,
            "io": self.io,
            "half": self.half,
            "seconds": _rounded(self.seconds),
            "rewrites": [
                {"name": p.name, "nodes": [p.nodes_before, p.nodes_after], "proof": _change(p.proof)}
                for p in self.passes
                if p.changed
            ],
            "target": self.target,
            "violations": self.violations,
            "notes": [*self.notes, *(self.verdict.notes if self.verdict else [])],
            "report": self.report,
        }


@dataclass
class Port:
    """What ``port`` did: ``files`` were written in the form ``to``; none where the proof failed."""

    source: str
    to: str
    files: list[str]
    bytes: int
    verdict: Verdict
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when what was written is in step with its source."""
        return self.verdict.ok

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep port --json`` prints."""
        return {
            **self.verdict.to_json(),
            "ok": self.ok,
            "source": self.source,
            "to": self.to,
            "files": self.files,
            "bytes": self.bytes,
            "seconds": _rounded(self.seconds),
            "notes": [*self.notes, *self.verdict.notes],
        }


@dataclass
class Bench:
    """Latency of several files, measured in turn: median milliseconds, or why there is none.

    On an engine that only compiles nothing is measured: ``estimates`` holds what its compiler foretells of each file.
    """

    files: list[str]
    median_ms: dict[str, float]
    failed: dict[str, str]
    bytes: dict[str, int]
    threads: int
    engine: str = "xnnpack"
    estimates: dict[str, Placement] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when every file ran (or compiled)."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """Plain data, one object per file."""
        return {
            "engine": self.engine,
            "threads": self.threads,
            "files": [
                {
                    "file": name,
                    "bytes": self.bytes[name],
                    "median_ms": self.median_ms.get(name),
                    "failed": self.failed.get(name),
                    "estimate": self.estimates[name].to_json() if name in self.estimates else None,
                }
                for name in self.files
            ],
        }


def _change(proof: object) -> float | None:
    return proof if isinstance(proof, float) else None


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}
