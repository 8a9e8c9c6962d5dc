"""Where the twin of a part comes from: the file itself, the other file, or the captured network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from instep.debug.cutting import Cutter
from instep.debug.excerpt import excerpt
from instep.debug.flow import Part
from instep.debug.trusted import Trusted
from instep.debug.twin import Twin
from instep.graph import Graph

__all__ = ["of_build", "of_captured", "of_file", "of_itself"]


def of_itself(cutter: Cutter, part: Part) -> Twin:
    """The file's own operators."""
    inputs = [(n, None) for n in range(len(part.inputs))]
    return Twin(cutter, part, inputs, [(i, None) for i in part.outputs], len(part.inputs))


def of_build(source: Cutter, whole: Cutter, part: Part) -> Twin:
    """The operators at the same places of ``source``, a right file of the same build as ``whole``."""
    twin = dict(zip(whole.info.inputs, source.info.inputs, strict=True))
    for op, other in zip(whole.info.ops, source.info.ops, strict=True):
        twin |= dict(zip(op.outputs, other.outputs, strict=True))
    inner = Part(part.ops, tuple(twin[i] for i in part.inputs), tuple(twin[i] for i in part.outputs))
    return of_itself(source, inner)


def of_file(source: Cutter, trusted: Trusted, part: Part) -> Twin:
    """The operators of the trusted file between what the part reads and gives. ValueError where there are none."""
    numbers = {name: source.flow.resolve(name) for name in _names(trusted, part)}
    given = [numbers[trusted.shows[i]] for i in part.inputs if i in trusted.shows]
    wanted = list(dict.fromkeys(numbers[trusted.shows[i]] for i in part.outputs))
    return _joined(source, source.part(list(dict.fromkeys(given)), wanted), trusted, part, numbers)


def of_captured(graph: Graph, trusted: Trusted, part: Part, write: Callable[[Graph, Path], None], folder: Path) -> Twin:
    """The operators of the captured network between the values that the part reads and gives, as a file that
    ``write`` makes in ``folder``. ValueError where there are none."""
    shown = _names(trusted, part)
    starts = list(dict.fromkeys(trusted.shows[i] for i in part.inputs if i in trusted.shows))
    ends = list(dict.fromkeys(trusted.shows[i] for i in part.outputs))
    inner = excerpt(graph, [s for s in starts if s not in ends], ends)
    path = folder / "twin.tflite"
    write(inner, path)
    cutter = Cutter(path)
    info = cutter.info
    numbers = dict(zip([v.name for v in inner.inputs], info.inputs, strict=True))
    numbers |= dict(zip([v.name for v in inner.outputs], info.outputs, strict=True))
    missing = [name for name in shown if name not in numbers]
    ops = tuple(range(len(info.ops)))
    if any(trusted.shows.get(i) in missing for i in part.outputs):
        raise ValueError(f"the source does not compute '{missing[0]}' from what the part reads")
    return _joined(cutter, Part(ops, tuple(info.inputs), tuple(info.outputs)), trusted, part, numbers)


def _names(trusted: Trusted, part: Part) -> list[str]:
    missing = [i for i in (*part.outputs, *part.inputs) if i not in trusted.shows]
    if missing:
        raise ValueError(f"'{trusted.info.tensors[missing[0]].name}' is no value of the source")
    return list(dict.fromkeys(trusted.shows[i] for i in (*part.inputs, *part.outputs) if i in trusted.shows))


def _joined(cutter: Cutter, inner: Part, trusted: Trusted, part: Part, numbers: dict[str, int]) -> Twin:
    """``inner`` with each of its inputs tied to one of the part's."""
    by_number = {
        numbers[trusted.shows[i]]: (n, trusted.views[i])
        for n, i in reversed(list(enumerate(part.inputs)))
        if trusted.shows.get(i) in numbers
    }
    lacking = [i for i in inner.inputs if i not in by_number]
    if lacking:
        raise ValueError(f"the source reads '{cutter.info.tensors[lacking[0]].name}' there as well")
    outputs = [(numbers[trusted.shows[i]], trusted.views[i]) for i in part.outputs]
    return Twin(cutter, inner, [by_number[i] for i in inner.inputs], outputs, len(part.inputs))
