"""Networks as PyTorch code: names, numbers and training as the source has them, in code that a person would write."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from clean_code import assert_clean  # noqa: E402
from instep import zoo  # noqa: E402
from instep.capture import capture  # noqa: E402
from instep.emit.code.program import program  # noqa: E402
from instep.emit.torch import build, save, source, state  # noqa: E402
from instep.emit.torch.dialect import TORCH  # noqa: E402
from instep.graph import Graph, Value, ops  # noqa: E402
from instep.graph.text import parse  # noqa: E402

#: Multiply-accumulates up to which a network of the zoo is run in numpy here.
SMALL = 30e6


def named(model: nn.Module) -> set[str]:
    return {k for k in model.state_dict() if not k.endswith("num_batches_tracked")}


def run_both(graph: Graph, model: nn.Module) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.random(v.shape) if v.dtype == "float32" else np.zeros(v.shape, v.dtype) for v in graph.inputs]
    want = graph.run(inputs, keep=[])
    with torch.no_grad():
        got = model.double()(*map(torch.from_numpy, inputs))
    for tensor, value in zip(got if isinstance(got, tuple) else (got,), graph.outputs, strict=True):
        np.testing.assert_allclose(tensor.numpy(), want[value], rtol=1e-9, atol=1e-9 * np.abs(want[value]).max())


def is_clean(text: str, path: Path) -> None:
    path.write_text(text)
    assert_clean(path)


# -- the zoo ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", zoo.names())
def test_networks_of_the_zoo_keep_names_and_numbers(name: str, tmp_path: Path) -> None:
    graph = parse(zoo.path_of(name))
    model = build(graph)
    parameters = {v.name for v in graph.weights if "/" not in v.name}
    # the arrays of a recurrent layer of PyTorch have PyTorch's names (weight_ih_l0)
    parameters -= {w.value.name for path, w in program(graph, TORCH).weights.items() if path[-1].endswith("_l0")}
    # what nn.Module has itself is no name for a layer: an underscore is put behind it
    assert {n.replace("forward_.", "forward.") for n in named(model)} >= parameters
    macs = sum(n.op.macs([v.spec for v in n.inputs], [v.spec for v in n.outputs]) for n in graph.nodes)
    if macs < SMALL:
        run_both(graph, model)
    text = source(graph)
    is_clean(text, tmp_path / "network.py")
    decay = 18 if "decay" in graph.meta else 0  # the functions of the penalty
    assert len(text.splitlines()) < 60 + decay + 2 * len(graph.nodes)


def test_blocks_of_a_text_are_classes_and_its_repetition_is_none_of_the_code() -> None:
    text = source(parse(zoo.path_of("rfdn")))
    assert text.count("class ") == 3
    assert text.count("nn.Conv2d") < 25  # of 64 convolutions
    assert len(text.splitlines()) < 120


# -- networks of PyTorch ---------------------------------------------------------------------------------------------
class Bottleneck(nn.Module):
    def __init__(self, wide: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(wide, out // 2, 1, bias=False), nn.BatchNorm2d(out // 2), nn.ReLU())
        self.conv2 = nn.Conv2d(out // 2, out, 3, stride, 1)
        self.shortcut = nn.Sequential(nn.Conv2d(wide, out, 1, stride)) if stride > 1 else nn.Identity()
        self.scale = nn.Parameter(torch.rand(out, 1, 1))

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) * self.scale + self.shortcut(x))


class Residual(nn.Module):
    """Blocks that differ in their sizes, rows of layers, parameters of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.layers = nn.Sequential(*(Bottleneck(8, 8) for _ in range(4)), Bottleneck(8, 16, 2), Bottleneck(16, 16))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 5))

    def forward(self, x):
        return self.head(self.layers(self.stem(x)))


class Dense(nn.Module):
    """Numbered layers whose results all are read, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))

    def forward(self, x):
        found = [x - self.mean]
        for conv in self.convs:
            found.append(F.silu(conv(torch.cat(found, 1))))
        return found[-1], torch.cat(found, 1).mean((2, 3))


class Counted(nn.Module):
    """Constants of forward() itself, several of one name: none of them is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        ahead = torch.cumprod(torch.sigmoid(self.head(x)), 1)
        return torch.cat([ahead, torch.ones(1, 4) * 2.0 ** torch.arange(4)])


