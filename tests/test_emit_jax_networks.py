"""Whole networks as JAX: both styles compute what the graph does, run without Instep, can be trained, and are safe."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from clean_code import assert_clean
from instep.capture import capture
from instep.emit import jax as emit
from instep.emit.code.call import NoCode
from instep.graph import Graph, Value, ops
from instep.graph.text import parse
from instep.rewrite.pipelines import to_channels_last
from instep.zoo import path_of

jax = pytest.importorskip("jax", reason="JAX is not installed")
nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")

#: Zoo texts and timm networks: dropouts, two inputs, rows, tied layers, constants within layers, whole-number buffers.
NETWORKS = ["zoo:2c2d", "zoo:resnet8", "zoo:vae", "zoo:ecbsr_training", "timm:test_resnet", "timm:test_convnext3",
            "timm:test_coatnet"]  # fmt: skip


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """XLA as quick as it compiles."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def network(name: str) -> Graph:
    kind, _, word = name.partition(":")
    graph = parse(path_of(word)) if kind == "zoo" else capture(name).graph
    return to_channels_last(graph)[0]


def draw(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random(v.shape, dtype=np.float32) for v in graph.inputs]


def outputs_of(graph: Graph, inputs: list[np.ndarray]) -> list[np.ndarray]:
    table = graph.run([x.astype(np.float64) for x in inputs], keep=graph.outputs)
    return [table[v] for v in graph.outputs]


def close(found: Any, wanted: list[np.ndarray]) -> None:
    found = found if isinstance(found, tuple) else (found,)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(float(np.abs(want).max()), 1e-6))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same_and_have_gradients(name: str) -> None:
    graph = network(name)
    inputs = draw(graph)
    wanted = outputs_of(graph, inputs)

    def size(outputs: Any) -> Any:
        return sum(jax.numpy.square(y).sum() for y in jax.tree.leaves(outputs))

    model = emit.build(graph)
    apply, params = emit.function(graph)

    @nnx.jit
    def modules(model: Any, inputs: list[np.ndarray]) -> Any:
        return model(*inputs), nnx.grad(lambda m: size(m(*inputs)))(model)

    @jax.jit
    def functions(params: Any, inputs: list[np.ndarray]) -> Any:
        return apply(params, *inputs), jax.grad(lambda p: size(apply(p, *inputs)))(params)

    found, gradients = modules(model, inputs)
    close(found, wanted)
    leaves = jax.tree.leaves(gradients)
    assert len(leaves) == len(jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert all(np.isfinite(g).all() for g in leaves)
    assert np.mean([np.any(g) for g in leaves]) > 0.9
    found, gradients = functions(params, inputs)
    close(found, wanted)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    # what is not trained has no gradient: nothing but parameters moves
    assert len(jax.tree.leaves(params)) >= len(leaves)


CHILD = """
import sys
sys.modules["instep"] = None
import numpy as np
sys.path.insert(0, sys.argv[1])
import as_module, as_function
x = np.load(sys.argv[1] + "/x.npy")
np.save(sys.argv[1] + "/module.npy", as_module.load()(x))
np.save(sys.argv[1] + "/function.npy", as_function.apply(as_function.load(), x))
"""


def test_saved_code_runs_without_instep_and_is_clean(tmp_path: Path) -> None:
    graph = network("zoo:resnet8")
    files = emit.save(graph, tmp_path / "as_module.py") + emit.save(graph, tmp_path / "as_function.py", "function")
    assert sorted(f.name for f in files) == [
        "as_function.py", "as_function.safetensors", "as_module.py", "as_module.safetensors"
    ]  # fmt: skip
    inputs = draw(graph)
    np.save(tmp_path / "x.npy", inputs[0])
    child = subprocess.run([sys.executable, "-I", "-c", CHILD, str(tmp_path)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    wanted = outputs_of(graph, inputs)
    close(np.load(tmp_path / "module.npy"), wanted)
    close(np.load(tmp_path / "function.npy"), wanted)
    assert_clean(*(f for f in files if f.suffix == ".py"))


def test_names_and_texts_of_a_file_are_no_code() -> None:
    graph = Graph(meta={"name": 'x"""\nimport os', "doc": '"""\nraise SystemExit', "source": "\\"})
    x = Value("in put; import os", (1, 4, 4, 3))
    graph.inputs, graph.input_names = [x], ["in put; import os"]
    weight = graph.constant(np.ones((2, 3, 3, 3), np.float32), 'a");import os;(".weight')
    scale = graph.constant(np.ones((1, 1, 1, 2), np.float32), "def.class.train")
    made = graph.add(ops.Conv2d(layout="NHWC"), [x, weight], scope='a");import os;("')
    graph.outputs = [graph.add(ops.Mul(), [made.output, scale], scope="eval.__class__").output]
    graph.output_names = ["y"]
    want = outputs_of(graph, [np.ones(x.shape, np.float32)])
    for style in ("nnx", "function"):
        tree = ast.parse(emit.source(graph, style))
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
        assert imported <= {"jax", "jax.numpy", "numpy", "nnx", "lax", "load_file", "Path", "partial"}
    close(emit.build(graph)(np.ones(x.shape, np.float32)), want)
    apply, params = emit.function(graph)
    close(apply(params, np.ones(x.shape, np.float32)), want)


def test_layers_that_share_an_array_stay_tied() -> None:
    graph = Graph([Value("x", (2, 3))], input_names=["x"])
    weight = graph.constant(np.eye(3, dtype=np.float32), "first.weight")
    bias = graph.constant(np.ones(3, np.float32), "second.bias")
    y = graph.add(ops.Linear(), [graph.inputs[0], weight], scope="first").output
    graph.outputs = [graph.add(ops.Linear(), [y, weight, bias], scope="second").output]
    graph.output_names = ["y"]
    x = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]], np.float32)
    model = emit.build(graph)
    assert model.first.kernel is model.second.kernel
    apply, params = emit.function(graph)
    _, news = apply(params, x, train=True)
    assert jax.tree.structure(news) == jax.tree.structure(params)
    gradient = jax.grad(lambda p: apply(p, x).sum())(params)
    same = nnx.grad(lambda m: m(x).sum())(model)
    np.testing.assert_allclose(gradient["first"]["kernel"], same["first"]["kernel"][...])
    assert "kernel" not in params["second"]


