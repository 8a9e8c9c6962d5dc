"""Program → Graph: runs the handler of each step and names, scopes and types what it made."""

from __future__ import annotations

import operator
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.capture.torch import handlers
from instep.capture.torch.builder import Builder, dtype_name, numpy_of
from instep.capture.torch.program import INPUT, PARAM, Program, Step, map_steps, refuse_random, steps_in
from instep.capture.torch.registry import Complex, Deferred, Missing, Places, Unsupported, find
from instep.capture.torch.spelled import spelled
from instep.graph import Graph, GraphError, SourceView, Value
from instep.graph.operator import Spec

__all__ = ["convert"]

handlers.load()


def convert(program: Program) -> tuple[Graph, dict[str, tuple[Step, int | None]]]:
    """The graph, and for each captured value's name the step (and item of its result) that it is in the source.

    Raises CaptureError for a step without handler.
    """
    return _Converter(program).run()


class _Converter:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()
        self.build = Builder(self.graph, program)
        self.made: dict[Step, Any] = {}
        #: parts of steps that have no handler
        self.inner: set[Step] = set()
        self.sources: dict[str, tuple[Step, int | None]] = {}

    def run(self) -> tuple[Graph, dict[str, tuple[Step, int | None]]]:
        graph = self.graph
        for step in self.program.inputs:
            if step.val.is_complex():
                raise CaptureError(
                    f"input '{step.name}' is complex; take its parts as a real input (torch.view_as_complex inside)"
                )
            value = Value(self.build.unique(step.name), step.val.shape, dtype_name(step.val.dtype))
            value.source = SourceView.whole(value.name, value.shape)
            graph.inputs.append(value)
            graph.input_names.append(step.name)
            self.made[step] = value
            self.sources[value.name] = (step, None)
        for step in needed(self.program):
            if step.depends == INPUT or (step.depends == PARAM and find(step.target) is not None):
                self.made[step] = self.translate(step)
        for name, step in self.program.outputs:
            value = self.whole(step)
            if not isinstance(value, Value):
                why = value.why if isinstance(value, Missing) else "it is not a tensor"
                if isinstance(value, Complex):
                    why = "it is complex, which TFLite files hold no values of (torch.view_as_real gives its parts)"
                raise CaptureError(f"output '{name}' cannot be captured: {why}; do not return it")
            graph.outputs.append(value)
            graph.output_names.append(name)
        # constants that went into an operator's attributes, or into another constant
        read = {v for n in graph.nodes for v in n.inputs} | set(graph.outputs)
        for value in [v for v in graph.weights if v not in read]:
            del graph.weights[value]
        return graph, self.sources

    # -- reading -------------------------------------------------------------------------------------------------
    def read(self, step: Step) -> Any:
        """The Value(s) of a step; constants enter the graph when they are first read."""
        made = self.made.get(step)
        if made is None:
            made = self.made[step] = self.constant(step)
        return made

    def whole(self, step: Step) -> Any:
        """As ``read``, with a result that is computed where something reads it."""
        made = self.read(step)
        if isinstance(made, Deferred) and made.compute is not None:
            self.build.begin(step)
            count = len(self.graph.nodes)
            made = self.made[step] = self.accept(step, made.compute(), count)
        return made

    def constant(self, step: Step) -> Any:
        if step.kind == "weight" and step.tensor is not None:
            return self.held(step.tensor, step.name)
        try:
            result = self.program.constant(step)
        except CaptureError:
            raise
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CaptureError(f"{step.place}: PyTorch cannot evaluate the constant {step.target}: {error}") from None
        stem = f"{step.scope}/{step.name}" if step.scope else step.name
        if isinstance(result, torch.Tensor):
            return self.held(result, stem)
        if isinstance(result, (list, tuple)) and all(isinstance(r, torch.Tensor) for r in result):
            return tuple(self.held(r, f"{stem}.{i}") for i, r in enumerate(result))
        return result

    def held(self, tensor: torch.Tensor, name: str) -> Value | Complex:
        """A constant of the graph; a complex one as the pairs of its parts."""
        if tensor.is_complex():
            pair = numpy_of(torch.view_as_real(tensor.resolve_conj()))
            return Complex(self.graph.constant(pair, self.build.unique(name)))
        return self.graph.constant(numpy_of(tensor), self.build.unique(name))

    # -- translating ---------------------------------------------------------------------------------------------
    def translate(self, step: Step) -> Any:
        if step.target is operator.getitem:
            return self.read(step.args[0])[step.args[1]]
        handler = find(step.target)
        if handler is None:
            return self.spell(step)
        build = self.build
        read = self.read if "max_unpool" in str(step.target) else self.whole
        args = map_steps(step.args, read)
        kwargs = map_steps(step.kwargs, read)
        for missing in (v for v in (*args, *kwargs.values()) if isinstance(v, Missing)):
            if not isinstance(missing, Places) or "max_unpool" not in str(step.target):
                raise CaptureError(f"{step.place} needs a result that cannot be captured: {missing.why}")
        build.begin(step)
        count = len(self.graph.nodes)
        try:
            result = handler(build, *args, **kwargs)
        except Unsupported as error:
            del self.graph.nodes[count:]
            return self.constant(step) if step.depends == PARAM else self.spell(step, str(error))
        except (GraphError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            if any(isinstance(a, Complex) for a in (*args, *kwargs.values())):
                raise CaptureError(
                    f"{step.place} gives a complex tensor to {step.target}, which is known for real ones only; "
                    "write it with real and imaginary parts"
                ) from error
            raise CaptureError(f"{step.place}: {step.target} could not be captured: {error}") from error
        return self.accept(step, result, count)

    def spell(self, step: Step, refusal: str = "") -> Any:
        """A step in the words of other operators: it has no handler, or one that refuses it for the reason given.
        Its parts are no values of the source."""
        refuse_random(step)
        count, found, why = len(self.graph.nodes), None, ""
        try:
            found = spelled(step)
        except Unsupported as error:
            refusal = str(error)
        if found is not None:
            try:
                for part in found.steps:
                    if part.depends == INPUT:
                        self.inner.add(part)
                        self.made[part] = self.translate(part)
                self.build.begin(step)
                return self.accept(step, map_steps(found.result, self.read), count)
            except CaptureError as error:
                del self.graph.nodes[count:]
                why = f" ({error})"
        if refusal:
            raise CaptureError(f"{step.place}: {step.target} is not supported here: {refusal}")
        if step in self.inner:
            raise CaptureError(f"{step.target} has no handler{why}")
        if torch.Tag.data_dependent_output in getattr(step.target, "tags", ()):
            raise CaptureError(
                f"{step.place} takes a plain number or a yes or no out of a tensor ({step.target}: .item(), float(x), "
                "torch.equal), and a file has tensors alone; compute with the tensor itself, or with torch.where"
            )
        raise CaptureError(
            f"{step.place} uses the operator {step.target}, which Instep does not know{why}; replace it in the network "
            "or register a handler for it (docs/add-an-operator.md)"
        )

    def accept(self, step: Step, result: Any, count: int) -> Any:
        """What a step gave, checked and named; ``count``: how many nodes the graph had before it."""
        fresh = {id(v) for n in self.graph.nodes[count:] for v in n.outputs}
        if isinstance(result, (list, tuple)):
            vals = step.val if isinstance(step.val, (list, tuple)) else [None] * len(result)
            return tuple(self.settle(step, v, vals[i], i, fresh) for i, v in enumerate(result))
        return self.settle(step, result, step.val, None, fresh)

    def settle(self, step: Step, value: Any, val: Any, item: int | None, fresh: set[int]) -> Any:
        """Check a result against what torch says it is; give it its name and source view."""
        if not isinstance(value, Value):
            return value
        build = self.build
        if isinstance(val, torch.Tensor):
            want = Spec(tuple(val.shape), dtype_name(step.cast or val.dtype))
            if value.dtype != want.dtype:
                value = build.cast(value, want.dtype)
                fresh.add(id(value))
            if value.shape != want.shape:
                raise CaptureError(
                    f"{step.place}: capturing {step.target} gave {list(value.shape)}, PyTorch says {list(want.shape)}"
                )
        if value in self.graph.weights or id(value) not in fresh or value.source is not None or step in self.inner:
            return value
        name = build.stem if item is None else f"{build.stem}.{item}"
        build.names.discard(value.name)
        value.name = build.unique(name)
        value.source = SourceView.whole(value.name, value.shape)
        self.sources[value.name] = (step, item)
        return value


def needed(program: Program) -> list[Step]:
    """The steps that some output depends on, in order."""
    alive: set[Step] = {step for _, step in program.outputs}
    kept: list[Step] = []
    for step in reversed(program.steps):
        if step in alive:
            kept.append(step)
            alive.update(steps_in((step.args, step.kwargs)))
    return kept[::-1]
