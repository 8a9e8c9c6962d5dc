"""The engines by name: what each is, which names it answers to, and whether this machine has it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from instep.runtime import vulkan

__all__ = ["COMPILERS", "ENGINES", "FRAMEWORKS", "Engine", "available", "engine_of", "suffix_of"]


@dataclass(frozen=True)
class Engine:
    """``runs``: it gives values (else it only compiles, and says what it would place where). ``intermediates``: every
    value can be read, not only the outputs. ``device`` names what a child process needs: "cpu", "gpu" or "npu", or the
    framework; ``packages`` what it imports, ``variables`` its environment. ``takes``: the suffixes of its files."""

    name: str
    about: str
    device: str = "cpu"
    runs: bool = True
    intermediates: bool = False
    aliases: tuple[str, ...] = ()
    takes: tuple[str, ...] = (".tflite",)
    packages: tuple[str, ...] = ("ai_edge_litert",)
    variables: tuple[tuple[str, str], ...] = ()


def _framework(name: str, about: str, takes: tuple[str, ...], packages: tuple[str, ...], backend: str = "") -> Engine:
    variables = (("KERAS_BACKEND", backend),) if backend else ()
    return Engine(
        name, about, device=name, intermediates=True, takes=(".py", *takes), packages=packages, variables=variables
    )


_TABLE = (
    Engine("xnnpack", "LiteRT's default CPU engine, as applications use it", aliases=("litert-cpu",)),
    Engine("builtin", "TFLite's own kernels, no delegate", intermediates=True, aliases=("litert-reference",)),
    Engine("litert-gpu", "LiteRT's GPU delegate, all arithmetic in float32", device="gpu"),
    Engine("litert-gpu-fp16", "LiteRT's GPU delegate, free to compute in float16", device="gpu"),
    _framework("torch", "PyTorch, on the CPU", (".pt2",), ("torch",)),
    _framework("keras-tensorflow", "Keras 3 on TensorFlow", (".keras", ".h5"), ("keras", "tensorflow"), "tensorflow"),
    _framework("keras-jax", "Keras 3 on JAX", (".keras", ".h5"), ("keras", "jax"), "jax"),
    _framework("jax", "JAX, with Flax NNX where the file has it so", (), ("jax", "flax")),
    *(
        Engine(
            f"ethos-{chip}-{macs}",
            f"Arm Ethos-{chip.upper()}, {macs} MACs a cycle, by Vela",
            "npu",
            runs=False,
            aliases=(f"ethos-{chip}",) if macs == sizes[-1] else (),  # the family's name is its largest
        )
        for chip, sizes in (("u55", (32, 64, 128, 256)), ("u65", (256, 512)), ("u85", (128, 256, 512, 1024, 2048)))
        for macs in sizes
    ),
)
_BY_NAME = {name: engine for engine in _TABLE for name in (engine.name, *engine.aliases)}

#: The engines that give values of TFLite files, those of networks of a framework, and those that only compile.
ENGINES = tuple(e.name for e in _TABLE if e.runs and ".tflite" in e.takes)
FRAMEWORKS = tuple(e.name for e in _TABLE if e.runs and ".tflite" not in e.takes)
COMPILERS = tuple(e.name for e in _TABLE if not e.runs)


def engine_of(name: str) -> Engine:
    """The engine called ``name`` (or with that alias). ValueError names the known ones."""
    found = _BY_NAME.get(name)
    if found is None:
        known = f"{', '.join(ENGINES)}, {', '.join(FRAMEWORKS)}, or {', '.join(COMPILERS)}"
        raise ValueError(f"engine must be one of {known}; got {name!r}")
    return found


def suffix_of(path: str | Path) -> str:
    """The suffix that says which engines take a file; whatever is no framework's is a TFLite file."""
    suffix = Path(path).suffix
    return suffix if any(suffix in e.takes for e in _TABLE) else ".tflite"


def available(name: str) -> str | None:
    """None when this machine has the engine, else one sentence: what is missing and how to get it.

    Whether a GPU's driver is good enough for the delegate shows only when it runs.
    """
    engine = engine_of(name)
    missing = [p.replace("_", "-") for p in engine.packages if importlib.util.find_spec(p) is None]
    if missing:
        return f"{engine.name} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
    if engine.device == "npu" and importlib.util.find_spec("ethosu") is None:
        return f"{engine.name} needs Arm's compiler Vela: pip install 'instep[npu]' (or pip install ethos-u-vela)"
    return _gpu_missing(engine.name) if engine.device == "gpu" else None


def _gpu_missing(name: str) -> str | None:
    spec = importlib.util.find_spec("ai_edge_litert")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    if not any(folder.glob("libLiteRt*Accelerator.so")):
        return f"{name} needs a LiteRT with its GPU accelerator: pip install 'ai-edge-litert>=2.1' on Linux x86-64"
    return None if vulkan.drivers() else f"{name} {vulkan.HINT}"
