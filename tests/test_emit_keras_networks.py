"""Whole networks as Keras code: they run, go through files and train without Instep, on TensorFlow and on JAX."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clean_code import assert_clean
from instep import zoo
from instep.capture import capture
from instep.emit.keras import build, save, source, state
from instep.emit.keras.batch import any_batch
from instep.graph import Graph, Value, ops
from instep.graph.text import parse
from instep.rewrite.pipelines import to_channels_last

WORKER = Path(__file__).with_name("keras_networks.py")
ZOO = ("3c3d", "aggregation_net", "ecbsr_training", "elsr", "mobile_rrn", "rlfn_s", "vae")
LARGER = ("aggregation_net", "ecbsr_training", "rlfn_s")
TIMM = ("mobilenetv2_050", "vit_tiny_patch16_224", "convnext_atto")


def normed() -> Graph:
    """A batch norm over few places, a layer that is called twice, a dropout, and a name that Keras gives itself."""
    rng = np.random.default_rng(3)
    graph = Graph()
    x = Value("picture", (2, 3, 6, 6))
    graph.inputs, graph.input_names = [x], ["picture"]

    def weight(name: str, *shape: int, low: float = -1.0) -> Value:
        return graph.constant(rng.uniform(low, 1.5, shape).astype(np.float32), name)

    y = graph.add(ops.Conv2d((2, 2), ((1, 1), (1, 1))), [x, weight("relu.weight", 4, 3, 3, 3)], scope="relu").output
    vectors = [weight(f"norm.{n}", 4, low=0.5) for n in ("weight", "bias", "running_mean", "running_var")]
    y = graph.add(ops.BatchNorm(1e-3, 1, 0.25), [y, *vectors], scope="norm").output
    y = graph.add(ops.Relu(), [y], scope="act").output
    twice = weight("twice.weight", 4, 4, 1, 1)
    for call in ("first", "second"):
        y = graph.add(ops.Conv2d(), [y, twice], scope="twice", names=[call]).output
    y = graph.add(ops.Dropout(0.5, (2, 3)), [y], scope="drop").output
    y = graph.add(ops.Mul(), [y, weight("gamma", 4, 1, 1)]).output
    y = graph.add(ops.Add(), [y, weight("table", 1, 1, 3, 1)]).output
    graph.outputs, graph.output_names = [y], ["result"]
    return graph


def unlayered() -> Graph:
    """Kernels that no layer of Keras has: one that is read in three ways, one in groups and dilated."""
    rng = np.random.default_rng(3)
    graph = Graph()
    x = Value("x", (2, 4, 7, 6))
    graph.inputs, graph.input_names = [x], ["x"]

    def weight(name: str, *shape: int) -> Value:
        return graph.constant(rng.normal(0, 0.3, shape).astype(np.float32), name)

    kernel = weight("kernel", 6, 4, 3, 3)
    y = graph.add(ops.Conv2d((1, 1), ((1, 1), (1, 1))), [x, kernel]).output
    z = graph.add(ops.ConvTranspose2d((1, 1), ((1, 1), (1, 1))), [y, kernel]).output
    op = ops.ConvTranspose2d((2, 3), ((1, 0), (2, 1)), (1, 0), (2, 1), 2)
    turned = graph.add(op, [y, weight("turned.weight", 6, 2, 3, 4), weight("turned.bias", 4)], scope="turned").output
    decay = graph.add(ops.ReduceSum((0, 1, 2, 3), False), [graph.add(ops.Square(), [kernel]).output]).output
    graph.outputs, graph.output_names = [z, turned, decay], ["z", "turned", "decay"]
    return graph


#: A loop in the code, with states that come in and a state that begins as a constant.
RECURRENT = """
input: {x: [2, 9, 3], h: [2, 4]}
body:
  - c = param: {shape: [2, 4], init: ones}
  - y, h_next, c_next = lstm(x, h, c): {hidden: 4}
  - z, z_next, d_next = lstm(y, h, c): {hidden: 4}
  - linear(z): {out: 3}
