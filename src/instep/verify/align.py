"""Finds which tensor of a file shows which value of the source, and how, from what flows through both.

A value is recognised by fingerprints that no layout changes (moments and extremes on two inputs), then by the exact
permutation that makes the arrays equal. Behind a fault nothing is equal any more: there the tensors are placed by
the flow of data (what their operator reads has a place already), by size, and by correlation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from instep.graph import Graph, Node, SourceView, Spec
from instep.runtime import TFLiteInfo
from instep.verify.inputs import InputSet
from instep.verify.mapping import Mapping
from instep.verify.reference import Reference
from instep.verify.subject import Run
from instep.verify.verdict import correlation

if TYPE_CHECKING:
    from instep.verify.tflite import TfliteSubject

__all__ = ["align", "match_inputs", "match_outputs", "permuted_views"]

#: Fingerprints and arrays of one value agree to this share of their RMS: far above rounding, far below a fault.
SAME = 2e-3
#: Behind a fault: the least likeness to the value at the place that the flow of data suggests.
ALIKE = 0.3


def permuted_views(name: str, source: Sequence[int], target: Sequence[int]) -> Iterator[SourceView]:
    """Every way to see an array of shape ``source`` as ``target`` by a permutation and a reshape.

    Axes of size 1 stay in place, since moving them changes nothing. The usual layouts come first.
    """
    source, target = tuple(source), tuple(target)
    real = [i for i, n in enumerate(source) if n > 1]
    ones = [i for i, n in enumerate(source) if n <= 1]
    orders = sorted(itertools.permutations(real), key=lambda p: _strangeness(p, real))
    for order in itertools.islice(orders, 120):
        yield SourceView(name, (*ones, *order), target)


def _strangeness(order: tuple[int, ...], plain: list[int]) -> int:
    """0 for as it is, 1 for channels last, 2 for channels first, more for the rest."""
    if list(order) == plain:
        return 0
    if len(plain) > 1 and list(order) == [*plain[1:], plain[0]]:
        return 1
    if len(plain) > 1 and plain[0] == 0 and list(order) == [0, *plain[2:], plain[1]]:
        return 1
    if len(plain) > 1 and list(order) == [plain[-1], *plain[:-1]]:
        return 2
    return 3


def _fits(view: SourceView, source: tuple[int, ...]) -> bool:
    """Does the permutation alone give the target's shape, units aside?"""
    return [source[p] for p in view.perm if source[p] > 1] == [n for n in view.shape if n > 1]


def match_inputs(info: TFLiteInfo, names: Sequence[str], specs: Sequence[Spec]) -> list[SourceView]:
    """Which source input each input of the file is: by name, else by order, as shapes and dtypes allow.

    Raises ValueError when an input fits none.
    """
    free = list(range(len(specs)))
    result: list[SourceView] = []
    for position, index in enumerate(info.inputs):
        tensor = info.tensors[index]
        label = info.input_names[position]
        order = sorted(free, key=lambda i: (names[i] not in (label, tensor.name), i != position))
        found = None
        for i in order:
            views = [v for v in permuted_views(names[i], specs[i].shape, tensor.shape)
                     if specs[i].size == int(np.prod(tensor.shape))]  # fmt: skip
            found = next((v for v in views if _fits(v, specs[i].shape)), None)
            if found is not None:
                free.remove(i)
                break
        if found is None:
            raise ValueError(
                f"input '{label}' {list(tensor.shape)} of {info.path} is none of the source's inputs "
                f"{[list(s.shape) for s in specs]}; give the source the same input size (--input)"
            )
        result.append(found)
    return result


def _fingerprint(arrays: Sequence[np.ndarray]) -> np.ndarray:
    rows = []
    for a in arrays:
        flat = np.asarray(a, np.float64).ravel(order="K")
        if flat.size == 0 or not np.isfinite(flat).all():
            return np.full(5 * len(arrays), np.nan)
        rows += [flat.mean(), np.abs(flat).mean(), float(np.sqrt(np.mean(flat * flat))), flat.min(), flat.max()]
    return np.asarray(rows)


