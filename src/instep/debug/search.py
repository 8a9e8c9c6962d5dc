"""Delta debugging over the values of a file: the fewest that, computed from trusted ones, still show the fault."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from instep.debug.flow import Part
from instep.debug.trial import Fault, Outcome, Trial

__all__ = ["Found", "find", "part_of", "whole_of"]

#: Into how many pieces a sub-network is cut at a time; they all run in one child process.
PIECES = 8
#: Of several pieces at fault the first counts that is no milder than the worst by more than this factor.
MILDER = 100.0


@dataclass
class Found:
    """Where the search ended: ``values`` are computed by ``outcome.part``, everything it reads is trusted."""

    values: list[int]
    outcome: Outcome
    fault: Fault
    #: how many pieces showed the fault when the whole was first cut up, of how many
    pieces: tuple[int, int]


def whole_of(trial: Trial) -> Part:
    """The whole file, with what no output needs."""
    info = trial.cutter.info
    return Part(tuple(range(len(info.ops))), tuple(info.inputs), tuple(info.outputs))


def part_of(trial: Trial, values: Sequence[int]) -> Part:
    """The operators that compute ``values`` from all other known ones, ending at those that are read elsewhere."""
    info, flow = trial.cutter.info, trial.cutter.flow
    given = trial.trusted.known - set(values)
    whole = flow.between(given, values)
    ops = set(whole.ops)
    ends = [
        i for i in values
        if i in info.outputs or not flow.readers.get(i) or any(n not in ops for n in flow.readers[i])
    ]  # fmt: skip
    return flow.between(given, ends or values[-1:])


def find(trial: Trial, fault: Fault) -> Found | None:
    """The smallest set of values that shows ``fault``; None where not even all of them together do."""
    values = [i for i in trial.cutter.flow.computed if i in trial.trusted.known]
    start = trial.test([part_of(trial, values)])[0] if values else None
    if start is None or not fault.shown_by(start):
        return None
    found = Found(values, start, fault, (1, 1))
    _reduce(trial, found)
    if found.outcome.part.outputs[1:]:
        _fewer_outputs(trial, found)
    return found


def _reduce(trial: Trial, found: Found) -> None:
    """Delta debugging (Zeller and Hildebrandt 2002): pieces, then what is left without each, then smaller pieces."""
    pieces, first = PIECES, True
    while len(found.values) > 1:
        pieces = min(pieces, len(found.values))
        trial.tell(f"{len(found.values)} values, in {pieces} pieces")
        chunks = _split(found.values, pieces)
        tested = trial.test([part_of(trial, c) for c in chunks])
        guilty = [n for n, o in enumerate(tested) if found.fault.shown_by(o)]
        if first:
            found.pieces, first = (len(guilty), len(chunks)), False
        if guilty:
            chosen = _first_of_the_worst(tested, guilty)
            found.values, found.outcome = chunks[chosen], tested[chosen]
            pieces = PIECES
            continue
        if _without(trial, found, chunks):
            pieces = max(2, pieces - 1)
            continue
        if pieces >= len(found.values):
            return
        pieces *= 2


def _without(trial: Trial, found: Found, chunks: list[list[int]]) -> bool:
    """Leave out what the fault does not need, though no piece alone shows it. True when something went."""
    if len(chunks) < 3:
        return False
    rests = [[i for i in found.values if i not in set(c)] for c in chunks]
    tested = trial.test([part_of(trial, r) for r in rests])
    spare = {n for n, o in enumerate(tested) if found.fault.shown_by(o)}
    if not spare:
        return False
    needed = [i for n, c in enumerate(chunks) if n not in spare for i in c]
    if needed and len(spare) > 1:
        together = trial.test([part_of(trial, needed)])[0]
        if found.fault.shown_by(together):
            found.values, found.outcome = needed, together
            return True
    last = max(spare)
    found.values, found.outcome = rests[last], tested[last]
    return True


def _split(values: list[int], pieces: int) -> list[list[int]]:
    cuts = [round(n * len(values) / pieces) for n in range(pieces + 1)]
    return [values[a:b] for a, b in itertools.pairwise(cuts) if b > a]


def _first_of_the_worst(tested: Sequence[Outcome], guilty: Sequence[int]) -> int:
    worst = max(tested[n].ratio for n in guilty)
    return next(n for n in guilty if tested[n].ratio * MILDER >= worst)


def _fewer_outputs(trial: Trial, found: Found) -> None:
    """Of several outputs one, where that one shows the fault."""
    part = found.outcome.part
    singles = [trial.cutter.flow.between(trial.trusted.known - set(found.values), [i]) for i in part.outputs]
    for outcome in trial.test(singles):
        if found.fault.shown_by(outcome):
            found.outcome = outcome
            return
