"""Weights start as the frameworks' initialisers of those names have it, and are drawn when they are read."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from instep.graph import Graph
from instep.graph.pending import Pending
from instep.graph.text import dump, parse
from instep.graph.text.initial import INITIALISERS, initialise

FAN_IN, FAN_OUT = 300, 500
#: What is left of the deviation of a normal distribution cut at two deviations: √(1 - 2·2φ(2) / (Φ(2) - Φ(-2))).
CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))

#: name, number, deviation, largest magnitude (None: none), as PyTorch, Keras and TensorFlow document them.
DRAWN = [
    ("torch", None, FAN_IN**-0.5 / math.sqrt(3), FAN_IN**-0.5),
    ("kaiming_normal", None, math.sqrt(2 / FAN_IN), None),
    ("xavier_normal", None, math.sqrt(2 / (FAN_IN + FAN_OUT)), None),
    ("he_normal", None, math.sqrt(2 / FAN_IN), 2 * math.sqrt(2 / FAN_IN) / CUT),
    ("he_uniform", None, math.sqrt(2 / FAN_IN), math.sqrt(6 / FAN_IN)),
    ("glorot_normal", None, math.sqrt(2 / (FAN_IN + FAN_OUT)), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)) / CUT),
    ("glorot_uniform", None, math.sqrt(2 / (FAN_IN + FAN_OUT)), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    ("lecun_normal", None, math.sqrt(1 / FAN_IN), 2 * math.sqrt(1 / FAN_IN) / CUT),
    ("lecun_uniform", None, math.sqrt(1 / FAN_IN), math.sqrt(3 / FAN_IN)),
    ("normal", 0.3, 0.3, None),
    ("truncated_normal", 0.05, 0.05 * CUT, 0.1),  # TensorFlow cuts at two deviations and corrects nothing
    ("uniform", 0.3, 0.3 / math.sqrt(3), 0.3),
]


@pytest.mark.parametrize(("name", "number", "deviation", "most"), DRAWN)
def test_moments_and_bounds(name: str, number: float | None, deviation: float, most: float | None) -> None:
    numbers = () if number is None else (number,)
    drawn = initialise((name, numbers), "w", (1000, 1000), (FAN_IN, FAN_OUT), "float32", 0)
    count = drawn.size
    wide = drawn.astype(np.float64)
    assert drawn.dtype == np.float32
    assert abs(wide.mean()) < 5 * deviation / math.sqrt(count)
    assert wide.std() == pytest.approx(deviation, rel=5 / math.sqrt(count))
    if most is None:
        assert np.abs(wide).max() > 4 * deviation, "a whole normal distribution goes further than four deviations"
    else:
        assert 0.999 * most < np.abs(wide).max() <= most * (1 + 1e-6)


def test_every_initialiser_is_tried() -> None:
    assert {n for n, *_ in DRAWN} | {"constant", "zeros", "ones"} == set(INITIALISERS)


def test_constants() -> None:
    for name, numbers, value in (("constant", (0.1,), 0.1), ("zeros", (), 0), ("ones", (), 1)):
        drawn = initialise((name, numbers), "w", (3, 4), (1, 1), "float32", 0)
        assert np.array_equal(drawn, np.full((3, 4), value, np.float32))


MODULES = {
    "conv: {out: 8, kernel: [3, 5], init: glorot_uniform}": nn.Conv2d(6, 8, (3, 5)),
    "conv: {out: 9, kernel: 3, groups: 3, init: glorot_uniform}": nn.Conv2d(6, 9, 3, groups=3),
    "conv: {out: 12, kernel: 3, groups: 6, init: glorot_uniform}": nn.Conv2d(6, 12, 3, groups=6),
    "conv_transpose: {out: 4, kernel: 3, groups: 2, init: glorot_uniform}": nn.ConvTranspose2d(6, 4, 3, groups=2),
    "linear: {out: 40, init: glorot_uniform}": nn.Linear(7, 40),
}


@pytest.mark.parametrize("layer", MODULES)
def test_fans_are_those_of_pytorch(layer: str) -> None:
    """A Glorot-uniform draw fills ±√(6 / (fan-in + fan-out)): the bound tells the fans."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(MODULES[layer].weight)
    drawn = [net(layer, seed=seed).weights for seed in range(40)]
    most = max(np.abs(a).max() for w in drawn for v, a in w.items() if v.name.endswith("weight"))
    assert most == pytest.approx(math.sqrt(6 / (fan_in + fan_out)), rel=2e-3)


