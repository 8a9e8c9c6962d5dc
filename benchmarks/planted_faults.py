"""Plants known faults into conversions and counts how many the proof catches, places and names.

    python -m benchmarks.planted_faults [--networks mobile,…] [--places 3] [--json OUT] [-o docs/benchmarks.md]

A fault is planted in the captured graph (before the rewrites), in the lowered graph (what the emitter gets) or in
the written file. The file is then proved against the true source. A change that moves no value beyond the network's
rounding noise is no fault and does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.faults import graph_faults, graph_faults_more  # noqa: F401  (they fill the table)
from benchmarks.faults.file_faults import FILE_FAULTS
from benchmarks.faults.graph_faults import FAULTS, Fault
from benchmarks.report import add_arguments, deliver, table

from instep.emit.tflite import EmitError
from instep.graph import Graph, GraphError, Node, Value
from instep.graph.validate import validate
from instep.verify.mapping import mapping_of
from instep.verify.subject import shown_inputs

__all__ = ["main"]

#: A planted change counts as a fault when it moves its node's value by more than this many times the noise there,
#: and some output by more than this.
FELT = 30.0


@dataclass
class Result:
    """What became of one planted fault."""

    network: str
    stage: str
    kind: str
    node: str
    verdict: str = ""
    caught: bool = False
    located: bool = False
    named: bool = False
    cause: str = ""
    found_at: str = ""
    evidence: str = ""
    ratio: float = 0.0
    seconds: float = 0.0


class Remembered:
    """A reference that runs each input once: every plant is proved on the same inputs."""

    def __init__(self, reference: Any) -> None:
        self.inner = reference
        self.input_specs, self.input_names = reference.input_specs, reference.input_names
        self.known: dict[tuple[bytes, str], dict[str, np.ndarray]] = {}

    def run(self, inputs: Any, *, dtype: str, keep: Any = None) -> dict[str, np.ndarray]:
        key = (b"".join(np.ascontiguousarray(a).tobytes() for a in inputs), dtype)
        if key not in self.known:
            self.known[key] = self.inner.run(list(inputs), dtype=dtype)
        return self.known[key]


@dataclass
class Bench:
    """One network: captured, converted, healthy, and ready for faults."""

    name: str
    graph: Graph
    reference: Remembered
    folder: Path
    noise: dict[str, float] = field(default_factory=dict)
    base: dict[str, np.ndarray] = field(default_factory=dict)
    healthy: Any = None
    inputs: tuple[np.ndarray, ...] = ()
    shown: list[np.ndarray] = field(default_factory=list)
    healthy_outputs: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def build(cls, name: str, folder: Path) -> Bench:
        from benchmarks.faults.networks import build

        from instep.capture import capture
        from instep.verify import make_inputs

        net, shape = build(name)
        captured = capture(net, inputs=[shape])
        bench = cls(name, captured.graph, Remembered(captured.reference), folder)
        bench.inputs = make_inputs(captured.reference.input_specs, kinds=("natural",))[0].arrays
        bench.base = bench.reference.run(bench.inputs, dtype="float64")
        single = bench.reference.run(bench.inputs, dtype="float32")
        eps = float(np.finfo(np.float32).eps)
        for key, truth in bench.base.items():
            if truth.dtype.kind == "f" and truth.size:
                error = float(np.sqrt(np.mean(np.square(single[key] - truth))))
                bench.noise[key] = max(error, eps * float(np.sqrt(np.mean(np.square(truth)))), 1e-30)
        bench.healthy = bench.prove(bench.write(bench.lowered(captured.graph)))
        return bench

    def lowered(self, graph: Graph) -> Graph:
        from instep.rewrite.pipelines import to_tflite

        return to_tflite(graph)[0]

    def write(self, graph: Graph) -> Path:
        from instep.emit.tflite import write

        path = self.folder / f"{self.name}.tflite"
        write(graph, path)
        return path

    def prove(self, path: Path) -> Any:
        from instep.verify import verify

        return verify(self.reference, path, graph=self.graph)

    def felt(self, mutated: Graph) -> bool:
        """Does the change move its node's value and an output far beyond the noise?"""
        given = (a.astype(np.float64) for a in self.inputs)
        table: dict[Value, np.ndarray] = dict(zip(mutated.inputs, given, strict=True))
        old = {n.output.name: n for n in self.graph.nodes}
        changed: set[Value] = set()
        first: float | None = None
        with np.errstate(all="ignore"):
            for node in mutated.nodes:
                twin = old.get(node.output.name)
                same = (
                    twin is not None and twin.op == node.op and not any(v in changed for v in node.inputs)
                    and [v.name for v in twin.inputs] == [v.name for v in node.inputs]
                )  # fmt: skip
                if same and all(v.name in self.base for v in node.outputs):
                    for value in node.outputs:
                        table[value] = self.base[value.name]
                    continue
                arrays = [table[v] if v in table else _wide(mutated.weights[v]) for v in node.inputs]
                for value, array in zip(node.outputs, node.op.evaluate(*arrays), strict=True):
                    table[value] = np.asarray(array)
                    moved = self._moved(value.name, table[value])
                    if moved is None or moved > 0:
                        changed.add(value)
                    if first is None and moved is not None:
                        first = moved
        outputs = [self._moved(v.name, table[v]) or 0.0 for v in mutated.outputs if v in table]
        return (first or 0.0) > FELT and max(outputs, default=0.0) > FELT

    def file_effect(self, path: Path) -> float:
        """How far a file moves any output from the healthy file's, in units of the noise there."""
        from instep.runtime import run

        if not self.healthy_outputs:
            names = [v.name for v in self.graph.inputs]
            self.shown = shown_inputs(mapping_of(self.lowered(self.graph)), names, self.inputs)
            self.healthy_outputs = run(self.write(self.lowered(self.graph)), self.shown).outputs
        worst = 0.0
        found = run(path, self.shown).outputs
        for value, one, two in zip(self.graph.outputs, self.healthy_outputs, found, strict=True):
            moved = float(np.sqrt(np.mean(np.square(np.asarray(two, np.float64) - one))))
            worst = max(worst, moved / self.noise.get(value.name, 1e-30) if np.isfinite(moved) else float("inf"))
        return worst

    def _moved(self, name: str, array: np.ndarray) -> float | None:
        truth = self.base.get(name)
        if truth is None or truth.shape != array.shape:
            return None
        if truth.dtype.kind != "f":
            return float(np.inf) if (truth != array).any() else 0.0
        moved = float(np.sqrt(np.mean(np.square(array - truth))))
        return float("inf") if not np.isfinite(moved) else moved / self.noise[name]


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _twin(graph: Graph, output: str) -> Node:
    return next(n for n in graph.nodes if n.output.name == output)