class Tied(nn.Module):
    """One array in two layers, a layer called twice, a parameter that a function reads, a name that Python has."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.gate = nn.Parameter(torch.rand(6, 6))
        self.add_module("lambda", nn.LayerNorm(6))
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        x = self.mix(torch.tanh(self.mix(x)))
        return self.head(getattr(self, "lambda")(F.linear(x, self.gate)))


class Nested(nn.Module):
    """Containers in containers; a layer with a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"low": nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)]), "up": nn.PReLU(4)})
        self.parts["low"][0].extra = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        low = self.parts["low"]
        return self.parts["up"](low[1](low[0](x) + low[0].extra(x)))


def row() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3), nn.PixelShuffle(2))


class Looked(nn.Module):
    """Integers that are bounded, and an output without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)

    def forward(self, x):
        return self.words((x * 9).long().clamp(0, 4)), x[:1].mean((1, 2)).reshape(())


NETWORKS: dict[str, tuple[Any, Any]] = {
    "residual": (Residual, torch.rand(2, 3, 16, 16)),
    "dense": (Dense, torch.rand(2, 3, 8, 8)),
    "tied": (Tied, torch.randint(0, 11, (2, 5))),
    "nested": (Nested, torch.rand(1, 3, 6, 6)),
    "row": (row, torch.rand(1, 3, 8, 8)),
    "looked": (Looked, torch.rand(2, 3, 4)),
}


def pair(name: str) -> tuple[nn.Module, nn.Module, Graph, torch.Tensor]:
    make, x = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    graph = capture(model, inputs=x).graph
    return model, build(graph), graph, x


@pytest.mark.parametrize("name", NETWORKS)
def test_code_keeps_the_names_and_the_numbers_of_the_source(name: str, tmp_path: Path) -> None:
    model, ours, graph, x = pair(name)
    expected = {n.replace("lambda.", "lambda_.") for n in named(model)}
    assert named(ours) == expected
    trained = {n.replace("lambda.", "lambda_.") for n, _ in model.named_parameters()}
    assert {n for n, _ in ours.named_parameters()} == trained
    is_clean(source(graph), tmp_path / "network.py")
    wide = x.double() if x.is_floating_point() else x
    with torch.no_grad():
        want, got = model.double()(wide), ours.double()(wide)
    for a, b in zip(want, got, strict=True) if isinstance(want, tuple) else [(want, got)]:
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)


def test_code_trains_as_the_source_does() -> None:
    model, ours, _, x = pair("residual")
    for m in (model, ours):
        m.double().train()
        for drop in (d for d in m.modules() if isinstance(d, nn.Dropout)):
            drop.p = 0.0
    loss, other = ((m(x.double()) ** 2).sum() for m in (model, ours))
    torch.testing.assert_close(other, loss)
    loss.backward(), other.backward()
    theirs = dict(model.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-7, atol=1e-10)
    # the running statistics moved alike
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, dict(model.named_buffers())[name])


def test_constants_of_forward_are_not_trained() -> None:
    torch.manual_seed(0)
    model, x = Counted().eval(), torch.rand(2, 12)
    ours = build(capture(model, inputs=x).graph)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in model.named_parameters()]
    torch.testing.assert_close(ours(x), model(x))


def test_one_array_in_two_layers_stays_one() -> None:
    _, ours, _, _ = pair("tied")
    assert ours.head.weight is ours.embed.weight


def test_blocks_that_differ_in_sizes_are_one_class_with_arguments() -> None:
    _, _, graph, _ = pair("residual")
    text = source(graph)
    tree = ast.parse(text)
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    assert len(classes) == 3  # with a shortcut, without one, the network
    assert "for _ in range(4))" in text
    assert "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 5))" in text


class Shares(nn.Module):
    """A convolution of a part of the channels; the rest goes by."""

    def __init__(self, part: int) -> None:
        super().__init__()
        self.part, self.conv = part, nn.Conv2d(part, part, 1)
        self.norm = nn.BatchNorm2d(part)

    def forward(self, x):
        return torch.cat([torch.tanh(self.norm(self.conv(x[:, : self.part]))), x[:, self.part :]], 1)


def test_slices_whose_ends_are_arguments_are_spaced_as_formatters_have_them(tmp_path: Path) -> None:
    model = nn.Sequential(Shares(2), Shares(3), Shares(4)).eval()
    text = source(capture(model, inputs=torch.rand(1, 5, 7, 7)).graph)
    assert "[:, : self." in text
    is_clean(text, tmp_path / "network.py")


def test_batches_of_another_size_go_through() -> None:
    _, ours, _, _ = pair("residual")
    assert ours(torch.rand(5, 3, 16, 16)).shape == (5, 5)


def test_saved_code_needs_nothing_of_instep(tmp_path: Path) -> None:
    model, _, graph, x = pair("tied")
    code, weights = save(graph, tmp_path / "tied.py")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tied.py", "tied.safetensors"]
    assert "instep" not in code.read_text().replace("PyTorch code written by Instep", "")
    torch.save(x, tmp_path / "x.pt")
    script = (
        "import sys, torch; sys.path.insert(0, '.'); import tied; x = torch.load('x.pt')\n"
        "torch.save(tied.load()(x), 'y.pt'); assert not any(m.startswith('instep') for m in sys.modules)"
    )
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for command in (["-c", script], ["tied.py"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([2, 5, 11])\n"
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "y.pt"), model(x))
    assert weights.stat().st_size > 0


def test_nothing_is_left_where_an_operator_has_no_form(tmp_path: Path) -> None:
    _, _, graph, _ = pair("row")
    graph.outputs[0].dtype = "float33"
    with pytest.raises(ValueError, match="has no form"):
        save(graph, tmp_path / "row.py")
    assert not list(tmp_path.iterdir())


# -- names from files ------------------------------------------------------------------------------------------------
HOSTILE = [
    'x"""); open("owned", "w") #',
    "a'); open('owned', 'w') #",
    "b\n    open('owned', 'w')\n#",
    "c\\",
    "import os",
    "class",
    "__class__",
    "self",
    "nn",
    "torch",
    "F",
    "é{0}{layer}",
    "",
    "1e3",
    "{0.__class__}",
]


