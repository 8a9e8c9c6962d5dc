"""The networks that the benchmarks run on: named suites, each network with its loader and its example inputs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instep.capture.torch.timm_zoo import prepare_torchvision, randomise

__all__ = ["SUITES", "Network", "data_dir", "find", "ntire_dir", "suite"]

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = Path(__file__).parent / "data" / "timm_smallest_of_each_family.json"
PARAMETER_LIMIT = 36_000_000


@dataclass(frozen=True)
class Network:
    """One network of a suite. ``build`` returns the module in evaluation mode, ``inputs`` its example inputs.

    ``data_range`` is the largest value of an input pixel that the trained weights expect (0: not an image network
    with trained weights). ``scale`` is the factor by which an image grows (1 where it does not).
    """

    suite: str
    name: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[torch.nn.Module], tuple[torch.Tensor, ...]]
    data_range: float = 0.0
    scale: int = 1


def data_dir() -> Path | None:
    """The folder of real images and trained weights: $INSTEP_DATA, or ../shared/data beside the project."""
    place = Path(os.environ.get("INSTEP_DATA", ROOT.parent / "shared" / "data"))
    return place if place.is_dir() else None


def ntire_dir(given: str | None = None) -> Path:
    """The unpacked repository ofsoundof/NTIRE2022_ESR: ``given`` or $INSTEP_NTIRE. FileNotFoundError without it."""
    place = given or os.environ.get("INSTEP_NTIRE", "")
    if not place or not (Path(place) / "test_demo.py").is_file():
        raise FileNotFoundError(
            f"the suite 'ntire' needs the repository github.com/ofsoundof/NTIRE2022_ESR: "
            f"{place or 'no folder'} holds no test_demo.py; give --ntire DIR or set INSTEP_NTIRE"
        )
    return Path(place).resolve()


def noise(*shape: int, high: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Uniform noise in [0, high], seeded."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * high


# -- timm ------------------------------------------------------------------------------------------------------------
def _timm_network(suite_name: str, name: str) -> Network:
    def build() -> torch.nn.Module:
        prepare_torchvision()
        import timm

        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False).eval()
        randomise(module, shape=shape(module))
        return module

    def shape(module: torch.nn.Module) -> tuple[int, ...]:
        config: Any = getattr(module, "pretrained_cfg", None) or {}
        return (1, *config.get("input_size", (3, 224, 224)))

    def inputs(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        return (torch.randn(*shape(module), generator=torch.Generator().manual_seed(0)),)

    return Network(suite_name, name, build, inputs)


def _timm(large: bool) -> list[Network]:
    table: dict[str, int] = json.loads(FAMILIES.read_text())["networks"]
    names = sorted((n for n, count in table.items() if (count > PARAMETER_LIMIT) == large), key=table.__getitem__)
    return [_timm_network("timm-large" if large else "timm", name) for name in names]


# -- transformers ----------------------------------------------------------------------------------------------------
def _transformers() -> list[Network]:
    from benchmarks import transformers_networks

    def inputs(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        shape: tuple[int, ...] = module.input_shape  # type: ignore[assignment]
        return (torch.randn(*shape, generator=torch.Generator().manual_seed(0)),)

    def building(factory: Callable[[], torch.nn.Module]) -> Callable[[], torch.nn.Module]:
        def build() -> torch.nn.Module:
            torch.manual_seed(0)
            module = factory().eval()
            shape: tuple[int, ...] = module.input_shape  # type: ignore[assignment]
            randomise(module, shape=shape)
            return module

        return build

    return [
        Network("transformers", name, building(factory), inputs)
        for name, factory in transformers_networks.FACTORIES.items()
    ]


# -- NTIRE 2022 ------------------------------------------------------------------------------------------------------
#: Numbers that test_demo.py knows. 7, 21, 32 and 41 are empty there; the weights of 12 (HNCT) are not in the
#: repository's history that public mirrors keep.
NTIRE_IDS = tuple(i for i in range(-1, 45) if i not in (7, 12, 21, 32, 41))


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run in ``folder`` with its packages importable; what was saved on or moves itself to a GPU stays on the CPU."""
    before, load = os.getcwd(), torch.load
    moves = torch.nn.Module.cuda, torch.Tensor.cuda

    def load_on_cpu(file: Any, **options: Any) -> Any:
        return load(file, **(options | {"map_location": "cpu", "weights_only": True}))

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    torch.load = load_on_cpu
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self, *_args, **_options: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.load = load
        torch.nn.Module.cuda, torch.Tensor.cuda = moves  # type: ignore[method-assign]
        sys.path.remove(str(folder))
        os.chdir(before)


def _stand_ins() -> None:
    """Let the repository be imported without its image tools, which loading a network never calls."""
    prepare_torchvision()
    for name in ("cv2", "matplotlib", "matplotlib.pyplot"):
        if name.partition(".")[0] not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = types.ModuleType(name)
            if "." in name:
                setattr(sys.modules[name.partition(".")[0]], name.partition(".")[2], sys.modules[name])
    for name in ("utils", "utils.model_summary", "utils.utils_logger", "utils.utils_image"):
        sys.modules.setdefault(name, types.ModuleType(name))
    summary: Any = sys.modules["utils.model_summary"]
    summary.get_model_activation = summary.get_model_flops = None
    tools: Any = sys.modules["utils"]
    tools.utils_logger, tools.utils_image = sys.modules["utils.utils_logger"], sys.modules["utils.utils_image"]