def test_channels_first_are_refused_with_the_way_out() -> None:
    graph = Graph([Value("x", (1, 3, 8, 8))], input_names=["x"], output_names=["y"])
    graph.outputs = [
        graph.add(ops.MaxPool2d((2, 2), (2, 2)), graph.inputs, scope="stem.pool", origin="net.py:3").output
    ]
    with pytest.raises(NoCode, match=r"MaxPool2d 'stem.pool' \(net.py:3\).*channels last.*to_channels_last"):
        emit.source(graph)
    with pytest.raises(ValueError, match="style must be one of nnx, function, got 'linen'"):
        emit.source(graph, "linen")


def test_lists_within_lists_hold_what_they_hold() -> None:
    """stages.0.1.main.conv, with nothing at stages.0.0: containers within a list within a list."""
    graph = Graph([Value("x", (1, 4, 4, 3))], input_names=["x"], output_names=["y"])
    value = graph.inputs[0]
    for n, scope in enumerate(("stages.0.1.main.conv", "stages.1.0.main.conv", "stages.1.1.conv")):
        weight = graph.constant(np.full((3, 1, 1, 3), n + 1.0, np.float32), f"{scope}.weight")
        value = graph.add(ops.Conv2d(layout="NHWC"), [value, weight], scope=scope).output
        value = graph.add(ops.Add(), [value, graph.inputs[0]], scope="").output
    graph.outputs = [value]
    x = np.ones((1, 4, 4, 3), np.float32)
    close(emit.build(graph)(x), outputs_of(graph, [x]))


class Differences(nn.Module):
    """A kernel that a convolution has, and that another is computed of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = self.weight.sum((2, 3), keepdim=True)
        return nn.functional.conv2d(x, self.weight, padding=1) - nn.functional.conv2d(x, middle)


@pytest.mark.parametrize("framework", ["jax", "keras"])
def test_a_kernel_that_something_else_reads_has_a_layer_and_a_place(framework: str, tmp_path: Path) -> None:
    net = nn.Sequential(Differences(), nn.ReLU())
    if framework == "keras":
        pytest.importorskip("keras", reason="Keras is not installed")
    proof = instep.port(net, tmp_path / "net.py", to=f"{framework}-source", inputs=[(1, 3, 8, 8)])
    assert proof.verdict.verdict == "in step"