"""


#: Parts, places of an axis and stacks.
IDIOMS = """
input: {x: [2, 4, 6]}
body:
  - linear: {out: 6}
  - a, b, c = split: {axis: 2}
  - y = concat(c, a, b): {axis: 2}
  - d, e = split(y): {sizes: [1, 5], axis: 2}
  - product = mul(e, d)
  - p, q, r, s = unbind(y): {axis: 1}
  - first = select(y): {axis: 0, index: 1}
  - raised = add(y, first)
  - last = select(y): {axis: 2, index: 5}
  - u = reshape(p): {shape: [2, 6, 1]}
  - v = reshape(s): {shape: [2, 6, 1]}
  - stacked = concat(u, v): {axis: 2}
output: {product: product, q: q, r: r, raised: raised, last: last, stacked: stacked}
"""


def networks() -> dict[str, Graph]:
    found = {name: parse(zoo.path_of(name)) for name in ZOO} | {"normed": normed(), "recurrent": parse(RECURRENT)}
    found["idioms"] = parse(IDIOMS)
    if find_spec("timm") and find_spec("torch"):
        found |= {name: capture(f"timm:{name}").graph for name in TIMM}
    return {name: to_channels_last(graph)[0] for name, graph in found.items()}


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    return networks()


def environment(backend: str) -> dict[str, str]:
    tests = Path(__file__).parent
    places = os.pathsep.join(str(p) for p in (tests.parent / "src", tests, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": places}


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * max(1e-3, float(np.abs(want).max())))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for package in ("keras", "jax", "h5py"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    writing = "import sys; from test_emit_keras_networks import *; save(to_channels_last(unlayered())[0], sys.argv[1])"
    path = tmp_path / "unlayered.keras"
    command = [sys.executable, "-c", writing, str(path)]
    done = subprocess.run(command, env=environment("jax"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    graph, _ = to_channels_last(unlayered())
    read = capture(str(path)).graph
    x = np.random.default_rng(4).normal(size=graph.inputs[0].shape)
    want, got = graph.run([x], keep=[]), read.run([x], keep=[])
    for value, other in zip(graph.outputs, read.outputs, strict=True):
        close(got[other], want[value])
    assert sum(a.size for v, a in read.weights.items() if "/" not in v.name) == 6 * 4 * 9 + 6 * 2 * 12 + 4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_networks_run_reload_and_train_without_instep(backend: str, graphs: dict[str, Graph], tmp_path: Path) -> None:
    for package in ("keras", backend):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    # JAX compiles each operation for itself here: it gets the smaller ones
    graphs = {k: g for k, g in graphs.items() if backend == "tensorflow" or k not in (*TIMM, *LARGER)}
    rng = np.random.default_rng(0)
    given: dict[str, list[np.ndarray]] = {}
    for name, graph in graphs.items():
        save(graph, tmp_path / f"{name}.py")
        inputs = [rng.random(v.shape, np.float32) for v in graph.inputs]
        np.savez(tmp_path / f"{name}.npz", **{str(i): x for i, x in enumerate(inputs)})
        given[name] = inputs
    # Keras itself writes one of the files from the graph
    writing = (
        "import sys, keras; from test_emit_keras_networks import *; save(to_channels_last(normed())[0], sys.argv[1])"
    )
    for command in (["-c", writing, str(tmp_path / "normed.keras")], [str(WORKER), str(tmp_path)]):
        child = subprocess.run(
            [sys.executable, *command],
            cwd=Path(__file__).parent, env=environment(backend), capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert child.returncode == 0, child.stderr[-4000:]
    results = pickle.loads((tmp_path / "results.pickle").read_bytes())
    for name, graph in graphs.items():
        found: dict[str, Any] = results[name]
        want = graph.run([x.astype(np.float64) for x in given[name]], keep=graph.outputs)
        for i, value in enumerate(graph.outputs):
            close(found["outputs"][i], want[value])
            np.testing.assert_allclose(found["reloaded"][i], found["outputs"][i], rtol=1e-5, atol=1e-6)
            if "three" in found:
                close(found["three"][i], np.concatenate([want[value]] * 3))
        assert ("three" in found) == any_batch(graph)
        assert np.isfinite(found["loss"]).all() and any(found["moved"]), name
    statistics(graphs["normed"], given["normed"], results["normed"]["statistics"])
    assert all(results["normed"]["moved"])
    assert results["normed"]["names"].count("twice") == 1


def statistics(graph: Graph, inputs: list[np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Running statistics are PyTorch's: the new batch counts with the momentum, its variance is the unbiased one."""
    norm = next(n for n in graph.nodes if isinstance(n.op, ops.BatchNorm))
    x = norm.inputs[0]
    batch = graph.run([a.astype(np.float64) for a in inputs], keep=[x])[x]
    mean, var = (graph.weights[v].astype(np.float64) for v in norm.inputs[3:])
    new = 0.75 * mean + 0.25 * batch.mean((0, 1, 2)), 0.75 * var + 0.25 * batch.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(found["norm.moving_mean"], new[0], rtol=1e-5)
    np.testing.assert_allclose(found["norm.moving_variance"], new[1], rtol=1e-5)


