"""The forms that a network is written in: what each is called, its suffix, and how its files come about."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.process import importing
from instep.verbs.common import InstepError
from instep.verbs.convert import plain_file
from instep.verbs.sources import choose_backend

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.graph import Graph, Value
    from instep.rewrite.driver import PassReport

__all__ = ["FORMS", "Form", "chosen", "drafted", "prepared", "settle"]

#: Called after each rewrite with the graph before and after it and its name.
Prove = Callable[["Graph", "Graph", str], object]


@dataclass(frozen=True)
class Form:
    """``family`` is what ``--to`` may say in place of ``name``, where the suffix tells which of a family it is."""

    name: str
    family: str
    suffix: str
    write: Callable[[Captured, Path], list[Path]]
    #: the rewrites before that; called with what to call after each
    steps: Callable[[Graph, Prove | None], tuple[Graph, list[PassReport]]]
    #: whether the weights lie beside it in a .safetensors file
    beside: bool = False


# -- what the frameworks want of a graph -------------------------------------------------------------------------------
def prepared(graph: Graph, framework: str) -> Graph:
    """``graph`` in the layout of a framework: channels first for PyTorch, last for Keras and JAX.

    Operators from other packages that its table does not have give way to their decompositions.
    """
    return _steps(graph, None, framework)[0]


def _steps(graph: Graph, prove: Prove | None, framework: str) -> tuple[Graph, list[PassReport]]:
    """As ``prepared``, with what each rewrite did."""
    from instep.rewrite.driver import run
    from instep.rewrite.lower import expanding
    from instep.rewrite.pipelines import to_channels_first, to_channels_last

    room, name = _DIALECTS[framework]
    known = getattr(import_module(f"instep.emit.{room}.dialect"), name).table
    reports: list[PassReport] = []
    if any(type(n.op) not in known for n in graph.nodes):
        graph, reports = run(graph, [expanding(known)], prove=prove)
    if framework != "torch":
        graph, more = to_channels_last(graph, prove=prove)
        return graph, [*reports, *more]
    # a source of PyTorch stays as it is, to the letter
    if not any(n.op.spatial and n.op.layout == "NHWC" for n in graph.nodes):  # type: ignore[attr-defined]
        return graph, reports
    graph, more = to_channels_first(graph, prove=prove)
    return graph, [*reports, *more]


def _as_it_is(graph: Graph, prove: Prove | None) -> tuple[Graph, list[PassReport]]:
    return graph, []


def _to_tflite(graph: Graph, prove: Prove | None) -> tuple[Graph, list[PassReport]]:
    from instep.rewrite.pipelines import to_tflite

    return to_tflite(graph, prove=prove)


#: The dialects that the frameworks' code is written in: they know what its layers are called.
_DIALECTS = {"torch": ("torch", "TORCH"), "keras": ("keras", "KERAS"), "jax": ("jax", "NNX")}


def facts_of(captured: Captured, graph: Graph, framework: str) -> dict[str, Any]:
    """What a file says of itself: its source, and how inputs, outputs and what its layers give show the source's."""
    from instep import __version__
    from instep.emit.code.shown import layers_of

    def shown(value: Value) -> list[Any] | None:
        view = value.source
        return None if view is None else [view.name, list(view.perm), list(value.shape)]

    room, name = _DIALECTS[framework]
    dialect = getattr(import_module(f"instep.emit.{room}.dialect"), name)
    return {
        "version": __version__,
        "framework": framework,
        "source": captured.source,
        "inputs": [shown(v) for v in graph.inputs],
        "outputs": [shown(v) for v in graph.outputs],
        "values": {path: view for path, value in layers_of(graph, dialect).items() if (view := shown(value))},
    }


# -- how the files come about ------------------------------------------------------------------------------------------
def _text(captured: Captured, path: Path) -> list[Path]:
    from instep.graph.difference import difference
    from instep.graph.text import TextError, parse, save

    written = save(captured.graph, path)
    try:
        wrong = difference(captured.graph, parse(path))
    except TextError as error:
        wrong = str(error)
    if wrong:
        raise InstepError(f"the text of this network would not read back as it is ({wrong}): please report the network")
    return written


def _tflite(captured: Captured, path: Path) -> list[Path]:
    plain_file(captured, path)
    return [path]


def _source(captured: Captured, path: Path, framework: str, **style: str) -> list[Path]:
    """Code of a framework, with the weights beside it."""
    from instep.runtime.modules import stamp

    graph = prepared(captured.graph, framework)
    files = import_module(f"instep.emit.{framework}").save(graph, path, **style)
    stamp(path.with_suffix(".safetensors"), facts_of(captured, graph, framework))
    return files