class _Sampler:
    """Compares a tensor with permutations of a source value at some hundred places, then everywhere."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def best(
        self, view_of: Iterator[SourceView], source: list[np.ndarray], tensor: list[np.ndarray]
    ) -> tuple[SourceView | None, float]:
        """The view with the smallest distance, in units of the RMS, and that distance."""
        size = tensor[0].size
        places = np.arange(size)
        if size > 512:
            places = np.unique(np.concatenate([self.rng.integers(0, size, 400), [0, size - 1]]))
        flat = [np.asarray(t, np.float64).ravel()[places] for t in tensor]
        scale = [float(np.sqrt(np.mean(np.square(np.asarray(t, np.float64))))) or 1.0 for t in tensor]
        winner: tuple[SourceView | None, float] = (None, np.inf)
        for view in view_of:
            error = 0.0
            for s, f, k in zip(source, flat, scale, strict=True):
                middle = [s.shape[p] for p in view.perm]
                index = np.unravel_index(places, middle) if middle else ()
                where: list[np.ndarray] = [np.zeros(1, int)] * s.ndim
                for axis, coordinates in zip(view.perm, index, strict=False):
                    where[axis] = coordinates
                picked = np.asarray(s, np.float64)[tuple(where)] if s.ndim else np.asarray(s, np.float64).reshape(1)
                error = max(error, float(np.sqrt(np.mean(np.square(picked - f)))) / k)
            if error < winner[1] * 0.999:
                winner = (view, error)
            if error < 1e-6:
                break
        return winner


def match_outputs(info: TFLiteInfo, graph: Graph | None, truth: dict[str, np.ndarray]) -> list[str | None]:
    """The source value of each output of the file, by position where sizes agree, else by size alone."""
    names = [v.name for v in graph.outputs] if graph is not None else list(truth)[-len(info.outputs) :]
    result: list[str | None] = []
    for position, index in enumerate(info.outputs):
        size = int(np.prod(info.tensors[index].shape))
        order = [*names[position : position + 1], *names]
        result.append(next((n for n in order if n in truth and truth[n].size == size), None))
    return result


def align(subject: TfliteSubject, reference: Reference, graph: Graph | None, sets: Sequence[InputSet]) -> Mapping:
    """The mapping of ``subject``'s tensors, found by running it and the source on the first two plain input sets."""
    chosen = [s for s in sets if not s.edge][:2] or list(sets[:1])
    truths = [reference.run(list(s.arrays), dtype="float64") for s in chosen]
    runs = list(subject.runs([s.arrays for s in chosen]))
    order = [v.name for n in graph.nodes for v in n.outputs] if graph is not None else list(truths[0])
    order = [n for n in order if n in truths[0] and truths[0][n].dtype.kind == "f" and truths[0][n].size > 0]
    by_size: dict[int, list[str]] = {}
    for name in order:
        by_size.setdefault(truths[0][name].size, []).append(name)
    prints = {name: _fingerprint([t[name] for t in truths]) for name in order}
    sampler = _Sampler()
    constant = _constant_tensors(subject.info)
    mapping = Mapping({}, list(subject.mapping.inputs), [None] * len(subject.info.outputs), stated=False)
    for tensor in subject.info.tensors:
        if tensor.name in constant or tensor.name not in runs[0].tensors or tensor.name in mapping.values:
            continue
        arrays = [r.tensors[tensor.name] for r in runs]
        if arrays[0].dtype.kind != "f" or arrays[0].size == 0:
            continue
        view = _recognise(tensor.shape, arrays, by_size.get(arrays[0].size, []), prints, truths, sampler)
        if view is not None:
            mapping.values[tensor.name] = view
    if graph is not None:
        _follow(subject, graph, mapping, truths, runs, by_size, sampler)
    for position, name in enumerate(match_outputs(subject.info, graph, truths[0])):
        tensor = subject.info.tensors[subject.info.outputs[position]]
        known = mapping.values.get(tensor.name)
        if name is None:
            mapping.outputs[position] = known
            continue
        if known is None or known.name != name:
            arrays = [next(iter(r.outputs.values()))[position] for r in runs]
            views = permuted_views(name, truths[0][name].shape, tensor.shape)
            best, error = sampler.best(views, [t[name] for t in truths], arrays)
            if error > SAME:
                plain = permuted_views(name, truths[0][name].shape, tensor.shape)
                best = next((v for v in plain if _fits(v, truths[0][name].shape)), best)
            known = best
        mapping.outputs[position] = known
    return mapping


def _constant_tensors(info: TFLiteInfo) -> set[str]:
    return {t.name for t in info.tensors if t.constant_bytes}


