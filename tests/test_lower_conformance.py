"""Every operator, lowered and written as TFLite, computes its own definition on both engines."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lowering_cases import CASES

from instep.emit.tflite import LOWERINGS, write
from instep.graph import OPERATORS, Graph
from instep.rewrite.driver import run as rewrite
from instep.rewrite.lower import DECOMPOSITIONS, lower
from instep.runtime import Job, run_jobs, tflite_info

#: Cases per operator; all of them run in one child process.
COUNT = 10


def test_every_operator_has_a_tflite_form_and_a_case() -> None:
    for name, kind in OPERATORS.items():
        assert kind in LOWERINGS or kind in DECOMPOSITIONS, f"{name} has neither a lowering nor a decomposition"
    assert set(CASES) == set(OPERATORS)


def describe(graph: Graph) -> str:
    return "; ".join(map(repr, graph.nodes))


def check(cases: list[tuple[Graph, list[np.ndarray]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for i, (graph, inputs) in enumerate(cases):
            lowered, _ = rewrite(graph, [lower])
            assert [v.name for v in lowered.outputs] == [v.name for v in graph.outputs]
            path = Path(folder) / f"{i}.tflite"
            write(lowered, path)
            info = tflite_info(path)
            assert "GATHER_ND" not in info.histogram
            if max(v.rank for v in graph.values()) <= 4:
                ranks = Counter(len(t.shape) for t in info.tensors)
                assert max(ranks) <= 4, f"{describe(graph)} made rank {max(ranks)}: {dict(info.histogram)}"
            jobs += [Job(path, [inputs], engine) for engine in ("builtin", "xnnpack")]
        results = run_jobs(jobs)
    for i, (graph, inputs) in enumerate(cases):
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        table = graph.run(wide, keep=graph.outputs)
        for job, (result,) in zip(jobs[2 * i : 2 * i + 2], results[2 * i : 2 * i + 2], strict=True):
            where = f"{describe(graph)} on {job.engine}"
            assert not result.failed, f"{where}: {result.message}"
            for value, got in zip(graph.outputs, result.outputs, strict=True):
                want = table[value]
                assert got.shape == want.shape, where
                if want.dtype.kind != "f":
                    np.testing.assert_array_equal(got, want, err_msg=where)
                    continue
                want = np.clip(want, np.finfo(np.float32).min, np.finfo(np.float32).max)
                scale = max(1.0, float(np.abs(want[np.abs(want) < 1e30]).max(initial=0)))
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5 * scale, err_msg=where)


@pytest.mark.parametrize("name", sorted(CASES))
def test_lowered_operator_computes_its_definition(name: str) -> None:
    @settings(
        max_examples=2,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(st.data())
    def several(data: Any) -> None:
        check([CASES[name](data.draw) for _ in range(COUNT)])

    several()
