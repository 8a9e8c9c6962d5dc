"""A network's stages, where its pictures keep their size, and how much error is born in each and has gathered there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from instep.debug.flow import Flow
from instep.debug.search import part_of
from instep.debug.trial import Outcome, Trial
from instep.runtime import TFLiteInfo
from instep.verify.noise import classify
from instep.verify.verdict import number

__all__ = ["Stage", "Stages", "measure", "stages_of"]

#: Operators that change a size for the sake of the one behind them.
PADS = ("PAD", "PADV2", "MIRROR_PAD")


@dataclass
class Stage:
    """Operators ``first`` to ``last`` of a file, between which pictures keep the size ``size`` ("" for vectors)."""

    first: int
    last: int
    size: str
    scope: str
    shape: tuple[int, ...]
    operators: dict[str, int]
    constant_bytes: int
    #: the error of this stage alone, on trusted values, and the error of all up to here, in units of rounding noise
    own: Outcome | None = None
    so_far: Outcome | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        facts = {k: v for k, v in vars(self).items() if k not in ("own", "so_far")}
        for name, outcome in (("own", self.own), ("so_far", self.so_far)):
            facts[name] = None if outcome is None else _facts(outcome)
        return facts


@dataclass
class Stages:
    """What ``stages`` found out of a file; with an ``engine``, how its errors grow."""

    source: str
    stages: list[Stage]
    engine: str = ""
    trusted: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when no stage gives other values than it should."""
        outcomes = [o for s in self.stages for o in (s.own, s.so_far) if o is not None]
        return all(verdict_of(o) in ("in step", "not comparable") for o in outcomes)

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep stages --json`` prints."""
        return {**vars(self), "ok": self.ok, "stages": [s.to_json() for s in self.stages]}


def verdict_of(outcome: Outcome) -> str:
    """The class of an outcome, or how it failed."""
    if outcome.failed is not None:
        return outcome.outcome
    return classify(outcome.ratio) if outcome.rows else "not comparable"


def _facts(outcome: Outcome) -> dict[str, Any]:
    worst = outcome.worst
    return {
        "verdict": verdict_of(outcome),
        "ratio": None if worst is None else number(worst.ratio),
        "max_abs": None if worst is None else number(worst.max_abs),
        "said": outcome.failed.message if outcome.failed is not None else "",
    }


def stages_of(info: TFLiteInfo) -> list[Stage]:
    """The stages of a file, in its order. An excursion that comes back (a squeeze and its excitation) is no stage."""
    sizes = [_size(info, n) for n in range(len(info.ops))]
    for place in reversed(range(len(sizes) - 1)):
        if info.ops[place].name in PADS:  # rows that are added for what comes next
            sizes[place] = sizes[place + 1]
    runs: list[list[Any]] = []
    for place, size in enumerate(sizes):
        if runs and runs[-1][2] == size:
            runs[-1][1] = place
        else:
            runs.append([place, place, size])
    runs = _joined(runs)
    return [_stage(info, *run) for run in runs]


def _size(info: TFLiteInfo, place: int) -> str:
    """Height × width of what an operator makes; of tokens their number; "" for vectors."""
    made = info.made(info.ops[place])
    shape = made.shape if made is not None else ()
    if len(shape) >= 4:
        return "×".join(map(str, shape[1:-1])) if max(shape[1:-1]) > 1 else ""
    return f"{shape[1]} tokens" if len(shape) == 3 and shape[1] > 1 else ""


def _joined(runs: list[list[Any]]) -> list[list[Any]]:
    """Runs that go on behind a shorter excursion become one."""
    found = True
    while found:
        found = False
        for n in range(len(runs) - 1):
            for ahead in range(min(len(runs) - 1, n + 6), n + 1, -1):
                between = runs[ahead - 1][1] - runs[n][1]
                around = runs[n][1] - runs[n][0] + runs[ahead][1] - runs[ahead][0] + 2
                if runs[ahead][2] == runs[n][2] and between <= around + 6:
                    runs[n : ahead + 1] = [[runs[n][0], runs[ahead][1], runs[n][2]]]
                    found = True
                    break
            if found:
                break
    return runs


def _stage(info: TFLiteInfo, first: int, last: int, size: str) -> Stage:
    ops = info.ops[first : last + 1]
    made = [t for t in map(info.made, ops) if t is not None]
    constants = {i for o in ops for i in o.inputs if i >= 0 and info.tensors[i].constant_bytes}
    return Stage(
        first, last, size, _scope([t.name for t in made]), made[-1].shape if made else (),
        dict(Counter(o.name for o in ops).most_common()), sum(info.tensors[i].constant_bytes for i in constants),
    )  # fmt: skip


def _scope(names: list[str]) -> str:
    """The first scope … the last one; a name's scope is what stands before its last slash."""
    scopes = list(dict.fromkeys(name.rpartition("/")[0] or name for name in names))
    return " … ".join(dict.fromkeys((*scopes[:1], *scopes[-1:])))


def measure(trial: Trial, stages: list[Stage]) -> None:
    """Run every stage alone on trusted values, and everything up to its end, and note what became of both."""
    flow: Flow = trial.cutter.flow
    parts, owners = [], []
    for stage in stages:
        made = [i for n in range(stage.first, stage.last + 1) for i in trial.cutter.info.ops[n].outputs]
        values = [i for i in made if i in trial.trusted.known]
        if values:
            own = part_of(trial, values)
            parts += [own, flow.between(set(trial.cutter.info.inputs), own.outputs)]
            owners.append(stage)
    outcomes = trial.test(parts)
    for number_, stage in enumerate(owners):
        stage.own, stage.so_far = outcomes[2 * number_], outcomes[2 * number_ + 1]
