"""torch.export of a module for fixed input shapes, with its errors translated into one sentence."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.export._trace  # what torch.export.export imports on its first call: time it with the other imports
from torch.utils._pytree import tree_leaves, tree_map_only

from instep.capture.base import CaptureError
from instep.capture.torch.decisions import DecidedByConstants
from instep.capture.torch.places import short_path
from instep.capture.torch.settle import data_as_steps, settle, untraceable_data
from instep.capture.torch.source import Loaded
from instep.capture.torch.tracing import as_network, swift, user_file
from instep.graph.operator import Spec

__all__ = ["example_inputs", "export"]


def export(loaded: Loaded, inputs: Any, notes: list[str]) -> Any:
    """The ExportedProgram (training IR: ATen operators as the source called them) of ``loaded.module``.

    The module is in eval mode with gradients off meanwhile, and afterwards as it was. Raises CaptureError.
    """
    args, kwargs = _single_inputs(example_inputs(loaded, inputs), loaded.module, notes)
    module = _single_precision(loaded.module, args, kwargs, notes)
    parts = {m: _parts(m) for m in module.modules()}
    try:
        with _inference(module), swift(), torch.no_grad():
            said = len(notes)
            try:
                traced = _traced(module, args, kwargs, notes)
                if not _restored(parts):
                    return traced
            except Exception:
                if not _restored(parts):
                    raise
            del notes[said:]
            module(*args, **kwargs)
            notes.append(
                "forward() adds or replaces parts of the network on its first call: captured as it is afterwards"
            )
            return _traced(module, args, kwargs, notes)
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(_sentence(error, module, args, kwargs)) from None


def _traced(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], notes: list[str]) -> Any:
    try:
        return _program(module, args, kwargs, notes)
    except RuntimeError as error:
        if not untraceable_data(error):
            raise
    if own := settle(module, args, kwargs):
        some = f"'{own[0]}'" + (f" and {len(own) - 1} more" if own[1:] else "")
        notes.append(f"forward() computes parameters of its own ({some}); they were computed once")
    with data_as_steps():
        return _program(module, args, kwargs, notes)


def _program(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], notes: list[str]) -> Any:
    with DecidedByConstants(module, notes):
        return as_network(lambda: torch.export.export(module, args, kwargs or None, strict=False))


# -- networks that change on their first call ------------------------------------------------------------------------
_HELD = ("_modules", "_parameters", "_buffers")


def _parts(module: torch.nn.Module) -> dict[str, Any]:
    """What a module holds, by attribute."""
    return {name: dict(held) if name in _HELD else held for name, held in vars(module).items()}


def _restored(parts: dict[torch.nn.Module, dict[str, Any]]) -> bool:
    """Give the modules back what a trace took from them, and take what it gave them; False where it did neither.

    A network that merges its branches in the first forward() deletes them there: the trace, which calls forward() more
    than once, finds them gone. One that registers a buffer there has the fake tensor of the trace as its buffer.
    """
    changed = [m for m, held in parts.items() if any(vars(m)[name].keys() != held[name].keys() for name in _HELD)]
    for module in changed:
        vars(module).clear()
        vars(module).update(parts[module])
    return bool(changed)


@contextlib.contextmanager
def _inference(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode, no gradients; the modes and flags of a user's own module are restored."""
    modes = {m: m.training for m in module.modules()}
    trained = [p for p in module.parameters() if p.requires_grad]
    module.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for m, training in modes.items():
            m.training = training
        for parameter in trained:
            parameter.requires_grad_(True)


HALVES = {torch.float16, torch.bfloat16}


def _single_precision(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], notes: list[str]
) -> torch.nn.Module:
    """The module itself, or a float32 copy of one that is in another precision, dtypes it keeps among them.

    A network with float64 parameters that takes float32 inputs makes its casts itself, and stays as it is.
    """
    halves = _dtypes(module) & HALVES
    double = {p.dtype for p in module.parameters()} & {torch.float64}
    if double and _takes(module, args, kwargs):
        double = set()
    for dtypes, how in ((halves, "widened"), (double, "narrowed")):
        if dtypes:
            notes.append(f"the module's {_names(dtypes)} tensors were {how} to float32")
    if not halves | double:
        return module
    single = copy.deepcopy(module).float()
    for part in single.modules():
        kept = [n for n, held in vars(part).items() if isinstance(held, torch.dtype) and held in halves | double]
        vars(part).update(dict.fromkeys(kept, torch.float32))
    return single


