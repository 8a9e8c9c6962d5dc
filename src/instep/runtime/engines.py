"""The engines by name: what each is, which names it answers to, and whether this machine has it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from instep.runtime import vulkan

__all__ = ["COMPILERS", "ENGINES", "Engine", "available", "engine_of"]


@dataclass(frozen=True)
class Engine:
    """``runs``: it gives values (else it only compiles, and says what it would place where). ``intermediates``: every
    value can be read, not only the outputs. ``device`` names what a child process needs: "cpu", "gpu" or "npu"."""

    name: str
    about: str
    device: str = "cpu"
    runs: bool = True
    intermediates: bool = False
    aliases: tuple[str, ...] = ()


_TABLE = (
    Engine("xnnpack", "LiteRT's default CPU engine, as applications use it", aliases=("litert-cpu",)),
    Engine("builtin", "TFLite's own kernels, no delegate", intermediates=True, aliases=("litert-reference",)),
    Engine("litert-gpu", "LiteRT's GPU delegate, all arithmetic in float32", device="gpu"),
    Engine("litert-gpu-fp16", "LiteRT's GPU delegate, free to compute in float16", device="gpu"),
    *(
        Engine(f"ethos-{chip}-{macs}", f"Arm Ethos-{chip.upper()}, {macs} MACs a cycle, by Vela", "npu", runs=False)
        for chip, sizes in (("u55", (32, 64, 128, 256)), ("u65", (256, 512)), ("u85", (128, 256, 512, 1024, 2048)))
        for macs in sizes
    ),
)
_BY_NAME = {name: engine for engine in _TABLE for name in (engine.name, *engine.aliases)}

#: The engines that give values, and those that only compile.
ENGINES = tuple(e.name for e in _TABLE if e.runs)
COMPILERS = tuple(e.name for e in _TABLE if not e.runs)


def engine_of(name: str) -> Engine:
    """The engine called ``name`` (or with that alias). ValueError names the known ones."""
    found = _BY_NAME.get(name)
    if found is None:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, or {', '.join(COMPILERS)}; got {name!r}")
    return found


def available(name: str) -> str | None:
    """None when this machine has the engine, else one sentence: what is missing and how to get it.

    Whether a GPU's driver is good enough for the delegate shows only when it runs.
    """
    engine = engine_of(name)
    if importlib.util.find_spec("ai_edge_litert") is None:
        return f"{engine.name} needs LiteRT: pip install ai-edge-litert"
    if engine.device == "npu" and importlib.util.find_spec("ethosu") is None:
        return f"{engine.name} needs Arm's compiler Vela: pip install 'instep[npu]' (or pip install ethos-u-vela)"
    return _gpu_missing(engine.name) if engine.device == "gpu" else None


def _gpu_missing(name: str) -> str | None:
    spec = importlib.util.find_spec("ai_edge_litert")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    if not any(folder.glob("libLiteRt*Accelerator.so")):
        return f"{name} needs a LiteRT with its GPU accelerator: pip install 'ai-edge-litert>=2.1' on Linux x86-64"
    return None if vulkan.drivers() else f"{name} {vulkan.HINT}"
