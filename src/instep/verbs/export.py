"""The verbs ``export``, ``port`` and ``build``: a network in another form, the same with its proof, and alive."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.report.results import Port
from instep.verbs.capture import capture
from instep.verbs.common import Clock, InstepError, Progress, silent
from instep.verbs.forms import chosen, drafted, prepared, settle
from instep.verbs.origin import anchored
from instep.verbs.sources import load_reader
from instep.verbs.verify import proof

if TYPE_CHECKING:
    from instep.verify.inputs import Picture

__all__ = ["build", "export", "port"]

#: The frameworks that a network can be built in.
FRAMEWORKS = ("torch", "keras", "jax")


def export(
    source: Any,
    out: str | os.PathLike[str],
    *,
    to: str = "",
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a network of any source in another form, its weights with it or beside it; the files.

    ``to``: "text", "torch", "keras", "jax", "tflite", or the name of one form ("torch-source", see docs/commands.md);
    left out, the suffix of ``out`` says it. ``out`` may be a folder, which is made where it is missing. The files
    appear whole or not at all. ``source`` and the rest as in ``capture``. Nothing is proved: that is ``port``.
    """
    tell = progress or silent
    form, path = chosen(to, out, source)
    tell("capture", str(source))
    captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    tell("emit", path.name)
    with drafted(path) as draft:
        return settle(form.write(captured, draft), path)


def port(
    source: Any,
    out: str | os.PathLike[str],
    *,
    to: str = "",
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    on: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Port:
    """Carry a network with its weights into another form and prove that it computes the same; as ``export`` otherwise.

    The proof runs what was written on its own engine (``on``: another one that can), on ``images`` and ``picture`` as
    in ``convert``. What is out of step is not left behind: ``ok`` is False, ``files`` is empty, and the verdict says
    which step is to blame, and where (``.verdict.culprit``).
    """
    from instep.verify.proving import blame

    tell, clock = progress or silent, Clock()
    form, path = chosen(to, out, source)
    tell("import", "what reads the source")
    with clock("import"):
        load_reader(source)
    tell("capture", str(source))
    with clock("capture"):
        captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    asked: dict[str, Any] = {"images": images, "picture": picture, "seed": seed}
    with drafted(path) as draft:
        tell("emit", path.name)
        with clock("emit"):
            files = form.write(captured, draft)
        tell("verify", "source and result side by side")
        with clock("verify"):
            verdict = proof(captured, draft, thresholds=None, bounds={"on": on}, **asked)
            anchored(captured, verdict, **asked)
        if not verdict.ok:
            tell("verify", "which step is to blame")
            with clock("blame"):
                blame(captured, functools.partial(form.steps, captured.graph), draft, verdict, **asked)
        sizes = [f.stat().st_size for f in files]
        kept = settle(files, path) if verdict.ok else []
    return Port(
        captured.source, form.name, [str(f) for f in kept], sum(sizes), verdict, clock.seconds, list(captured.notes)
    )


def build(source: Any, framework: str, **options: Any) -> Any:
    """A network of any source (or a Graph) as a live model of ``framework``, with its weights and ready to be trained.

    "torch": a ``torch.nn.Module``; "keras": a ``keras.Model`` on the backend that Keras is set to; "jax": a
    ``flax.nnx.Module``. Keras and JAX models take channels last. ``options`` as in ``capture``.
    """
    from instep.graph import Graph

    if framework not in FRAMEWORKS:
        raise InstepError(f"framework must be one of {', '.join(FRAMEWORKS)}, got {framework!r}")
    graph = source if isinstance(source, Graph) else capture(source, **options).graph
    return import_module(f"instep.emit.{framework}").build(prepared(graph, framework))
