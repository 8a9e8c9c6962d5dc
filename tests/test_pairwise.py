"""Forms held against each other: rounding passes, a fault stands out in every pair that has it and in no other."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.pairwise import Ran, Remembered, every_pair, worst
from benchmarks.zoo_child import as_trained

from instep.graph import SourceView
from instep.graph.reference import GraphReference
from instep.graph.text import parse
from instep.verify.mapping import Mapping
from instep.verify.plan import inputs_of

TEXT = """
input: {x: [1, 3, 10, 12]}
body:
  - conv: {out: 6, kernel: 3, act: relu}
  - conv: {out: 4, kernel: 3}
"""


class Counted(GraphReference):
    runs = 0

    def run(self, *args, **options):
        self.runs += 1
        return super().run(*args, **options)


def test_a_fault_of_one_form_stands_out_in_its_pairs_alone() -> None:
    graph = parse(TEXT)
    reference = Counted(graph)
    source = Remembered(reference, graph)
    sets, draws = inputs_of(source, graph)
    (x,), (y,) = graph.inputs, graph.outputs
    exact = [reference.run(list(s.arrays), dtype="float32")[y.name] for s in sets]
    last = Mapping({}, [SourceView.whole(x.name, x.shape)], [SourceView(y.name, (0, 2, 3, 1), (1, 6, 8, 4))])
    first = Mapping({}, [SourceView.whole(x.name, x.shape)], [SourceView.whole(y.name, y.shape)])
    forms = {
        "right": Ran("torch", first, [[a] for a in exact]),
        "last": Ran("jax", last, [[np.ascontiguousarray(a.transpose(0, 2, 3, 1))] for a in exact]),
        "wrong": Ran("keras-jax", first, [[a * np.float32(1.0001)] for a in exact]),
        "shifted": Ran("keras-tensorflow", first, [[np.roll(a, 1, 3)] for a in exact]),
    }
    before = reference.runs
    found = every_pair(source, forms, sets, graph=graph, draws=draws)
    classes = {(a, b): v.verdict for a, beside in found.items() for b, v in beside.items()}
    good = {k for k, v in classes.items() if v == "in step"}
    assert good == {("right", "source"), ("last", "source"), ("right", "last")}
    assert {classes[k] for k in classes.keys() - good} == {"out of step"}
    # ten verdicts, and the source ran as often as for one
    assert reference.runs - before == sum(2 + (2 if s.edge else draws if n < 2 else 1) for n, s in enumerate(sets))


def test_a_file_that_shows_an_earlier_value_is_held_against_the_others_too() -> None:
    graph = parse("input: {x: [1, 3, 6, 5]}\nbody:\n  - conv: {out: 4, kernel: 3}\n  - permute: {perm: [0, 2, 3, 1]}\n")
    reference = GraphReference(graph)
    sets, draws = inputs_of(reference, graph)
    (x,), (y,) = graph.inputs, graph.outputs
    before = graph.nodes[0].output
    exact = [reference.run(list(s.arrays), dtype="float32")[y.name] for s in sets]
    inputs = [SourceView.whole(x.name, x.shape)]
    forms = {
        "code": Ran("torch", Mapping({}, inputs, [SourceView.whole(y.name, y.shape)]), [[a] for a in exact]),
        "file": Ran("jax", Mapping({}, inputs, [SourceView(before.name, (0, 2, 3, 1), y.shape)]), [[a] for a in exact]),
    }
    found = every_pair(reference, forms, sets, graph=graph, draws=draws)
    assert found["code"]["file"].verdict == "in step" and found["file"]["source"].verdict == "in step"
    forms["file"].mapping = Mapping({}, inputs, [SourceView(before.name, (0, 1, 2, 3), y.shape)])
    assert every_pair(reference, forms, sets, graph=graph, draws=draws)["code"]["file"].verdict == "out of step"
    forms["file"].mapping = Mapping({}, inputs, [SourceView.whole(x.name, x.shape)])
    with pytest.raises(ValueError, match="no order of the axes"):
        every_pair(reference, forms, sets, graph=graph, draws=draws)


def test_the_worst_of_verdicts() -> None:
    assert worst(["in step", "drifting", "in step"]) == "drifting"
    assert worst(["in step", "refused", "out of step"]) == "refused"


def test_weights_are_drawn_where_a_fresh_network_has_one_number() -> None:
    graph = parse("input: {x: [1, 3, 6, 6]}\nbody:\n  - conv: {out: 4, kernel: 3}\n  - batch_norm: {act: prelu}\n")
    kernel = {v.name: np.array(a) for v, a in graph.weights.items()}["conv_1.weight"]
    as_trained(graph)
    arrays = {v.name: np.asarray(a) for v, a in graph.weights.items()}
    assert np.array_equal(arrays.pop("conv_1.weight"), kernel)
    assert all(len(np.unique(a)) == a.size for a in arrays.values())
    assert arrays["batch_norm_1.running_var"].min() > 0
