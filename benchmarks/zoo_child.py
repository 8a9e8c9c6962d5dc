"""Some networks of the zoo in a process of their own: each written in five forms, run, and held against each other.

Prints a JSON object a network, as soon as it is judged. Each framework is imported once, in one child for all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.child import file_facts, peak_memory

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.graph import Graph
    from instep.runtime import Job
    from instep.verify.inputs import InputSet
    from instep.verify.mapping import Mapping

__all__ = ["FORMS", "as_trained", "main"]

#: form → the verb's name of the form, and the engine that runs it ("xnnpack": LiteRT as applications use it)
FORMS = {
    "torch": ("torch-source", "torch"),
    "keras-tensorflow": ("keras-source", "keras-tensorflow"),
    "keras-jax": ("keras-source", "keras-jax"),
    "flax": ("jax-source", "jax"),
    "tflite": ("tflite", "xnnpack"),
}

#: Seconds that one form of one network may take for all its inputs.
TIMEOUT = 1200.0


@dataclass
class _Network:
    """A network with its files, the inputs of its proof, and the jobs that run it; ``error`` where there is none."""

    name: str
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    captured: Captured | None = None
    source: Any = None
    sets: list[InputSet] = field(default_factory=list)
    draws: int = 0
    mappings: dict[str, Mapping] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo_child")
    parser.add_argument("networks", type=json.loads, help="JSON object: name → arguments")
    options = parser.parse_args()
    from instep.runtime import run_jobs

    with tempfile.TemporaryDirectory() as place:
        networks = []
        for name, args in options.networks.items():
            network = _Network(name, Path(place) / name, {"network": name, "args": args})
            network.folder.mkdir()
            _guarded(network, _prepare)
            networks.append(network)
        flat = [(n, form) for n in networks for form in n.jobs if "error" not in n.facts]
        results = run_jobs([n.jobs[form] for n, form in flat], timeout=TIMEOUT)
        for network in networks:
            ran = {form: found for (n, form), found in zip(flat, results, strict=True) if n is network}
            if "error" not in network.facts:
                _guarded(network, lambda n, ran=ran: _judge(n, ran))
            print("\n" + json.dumps(network.facts | {"peak_memory": peak_memory()}), flush=True)
    return 0


def as_trained(graph: Graph, seed: int = 0) -> None:
    """Draw the weights of ``graph`` that are one number throughout.

    A fresh network's biases, statistics and scales are zeros and ones: whoever mistakes one for another is still right.
    """
    rng = np.random.default_rng(seed)
    for value, array in list(graph.weights.items()):
        array = np.asarray(array)
        if array.dtype.kind != "f" or array.size < 2 or np.any(array != array.flat[0]):
            continue
        middle = float(array.flat[0])
        drawn = rng.uniform(0.5, 1.5, array.shape) * middle if middle else rng.normal(0.0, 0.1, array.shape)
        graph.weights[value] = drawn.astype(array.dtype)


def _guarded(network: _Network, work: Any) -> None:
    try:
        work(network)
    except Exception as error:
        traceback.print_exc()
        network.facts["error"] = f"{type(error).__name__}: {error}"[:300]


def _prepare(network: _Network) -> None:
    """Read the network, write its forms and say what is to be run."""
    from benchmarks.pairwise import Remembered

    from instep.capture import capture
    from instep.report.table import table_of_graph
    from instep.runtime import Job
    from instep.verbs.forms import FORMS as WRITTEN
    from instep.verify.plan import inputs_of
    from instep.verify.subject import shown_inputs

    start = time.perf_counter()
    captured = capture(f"zoo:{network.name}", args=network.facts["args"])
    as_trained(captured.graph)
    table = table_of_graph(captured.graph, network.name)
    network.facts |= {
        "input": ", ".join("×".join(map(str, v.shape)) for v in captured.graph.inputs),
        "parameters": table.parameters,
        "macs": table.macs,
        "seconds": {"parse": time.perf_counter() - start},
    }
    network.captured, network.source = captured, Remembered(captured.reference, captured.graph)
    network.sets, network.draws = inputs_of(network.source, captured.graph)
    forms = {f.name: f for f in WRITTEN}
    for form, (written, engine) in FORMS.items():
        start = time.perf_counter()
        path = network.folder / f"{network.name}_{written.partition('-')[0]}{forms[written].suffix}"
        if not path.exists():
            forms[written].write(captured, path)
        network.facts["seconds"][f"write {form}"] = time.perf_counter() - start
        names = [v.name for v in captured.graph.inputs]
        mapping = _mapping(network, path, engine)
        given = [shown_inputs(mapping, names, s.arrays) for s in network.sets]
        network.mappings[form], network.jobs[form] = mapping, Job(path, given, engine)
    network.facts |= file_facts(Path(network.jobs["tflite"].path))


def _mapping(network: _Network, path: Path, engine: str) -> Mapping:
    from instep.verify.module import ModuleSubject
    from instep.verify.tflite import TfliteSubject

    assert network.captured is not None
    graph = network.captured.graph
    if path.suffix == ".tflite":
        return TfliteSubject.load(path, network.source, graph=graph, sets=network.sets).mapping
    return ModuleSubject.load(path, engine, network.source, graph, network.sets).mapping


def _judge(network: _Network, ran: dict[str, list[Any]]) -> None:
    """The TFLite file value by value, every form's outputs beside the source's, and every pair of forms."""
    from benchmarks.pairwise import Ran, every_pair, worst

    from instep.verify import verify

    assert network.captured is not None
    graph, start = network.captured.graph, time.perf_counter()
    whole = verify(network.source, network.jobs["tflite"].path, graph=graph)
    failed = {form: found[0].message[:300] for form, found in ran.items() if found[0].failed}
    forms = {
        form: Ran(network.jobs[form].engine, network.mappings[form], [r.outputs for r in found])
        for form, found in ran.items()
        if form not in failed
    }
    verdicts = every_pair(network.source, forms, network.sets, graph=graph, draws=network.draws)
    first = whole.first
    network.facts["seconds"]["verify"] = time.perf_counter() - start
    network.facts |= {
        "pairs": {a: {b: [v.verdict, v.noise_ratio] for b, v in beside.items()} for a, beside in verdicts.items()},
        "failed": failed,
        "values": [whole.verdict, whole.noise_ratio, len(whole.rows)],
        "first": None if first is None else f"{first.operator} '{first.scope}' ratio {first.ratio:.3g}",
        "verdict": worst(
            [whole.verdict, *(v.verdict for beside in verdicts.values() for v in beside.values()),
             *("failed" for _ in failed)]
        ),
        "notes": whole.notes,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
