"""A graph as a PyTorch module: its source code, that code with the weights beside it, and the module itself."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.emit.code.call import Call
from instep.emit.code.layout import fitted
from instep.emit.code.module import arrays, executed, name_of, save_arrays, written
from instep.emit.code.penalty import offer
from instep.emit.code.penalty import penalty as penalty_text
from instep.emit.code.program import Class, Constant, Member, Program, program
from instep.emit.code.writing import Style, Tree, helpers, one_line, write
from instep.emit.torch.dialect import TORCH
from instep.graph.core import Graph

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "penalty", "save", "source", "state"]

#: What the module's own names are; no class or function of the network is called so.
_NAMES = {"WEIGHTS", "Path", "F", "nn", "torch", "math", "load", "load_file", "model", "penalty", "state"}
#: What a batch norm has that is no parameter.
_STATISTICS = {"running_mean", "running_var"}


class TorchStyle(Style):
    """nn.Module as people write it."""

    def __init__(self, found: Program) -> None:
        super().__init__(TORCH)
        self.found = found
        self.writing: Class | None = None

    def constant(self, constant: Constant, member: Member) -> str:
        from instep.emit.code.state import written

        kind = "" if constant.dtype == "float32" else f", dtype=torch.{constant.dtype}"
        if "value" in member.fields:
            return f"torch.tensor({written(TORCH, member.fields['value'])}{kind})"
        shape = written(TORCH, member.fields["shape"])
        fill = constant.fill
        if fill is not None and fill not in (0.0, 1.0) and np.isfinite(fill):
            text = f"torch.full({shape}, {TORCH.literal(float(str(np.float32(fill))))}{kind})"
        else:
            text = f"torch.{'ones' if fill == 1.0 else 'zeros'}({shape}{kind})"
        return f"nn.Parameter({text})" if constant.trained else text

    def assign(self, owner: str, name: str, member: Member, text: str) -> str:
        if member.constant is not None and not member.constant.trained:
            kept = "" if "shape" in member.fields else ", persistent=False"
            return f'{owner}.register_buffer("{name}", {text}{kept})'
        return super().assign(owner, name, member, text)

    def makers(self, tree: Tree, owner: str = "self") -> list[str]:
        """Layers that share an array share the parameter."""
        lines = super().makers(tree, owner)
        if owner == "self" and self.writing is self.found.main:
            ties = self.found.ties.items()
            lines += [f"{self.member(tree, second)} = {self.member(tree, first)}" for second, first in ties]
        return lines

    def class_text(self, made: Class, doc: str, inputs: list[str], used: set[str]) -> str:
        self.writing = made
        return super().class_text(made, doc, inputs, used)

    def layer(self, call: Call, literals: dict[str, str]) -> str:
        crop = {k: v for k, v in literals.items() if k != "crop"}
        text = super().layer(call, crop)
        if not call.untrained:
            return text
        if call.weights.keys() <= {*call.untrained, *_STATISTICS}:
            return f"{text}.requires_grad_(False)"
        self.found.helpers.add("frozen")
        return f"frozen({text}, {', '.join(map(TORCH.literal, call.untrained))})"


def source(graph: Graph) -> str:
    """``graph`` as a module of PyTorch code, which needs PyTorch and safetensors alone.

    Raises NoCode (a ValueError) with the scope and origin of an operator that has no form in PyTorch.
    """
    return _source(program(graph, TORCH))


def save(graph: Graph, path: str | os.PathLike[str]) -> list[Path]:
    """Write the code to ``path`` and the weights beside it as ``.safetensors``, whole or not at all; both paths."""
    target = Path(path)
    made = program(graph, TORCH)
    text = _source(made)
    code = (target, lambda part: part.write_text(text, "utf-8"))
    return written([code, (target.with_suffix(".safetensors"), lambda part: save_arrays(arrays(made), part))])


def build(graph: Graph) -> nn.Module:
    """The live module: what ``source`` says, executed, with the graph's weights in it; for inference as it comes.
    Where kernels decay, ``model.penalty()`` is what joins the loss."""
    import torch

    made = program(graph, TORCH)
    text = _source(made)
    space = executed(text, "PyTorch code by Instep")
    model = space[made.main.name]()
    tensors = {k: torch.from_numpy(np.array(a)) for k, a in arrays(made).items()}
    tensors |= {".".join(second): tensors[".".join(first)] for second, first in made.ties.items()}
    model.load_state_dict(tensors)
    offer(model, space)
    return model.eval()


def penalty(graph: Graph) -> Callable[[nn.Module], Any]:
    """What joins the loss of a module that ``build`` made while it is trained: decay · Σ w² / 2 of its kernels, in
    ``meta["decay"]`` by weight. The code's own function ``penalty(model)``; one that gives 0 where nothing decays."""
    space = executed(_source(program(graph, TORCH)), "PyTorch code by Instep")
    return space.get("penalty", lambda model: 0.0)


def state(graph: Graph) -> dict[str, np.ndarray]:
    """The weights as the module's ``load_state_dict`` takes them."""
    return arrays(program(graph, TORCH))


def _source(made: Program) -> str:
    graph = made.graph
    name = name_of(graph)
    classes = write(made, TorchStyle(made), name, _NAMES)
    main = made.main.name
    shared = [(".".join(b), ".".join(a)) for b, a in made.ties.items()]
    load = ["def load(path=WEIGHTS):", '    """The network with its weights."""']
    load += [f"    model = {main}()"]
    if shared:
        load.append("    state = load_file(path)")
        load += [f'    state["{b}"] = state["{a}"]' for b, a in shared]
    load += [f"    model.load_state_dict({'state' if shared else 'load_file(path)'})", "    return model.eval()"]
    inputs = ", ".join(_example(v.shape, v.dtype) for v in graph.inputs)
    run = ['if __name__ == "__main__":', "    with torch.no_grad():"]
    if len(graph.outputs) == 1:
        run += fitted(f"print(load()({inputs}).shape)", "        ")
    else:
        run += [*fitted(f"for y in load()({inputs}):", "        "), "            print(y.shape)"]
    small = penalty_text(made, "model", "w.square().sum()")
    parts = [helpers(made, TORCH), *classes, "\n".join(load), *small, "\n".join(run)]
    code = "\n\n\n".join(p.strip("\n") for p in parts if p) + "\n"
    weights = 'WEIGHTS = Path(__file__).with_suffix(".safetensors")'
    return f'"""{_doc(graph, main)}"""\n\n{_imports(code)}\n\n{weights}\n\n\n{code}'


def _example(shape: tuple[int, ...], dtype: str) -> str:
    sizes = ", ".join(map(str, shape))
    if dtype == "float32":
        return f"torch.rand({sizes})"
    return f"torch.zeros({sizes or '()'}, dtype=torch.{dtype})"


def _doc(graph: Graph, name: str) -> str:
    lines = [f"{name}: PyTorch code written by Instep."]
    about = graph.meta.get("from") or graph.meta.get("source") or ""
    for text in (one_line(graph.meta.get("doc") or "", 600), f"Source: {one_line(about, 600)}" if about else ""):
        if text and text.lower() not in (name.lower(), f"source: {name.lower()}"):
            lines += ["", *textwrap.wrap(text, 100)]
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")


def _imports(code: str) -> str:
    lines = ["import math"] if re.search(r"\bmath\.", code) else []
    lines += ["from pathlib import Path", "", "import torch"]
    if re.search(r"\bF\.", code):
        lines.append("import torch.nn.functional as F")
    return "\n".join([*lines, "from safetensors.torch import load_file", "from torch import nn"])