def _keras_file(captured: Captured, path: Path) -> list[Path]:
    """What Keras saves; layers that it lacks come along as code, which the file names."""
    from instep.runtime.modules import stamp

    choose_backend()
    graph = prepared(captured.graph, "keras")
    with importing():
        import_module("keras")
    files = import_module("instep.emit.keras").save(graph, path)
    code = [f.name for f in files if f.suffix == ".py"]
    facts = facts_of(captured, graph, "keras")
    stamp(path, {**facts, "code": code[0]} if code else facts)
    if code:
        stamp(path.with_suffix(".safetensors"), facts)
    return files


def _torch_program(captured: Captured, path: Path) -> list[Path]:
    from instep.emit.torch import build
    from instep.runtime.modules import FACTS

    with importing():
        import torch
    graph = prepared(captured.graph, "torch")
    inputs = tuple(torch.zeros(v.shape, dtype=getattr(torch, v.dtype)) for v in graph.inputs)
    program = torch.export.export(build(graph), inputs)
    facts = json.dumps(facts_of(captured, graph, "torch"))
    torch.export.save(program, path, extra_files={FACTS: facts})
    return [path]


_TORCH, _KERAS, _JAX = (partial(_steps, framework=f) for f in ("torch", "keras", "jax"))

FORMS: tuple[Form, ...] = (
    Form("text", "text", ".yaml", _text, _as_it_is, True),
    Form("tflite", "tflite", ".tflite", _tflite, _to_tflite),
    Form("torch-source", "torch", ".py", partial(_source, framework="torch"), _TORCH, True),
    Form("torch-program", "torch", ".pt2", _torch_program, _TORCH),
    Form("keras-file", "keras", ".keras", _keras_file, _KERAS, True),
    Form("keras-source", "keras", ".py", partial(_source, framework="keras"), _KERAS, True),
    Form("jax-source", "jax", ".py", partial(_source, framework="jax"), _JAX, True),
    Form("jax-function", "jax", ".py", partial(_source, framework="jax", style="function"), _JAX, True),
)


def chosen(to: str, out: str | os.PathLike[str], source: Any) -> tuple[Form, Path]:
    """The form that ``to`` and the suffix of ``out`` ask for, and the file to write. ``out`` may be a folder.

    InstepError where they contradict each other or do not tell.
    """
    path = Path(out)
    forms = [f for f in FORMS if not to or to in (f.name, f.family)]
    if not forms:
        known = ", ".join(dict.fromkeys(n for f in FORMS for n in (f.family, f.name)))
        raise InstepError(f"--to {to}: there is no such form; forms are {known}")
    folder = path.is_dir() or not path.suffix
    if folder:
        if not to:
            raise InstepError(f"{path} does not say in which form; name it with --to, or a file with a suffix")
        path = path / f"{_name(source)}{forms[0].suffix}"
    found = [f for f in forms if path.suffix in (f.suffix, ".yml" if f.suffix == ".yaml" else f.suffix)]
    if not found:
        wanted = ", ".join(dict.fromkeys(f.suffix for f in forms))
        raise InstepError(f"{path}: {to or 'a network'} is written as {wanted}")
    families = list(dict.fromkeys(f.family for f in found))
    if len(families) > 1:
        raise InstepError(f"{path}: name the framework: --to {' or --to '.join(families)}")
    if isinstance(source, str | os.PathLike) and path.exists() and Path(source).resolve() == path.resolve():
        raise InstepError(f"{path} is the source itself; write to another file")
    _check_place(path, folder)
    beside = path.with_suffix(".safetensors")
    if found[0].beside and beside.exists() and not path.exists():
        raise InstepError(f"{beside} is there already and belongs to something else; choose another name for {path}")
    return found[0], path


def _check_place(path: Path, folder: bool) -> None:
    """InstepError, before any work is done, where ``path`` cannot be written. A ``folder`` around it may be made."""
    around = path.parent.parent if folder and not path.parent.exists() else path.parent
    if not around.is_dir():
        raise InstepError(f"{path}: the folder {around} does not exist; make it first")
    if not os.access(around, os.W_OK):
        raise InstepError(f"{path}: the folder {around} is not writable; choose another place with -o")


def _name(source: Any) -> str:
    """``zoo:rlfn`` → ``rlfn``, ``model.py:net`` → ``net``, ``nets/fbnet.h5`` → ``fbnet``."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__.lower()
    last = text.rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(last).stem) or "network"


# -- whole or not at all -----------------------------------------------------------------------------------------------
@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A place for the files of ``path`` beside it, under its name; gone afterwards with what was not settled."""
    made = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield draft / path.name
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if made and not any(path.parent.iterdir()):
            path.parent.rmdir()


def settle(files: list[Path], path: Path) -> list[Path]:
    """Move drafted files to their places beside ``path``."""
    for file in files:
        os.replace(file, path.parent / file.name)
    return [path.parent / file.name for file in files]
