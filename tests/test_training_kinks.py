"""The judgement of a training step: elements at kinks may take either side, and a planted fault is still seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.training.judging import judged
from benchmarks.training.kinks import Kinks, Sides, roundings
from benchmarks.training.steps import RATE, torch_step
from benchmarks.training.sums import Sums, in_blocks
from benchmarks.training.task import Task

from instep.graph import Graph, ops
from instep.graph.text import parse

torch.set_num_threads(1)

TEXT = """
input: {x: [4, 3, 12, 12]}
body:
  - first = conv: {out: 8, kernel: 3, padding: 1}
  - leaky_relu: {slope: 0.05}
  - second = conv: {out: 8, kernel: 3, bias: false}
  - norm = batch_norm: {act: relu}
  - max_pool: {kernel: 2}
  - flatten
  - dense = linear: {out: 5}
"""


class Steps:
    """A task, the truth of its step, and the draws of its noise without and with those on other sides of kinks."""

    def __init__(self) -> None:
        graph = parse(TEXT)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(4, 3, 12, 12)).astype(np.float32)
        weights = {v.name: np.array(a) for v, a in graph.weights.items()}
        # the bias that takes pixel (5, 5) of the first picture to the kink, as near as float32 has it
        patch = x[0, :, 4:7, 4:7].astype(np.float64)
        weights["first.bias"] = -(weights["first.weight"] * patch).sum((1, 2, 3)).astype(np.float32)
        self.task = Task(_with(graph, weights), [x], [rng.normal(size=(4, 5)).astype(np.float32)])
        exact, singles = Kinks(), [Kinks() for _ in range(3)]
        self.truth = torch_step(self.task, True, exact)
        tasks = [self.task, *(self.task.nudged(rng) for _ in singles[1:])]
        self.plain = [torch_step(t, False, k) for t, k in zip(tasks, singles, strict=True)]
        self.near = roundings(exact, singles)
        self.sided = [torch_step(self.task, True, Sides(self.near, 0, other)) for other in (False, True)]
        self.start = weights

    def judged(self, result: dict[str, np.ndarray], kinks: bool = True) -> dict[str, Any]:
        return judged(self.start, self.truth, [*self.plain, *(self.sided if kinks else [])], result)


def _with(graph: Graph, weights: dict[str, np.ndarray]) -> Graph:
    graph = graph.copy()
    for value in list(graph.weights):
        graph.weights[value] = weights[value.name]
    return graph


@pytest.fixture(scope="module")
def steps() -> Steps:
    return Steps()


def test_another_side_of_a_kink_is_legal_and_no_float32_run_need_show_it(steps: Steps) -> None:
    # elements at the kink take sides by other dice than those of the draws
    other = torch_step(steps.task, True, Sides(steps.near, 7))
    exact = torch_step(steps.task, True)
    assert judged(steps.start, steps.truth, [exact], other)["class"] != "in step"
    assert steps.judged(other)["class"] == "in step"


def test_every_element_near_a_kink_is_on_its_other_side_in_one_of_two_draws() -> None:
    x = torch.tensor([1e-9, -1e-9, 0.5, -0.5, 2e-8, -2e-8], dtype=torch.float64)
    slopes = []
    for other in (False, True):
        given = x.clone().requires_grad_()
        with Sides([1e-8], 3, other):
            y = F.leaky_relu(given, 0.05)
        y.sum().backward()
        assert given.grad is not None
        slopes.append(given.grad)
        assert torch.allclose(y, F.leaky_relu(x, 0.05), atol=2e-8, rtol=0)
    own = torch.where(x > 0, 1.0, torch.tensor(0.05, dtype=x.dtype))
    flipped = [(s != own).tolist() for s in slopes]
    assert [a != b for a, b in zip(*flipped, strict=True)] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    "window", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}]
)
def test_a_maximum_comes_from_either_of_two_equal_elements_in_one_of_two_draws(window: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 9, (2, 3, 6, 8)) + 1e-12 * rng.random((2, 3, 6, 8)))
    places = F.max_pool2d(x, **window, return_indices=True)[1]
    flipped = []
    for other in (False, True):
        given = x.clone().requires_grad_()
        with Sides([1e-9], 5, other):
            y = F.max_pool2d(given, **window)
        assert torch.allclose(y, F.max_pool2d(x, **window), atol=2e-9, rtol=0)
        # whose gradient is its own place: which element each maximum came from
        taken = torch.stack([torch.autograd.grad(one, given, retain_graph=True)[0].argmax() for one in y.flatten()])
        plane = x.shape[2] * x.shape[3]
        flipped.append((taken % plane != places.flatten()).numpy())
    windows = F.max_pool2d(x, **window).flatten()
    tied = (_counts(x, window) > 1).numpy()
    assert len(windows) > tied.sum() > 5
    assert np.array_equal(flipped[0] ^ flipped[1], tied)


def _counts(x: torch.Tensor, window: dict[str, Any]) -> torch.Tensor:
    """How many elements of each window are its maximum, but for 1e-9."""
    kernel, stride, pad = window["kernel_size"], window.get("stride", window["kernel_size"]), window.get("padding", 0)
    size = F.max_pool2d(x, **window).shape[2:]
    padded = F.pad(x, (pad, pad + kernel, pad, pad + kernel), value=-1.0)
    found = []
    for plane in padded.flatten(0, 1):
        for i in range(size[0]):
            for j in range(size[1]):
                part = plane[i * stride : i * stride + kernel, j * stride : j * stride + kernel]
                found.append(int((part > part.max() - 1e-9).sum()))
    return torch.tensor(found)


FAULTS: list[tuple[Any, dict[str, float]]] = [
    (ops.LeakyRelu, {"slope": 0.051}),
    (ops.BatchNorm, {"momentum": 0.9}),
    (ops.BatchNorm, {"eps": 1e-3}),
]


@pytest.mark.parametrize(("kind", "wrong"), FAULTS)
def test_a_fault_of_a_layer_is_out_of_step(steps: Steps, kind: Any, wrong: dict[str, float]) -> None:
    graph = steps.task.graph.copy()
    for node in graph.nodes:
        op: Any = node.op
        if isinstance(op, kind):
            node.op = replace(op, **wrong)
    found = steps.judged(torch_step(Task(graph, steps.task.inputs, steps.task.targets)))
    assert found["class"] == "out of step", found


def test_an_l2_that_is_not_there_and_a_biased_variance_are_out_of_step(steps: Steps) -> None:
    right = torch_step(steps.task)
    assert steps.judged(right)["class"] == "in step"
    decayed = {n: a - RATE * 5e-4 * steps.start[n] if n.endswith(".weight") else a for n, a in right.items()}
    assert steps.judged(decayed)["class"] == "out of step"
    count = 4 * 10 * 10  # elements of a channel in the batch
    name = "norm.running_var"
    kept = 0.9 * steps.start[name]
    biased = {**right, name: kept + (right[name] - kept) * (count - 1) / count}
    assert steps.judged(biased)["class"] == "out of step"


def test_a_sum_in_blocks_is_a_float32_sum_that_rounds_less_than_one_after_the_other() -> None:
    terms = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 40_001)).astype(np.float32))
    exact = terms.double().sum(1)
    apart = (in_blocks(terms).double() - exact).abs()
    assert float(apart.max()) > 0
    one_by_one = np.abs(np.add.accumulate(terms.numpy(), axis=1)[:, -1] - exact.numpy())
    assert float((apart**2).mean()) < 0.1 * float((one_by_one**2).mean())
    assert torch.equal(in_blocks(torch.ones(2, 7)), torch.full((2,), 7.0))


def test_statistics_from_float32_sums_are_the_statistics_of_the_batch() -> None:
    graph = parse(TEXT)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 3, 12, 12)).astype(np.float32)
    task = Task(graph, [x], [rng.normal(size=(4, 5)).astype(np.float32)])
    usual, blocked = torch_step(task), torch_step(task, False, Sums())
    start = {v.name: np.asarray(a) for v, a in graph.weights.items()}
    for name, value in usual.items():
        moved = np.abs(value - start[name]).max()
        assert np.abs(blocked[name] - value).max() <= 1e-4 * moved, name
    assert any(not np.array_equal(usual[k], blocked[k]) for k in usual if "running" in k)