def test_code_is_clean_and_short(graphs: dict[str, Graph], tmp_path: Path) -> None:
    for name, graph in graphs.items():
        (tmp_path / f"{name}.py").write_text(source(graph))
    assert_clean(tmp_path)
    text = source(graphs["rlfn_s"])
    assert len(text.splitlines()) < 100 and text.count("def rlfb(") == 1
    assert 'layers.Conv2D(48, 3, padding="same"' in text


def test_weights_keep_their_scopes(graphs: dict[str, Graph]) -> None:
    arrays = state(graphs["normed"])
    assert set(arrays) == {
        "relu_layer.kernel", "norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance", "twice.kernel",
        "gamma", "table",
    }  # fmt: skip
    assert arrays["relu_layer.kernel"].shape == (3, 3, 3, 4)


def test_batches_of_any_size_where_samples_do_not_meet() -> None:
    graph = Graph()
    x = Value("x", (4, 8))
    graph.inputs, graph.input_names = [x], ["x"]
    y = graph.add(ops.Softmax(1), [x]).output
    graph.outputs, graph.output_names = [y], ["y"]
    assert any_batch(graph)
    graph.outputs = [graph.add(ops.Softmax(0), [y]).output]
    assert not any_batch(graph)
    assert "batch_shape=(4, 8)" in source(graph)


def test_a_layer_that_is_called_on_numbers_has_its_weights_before() -> None:
    """Keras computes at once what no input reaches: a bias that is loaded behind would come too late."""
    rng = np.random.default_rng(5)
    graph = Graph([Value("x", (2, 4))], input_names=["x"])
    start = graph.constant(rng.standard_normal((2, 3)).astype(np.float32), "cell/start")
    weight, bias = (graph.constant(rng.standard_normal(s).astype(np.float32), f"cell.{n}") for n, s in
                    (("weight", (4, 3)), ("bias", (4,))))  # fmt: skip
    state = graph.add(ops.Tanh(), [start], scope="act").output
    moved = graph.add(ops.Linear(), [state, weight, bias], scope="cell").output
    graph.outputs, graph.output_names = [graph.add(ops.Add(), [graph.inputs[0], moved]).output], ["y"]
    x = rng.standard_normal((2, 4)).astype(np.float32)
    truth = graph.run([x.astype(np.float64)])[graph.outputs[0]]
    found: Any = build(graph)(x)
    np.testing.assert_allclose(np.asarray(found.detach() if hasattr(found, "detach") else found), truth, atol=1e-5)