def _judge(result: Result, verdict: Any, values: set[str], named: tuple[str, ...]) -> None:
    """Fill ``result``: ``values`` are the source values that the planted node makes."""
    result.verdict, result.ratio = verdict.verdict, float(verdict.noise_ratio)
    result.caught = verdict.verdict in ("drifting", "out of step")
    diagnosis = verdict.diagnosis
    if diagnosis is not None:
        result.cause, result.found_at, result.evidence = diagnosis.cause, diagnosis.node, diagnosis.evidence
        result.located = diagnosis.value in values
        result.named = result.located and diagnosis.cause in named
    elif verdict.first is not None:
        # no cause fits: the place is what the report shows, the group of nodes that one value of the file stands for
        result.found_at = verdict.first.source
        result.located = bool(values & set(verdict.suspect_values))


def _planted(graph: Graph, fault: Fault, node: Node, rng: np.random.Generator) -> Graph | None:
    """A copy of ``graph`` with the fault at ``node``; None when it does not apply there."""
    mutated = graph.copy()
    try:
        if not fault.plant(mutated, _twin(mutated, node.output.name), rng):
            return None
        validate(mutated)
    except (ValueError, IndexError, GraphError):
        return None
    mutated.prune()
    return mutated


def _proved(bench: Bench, stage: str, fault: Fault, node: Node, lowered: Graph, values: set[str]) -> Result | None:
    """What the proof makes of ``lowered`` as a file; None when the emitter's own check refuses it before the proof."""
    result = Result(bench.name, stage, fault.kind, node.describe())
    start = time.perf_counter()
    try:
        path = bench.write(lowered)
    except EmitError:
        return None
    verdict = bench.prove(path)
    result.seconds = time.perf_counter() - start
    _judge(result, verdict, values, fault.named)
    return result