def _takes(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        with torch.no_grad():
            copy.deepcopy(module).eval()(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    except RuntimeError:
        return False
    return True


def _single_inputs(inputs: Any, module: torch.nn.Module, notes: list[str]) -> Any:
    """``inputs`` in float32 where they are float64, or in half precision as the module is."""
    others = {torch.float64} | (HALVES if _dtypes(module) & HALVES else set())
    dtypes = {t.dtype for t in tree_leaves(inputs) if isinstance(t, torch.Tensor)} & others
    if not dtypes:
        return inputs
    notes.append(f"inputs in {_names(dtypes)} are float32 in what is captured")
    return tree_map_only(torch.Tensor, lambda t: t.float() if t.dtype in dtypes else t, inputs)


def _dtypes(module: torch.nn.Module) -> set[torch.dtype]:
    return {t.dtype for t in (*module.parameters(), *module.buffers())}


def _names(dtypes: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))


# -- inputs ------------------------------------------------------------------------------------------------------
def example_inputs(loaded: Loaded, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) of tensors for forward(): from ``inputs``, else from what the source says."""
    default = loaded.example
    if inputs is None:
        if default is None:
            raise CaptureError(
                f"{loaded.name} does not say what its input looks like; give --input (such as --input 1,3,224,224), "
                "or set 'example_inputs' on the module or EXAMPLE_INPUT in its file"
            )
        inputs = default
    if isinstance(inputs, dict):
        known = default if isinstance(default, dict) else {}
        return (), {k: _tensor(v, known.get(k), k) for k, v in inputs.items()}
    if isinstance(inputs, (torch.Tensor, np.ndarray, Spec)) or _is_shape(inputs):
        inputs = [inputs]
    like = list(default) if isinstance(default, (list, tuple)) and not _is_shape(default) else [default]
    tensors = tuple(_tensor(v, like[i] if i < len(like) else None, f"input {i}") for i, v in enumerate(inputs))
    _check_count(loaded, len(tensors))
    return tensors, {}


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple, torch.Size)) and bool(value) and all(isinstance(d, int) for d in value)


def _tensor(value: Any, like: Any, name: str) -> Any:
    """A tensor of an input entry: a shape, a Spec, an array, a tensor; containers entry by entry."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, Spec) or _is_shape(value):
        shape = value.shape if isinstance(value, Spec) else tuple(value)
        if min(shape, default=1) < 1:
            raise CaptureError(f"{name}: the shape {list(shape)} is not fixed; every size must be at least 1")
        dtype = like.dtype if isinstance(like, torch.Tensor) else torch.float32
        if isinstance(value, Spec):
            dtype = getattr(torch, value.dtype)
        generator = torch.Generator().manual_seed(0)
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator, dtype=dtype)
        return torch.zeros(shape, dtype=dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(_tensor(v, None, f"{name}.{i}") for i, v in enumerate(value))
    if isinstance(value, dict):
        return {k: _tensor(v, None, f"{name}.{k}") for k, v in value.items()}
    return value


def _check_count(loaded: Loaded, count: int) -> None:
    try:
        inspect.signature(loaded.module.forward).bind(*[None] * count)
    except TypeError:
        wanted = [
            p.name
            for p in inspect.signature(loaded.module.forward).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
        ]
        several = (
            "; where an argument is a list of tensors, example_inputs on the module says so: example_inputs = ([a, b],)"
            if count > len(wanted) else ""
        )  # fmt: skip
        raise CaptureError(
            f"{loaded.name} takes the inputs ({', '.join(wanted)}), but {count} shape(s) were given; "
            f"give one --input per argument{several}"
        ) from None
    except ValueError:
        return


# -- errors ------------------------------------------------------------------------------------------------------
#: (pattern in torch's message, what it means and what to do), first match counts.
MEANINGS: tuple[tuple[str, str], ...] = (
    (r"failed to unpack the object at pos",
     "a size is computed from the data of a tensor (the lengths of packed sequences, say); give it as a number, and "
     "run recurrent layers on padded sequences"),
    (r"data-dependent|DataDependentOutput|DynamicOutputShape|"
     r"Could not guard on|GuardOnDataDependent|unbacked|bool\(\) of|cond\b.*predicate",
     "the control flow or a shape depends on the data of a tensor (an `if`, `.item()`, `torch.equal`, `nonzero` or a "
     "bool-mask index on a computed value); decide it before capture or use torch.where"),
    (r"argument #1 'indices'.*(Long|Int).*Float|indices.*must be (long|int|Long)|scalar types: Long, Int",
     "an input is a row of numbers in a table (token ids, say) and was given as floats; say so with its shape: "
     "--input int64:{sizes}, or example_inputs on the module"),
    (r"dynamic", "a shape is dynamic; capture needs fixed shapes"),
    (r"\b[Dd]ouble\b|\bfloat64\b", "forward() makes tensors of float64, and files hold float32; make them in float32"),
    (r"mat1 and mat2 shapes|size of tensor a|Given groups=|expected input|shape '.*' is invalid|channels|"
     r"must match|doesn't match|should be the same|Expected .*D|Calculated padded|smaller than|Sizes of tensors|"
     r"Output size is too small|same reduction dim",
     "the input shape does not fit the network; give another --input"),
)  # fmt: skip
#: The same, where PyTorch's own words are of its insides and tell a user nothing.
INSIDES: tuple[tuple[str, str], ...] = (
    (r"in output, which is not a known type",
     "forward() returns an object of a class of its own; return a tensor, or a tuple or dictionary of them, or make "
     "the class known first (torch.export.register_dataclass)"),
    (r"__obj_flatten__|PackedParamsBase",
     "it holds quantised layers, whose weights PyTorch does not show; convert the network as it was before it was "
     "quantised, and quantise the result"),
    (r"[Uu]ninitialized ?([Pp]arameter|[Bb]uffer)",
     "it has lazy layers, which take their sizes from the first call; call the network once before it is captured"),
)  # fmt: skip


def _sentence(error: BaseException, module: torch.nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """One sentence: what went wrong, the user's line, what to do."""
    text = str(error) or type(error).__name__
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    first = re.sub(r"\s*\(unhinted:.*", "", first)[:300]
    shapes = ", ".join(_shape_text(a) for a in (*args, *kwargs.values()))
    place = _user_line(error)
    where = f" at {place}" if place else ""
    name = type(module).__name__
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.is_floating_point()]
    sizes = ",".join(map(str, given[0].shape)) if len(given) == 1 else "1,77"
    scripted = next((n for n, m in module.named_modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        which = f"{name} holds the TorchScript module '{scripted}'" if scripted else f"{name} is a TorchScript module"
        return f"{which}, which PyTorch does not trace; put the module in its place that it was scripted from"
    for pattern, meaning in INSIDES:
        if re.search(pattern, text):
            return f"{name} cannot be captured{where} with input {shapes}: {meaning}"
    for pattern, meaning in MEANINGS:
        if re.search(pattern, f"{type(error).__name__}: {text}"):
            meaning = meaning.replace("{sizes}", sizes)
            return f"{name} cannot be captured{where} with input {shapes}: {meaning} (PyTorch says: {first})"
    return f"{name} cannot be captured{where} with input {shapes}: {type(error).__name__}: {first}"


def _shape_text(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def _user_line(error: BaseException) -> str:
    """``file.py:line`` of the innermost frame outside torch and Instep."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if user_file(path):
            place = f"{short_path(path)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if not place:
        for path, line in re.findall(r'File "([^"]+)", line (\d+)', str(error)):
            if user_file(path):
                place = f"{short_path(path)}:{line}"
    return place
