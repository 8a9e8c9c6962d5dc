"""What an engine answered: right, wrong, refused, crashed or timed out, with the version that answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instep.runtime import engine_of
from instep.whole import write_text

__all__ = ["BAD", "KINDS", "SHIPPED", "Answer", "Answers", "read", "recorded"]

#: What an answer may be. "not compared": taken, but TFLite's own kernels do not take the file, so nothing is known of
#: its values.
KINDS = ("right", "wrong", "refused", "crashed", "timed out", "not compared")
#: The answers that a profile must foretell.
BAD = ("wrong", "refused", "crashed", "timed out")

#: Where the answers that the shipped profiles rest on lie.
SHIPPED = Path(__file__).parent.parent / "probes"


@dataclass(frozen=True)
class Answer:
    """The answer to one question. ``ratio`` is the error in units of rounding noise, where values were compared."""

    kind: str
    message: str = ""
    ratio: float | None = None

    @property
    def bad(self) -> bool:
        """Whether a profile must foretell it."""
        return self.kind in BAD

    def __str__(self) -> str:
        if self.kind == "wrong" and self.ratio is not None and not self.message:
            return f"wrong: {self.ratio:.3g} times the rounding noise"
        return f"{self.kind}: {self.message}" if self.message else self.kind


@dataclass
class Answers:
    """All answers of one engine, by the question's name; ``runtime`` and ``driver`` say who answered."""

    engine: str
    runtime: str
    driver: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """How many answers of each kind."""
        return Counter(a.kind for a in self.answers.values())

    @property
    def int8(self) -> bool:
        """Whether the files were quantised: a compiler for NPUs takes nothing else."""
        return not engine_of(self.engine).runs

    @property
    def source(self) -> str:
        """Who said it, as a profile's rules name their source."""
        return ", ".join(filter(None, (f"measured: instep probe {self.engine}", self.runtime, self.driver)))

    def to_json(self) -> dict[str, Any]:
        """Compact: "right" answers are words, the others [kind, message]."""
        shown: dict[str, Any] = {}
        for name, answer in sorted(self.answers.items()):
            plain = answer.kind == "right" or not answer.message
            shown[name] = answer.kind if plain else [answer.kind, answer.message]
        return {
            "engine": self.engine,
            "runtime": self.runtime,
            "driver": self.driver,
            "counts": dict(sorted(self.counts().items())),
            "answers": shown,
        }

    def write(self, path: Path) -> None:
        """One line a question, so that a change of the runtime shows as a small difference; whole or not at all."""
        data = self.to_json()
        lines = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in data.pop("answers").items()]
        head = json.dumps(data, ensure_ascii=False, indent=1).removesuffix("\n}")
        text = head + ',\n "answers": {\n' + ",\n".join(lines) + "\n }\n}\n"
        write_text(path, text)


def read(path: Path) -> Answers:
    """The answers that ``Answers.write`` wrote."""
    data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = {
        name: Answer(given) if isinstance(given, str) else Answer(*given) for name, given in data["answers"].items()
    }
    return Answers(data["engine"], data["runtime"], data["driver"], found)


def recorded() -> dict[str, Answers]:
    """The answers that ship with Instep, by engine."""
    return {path.stem: read(path) for path in sorted(SHIPPED.glob("*.json"))}
