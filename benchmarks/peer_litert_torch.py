"""The peer: converts a network with litert-torch, channel-last inputs and outputs, as its users are told to."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["convert", "prepare", "version"]


def version() -> str:
    """The installed version of litert-torch. PackageNotFoundError without it."""
    return importlib.metadata.version("litert-torch")


def prepare() -> None:
    """Import what a conversion needs, so that the imports are not timed."""
    import litert_torch  # noqa: F401


def convert(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: list[torch.Tensor], path: Path
) -> dict[str, float]:
    """Convert and write ``path``. 4-D inputs and outputs become channel-last. Returns {"total": seconds}."""
    import litert_torch

    images = [i for i, x in enumerate(inputs) if x.ndim == 4]
    maps = [i for i, y in enumerate(outputs) if y.ndim == 4]
    arguments = tuple(x.permute(0, 2, 3, 1).contiguous() if x.ndim == 4 else x for x in inputs)
    start = time.perf_counter()
    wrapped = litert_torch.to_channel_last_io(module, args=images, outputs=maps).eval()
    litert_torch.convert(wrapped, arguments).export(str(path))
    return {"total": time.perf_counter() - start}


def main() -> int:
    """Fill the cache of peer conversions of a suite, one process at a time."""
    from benchmarks import runner

    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer_litert_torch", description=main.__doc__)
    runner.add_arguments(parser)
    options = parser.parse_args()
    for network in runner.chosen(options):
        result = runner.convert("litert-torch", network, options, fresh=options.fresh)
        print(f"{network.suite}/{network.name}: {runner.summary(result)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
