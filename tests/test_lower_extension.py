"""An operator from outside: what docs/add-an-operator.md says, done by another package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from instep import extensions
from instep.emit.tflite import write
from instep.graph import OPERATORS, Operator, Spec, Value, operator, ops
from instep.rewrite.lower import DECOMPOSITIONS, Build, decomposes
from instep.rewrite.pipelines import to_tflite
from instep.runtime import run, tflite_info


@pytest.fixture
def softsign() -> Iterator[type[Operator]]:
    """The operator of the page, registered as an extension does and taken away again."""

    @operator
    class Softsign(Operator):
        """x / (1 + |x|)."""

        elementwise = True

        def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
            (x,) = inputs
            return (x,)

        def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
            (x,) = inputs
            return (x / (1 + np.abs(x)),)

    @decomposes(Softsign)
    def decompose(b: Build) -> bool:
        return b.done(ops.Div(), b.x, b.add(ops.Add(), b.add(ops.Abs(), b.x), b.constant(1.0, "one")))

    yield Softsign
    del OPERATORS["Softsign"], DECOMPOSITIONS[Softsign]


def test_an_operator_from_outside_converts(softsign: type[Operator], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from instep.capture import capture
    from instep.capture.torch.registry import HANDLERS, handles

    library = torch.library.Library("instep_test", "FRAGMENT")
    library.define("softsign(Tensor x) -> Tensor")
    library.impl("softsign", lambda x: x / (1 + x.abs()), "CompositeExplicitAutograd")
    library.impl("softsign", torch.empty_like, "Meta")

    @handles("instep_test.softsign.default")
    def handler(b, x: Value) -> Value:
        return b(softsign(), x)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return torch.ops.instep_test.softsign(self.conv(x))

    try:
        captured = capture(Net().eval(), inputs=[(1, 3, 8, 8)])
    finally:
        del HANDLERS["instep_test.softsign.default"]
    assert [n.op.name for n in captured.graph.nodes] == ["Conv2d", "Softsign"]
    graph, _ = to_tflite(captured.graph)
    write(graph, tmp_path / "net.tflite")
    assert set(tflite_info(tmp_path / "net.tflite").histogram) == {"CONV_2D", "ABS", "ADD", "DIV"}
    data = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    want = next(iter(captured.graph.run([data.astype(np.float64)], keep=[]).values()))
    got = run(tmp_path / "net.tflite", [data.transpose(0, 2, 3, 1)]).outputs[0]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), want, atol=1e-6)


def test_extensions_are_imported_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    good = SimpleNamespace(name="good", value="pkg.good", dist=None, load=lambda: loaded.append("good"))
    monkeypatch.setattr(extensions, "entry_points", lambda group: [good])
    assert extensions.load_extensions.__wrapped__() == ("good",) and loaded == ["good"]


def test_a_broken_extension_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise RuntimeError("no such thing")

    bad = SimpleNamespace(name="bad", value="pkg.bad", dist=SimpleNamespace(name="a-package"), load=load)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [bad])
    with pytest.raises(ImportError, match=r"'bad' of a-package \(pkg.bad\).*no such thing"):
        extensions.load_extensions.__wrapped__()
