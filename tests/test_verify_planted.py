"""Faults planted into a real conversion: the benchmark's machinery, on a handful of kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    from benchmarks.planted_faults import Bench

    return Bench.build("super_resolution", tmp_path_factory.mktemp("planted"))


def test_the_healthy_conversion_is_in_step(bench) -> None:  # type: ignore[no-untyped-def]
    assert bench.healthy.verdict == "in step"


@pytest.mark.parametrize("kind", ["asymmetric padding", "pixel shuffle order", "bias of another layer", "gate dropped"])
def test_a_fault_in_the_captured_graph_is_caught_located_and_named(bench, kind: str) -> None:  # type: ignore[no-untyped-def]
    from benchmarks.planted_faults import FAULTS, plant_captured

    (fault,) = [f for f in FAULTS if f.kind == kind]
    nodes = [n for n in bench.graph.nodes if isinstance(n.op, fault.operators)]
    found = (plant_captured(bench, fault, n, np.random.default_rng(0)) for n in nodes)
    result = next(r for r in found if r is not None)
    assert result.caught and result.located and result.named, result


def test_an_output_that_shows_an_earlier_value_is_caught(bench) -> None:  # type: ignore[no-untyped-def]
    """The last residual left out: the file's output is a value of the source in step, but not its output."""
    from benchmarks.planted_faults import FAULTS, plant_captured

    (fault,) = [f for f in FAULTS if f.kind == "residual dropped"]
    last = next(n for n in bench.graph.nodes if bench.graph.outputs[0] in n.outputs)
    draws = (plant_captured(bench, fault, last, np.random.default_rng(i)) for i in range(8))
    found = [r for r in draws if r is not None]
    assert found and all(r.caught for r in found)


def test_a_change_that_changes_nothing_is_no_fault(bench) -> None:  # type: ignore[no-untyped-def]
    from benchmarks.faults.graph_faults import Fault
    from benchmarks.planted_faults import plant_captured

    from instep.graph import ops

    node = next(n for n in bench.graph.nodes if isinstance(n.op, ops.LeakyRelu))
    same = Fault("same slope, spelled anew", (ops.LeakyRelu,), (), lambda g, n, rng: True)
    assert plant_captured(bench, same, node, np.random.default_rng(0)) is None


def test_a_fault_in_the_file_is_caught(bench, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from benchmarks.faults.file_faults import FILE_FAULTS

    (fault,) = [f for f in FILE_FAULTS if f.kind == "file: weights flipped"]
    planted = next(fault.places(bench.write(bench.lowered(bench.graph)), 1))
    verdict = bench.prove(planted.path)
    assert verdict.verdict == "out of step" and verdict.diagnosis is not None
    assert verdict.diagnosis.cause == "weights flipped (convolution for correlation)"


def test_at_least_forty_kinds_are_planted() -> None:
    from benchmarks.planted_faults import FAULTS

    assert len({f.kind for f in FAULTS}) >= 40
