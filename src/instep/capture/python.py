"""Finds what a Python source names: ``package.module:factory``, ``file.py:factory``, a file with a function ``load``.

The code is run, as when Python imports it; of which framework the network is shows when it is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from instep.capture.base import CaptureError, Found
from instep.process import importing

__all__ = ["find", "is_python_source"]

#: What comes before a colon and is no module.
_OTHERS = ("timm", "zoo")
#: The key of a .safetensors file's metadata under which Instep says of its own code what the inputs are.
_FACTS = "instep"


def is_python_source(source: Any) -> bool:
    """Whether ``source`` names Python code that makes a network. Imports nothing."""
    if not isinstance(source, str | os.PathLike):
        return False
    text = os.fspath(source)
    return text.endswith(".py") or (":" in text and text.partition(":")[0] not in _OTHERS)


def find(source: str | os.PathLike[str], args: dict[str, Any] | None, seed: int, weights: str | None) -> Found:
    """Run what ``source`` names and take what it gives. ``seed`` is of the frameworks' own random weights.

    A bare file has a function ``load`` (exported code does), called with the ``.safetensors`` file beside it where
    there is one. Raises CaptureError.
    """
    text = os.fspath(source)
    if text.endswith(".py"):
        return _exported(text, args or {}, seed)
    where, _, name = text.rpartition(":")
    space = _import_file(where) if where.endswith(".py") else _import_module(where)
    factory: Any = space
    for part in name.split("."):
        factory = getattr(factory, part, None)
        if factory is None:
            raise CaptureError(f"{where} has no factory '{name}'; it defines: {_defined(space)}")
    _seed(seed)
    network = factory if _is_network(factory) else _call(factory, text, args or {})
    network = _checked(network, text)
    framework = "keras" if _is_keras(network) else "torch"
    notes = [] if weights is not None else [f"weights are as the factory made them ({framework} seed {seed})"]
    return Found(text, network, space, None, notes)


def _exported(text: str, args: dict[str, Any], seed: int) -> Found:
    space = _import_file(text)
    load = getattr(space, "load", None)
    if not callable(load):
        raise CaptureError(
            f"{text} has no function load(); name its factory, {text}:NAME; it defines: {_defined(space)}"
        )
    beside = Path(text).with_suffix(".safetensors")
    first = next(iter(inspect.signature(load).parameters), None)
    given = {first: str(beside), **args} if first is not None and first not in args and beside.is_file() else args
    _seed(seed)
    network = _checked(_call(load, f"{text}:load", given), text)
    return Found(text, network, space, _said_shapes(beside) if beside.is_file() else None, file=text)


def _is_network(thing: Any) -> bool:
    """A module of PyTorch, a layer or model of Keras."""
    return _is_keras(thing) or "torch.nn.modules.module.Module" in _kinds(thing)


def _is_keras(thing: Any) -> bool:
    return any(k.endswith(".Layer") and k.startswith(("keras.", "tf_keras.")) for k in _kinds(thing))


def _kinds(thing: Any) -> set[str]:
    return {f"{c.__module__}.{c.__qualname__}" for c in type(thing).__mro__}


def _checked(network: Any, text: str) -> Any:
    """``network``, or the reason why it is none that can be read."""
    if _is_network(network):
        return network
    if any(k.startswith("flax.") for k in _kinds(network)) or (isinstance(network, Mapping) and "jax" in sys.modules):
        raise CaptureError(
            f"{text} gives a network of JAX, which is run but not read: `instep verify SOURCE {text.partition(':')[0]}`"
            " holds it against its source and names the first layer that is out of step"
        )
    raise CaptureError(f"{text} gave a {type(network).__name__}, not a torch.nn.Module or a keras.Model")


def _seed(seed: int) -> None:
    """One seed for the generators of the frameworks that the code has imported; PyTorch's where it has none yet."""
    if "keras" not in sys.modules and "torch" not in sys.modules and importlib.util.find_spec("torch"):
        importlib.import_module("torch")
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


def _said_shapes(path: Path) -> list[tuple[int, ...]] | None:
    """The shapes of the inputs, by the facts that Instep wrote beside its code."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
        return [tuple(int(n) for n in shape) for _, _, shape in facts["inputs"]]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def _defined(space: ModuleType) -> str:
    known = [n for n, v in vars(space).items() if callable(v) and getattr(v, "__module__", "") == space.__name__]
    return ", ".join(sorted(known)) or "none"


def _call(factory: Any, text: str, args: dict[str, Any]) -> Any:
    signature: Any = ""
    try:
        signature = inspect.signature(factory)
        signature.bind(**args)
    except TypeError as error:
        raise CaptureError(f"{text}{signature}: {error}; give arguments with --arg key=value") from None
    except ValueError:
        pass
    try:
        return factory(**args)
    except Exception as error:
        raise CaptureError(f"{text} failed: {type(error).__name__}: {error}") from error


# -- imports -----------------------------------------------------------------------------------------------------------
def _import_file(path: str) -> ModuleType:
    file = Path(path).resolve()
    if not file.is_file():
        raise CaptureError(f"there is no file {path}")
    package, root = _package_of(file)
    name = f"{package}.{file.stem}" if package else f"_instep_source_{file.stem}_{abs(hash(str(file))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CaptureError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # the file's neighbours are importable, as when Python runs it; in a package, so that ``from .block import …`` works
    sys.path.insert(0, str(root))
    try:
        with importing():
            spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise CaptureError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(root))
    return module


def _package_of(file: Path) -> tuple[str, Path]:
    """The dotted name of the package that ``file`` lies in ("" outside any), and the folder that holds the package."""
    parts: list[str] = []
    root = file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return ".".join(parts), root


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with importing():
            return importlib.import_module(name)
    except ImportError as error:
        raise CaptureError(f"the module {name} cannot be imported: {error}") from error
