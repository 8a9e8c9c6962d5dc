"""Every operator as PyTorch code computes its own definition, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from instep.emit.code.call import NoCode  # noqa: E402
from instep.emit.torch import build, source  # noqa: E402
from instep.emit.torch.dialect import RESERVED, TORCH  # noqa: E402
from instep.graph import OPERATORS, Graph, Operator, Spec, Value, operator, ops  # noqa: E402
from instep.rewrite.driver import run as rewrite  # noqa: E402
from instep.rewrite.lower import DECOMPOSITIONS, Build, decomposes, expanding  # noqa: E402
from lowering_cases import CASES  # noqa: E402

#: Cases per operator.
COUNT = 20


def test_every_operator_has_a_form() -> None:
    assert {kind.__name__ for kind in TORCH.table} >= set(OPERATORS)


def test_the_names_of_modules_are_those_that_pytorch_has() -> None:
    names = {n for n in dir(torch.nn.Module()) if not n.startswith("__")}
    assert names <= RESERVED


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def assert_computes(graph: Graph, inputs: list[np.ndarray]) -> None:
    """The live module and the graph agree: shapes, types, and values but for the rounding of float64."""
    model = build(graph).double()
    with torch.no_grad():
        got = model(*(torch.from_numpy(np.array(wide(a))) for a in inputs))
    results = got if isinstance(got, tuple) else (got,)
    want = graph.run([wide(a) for a in inputs], keep=[])
    for tensor, value in zip(results, graph.outputs, strict=True):
        assert tuple(tensor.shape) == value.shape
        assert tensor.numpy().dtype == want[value].dtype
        np.testing.assert_allclose(tensor.numpy(), want[value], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", list(CASES))
def test_operators_compute_their_definition(name: str) -> None:
    @settings(
        max_examples=COUNT,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(st.data())
    def agrees(data: Any) -> None:
        assert_computes(*CASES[name](data.draw))

    agrees()


def image(op: Operator, shape: tuple[int, ...], *weights: tuple[int, ...]) -> tuple[Graph, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    graph, x = Graph(), Value("x", shape)
    graph.inputs, graph.input_names = [x], ["x"]
    names = [f"net.{n}" for n in ("weight", "bias")]
    constants = [graph.constant(rng.normal(size=s).astype(np.float32), n) for s, n in zip(weights, names, strict=False)]
    graph.outputs = [graph.add(op, [x, *constants], scope="net").output]
    graph.output_names = ["y"]
    return graph, [rng.normal(size=shape).astype(np.float32)]


#: mode, coordinates, antialias; no framework has antialias otherwise
RESIZES = [
    *((m, c, False) for m in ("nearest", "bilinear", "bicubic") for c in ("half_pixel", "asymmetric", "align_corners")),
    ("bilinear", "half_pixel", True),
    ("bicubic", "half_pixel", True),
]


@pytest.mark.parametrize(("mode", "coordinates", "antialias"), RESIZES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pictures_are_resized_in_every_way_that_frameworks_have(
    mode: str, coordinates: str, antialias: bool, layout: str
) -> None:
    shape = (1, 2, 7, 9) if layout == "NCHW" else (1, 7, 9, 2)
    for size in ((14, 18), (4, 13)):
        assert_computes(*image(ops.Resize2d(size, mode, coordinates, None, antialias, layout), shape))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 1), (0, 1)), ((1, 0), (2, 1))])
def test_means_count_the_places_that_the_source_counts(ceil: bool, counted: bool, padding: Any) -> None:
    over = (1, 1) if ceil else (0, 0)
    assert_computes(*image(ops.AvgPool2d((3, 3), (2, 2), padding, counted, over), (2, 3, 8, 8)))


def test_symmetric_pads_are_the_layers_own_and_others_are_padded_before_it() -> None:
    alike, _ = image(ops.Conv2d(padding=((1, 1), (2, 2))), (1, 2, 8, 8), (4, 2, 3, 5))
    assert "padding=(1, 2)" in source(alike) and "F.pad" not in source(alike)
    same, _ = image(ops.Conv2d((2, 2), ((0, 1), (0, 1))), (1, 2, 8, 8), (4, 2, 3, 3))
    assert "F.pad(x, (0, 1, 0, 1))" in source(same)


def test_a_transposed_convolution_that_crops_one_side_needs_no_crop() -> None:
    # stride 2, kernel 4, one row less at the top alone: padding=1 and one row of output_padding
    graph, inputs = image(ops.ConvTranspose2d((2, 2), ((1, 0), (1, 0))), (1, 2, 5, 5), (2, 3, 4, 4))
    assert "padding=1, output_padding=1" in source(graph) and "crop" not in source(graph)
    assert_computes(graph, inputs)
    graph, inputs = image(ops.ConvTranspose2d((2, 2), ((0, 1), (0, 1))), (1, 2, 5, 5), (2, 3, 4, 4))
    assert "F.pad(self.net(x), (0, -1, 0, -1))" in source(graph)
    assert_computes(graph, inputs)


def test_dropout_drops_while_training_and_whole_channels_where_they_share_a_draw() -> None:
    for shared, layout in (((2, 3), (2, 8, 4, 4)), ((1, 2), (2, 4, 4, 8)), ((0, 3), (2, 8, 4, 4))):
        graph, _ = image(ops.Dropout(0.5, shared), layout)
        model = build(graph)
        x = torch.ones(layout)
        assert torch.equal(model(x), x)
        torch.manual_seed(0)
        y = model.train()(x)
        assert set(y.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(y, y.amax(dim=shared, keepdim=True).expand(layout))


# -- what comes from outside -----------------------------------------------------------------------------------------
@pytest.fixture
def softsign() -> Any:
    @operator
    class Softsign(Operator):
        """x / (1 + |x|)."""

        power: str = ""

        def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
            return (inputs[0],)

        def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
            return (inputs[0] / (1 + np.abs(inputs[0])),)

    yield Softsign
    del OPERATORS["Softsign"]
    TORCH.table.pop(Softsign, None)
    DECOMPOSITIONS.pop(Softsign, None)


def test_an_operator_without_a_form_is_named_with_its_place(softsign: Any) -> None:
    graph, _ = image(softsign(), (2, 3))
    graph.nodes[0].origin = "model.py:7"
    with pytest.raises(NoCode, match=r"Softsign 'net' \(model.py:7\) has no form in torch"):
        source(graph)


def test_an_operator_from_outside_is_decomposed_or_brings_its_form(softsign: Any) -> None:
    from instep.emit.code.call import Call

    @decomposes(softsign)
    def decompose(b: Build) -> bool:
        return b.done(ops.Div(), b.x, b.add(ops.Add(), b.add(ops.Abs(), b.x), b.constant(1.0, "one")))

    graph, inputs = image(softsign(), (2, 3))
    expanded, _ = rewrite(graph, [expanding(TORCH.table)])
    assert_computes(expanded, inputs)
    TORCH.table[softsign] = lambda node, graph: Call(node.inputs, node.outputs, "F.softsign({0})")
    assert "return F.softsign(x)" in source(graph)
    assert_computes(graph, inputs)


def test_fields_and_types_that_are_no_plain_data_are_refused(softsign: Any) -> None:
    from instep.emit.code.call import Call

    TORCH.table[softsign] = lambda node, graph: Call(node.inputs, node.outputs, f"{node.op.power}({{0}})")
    graph, _ = image(softsign("print('owned') or F.relu"), (2, 3))
    with pytest.raises(NoCode, match="its power is"):
        source(graph)
    graph, _ = image(ops.Relu(), (2, 3))
    graph.nodes[0].output.dtype = "float32); print('owned'"
    with pytest.raises(NoCode, match="a value's type is"):
        source(graph)
