"""The source network itself, run step by step in PyTorch in float32 or float64, every value kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from instep.capture.base import CaptureError
from instep.capture.torch.builder import dtype_name
from instep.capture.torch.convert import needed
from instep.capture.torch.program import FREE, Program, Step, call, map_steps, steps_in, wider
from instep.graph.operator import Spec

__all__ = ["TorchReference"]


class TorchReference:
    """PyTorch running the exported program, operator by operator: independent of the graph's numpy meanings."""

    def __init__(self, program: Program, sources: dict[str, tuple[Step, int | None]], outputs: dict[str, Step]) -> None:
        self._program = program
        self._sources = sources
        self._outputs = outputs
        self._steps = needed(program)
        self._reads = [tuple(steps_in((step.args, step.kwargs))) for step in self._steps]
        #: the number of the step that reads a step last
        self._last = {used: i for i, reads in enumerate(self._reads) for used in reads}
        self.input_names = [s.name for s in program.inputs]
        self.input_specs = [Spec(tuple(s.val.shape), dtype_name(s.val.dtype)) for s in program.inputs]

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str = "float32", keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Every captured value by name, and the outputs under the graph outputs' value names.

        ``inputs`` in the source's layout; floating ones, and all floating parameters and constants, are cast to
        ``dtype`` ("float64" or "float32"). ``keep`` limits what is returned beside the outputs. Raises CaptureError
        when the inputs do not fit.
        """
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        real = torch.float64 if dtype == "float64" else torch.float32
        wide = torch.float64 if dtype == "float64" else None
        table: dict[Step, object] = {}
        if len(inputs) != len(self.input_specs):
            raise CaptureError(f"the network takes {len(self.input_specs)} inputs, got {len(inputs)}")
        for step, spec, array in zip(self._program.inputs, self.input_specs, inputs, strict=True):
            if tuple(array.shape) != spec.shape:
                raise CaptureError(f"input '{step.name}' has shape {list(spec.shape)}, got {list(array.shape)}")
            tensor = torch.from_numpy(np.array(array))
            table[step] = tensor.to(real if step.val.is_floating_point() else step.val.dtype)

        wanted: dict[Step, list[tuple[str, int | None]]] = {}
        names = None if keep is None else set(keep)
        for name, (step, item) in self._sources.items():
            if names is None or name in names:
                wanted.setdefault(step, []).append((name, item))
        for name, step in self._outputs.items():
            wanted.setdefault(step, []).append((name, None))

        results: dict[str, np.ndarray] = {}

        def record(step: Step, value: object) -> None:
            for name, item in wanted.get(step, ()):
                tensor = value if item is None else value[item]  # type: ignore[index]
                assert isinstance(tensor, torch.Tensor)
                tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
                results[name] = tensor.detach().resolve_neg().numpy()  # steps are pure: nothing writes to it later

        def read(step: Step) -> object:
            if step not in table:
                value = step.tensor if step.kind == "weight" else self._program.constant(step)
                # float64: constants of the network keep the value they have in the source, only wider
                table[step] = _wide(value) if wide is not None else value
            return table[step]

        default, threads = torch.get_default_dtype(), torch.get_num_threads()
        torch.set_default_dtype(real)
        # One core is left to the child in which the file runs meanwhile: threads of one operator that wait for each
        # other on a shared core cost more than they give.
        torch.set_num_threads(max(1, threads - 1))
        try:
            with torch.no_grad():
                for step in self._program.inputs:
                    record(step, table[step])
                for i, step in enumerate(self._steps):
                    if step.depends == FREE:
                        continue
                    value = _made(step, map_steps(step.args, read), map_steps(step.kwargs, read), wide)
                    table[step] = value
                    record(step, value)
                    for used in self._reads[i]:
                        if self._last[used] == i:
                            table.pop(used, None)
                for step in self._outputs.values():
                    if step.depends == FREE or step.kind == "weight":
                        record(step, read(step))
        finally:
            torch.set_default_dtype(default)
            torch.set_num_threads(threads)
        return results


def _made(step: Step, args: object, kwargs: object, wide: torch.dtype | None) -> object:
    """What PyTorch makes of the step. Raises CaptureError where an index, of the inputs say, has nothing behind it."""
    try:
        return call(step, args, kwargs, wide)
    except IndexError as error:
        raise CaptureError(
            f"{step.place}: {step.target} reads an index that has nothing behind it on these inputs ({error}); "
            "give token ids and indices that the network has rows for"
        ) from error


def _wide(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.to(wider(value.dtype))
    if isinstance(value, (list, tuple)):
        return type(value)(map(_wide, value))
    return value
