"""Every operator, lowered and written as TFLite, computes its own definition on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from instep.emit.tflite import LOWERINGS, write
from instep.graph import OPERATORS, Graph
from instep.rewrite.driver import run as rewrite
from instep.rewrite.lower import DECOMPOSITIONS, lower
from instep.runtime import Job, RunResult, run_jobs, tflite_info
from lowering_cases import CASES

#: Cases per operator.
COUNT = 16
ENGINES = ("builtin", "xnnpack")
Case = tuple[Graph, list[np.ndarray]]


def test_every_operator_has_a_tflite_form_and_a_case() -> None:
    for name, kind in OPERATORS.items():
        assert kind in LOWERINGS or kind in DECOMPOSITIONS, f"{name} has neither a lowering nor a decomposition"
    assert set(CASES) == set(OPERATORS)


def draw_cases(name: str) -> list[Case]:
    cases: list[Case] = []

    @settings(
        max_examples=COUNT,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(st.data())
    def several(data: Any) -> None:
        cases.append(CASES[name](data.draw))

    several()
    return cases


class Outcomes(dict[str, list[tuple[Case, Any, list[RunResult]]]]):
    """For each operator its cases, the file's description (or the error), and the results of both engines."""

    def __repr__(self) -> str:  # pytest prints fixtures of a failing test
        return "Outcomes"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("lowered")
    table = Outcomes({name: [] for name in CASES})
    jobs, places = [], []
    for name in CASES:
        for case in draw_cases(name):
            path = folder / f"{len(jobs)}.tflite"
            results: list[RunResult] = []
            try:
                lowered, _ = rewrite(case[0], [lower])
                write(lowered, path)
            except ValueError as error:
                table[name].append((case, error, results))
                continue
            table[name].append((case, tflite_info(path), results))
            jobs += [Job(path, [case[1]], engine) for engine in ENGINES]
            places.append(results)
    runs = run_jobs(jobs, timeout=600)
    for i, results in enumerate(places):
        results += [run[0] for run in runs[2 * i : 2 * i + 2]]
    return table


@pytest.mark.parametrize("name", sorted(CASES))
def test_lowered_operator_computes_its_definition(name: str, outcomes: Outcomes) -> None:
    assert len(outcomes[name]) >= 2
    for (graph, inputs), info, results in outcomes[name]:
        what = "; ".join(map(repr, graph.nodes))
        if isinstance(info, ValueError):
            raise AssertionError(what) from info
        assert "GATHER_ND" not in info.histogram
        if max(v.rank for v in graph.values()) <= 4:
            assert info.max_rank <= 4, f"{what} made rank {info.max_rank}: {dict(info.histogram)}"
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        table = graph.run(wide, keep=graph.outputs)
        for engine, result in zip(ENGINES, results, strict=True):
            where = f"{what} as {dict(info.histogram)} on {engine}"
            assert not result.failed, f"{where}: {result.message}"
            for value, got in zip(graph.outputs, result.outputs, strict=True):
                want = table[value]
                assert got.shape == want.shape, where
                if want.dtype.kind != "f":
                    np.testing.assert_array_equal(got, want, err_msg=where)
                    continue
                want = np.clip(want, np.finfo(np.float32).min, np.finfo(np.float32).max)
                scale = max(1.0, float(np.abs(want[np.abs(want) < 1e30]).max(initial=0)))
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * scale, err_msg=where)