def plant_captured(bench: Bench, fault: Fault, node: Node, rng: np.random.Generator) -> Result | None:
    """Plant in the captured graph; None when it does not apply or is not felt."""
    mutated = _planted(bench.graph, fault, node, rng)
    if mutated is None or not bench.felt(mutated):
        return None
    return _proved(bench, "captured", fault, node, bench.lowered(mutated), {v.name for v in node.outputs})


def plant_lowered(bench: Bench, lowered: Graph, fault: Fault, node: Node, rng: np.random.Generator) -> Result | None:
    """Plant in the lowered graph, at a node whose output shows a value of the source."""
    if node.output.source is None:
        return None
    mutated = _planted(lowered, fault, node, rng)
    if mutated is None or _lowered_effect(bench, lowered, mutated) <= FELT:
        return None
    return _proved(bench, "lowered", fault, node, mutated, group(bench, lowered, node))


def _lowered_effect(bench: Bench, lowered: Graph, mutated: Graph) -> float:
    names = [v.name for v in bench.graph.inputs]
    runs = []
    for graph in (lowered, mutated):
        arrays = [a.astype(np.float64) for a in shown_inputs(mapping_of(graph), names, bench.inputs)]
        runs.append([a for v, a in graph.run(arrays, keep=()).items() if v in graph.outputs])
    worst = 0.0
    for value, one, two in zip(bench.graph.outputs, *runs, strict=True):
        moved = float(np.sqrt(np.mean(np.square(np.asarray(two, np.float64) - one))))
        worst = max(worst, float("inf") if not np.isfinite(moved) else moved / bench.noise.get(value.name, 1e-30))
    return worst


def group(bench: Bench, lowered: Graph, node: Node) -> set[str]:
    """The source values that a lowered node stands for: back from its own to those of the nodes that it reads."""
    shown = {v.source.name for n in lowered.nodes for v in n.outputs if v.source is not None}
    assert node.output.source is not None
    producer = {v.name: n for n in bench.graph.nodes for v in n.outputs}
    found, stack = set(), [node.output.source.name]
    while stack:
        name = stack.pop()
        if name in found or name not in producer:
            continue
        found.add(name)
        stack.extend(v.name for v in producer[name].inputs if v.name not in shown)
    return found


