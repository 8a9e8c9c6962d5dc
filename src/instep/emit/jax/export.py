"""A graph as JAX: its source code in one of two styles, that code with the weights beside it, and the code alive."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.emit.code.layout import fitted
from instep.emit.code.module import arrays, executed, name_of, save_arrays, written
from instep.emit.code.penalty import offer
from instep.emit.code.penalty import penalty as penalty_text
from instep.emit.code.program import Program, layers_of, program
from instep.emit.code.writing import helpers, members, one_line, write
from instep.emit.jax.dialect import FUNCTION, NNX, Jax
from instep.emit.jax.modules import ModuleStyle
from instep.emit.jax.pure import FunctionStyle, applied
from instep.graph.core import Graph

if TYPE_CHECKING:
    from flax import nnx

__all__ = ["build", "function", "penalty", "save", "source", "state"]

_STYLES = {"nnx": NNX, "function": FUNCTION}
#: What the module's own names are; no class or function of the network is called so.
_NAMES = {
    "Path", "apply", "jax", "jnp", "key", "lax", "load", "load_file", "model", "network", "nnx", "np", "params",
    "partial", "path", "penalty", "rngs", "train", "WEIGHTS",
}  # fmt: skip


def source(graph: Graph, style: str = "nnx") -> str:
    """``graph``, channels last, as a module of JAX code that needs JAX, Flax ("nnx") and safetensors alone.

    ``style``: "nnx" gives a Flax NNX class, "function" a function ``apply(params, *inputs, train=False, key=None)``;
    both have ``load(path)``. Raises NoCode (a ValueError) with the scope and origin of an operator that has no form in
    JAX, or that reads its channels first.
    """
    return _source(program(graph, _dialect(style)), _dialect(style))


def save(graph: Graph, path: str | os.PathLike[str], style: str = "nnx") -> list[Path]:
    """Write the code to ``path`` and the weights beside it as ``.safetensors``, whole or not at all; both paths."""
    target, dialect = Path(path), _dialect(style)
    made = program(graph, dialect)
    text = _source(made, dialect)
    code = (target, lambda part: part.write_text(text, "utf-8"))
    return written([code, (target.with_suffix(".safetensors"), lambda part: save_arrays(arrays(made), part))])


def build(graph: Graph) -> nnx.Module:
    """The live module: what ``source`` says, executed, with the graph's weights; ``train()`` it before training.
    Where kernels decay, ``model.penalty()`` is what joins the loss."""
    space, model = _live(graph, NNX)
    offer(model, space)
    return model


def function(graph: Graph) -> tuple[Callable[..., Any], dict[str, Any]]:
    """``(apply, params)``: what ``source(graph, "function")`` says, executed, and the graph's weights.

    ``apply(params, *inputs)`` gives the outputs; with ``train=True`` a pair of them and of ``params`` with new running
    statistics. Dropouts drop when a ``key`` is given too.
    """
    space, params = _live(graph, FUNCTION)
    return space["apply"], params


def penalty(graph: Graph, style: str = "nnx") -> Callable[[Any], Any]:
    """What joins the loss while the network is trained: decay · Σ w² / 2 of kernels, in ``meta["decay"]`` by weight.
    The code's own ``penalty(model)`` or ``penalty(params)``; a function that gives 0 where nothing decays."""
    dialect = _dialect(style)
    space = executed(_source(program(graph, dialect), dialect), "JAX code by Instep")
    return space.get("penalty", lambda model: 0.0)


def state(graph: Graph) -> dict[str, np.ndarray]:
    """The weights by the names that they have in the ``.safetensors`` file, the same for both styles."""
    return arrays(program(graph, NNX))


def _dialect(style: str) -> Jax:
    if style not in _STYLES:
        raise ValueError(f"style must be one of {', '.join(_STYLES)}, got {style!r}")
    return _STYLES[style]


def _live(graph: Graph, dialect: Jax) -> tuple[dict[str, Any], Any]:
    """The namespace of the exported code after it ran, and what its ``load`` makes of the graph's weights."""
    made = program(graph, dialect)
    space = executed(_source(made, dialect), "JAX code by Instep")
    # instead of a file that it reads, load is given the arrays
    space["load_file"] = dict
    return space, space["load"](arrays(made))


