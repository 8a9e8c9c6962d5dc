"""Every operator, as Flax NNX code and as functions, computes its own definition: traced, in float32 and in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from instep.emit.code.flat import flat
from instep.emit.jax.dialect import FUNCTION, NNX, Jax
from instep.graph import OPERATORS, Graph
from lowering_cases import CASES
from test_lower_conformance import Case, draw_cases

jax = pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("flax.nnx", reason="Flax is not installed")

#: Cases per operator: each is compiled.
COUNT = 5
IMPORTS = """
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

rngs = nnx.Rngs(0)
train = None
"""


def test_every_operator_has_a_rule() -> None:
    for name, kind in OPERATORS.items():
        assert kind in NNX.table and kind in FUNCTION.table, f"JAX has no form of {name}"


def computation(graph: Graph, dialect: Jax, dtype: str) -> Any:
    """A function of the graph's inputs, from the flat program."""
    program = flat(graph, dialect)
    made = program.execute(IMPORTS)
    layers: dict[str, Any] = program.weights if dialect is FUNCTION else made["layers"]()
    for name, arrays in program.weights.items():
        for key, array in arrays.items():
            if dialect is FUNCTION:
                arrays[key] = array.astype(dtype)
                continue
            variable = getattr(layers[name], key)
            assert variable[...].shape == array.shape
            variable.set_value(jax.numpy.asarray(array, dtype))
        if dialect is NNX:
            layers[name].eval()
    constants = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in program.constants.items()}
    constants = {k: jax.numpy.asarray(a) for k, a in constants.items()}
    return lambda *inputs: made["forward"](layers, constants, *inputs)


def check(cases: list[Case], dialect: Jax, dtype: str, rtol: float) -> None:
    """All cases traced into one program: compiling is what takes the time."""
    functions = [computation(graph, dialect, dtype) for graph, _ in cases]
    inputs = [[x.astype(dtype) if x.dtype.kind == "f" else x for x in given] for _, given in cases]
    found = jax.jit(lambda given: [f(*x) for f, x in zip(functions, given, strict=True)])(inputs)
    for (graph, given), outputs in zip(cases, found, strict=True):
        what = f"{graph.nodes} as {dialect.style} in {dtype}"
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in given]
        table = graph.run(wide, keep=graph.outputs)
        for value, got in zip(graph.outputs, map(np.asarray, outputs), strict=True):
            want = table[value]
            assert got.shape == want.shape, what
            assert got.dtype.kind == want.dtype.kind, what
            assert want.dtype.kind != "f" or got.dtype == dtype, what
            scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))) if want.dtype.kind == "f" else 0
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale, err_msg=what)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """XLA as quick as it compiles."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", sorted(CASES))
def test_operator_computes_its_definition(name: str) -> None:
    cases = draw_cases(name)[:COUNT]
    check(cases, NNX, "float32", 1e-5)
    with jax.enable_x64(True):
        check(cases, FUNCTION, "float64", 1e-12)