def hostile(names: list[str]) -> Graph:
    """A network all of whose names are ``names``."""
    graph = Graph(meta={"name": names[0], "doc": "\n".join(names), "source": '"""' + names[2]})
    x = Value(names[0], (1, 4))
    graph.inputs, graph.input_names = [x], [names[0]]
    value = x
    for place, name in enumerate(names):
        scope = f"{names[place - 1]}.{name}"
        weight = graph.constant(np.eye(4, dtype=np.float32), f"{scope}.weight")
        shift = graph.constant(np.full(4, 0.5, np.float32), f"{name}/{name}")
        value = graph.add(ops.Linear(), [value, weight], scope=scope, origin=name, names=[name]).output
        value = graph.add(ops.Add(), [value, shift], scope=name, names=[f"{name}+"]).output
    graph.outputs, graph.output_names = [value], [names[1]]
    return graph


@pytest.mark.parametrize("turn", range(len(HOSTILE)))
def test_no_name_of_a_file_becomes_code(turn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = hostile(HOSTILE[turn:] + HOSTILE[:turn])
    text = source(graph)
    tree = ast.parse(text)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    assert imported <= {"math", "torch", "torch.nn.functional", "Path", "load_file", "nn"}
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    made = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    roots = {c.partition(".")[0].partition("(")[0] for c in called}
    assert roots <= made | {
        "self",
        "super",
        "nn",
        "torch",
        "F",
        "Path",
        "load_file",
        "model",
        "print",
        "getattr",
        "setattr",
    }
    run_both(graph, build(graph))
    assert not list(tmp_path.iterdir())


def test_state_is_what_the_module_loads() -> None:
    _, ours, graph, _ = pair("dense")
    assert set(state(graph)) == named(ours)