def load_ntire(folder: Path, number: int) -> tuple[torch.nn.Module, str, float]:
    """(module, name, data range) of entry ``number``, by the repository's own ``select_model``."""
    _stand_ins()
    with _inside(folder):
        import test_demo  # type: ignore[import-not-found]

        module, name, data_range, _ = test_demo.select_model(
            types.SimpleNamespace(model_id=number), torch.device("cpu")
        )
    return module.eval(), name, data_range


#: Pixel range that the weights expect, by entry number, where it is not 1 (test_demo.py).
NTIRE_255 = frozenset({0, 2, 3, 4, 5, 11, 15, 17, 23, 24, 29, 34, 35, 36, 40, 42})


def _ntire(folder: Path) -> list[Network]:
    def network(number: int) -> Network:
        high = 255.0 if number in NTIRE_255 else 1.0
        return Network(
            "ntire",
            "baseline-imdn" if number == -1 else "baseline-rfdn" if number == 0 else f"team{number:02}",
            lambda: load_ntire(folder, number)[0],
            lambda _module: (noise(1, 3, 64, 64, high=high),),
            high,
            4,
        )

    return [network(i) for i in NTIRE_IDS]


# -- the checkpoints of the data folder, on our own networks ---------------------------------------------------------
def _checkpoints() -> list[Network]:
    from tests.networks.checkpoints import CHECKPOINTS, load

    return [
        Network(
            "checkpoints",
            entry.name,
            lambda entry=entry: load(entry),
            lambda _module, entry=entry: (noise(1, 3, 64, 64, high=entry.data_range),),
            entry.data_range,
            entry.scale,
        )
        for entry in CHECKPOINTS
    ]


def _elsr() -> list[Network]:
    def build() -> torch.nn.Module:
        from tests.networks.elsr import ELSR

        torch.manual_seed(0)
        return ELSR().eval()

    return [Network("elsr", "elsr", build, lambda _module: (noise(1, 3, 180, 320, high=255.0),), 255.0, 4)]


def _huge() -> list[Network]:
    """Weights of 2.3 GB, beyond what a FlatBuffer addresses: they lie behind it in the file."""

    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(17_000, 17_000, bias=False) for _ in range(2)]
        return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1]).eval()

    return [Network("huge", "linear_17000", build, lambda _module: (noise(1, 17_000),))]


# -- further libraries -----------------------------------------------------------------------------------------------
def _timm_more() -> list[Network]:
    from benchmarks.more_networks import TIMM_MORE

    return [_timm_network("timm-more", name) for name in TIMM_MORE]


def _library(suite_name: str) -> list[Network]:
    from benchmarks.more_networks import LIBRARIES

    def network(name: str, factory: Callable[[], torch.nn.Module], shapes: tuple[tuple[int, ...], ...]) -> Network:
        def inputs(_module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
            generator = torch.Generator().manual_seed(0)
            return tuple(torch.randn(shape, generator=generator) for shape in shapes)

        def build() -> torch.nn.Module:
            torch.manual_seed(0)
            module = factory().eval()
            randomise(module, shape=shapes[0] if len(shapes) == 1 else None)
            return module

        return Network(suite_name, name, build, inputs)

    return [network(*entry) for entry in LIBRARIES[suite_name]()]


_SUITES: dict[str, Callable[[str | None], list[Network]]] = {
    "elsr": lambda _: _elsr(),
    "checkpoints": lambda _: _checkpoints(),
    "ntire": lambda place: _ntire(ntire_dir(place)),
    "timm": lambda _: _timm(large=False),
    "transformers": lambda _: _transformers(),
    "timm-large": lambda _: _timm(large=True),
    "huge": lambda _: _huge(),
    "timm-more": lambda _: _timm_more(),
    "torchvision": lambda _: _library("torchvision"),
    "torchvision-video": lambda _: _library("torchvision-video"),
    "restoration": lambda _: _library("restoration"),
    "segmentation": lambda _: _library("segmentation"),
    "pytorchcv": lambda _: _library("pytorchcv"),
}
SUITES = tuple(_SUITES)


def suite(name: str, ntire: str | None = None) -> list[Network]:
    """The networks of a suite. ValueError for an unknown name."""
    if name not in _SUITES:
        raise ValueError(f"no suite {name!r}; there are {', '.join(SUITES)}")
    return _SUITES[name](ntire)


def find(suite_name: str, name: str, ntire: str | None = None) -> Network:
    """One network by suite and name. ValueError when the suite has none of that name."""
    for network in suite(suite_name, ntire):
        if network.name == name:
            return network
    raise ValueError(f"suite {suite_name!r} has no network {name!r}")