def run_network(
    name: str, places: int, seed: int, stages: set[str], kinds: set[str], say: Any
) -> tuple[list[Result], dict[str, Any]]:
    """All faults at up to ``places`` places of one network; and the healthy conversion's figures."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.build(name, Path(folder))
        healthy = {"network": name, "verdict": bench.healthy.verdict, "ratio": float(bench.healthy.noise_ratio),
                   "worst_value": max((r.ratio for r in bench.healthy.rows), default=0.0)}  # fmt: skip
        say(f"{name}: healthy conversion {bench.healthy.verdict}, ratio {bench.healthy.noise_ratio:.2f}")
        lowered = bench.lowered(bench.graph)
        for number, fault in enumerate(FAULTS):
            if kinds and fault.kind not in kinds:
                continue
            rng = np.random.default_rng(seed + number)
            for stage, graph in (("captured", bench.graph), ("lowered", lowered)):
                if stage not in stages:
                    continue
                nodes = [n for n in graph.nodes if isinstance(n.op, fault.operators)]
                order = [nodes[i] for i in rng.permutation(len(nodes))]
                planted = 0
                for node in order[: 4 * places]:
                    if planted >= (places if stage == "captured" else 1):
                        break
                    if stage == "captured":
                        result = plant_captured(bench, fault, node, rng)
                    else:
                        result = plant_lowered(bench, lowered, fault, node, rng)
                    if result is not None:
                        planted += 1
                        results.append(result)
                        say(_line(result))
        if "file" in stages:
            for fault in FILE_FAULTS:
                if kinds and fault.kind not in kinds:
                    continue
                for planted in fault.places(bench.write(lowered), places):
                    if bench.file_effect(planted.path) <= FELT:
                        continue
                    result = Result(name, "file", fault.kind, planted.tensor)
                    start = time.perf_counter()
                    verdict = bench.prove(planted.path)
                    result.seconds = time.perf_counter() - start
                    node = next((n for n in lowered.nodes if n.output.name == planted.tensor), None)
                    if node is None or node.output.source is None:
                        continue
                    _judge(result, verdict, group(bench, lowered, node), fault.named)
                    results.append(result)
                    say(_line(result))
    return results, healthy


def _line(r: Result) -> str:
    mark = "".join(c if ok else "-" for c, ok in zip("CLN", (r.caught, r.located, r.named), strict=True))
    what = f"{r.kind:38s} {r.node[:44]:44s} {r.ratio:9.3g}"
    return f"  {mark} {r.stage:8s} {what} {r.cause} @ {r.found_at[:44]} {r.seconds:.1f}s"


def _share(rows: list[Result], what: str) -> str:
    count = sum(getattr(r, what) for r in rows)
    return f"{100 * count / len(rows):.1f} %" if rows else "–"


def tables(results: list[Result], healthy: list[dict[str, Any]], seed: int) -> str:
    """The Markdown section."""
    kinds: dict[str, list[Result]] = defaultdict(list)
    for r in results:
        kinds[r.kind].append(r)
    rows = [[k, len(v), sum(r.caught for r in v), sum(r.located for r in v), sum(r.named for r in v)]
            for k, v in sorted(kinds.items())]  # fmt: skip
    stages = [[s, len(v), _share(v, "caught"), _share(v, "located"), _share(v, "named")]
              for s in ("captured", "lowered", "file") if (v := [r for r in results if r.stage == s])]  # fmt: skip
    stages.append(["**all**", len(results), *(_share(results, w) for w in ("caught", "located", "named"))])
    calm = [[h["network"], h["verdict"], f"{h['ratio']:.2f}", f"{h['worst_value']:.2f}"] for h in healthy]
    return "\n\n".join([
        "## Planted faults",
        f"{len(kinds)} kinds of faults, {len(results)} planted "
        f"(`python -m benchmarks.planted_faults --seed {seed}`). Caught: the verdict is "
        "not 'in step'. Located: the diagnosis names the very node (or, where no cause fits, the node is in "
        "the fused group that the report shows). Named: located, and the cause is the right one in the terms of the "
        "source (a lowered node may be a part of a source operator: a product that belongs to a SiLU, a slice that "
        "crops a transposed convolution). A change that moves no output beyond 30 times the noise is no fault.",
        table(["planted in", "faults", "caught", "located", "named"], stages),
        table(["kind", "planted", "caught", "located", "named"], rows),
        "The same networks converted without a fault (in step up to a ratio of 10):",
        table(["network", "verdict", "worst output", "worst value"], calm),
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_faults", description=__doc__)
    parser.add_argument("--networks", help="comma-separated, any of timm too; default: those of faults/networks.py")
    parser.add_argument("--places", type=int, default=2, help="places per kind, network and stage")
    parser.add_argument("--stages", default="captured,lowered,file")
    parser.add_argument("--kinds", default="", help="comma-separated kinds; default: all")
    parser.add_argument("--seed", type=int, default=0)
    add_arguments(parser)
    options = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        # thousands of small products: BLAS threads that wait for each other cost far more than they bring
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.planted_faults", *sys.argv[1:]])
    warnings.filterwarnings("ignore")
    import torch
    from benchmarks.faults.networks import OWN, TIMM

    torch.set_num_threads(1)
    names = options.networks.split(",") if options.networks else [*OWN, *TIMM]
    results: list[Result] = []
    healthy: list[dict[str, Any]] = []
    kinds = set(filter(None, options.kinds.split(",")))
    for name in names:
        found, calm = run_network(name, options.places, options.seed, set(options.stages.split(",")), kinds,
                                  lambda text: print(text, file=sys.stderr, flush=True))  # fmt: skip
        results += found
        healthy.append(calm)
    figures = {
        "planted": len(results), "kinds": len({r.kind for r in results}),
        **{w: sum(getattr(r, w) for r in results) / max(1, len(results)) for w in ("caught", "located", "named")},
        "healthy": healthy, "faults": [vars(r) for r in results],
    }  # fmt: skip
    deliver(options, "planted-faults", tables(results, healthy, options.seed), figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
