"""Runs conversions in child processes, one at a time, and keeps what they gave in benchmarks/cache."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.child import TOOLS
from benchmarks.networks import ROOT, SUITES, Network, suite

__all__ = ["CACHE", "add_arguments", "child", "chosen", "convert", "failed", "results", "summary", "told"]

CACHE = Path(__file__).parent / "cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark has: --suite, --only, --fresh, --timeout."""
    parser.add_argument("--suite", default="elsr", help=f"one or more of {', '.join(SUITES)}, separated by commas")
    parser.add_argument("--only", default="", help="names of networks, separated by commas (default: all)")
    parser.add_argument("--fresh", action="store_true", help="run the peer again instead of reading the cache")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one conversion (default 300)")
    parser.add_argument("--results", type=Path, help="file of results, one a line: those in it are not made again")


def chosen(options: argparse.Namespace) -> list[Network]:
    """The networks that --suite and --only name. SystemExit for a name that is in none of the suites."""
    try:
        networks = [n for name in options.suite.split(",") for n in suite(name)]
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
    names = [n for n in options.only.split(",") if n]
    unknown = set(names) - {n.name for n in networks}
    if unknown:
        raise SystemExit(f"no network {', '.join(sorted(unknown))} in {options.suite}")
    return [n for n in networks if not names or n.name in names]


def results(
    options: argparse.Namespace,
    make: Callable[[Network, argparse.Namespace], dict[str, Any]],
    good: Callable[[dict[str, Any]], bool],
) -> Iterator[dict[str, Any]]:
    """The result of each chosen network, as ``make`` gives it; with --results those that were ``good`` are kept.

    A result names its network ("suite", "network"). The last line of a network counts.
    """
    path: Path | None = options.results
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    known = {(r["suite"], r["network"]): r for r in map(json.loads, lines)}
    for network in chosen(options):
        result = known.get((network.suite, network.name))
        if result is None or not good(result):
            result = make(network, options)
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps(result) + "\n")
        yield result


@functools.cache
def _version(tool: str) -> str:
    return importlib.import_module(TOOLS[tool]).version()


def convert(
    tool: str, network: Network, options: argparse.Namespace, *, fresh: bool = True, keep: bool = True
) -> dict[str, Any]:
    """What the child measured, with "file", "cached" and, where it failed, "error".

    With ``fresh`` false a result of the same network and version of the tool is read from the cache.
    """
    folder = CACHE / f"{tool}-{_version(tool)}" / network.suite
    path, record = folder / f"{network.name}.tflite", folder / f"{network.name}.json"
    if not fresh and record.is_file():
        return json.loads(record.read_text()) | {"file": str(path), "cached": True}
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    result = child(["benchmarks.child", tool, network.suite, network.name, str(path)], options.timeout)
    if keep:
        record.write_text(json.dumps(result, indent=1))
    return result | {"file": str(path), "cached": False}


def child(command: list[str], timeout: float) -> dict[str, Any]:
    """Run ``python -m <command>`` and merge the JSON objects it prints; "wall" seconds, and "error" where it failed."""
    start = time.perf_counter()
    objects, end = told(command, timeout)
    result: dict[str, Any] = {"wall": time.perf_counter() - start}
    for facts in objects:
        result |= facts
    return result | end


def told(command: list[str], timeout: float) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The JSON objects that ``python -m <command>`` prints, in order; "error" (and "stderr") where it failed."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    places = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | quiet | {"PYTHONPATH": places},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return _objects(said), {"error": f"not done after {timeout:.0f} s"}
    if not done.returncode:
        return _objects(done.stdout), {}
    why = _reason(done.stderr) or f"exit status {done.returncode}"
    return _objects(done.stdout), {"error": why, "stderr": done.stderr[-4000:]}


def _objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines() if line.startswith("{") and line.endswith("}")]


def _reason(stderr: str) -> str:
    """The line that says why: the last line that looks like an exception or an error."""
    lines = [s.strip() for s in stderr.splitlines() if s.strip()]
    telling = [s for s in lines if not s.startswith(("File ", "^", "W0", "I0")) and ("Error" in s or "error" in s)]
    return (telling or lines or [""])[-1][:300]


def failed(result: dict[str, Any]) -> bool:
    """No file was written."""
    return "seconds" not in result


def summary(result: dict[str, Any]) -> str:
    """One line for progress."""
    if failed(result):
        return f"FAILED {result['error']}"
    text = f"{result['seconds']['total']:.2f} s, {result['peak_memory'] / 2**20:.0f} MiB, rank {result['max_rank']}"
    text += f", difference {result.get('difference', float('nan')):.1e}"
    return text + (f", {result['error']}" if "error" in result else "") + (" (cache)" if result.get("cached") else "")
