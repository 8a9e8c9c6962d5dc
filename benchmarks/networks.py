"""The networks that the benchmarks run on: named suites, each network with its loader and its example inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks import ntire

from instep.capture.torch.timm_zoo import prepare_torchvision, randomise

__all__ = ["SUITES", "Network", "data_dir", "find", "suite"]

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


# -- NTIRE challenges ------------------------------------------------------------------------------------------------
def _ntire(suite_name: str) -> list[Network]:
    year = ntire.YEARS[suite_name]
    folder = year.folder()

    def network(entry: ntire.Entry) -> Network:
        return Network(
            suite_name,
            year.name(entry.number),
            lambda: ntire.load(folder, entry.number),
            lambda _module: (noise(1, 3, 64, 64, high=entry.data_range),),
            entry.data_range,
            4,
        )

    there = [e for e in ntire.entries(folder) if e.weights is not None and e.weights.is_file()]
    return [network(e) for e in there]


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


_SUITES: dict[str, Callable[[], list[Network]]] = {
    "elsr": lambda: _elsr(),
    "checkpoints": lambda: _checkpoints(),
    "ntire": lambda: _ntire("ntire"),
    "ntire2024": lambda: _ntire("ntire2024"),
    "ntire2025": lambda: _ntire("ntire2025"),
    "timm": lambda: _timm(large=False),
    "transformers": lambda: _transformers(),
    "timm-large": lambda: _timm(large=True),
    "huge": lambda: _huge(),
    "timm-more": lambda: _timm_more(),
    "torchvision": lambda: _library("torchvision"),
    "torchvision-video": lambda: _library("torchvision-video"),
    "restoration": lambda: _library("restoration"),
    "segmentation": lambda: _library("segmentation"),
    "pytorchcv": lambda: _library("pytorchcv"),
}
SUITES = tuple(_SUITES)


def suite(name: str) -> list[Network]:
    """The networks of a suite. ValueError for an unknown name, FileNotFoundError where its repository is not there."""
    if name not in _SUITES:
        raise ValueError(f"no suite {name!r}; there are {', '.join(SUITES)}")
    return _SUITES[name]()


def find(suite_name: str, name: str) -> Network:
    """One network by suite and name. ValueError when the suite has none of that name."""
    for network in suite(suite_name):
        if network.name == name:
            return network
    raise ValueError(f"suite {suite_name!r} has no network {name!r}")
