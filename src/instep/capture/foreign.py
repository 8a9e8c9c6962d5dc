"""Weights under the names and in the arrangement of another framework, fitted to the weights that a graph wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from instep.capture.base import CaptureError
from instep.graph import Graph, Value, ops

__all__ = ["fit_keras", "renamed"]

#: What Keras and TensorFlow call the arrays of a layer, and what the graph calls them.
LEAVES = {
    "kernel": "weight", "gamma": "weight", "depthwise_kernel": "weight", "embeddings": "weight", "alpha": "weight",
    "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var", "weights": "weight",
    "biases": "bias", "w": "weight", "b": "bias",
}  # fmt: skip
#: What a checkpoint writes before the number of a layer within a Sequential or functional model.
_NUMBERED = re.compile(r"\blayer_with_weights-(?=\d)")
_HOLE = re.compile(r"\\\{([A-Za-z_]\w*)\\\}")


def renamed(names: Iterable[str], table: Mapping[str, str | None]) -> dict[str, str | None]:
    """File's name → the network's name, for the names that ``table`` has; None for those to be left out.

    The table's keys are names of arrays or of layers (a name without its last part); ``{i}`` stands for whatever is
    between two separators ("/" or "."), and means the same in the table's value. The first key that fits counts.
    Raises CaptureError for more than two of them there, which could be tried in too many ways.
    """
    rules = []
    for key, to in table.items():
        if any(part.count("{") > 2 for part in re.split(r"[/.]", str(key))):
            raise CaptureError(f"names: '{str(key)[:80]}' has more than two {{…}} between separators")
        pattern = _HOLE.sub(r"(?P<\1>[^/.]+)", re.escape(str(key)))
        rules.append((re.compile(pattern), to))
    found: dict[str, str | None] = {}
    for name in names:
        layer, leaf = _split(name)
        for rule, to in rules:
            if (match := rule.fullmatch(name)) is not None:
                found[name] = _filled(to, match)
                break
            if layer and (match := rule.fullmatch(layer)) is not None:
                inside = _filled(to, match)
                found[name] = None if inside is None else f"{inside}.{LEAVES.get(leaf, leaf)}".lstrip(".")
                break
    return found


def _split(name: str) -> tuple[str, str]:
    at = max(name.rfind("/"), name.rfind("."))
    return name[: max(at, 0)], name[at + 1 :]


def _filled(to: str | None, match: re.Match[str]) -> str | None:
    if to is None:
        return None
    for hole, word in match.groupdict().items():
        to = to.replace("{" + hole + "}", word)
    return to


def fit_keras(
    arrays: Mapping[str, np.ndarray], graph: Graph, table: Mapping[str, str | None], where: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """``arrays`` as Keras and TensorFlow name and arrange them, as the weights of ``graph``; and notes.

    Names come from ``table`` (see ``renamed``); else a name is its path with dots, "kernel" being "weight" and so on,
    where necessary without a first part that all have ("model/"). Where that fits nothing, layers are matched in the
    order of ``layer_with_weights-N`` or of the file. Raises CaptureError for what does not fit.
    """
    wanted = {v.name: v for v in graph.weights}
    kinds = _arrangements(graph)
    names: dict[str, str | None] = {n: _plain(n) for n in arrays} | renamed(arrays, table)
    notes: list[str] = []
    if not any(n in wanted for n in names.values()):
        shorter = {n: to.partition(".")[2] if to and n not in table else to for n, to in names.items()}
        if len({_plain(n).partition(".")[0] for n in arrays}) == 1 and any(n in wanted for n in shorter.values()):
            names = shorter
        else:
            names = _by_order(arrays, wanted, kinds)
            notes.append("names of the weights tell nothing: layers were matched in their order")
    result: dict[str, np.ndarray] = {}
    for name, to in names.items():
        if to is None:
            continue
        if to not in wanted:
            result[to] = arrays[name]
            continue
        fitted = _arranged(arrays[name], wanted[to].shape, kinds.get(wanted[to]))
        if fitted is None:
            raise CaptureError(
                f"{where}: '{name}' {list(arrays[name].shape)} does not fit '{to}' {list(wanted[to].shape)}; build the "
                "network with the arguments the file was trained with (--arg key=value)"
            )
        result[to] = fitted
    return result, notes


def _plain(name: str) -> str:
    layer, leaf = _split(name)
    layer = _NUMBERED.sub("", layer)
    return ".".join(p for p in (layer.replace("/", "."), LEAVES.get(leaf, leaf)) if p)


# -- arrangement -------------------------------------------------------------------------------------------------------
def _arrangements(graph: Graph) -> dict[Value, tuple[str, str]]:
    """Weight → (operator, layout) of what reads it as its kernel."""
    found: dict[Value, tuple[str, str]] = {}
    for node in graph.nodes:
        if isinstance(node.op, (ops.Conv2d, ops.Conv3d, ops.ConvTranspose2d)) and len(node.inputs) > 1:
            depthwise = isinstance(node.op, ops.Conv2d) and node.op.groups > 1
            found[node.inputs[1]] = ("Depthwise" if depthwise else node.op.name, node.op.layout)
        elif isinstance(node.op, ops.Linear) and len(node.inputs) > 1:
            found[node.inputs[1]] = ("Linear", "")
    return found


def _arranged(array: np.ndarray, shape: tuple[int, ...], kind: tuple[str, str] | None) -> np.ndarray | None:
    """``array`` as Keras has it, as the graph has it; None where it does not fit."""
    n = array.ndim
    if kind is not None and n == len(shape):
        name, layout = kind
        last, first = n - 1, n - 2
        if name == "Linear":
            array = array.T
        elif name == "Depthwise" and array.shape[2] * array.shape[3] == shape[0] and 1 in (shape[1], shape[3]):
            # [KH, KW, C, M] → output channel c·M + m
            array = array.reshape(*array.shape[:2], 1, -1)
            array = array.transpose((3, 2, 0, 1) if layout == "NCHW" else (3, 0, 1, 2))
        else:
            # [K…, I, O] (transposed convolutions: [K…, O, I]) → O first, I behind it or last
            kernel = tuple(range(n - 2))
            array = array.transpose((last, first, *kernel) if layout == "NCHW" else (last, *kernel, first))
    elif array.size == np.prod(shape, dtype=np.int64) and [d for d in array.shape if d > 1] == [
        d for d in shape if d > 1
    ]:
        array = array.reshape(shape)
    return np.asarray(array, order="C") if array.shape == shape else None


# -- order -------------------------------------------------------------------------------------------------------------
def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", text)]


def _by_order(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Value], kinds: Mapping[Value, tuple[str, str]]
) -> dict[str, str | None]:
    """The file's layers and the network's, one after the other; those that do not fit keep their own names."""
    theirs: dict[str, list[str]] = {}
    for name in arrays:
        theirs.setdefault(_split(name)[0], []).append(name)
    layers = list(theirs)
    if all(re.search(r"\d", layer) for layer in layers):
        layers.sort(key=_natural)
    mine: dict[str, list[str]] = {}
    for name in wanted:
        mine.setdefault(_split(name)[0], []).append(name)
    if len(theirs) != len(mine):
        return {n: _plain(n) for n in arrays}
    result: dict[str, str | None] = {}
    for layer, own in zip(layers, mine, strict=True):
        for name in theirs[layer]:
            leaf = _split(name)[1]
            result[name] = f"{own}.{LEAVES.get(leaf, leaf)}".lstrip(".")
    fits = all(
        to in wanted and _arranged(arrays[n], wanted[to].shape, kinds.get(wanted[to])) is not None
        for n, to in result.items()
        if to is not None
    )
    return result if fits else {n: _plain(n) for n in arrays}