def _source(made: Program, dialect: Jax) -> str:
    graph = made.graph
    name = name_of(graph)
    if dialect is NNX:
        made.helpers |= {"put", "Undrawn"}
        if any(call.untrained for _, call in layers_of(made.main)):
            made.helpers.add("frozen")
        if any(m.constant and not m.constant.trained and "shape" in m.fields for c in made.classes for m in c.members):
            made.helpers.add("Buffer")
        parts = write(made, ModuleStyle(dialect, made.ties, made.main), name, _NAMES)
        dropouts = any(line.call and line.call.layer == "nnx.Dropout" for c in made.classes for line in c.all_lines())
        dropouts = dropouts or any(m.call and m.call.layer == "nnx.Dropout" for c in made.classes for m in members(c))
        given = "rngs=Undrawn(dropout=1)" if made.main.members or made.main.args else ""  # else it has no constructor
        made.helpers -= set() if given else {"Undrawn"}
        load = [
            f"model = nnx.eval_shape(lambda: {made.main.name}({given}))",
            "put(model, load_file(path))",
            *(["nnx.reseed(model, dropout=1)"] if dropouts else []),
            "model.eval()",
            "return model",
        ]
        ready = "load()({})"
        small = penalty_text(made, "model", "jnp.sum(w**2)")
    else:
        made.helpers.add("nested")
        if any(call.untrained for _, call in layers_of(made.main)):
            made.helpers.add("frozen")
        parts = write(made, FunctionStyle(dialect), name, _NAMES)
        parts += applied(made)
        load = ["return tied(nested(load_file(path)))"] if made.ties else ["return nested(load_file(path))"]
        ready = "apply(load(), {})"
        small = penalty_text(made, "params", "jnp.sum(w**2)")
    doc = "The network with its weights, for inference." if dialect is NNX else "The parameters, by scope."
    text = [
        "def load(path=WEIGHTS):",
        f'    """{doc}"""',
        *(f"    {x}" for x in load),
    ]
    inputs = ", ".join(_example(v.shape, v.dtype) for v in graph.inputs)
    run = ['if __name__ == "__main__":']
    if len(graph.outputs) == 1:
        run += fitted(f"print({ready.format(inputs)}.shape)", "    ")
    else:
        run += [*fitted(f"for y in {ready.format(inputs)}:", "    "), "        print(y.shape)"]
    parts = [helpers(made, dialect), *parts, "\n".join(text), *small, "\n".join(run)]
    code = "\n\n\n".join(p.strip("\n") for p in parts if p) + "\n"
    beside = 'WEIGHTS = Path(__file__).with_suffix(".safetensors")'
    return f'"""{_doc(graph, name)}"""\n\n{_imports(code)}\n\n{beside}\n\n\n{code}'


def _example(shape: tuple[int, ...], dtype: str) -> str:
    sizes = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
    kind = "" if dtype.startswith("float") else ", bool" if dtype == "bool" else ", int"
    return f"jnp.zeros({sizes}{kind})"


def _doc(graph: Graph, name: str) -> str:
    first = one_line(graph.meta.get("doc") or name)
    lines = [f"{first}: JAX code written by Instep." if first else "JAX code written by Instep."]
    about = one_line(graph.meta.get("source") or "")
    if about and about not in (first, name):
        lines += ["", f"Source: {about}"]
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")


def _imports(code: str) -> str:
    def uses(word: str) -> bool:
        return bool(re.search(rf"(?<![\w.]){word}\b", code))

    lines = ["from functools import partial"] if uses("partial\\(") else []
    lines += ["from pathlib import Path", ""]
    lines += [line for word, line in (("jax\\.", "import jax"), ("jnp\\.", "import jax.numpy as jnp")) if uses(word)]
    lines += ["import numpy as np"] if uses("np\\.") else []
    lines += ["from flax import nnx"] if uses("nnx\\.") else []
    lines += ["from jax import lax"] if uses("lax\\.") else []
    return "\n".join([*lines, "from safetensors.numpy import load_file"])