def _recognise(
    shape: tuple[int, ...],
    arrays: list[np.ndarray],
    names: list[str],
    prints: dict[str, np.ndarray],
    truths: list[dict[str, np.ndarray]],
    sampler: _Sampler,
) -> SourceView | None:
    mine = _fingerprint(arrays)
    if not names or not np.isfinite(mine).all():
        return None
    # the third number of each five is the RMS: the unit of the others
    unit = np.repeat(np.maximum(mine[2::5], 1e-30), 5)
    near = [(float(np.max(np.abs(prints[n] - mine) / unit)), n) for n in names]
    near = sorted((e, n) for e, n in near if e <= SAME * 5)[:8]
    best: tuple[SourceView | None, float] = (None, SAME)
    for _, name in near:
        views = permuted_views(name, truths[0][name].shape, shape)
        view, error = sampler.best(views, [t[name] for t in truths], arrays)
        if view is not None and error < best[1] * 0.5:
            best = (view, error)
    return best[0]


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Half the correlation place by place, half the agreement of the distributions (their quantiles); at most 1.

    A wrong kernel leaves little of the first, but a convolution still does not look like a sigmoid.
    """
    share = np.linspace(0, 1, 33)
    scale = max(float(a.std()), float(b.std()), 1e-30)
    apart = float(np.mean(np.abs(np.quantile(a, share) - np.quantile(b, share)))) / scale
    return 0.5 * correlation(a, b) + 0.5 * max(0.0, 1.0 - apart)  # type: ignore[arg-type]


def _follow(
    subject: TfliteSubject,
    graph: Graph,
    mapping: Mapping,
    truths: list[dict[str, np.ndarray]],
    runs: list[Run],
    by_size: dict[int, list[str]],
    sampler: _Sampler,
) -> None:
    """Place the tensors that were not recognised: behind what their operator reads, of the same size, most alike."""
    info = subject.info
    position = {v.name: i for i, n in enumerate(graph.nodes) for v in n.outputs}
    position.update({v.name: -1 for v in graph.inputs})
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value.name, []).append(node)
    for i, view in zip(info.inputs, mapping.inputs, strict=True):
        if view is not None:
            mapping.values.setdefault(info.tensors[i].name, view)
    taken = {v.name for v in mapping.values.values()}
    healthy = _upstream_of_known(info, mapping)
    for op in info.ops:
        sources = [mapping.values[info.tensors[i].name].name for i in op.inputs
                   if i >= 0 and info.tensors[i].name in mapping.values]  # fmt: skip
        for index in op.outputs:
            tensor = info.tensors[index]
            array = runs[0].tensors.get(tensor.name)
            if tensor.name in mapping.values or index in healthy or array is None or not sources:
                continue
            if array.dtype.kind != "f":
                continue
            start = max(position.get(s, -1) for s in sources)
            reach = _reachable(readers, sources, 12)
            names = [n for n in by_size.get(array.size, []) if n in reach and n not in taken and position[n] > start]
            best: tuple[float, SourceView | None] = (ALIKE, None)
            flat = np.asarray(array, np.float64).ravel()
            if not np.isfinite(flat).all():
                continue
            for name in names[:6]:
                source = truths[0][name]
                plain = [v for v in permuted_views(name, source.shape, tensor.shape) if _fits(v, source.shape)]
                for number, view in enumerate(plain[:2]):
                    # the usual layout, unless another one is clearly more alike
                    found = _likeness(view.apply(source).ravel(), flat) - (0.15 if number else 0.0)
                    if found > best[0] + 1e-3:
                        best = (found, view)
            if best[1] is not None:
                mapping.values[tensor.name] = best[1]
                taken.add(best[1].name)


def _upstream_of_known(info: TFLiteInfo, mapping: Mapping) -> set[int]:
    """Tensors from which a recognised one is computed: in-between forms of no fault, which have no place to find."""
    found: set[int] = set()
    for op in reversed(info.ops):
        if any(i in found or info.tensors[i].name in mapping.values for i in op.outputs if i >= 0):
            found.update(i for i in op.inputs if i >= 0)
    return found


def _reachable(readers: dict[str, list[Node]], sources: list[str], steps: int) -> set[str]:
    """Values at most ``steps`` operators behind ``sources``."""
    found: set[str] = set()
    front = set(sources)
    for _ in range(steps):
        front = {v.name for s in front for n in readers.get(s, []) for v in n.outputs} - found
        found |= front
    return found