def net(*steps: str, seed: int = 0) -> Graph:
    return parse("input: {x: [1, 6, 8, 7]}\nbody:\n" + "".join(f"  - {s}\n" for s in steps), seed=seed)


DECAYED = """
input: {x: [1, 3, 8, 8]}
defaults: {conv: {decay: 0.0005}}
body:
  - a = conv: {out: 4, kernel: 3}
  - batch_norm
  - b = conv: {out: 4, kernel: 1, decay: 0.002}
  - c = conv: {out: 4, kernel: 1, decay: null}
  - flatten
  - d = linear: {out: 2}
"""


def test_decay_is_of_kernels_alone_and_survives_the_text() -> None:
    graph = parse(DECAYED)
    assert graph.meta["decay"] == {"a.weight": 0.0005, "b.weight": 0.002}
    assert parse(dump(graph)).meta["decay"] == graph.meta["decay"]


def test_weights_are_drawn_when_they_are_read() -> None:
    graph = net("a = conv: {out: 4, kernel: 3}", "b = conv: {out: 5, kernel: 3}")
    weights = graph.weights
    assert isinstance(weights, Pending) and not list(weights.settled())
    first = {v.name: v for v in weights}["b.weight"]
    assert weights[first].shape == (5, 4, 3, 3)
    assert [v for v, _ in weights.settled()] == [first]
    assert weights.get(first) is weights[first] and weights.get(graph.inputs[0]) is None


def test_threads_that_read_one_weight_get_one_array() -> None:
    weights = net("flatten", "a = linear: {out: 4000}").weights
    first = next(iter(weights))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: weights[first], range(8)))
    assert all(a is read[0] and a.shape == first.shape for a in read)


WAYS = {
    "items": lambda w: dict(w.items()),
    "dict": dict,
    "stars": lambda w: {**w},
    "or": lambda w: w | {},
    "ror": lambda w: {} | w,
    "copy": lambda w: w.copy(),
    "zip": lambda w: dict(zip(w, w.values(), strict=True)),
    "pop": lambda w: {v: w.pop(v) for v in list(w)},
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_weights_are_taken_they_are_arrays(way: str) -> None:
    want = {v.name: a for v, a in net("a = conv: {out: 4, kernel: 3}").weights.items()}
    have = {v.name: a for v, a in WAYS[way](net("a = conv: {out: 4, kernel: 3}").weights).items()}
    assert list(have) == list(want) and all(np.array_equal(have[n], want[n]) for n in want)
    again = pickle.loads(pickle.dumps(net("a = conv: {out: 4, kernel: 3}").weights))
    assert [a.shape for a in again.values()] == [a.shape for a in want.values()]


LSTM = """
input: {x: [2, 5, 3], h: [2, 4], c: [2, 4]}
body:
  - y, h1, c1 = lstm(x, h, c): {hidden: 4, forget_bias: FORGET, at: cell}
output: [y, h1, c1]
"""


@pytest.mark.parametrize("forget", [0.0, 1.0])
def test_an_lstm_is_pytorchs_with_one_bias(forget: float) -> None:
    graph = parse(LSTM.replace("FORGET", str(forget)))
    module = nn.LSTM(3, 4, batch_first=True).double()
    weights = {v.name: torch.from_numpy(a.astype("float64")) for v, a in graph.weights.items()}
    second = torch.zeros(16, dtype=torch.float64)
    second[4:8] = forget
    module.load_state_dict({
        "weight_ih_l0": weights["cell.weight_ih"], "weight_hh_l0": weights["cell.weight_hh"],
        "bias_ih_l0": weights["cell.bias"], "bias_hh_l0": second,
    })  # fmt: skip
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal(s) for s in ((2, 5, 3), (2, 4), (2, 4)))
    with torch.no_grad():
        y, (h1, c1) = module(torch.from_numpy(x), (torch.from_numpy(h)[None], torch.from_numpy(c)[None]))
    have = graph.run([x, h, c], keep=[])
    for value, want in zip(graph.outputs, (y, h1[0], c1[0]), strict=True):
        assert np.allclose(have[value], want.numpy(), atol=1e-12)


def test_an_embedding_is_rows_of_its_weight() -> None:
    graph = parse('input: {ids: "int64[2, 3]"}\nbody:\n  - e = embedding: {count: 9, out: 4}\n')
    ids = np.array([[0, 8, 3], [3, 3, 1]])
    weight = next(iter(graph.weights.values()))
    assert np.array_equal(graph.run([ids], keep=[])[graph.outputs[0]], weight[ids])
