"""A graph as Keras 3: its source code, that code with its weights beside it, and the model, alive or in a file."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.emit.code.call import NoCode
from instep.emit.code.module import executed, name_of, save_arrays, written
from instep.emit.code.program import Class, Program, program
from instep.emit.code.writing import helpers, one_line, write
from instep.emit.keras.batch import any_batch
from instep.emit.keras.dialect import KERAS
from instep.emit.keras.style import FunctionalStyle, layer_name
from instep.graph.core import Graph

if TYPE_CHECKING:
    import keras

__all__ = ["build", "save", "source", "state"]

#: What the module's own names are; no function or value of the network is called so.
_NAMES = {"Path", "WEIGHTS", "build", "keras", "layers", "load", "load_file", "np", "ops", "put", "path"}


def source(graph: Graph) -> str:
    """``graph``, channels last, as a module of Keras code, which needs Keras (on any backend) and safetensors alone.

    It has ``build()``, the model as it is before training, and ``load(path)``, the model with the weights. Where the
    samples of a batch do not meet, the model takes batches of any size. Raises NoCode (a ValueError) with the scope and
    origin of an operator that has no form in Keras, or that reads its channels first.
    """
    return _source(program(graph, KERAS))


def save(graph: Graph, path: str | os.PathLike[str]) -> list[Path]:
    """Write ``.py``, with the weights beside it as ``.safetensors``, or ``.keras``; whole or not at all. All paths.

    In a ``.keras`` file batch norms are Keras' own, which loads everywhere; the code's keep PyTorch's running variance.
    A file that has other layers of the code (free parameters) loads where the code has been imported: it is written
    beside it too, with its weights.
    """
    target = Path(path)
    if target.suffix not in (".py", ".keras"):
        raise ValueError(f"{target.name}: Keras networks are written as .py (source code) or .keras")
    made = program(graph, KERAS)
    code, beside = target.with_suffix(".py"), target.with_suffix(".safetensors")
    text = _source(made)
    files: list[tuple[Path, Callable[[Path], object]]] = []
    if target.suffix == ".keras":
        files.append((target, lambda part: _run(made, text, own=False).save(part)))
    own = text.count("@keras.saving.register_keras_serializable") - text.count(_OWN_NORM)
    if target.suffix == ".py" or own:
        files.append((code, lambda part: part.write_text(text, "utf-8")))
        files.append((beside, lambda part: save_arrays(_arrays(made), part)))
    return written(files)


def build(graph: Graph) -> keras.Model:
    """The live model: what ``source`` says, executed, with the graph's weights in it."""
    made = program(graph, KERAS)
    return _run(made, _source(made))


def state(graph: Graph) -> dict[str, np.ndarray]:
    """The weights by the names that they have in the ``.safetensors`` file: the layer's and the array's."""
    return _arrays(program(graph, KERAS))


#: How the code begins its batch norm.
_OWN_NORM = "class BatchNormalization(layers.BatchNormalization):"


def _run(made: Program, text: str, *, own: bool = True) -> Any:
    """The model; ``own``: with the code's own batch norms."""
    space = executed(text, "Keras code by Instep")
    if not own and "BatchNormalization" in space:
        space["BatchNormalization"] = space["layers"].BatchNormalization
    return space["put"](space["build"](), _arrays(made))


def _arrays(made: Program) -> dict[str, np.ndarray]:
    if made.ties:
        raise NoCode(f"the layers {sorted('.'.join(p[:-1]) for p in made.ties)} share their arrays with others")
    constants = set(_constants(made.main))
    # a constant is a layer of its own
    names = {p: layer_name(p, made) if p in constants else f"{layer_name(p[:-1], made)}.{p[-1]}" for p in made.weights}
    return {names[p]: w.of(made.graph.weights) for p, w in made.weights.items()}


def _constants(made: Class, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all constants within ``made``, which lies at ``above``."""
    for member in made.members:
        path = (*above, *member.path)
        if member.constant is not None:
            yield path
        if member.inner is not None:
            yield from _constants(member.inner, path)


def _source(made: Program) -> str:
    graph = made.graph
    name = name_of(graph)
    _check_decay(made)
    made.helpers.add("put")
    if any(m.constant and "value" not in m.fields for c in made.classes for m in c.members):
        made.helpers.add("Parameter")
    functions = write(made, FunctionalStyle(KERAS, made, any_batch(graph)), name, _NAMES)
    parts = [helpers(made, KERAS), *functions, _LOAD, _SHOW]
    code = "\n\n\n".join(p.strip("\n") for p in parts if p) + "\n"
    weights = 'WEIGHTS = Path(__file__).with_suffix(".safetensors")'
    return f'"""{_doc(graph, name)}"""\n\n{_imports(code)}\n\n{weights}\n\n\n{code}'


def _check_decay(made: Program) -> None:
    """NoCode where an array is to be kept small that no layer with a regulariser holds."""
    decay = made.graph.meta.get("decay", {})
    for path in _constants(made.main) if decay else ():
        weight = made.weights.get(path)
        if weight is not None and weight.value.name in decay:
            raise NoCode(f"'{weight.value.name}' has a decay, but no Keras layer holds it alone; leave its decay out")


_LOAD = '''
def load(path=WEIGHTS):
    """The network with its weights."""
    return put(build(), load_file(path))
'''


_SHOW = 'if __name__ == "__main__":\n    load().summary()'


def _doc(graph: Graph, name: str) -> str:
    first = one_line(name)
    lines = [f"{first}: Keras code written by Instep." if first else "Keras code written by Instep."]
    for about in (graph.meta.get("doc"), graph.meta.get("source")):
        if about and (text := one_line(about, 600)).lower() != first.lower():
            lines += ["", *textwrap.wrap(f"Source: {text}" if about == graph.meta.get("source") else text, 100)]
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")


def _imports(code: str) -> str:
    used = [word for word in ("layers", "ops") if re.search(rf"(?<![\w.]){word}\.", code)]
    lines = ["from pathlib import Path", "", "import keras"]
    lines += ["import numpy as np"] if re.search(r"(?<![\w.])np\.", code) else []
    lines += [f"from keras import {', '.join(used)}"] if used else []
    return "\n".join([*lines, "from safetensors.numpy import load_file"])
