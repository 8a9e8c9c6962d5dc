"""Sources, weights and inputs: what can be named, what is loaded, and how capture refuses what it cannot do."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn
from safetensors.torch import save_file

from capture_helpers import Function, agree, draw
from instep.capture import CaptureError, capture
from instep.graph.validate import validate

NET = """
import torch, torch.nn as nn
EXAMPLE_INPUT = [(1, 3, 8, 8)]

class Net(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.body = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.body(self.conv(x)) * 2

def build(channels=4):
    return Net(channels)

def number():
    return 3
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    file = tmp_path / "net.py"
    file.write_text(NET)
    return f"{file}:build"


# -- graphs ------------------------------------------------------------------------------------------------------
def test_nodes_know_their_module_and_source_line(net: str) -> None:
    graph = capture(net).graph
    conv = next(n for n in graph.nodes if n.op.name == "Conv2d")
    assert conv.scope == "conv" and conv.origin == "net.py:12"
    assert [v.name for v in conv.inputs[1:]] == ["conv.weight", "conv.bias"]
    assert {n.scope for n in graph.nodes} == {"conv", "body.0", "body.1", ""}
    assert all(v.source is not None and v.source.name == v.name for n in graph.nodes for v in n.outputs)


def test_weights_are_the_modules_own_memory() -> None:
    module = nn.Conv2d(3, 4, 3)
    graph = capture(module, inputs=[(1, 3, 8, 8)]).graph
    array = next(a for v, a in graph.weights.items() if v.name == "weight")
    assert np.shares_memory(array, module.weight.detach().numpy())


def test_tied_weights_are_one_value() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    graph = agree(Tied(), [(2, 4)]).graph
    first, second = (n for n in graph.nodes if n.op.name == "Linear")
    assert first.inputs[1] is second.inputs[1] and first.inputs[1].name == "a.weight"


def test_shared_modules_are_captured_at_each_use() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x).relu())

    graph = agree(Shared(), [(1, 3, 5, 5)]).graph
    assert [n.scope for n in graph.nodes if n.op.name == "Conv2d"] == ["conv", "conv"]


def test_signature_names_come_from_arguments_and_dictionary_keys() -> None:
    class Named(nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> Any:
            return {"sum": image + mask, "parts": [image * 2, (mask - 1,)], "none": None}

    graph = agree(Named(), [(1, 4), (1, 4)]).graph
    assert graph.input_names == ["image", "mask"]
    assert graph.output_names == ["sum", "parts_0", "parts_1_0"]
    assert agree(Function(lambda x: (x, x + 1)), [(3,)]).graph.output_names == ["output_0", "output_1"]
    assert agree(Function(lambda x: x + 1), [(3,)]).graph.output_names == ["output_0"]


def test_nested_inputs_are_flattened() -> None:
    class Nested(nn.Module):
        def forward(self, xs: list[torch.Tensor], extra: dict[str, torch.Tensor]) -> torch.Tensor:
            return xs[0] @ xs[1] + extra["bias"]

    captured = capture(Nested(), inputs=[[(2, 3), (3, 4)], {"bias": (4,)}])
    arrays = draw(captured)
    assert [s.shape for s in captured.reference.input_specs] == [(2, 3), (3, 4), (4,)]
    want = arrays[0] @ arrays[1] + arrays[2]
    (got,) = captured.graph.run(arrays, keep=[]).values()
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_value_names_are_unique_and_constants_that_depend_on_nothing_are_folded() -> None:
    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij"))
            window = torch.zeros(4, 5)
            for i, part in enumerate((slice(0, 2), slice(2, None))):
                window[part] = i
            return x + grid.sum(0) * torch.linspace(0, 1, 5) + window

    graph = agree(Positions(), [(2, 4, 5)]).graph
    assert [n.op.name for n in graph.nodes] == ["Add", "Add"]
    validate(graph)


def test_a_float64_run_overrides_float_dtypes_in_the_source() -> None:
    class Casts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                y = x.to(torch.float32) * torch.ones(3, dtype=torch.float32)
            with torch.autocast("cpu", enabled=False):
                return (y.float().softmax(-1, dtype=torch.float32) + torch.zeros(3)).type_as(x)

    captured = agree(Casts(), [(2, 3)])
    x = np.random.default_rng(0).standard_normal((2, 3))
    (name,) = (v.name for v in captured.graph.outputs)
    got = captured.reference.run([x], dtype="float64")[name]
    want = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_keep_limits_what_the_reference_returns(net: str) -> None:
    captured = capture(net)
    everything = captured.reference.run(draw(captured))
    few = captured.reference.run(draw(captured), keep=["conv/conv2d"])
    assert set(few) == {"conv/conv2d", captured.graph.outputs[0].name} < set(everything)
    np.testing.assert_array_equal(few["conv/conv2d"], everything["conv/conv2d"])


# -- sources -----------------------------------------------------------------------------------------------------
def test_factories_take_arguments(net: str) -> None:
    assert capture(net, args={"channels": 6}).graph.outputs[0].shape == (1, 6, 6, 6)
    with pytest.raises(CaptureError, match=r"--arg key=value"):
        capture(net, args={"width": 6})


def test_modules_are_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_package_of_nets.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(capture("my_package_of_nets:build").graph.nodes) == 4
    assert capture("torch.nn:Identity", inputs=[(1, 2)]).graph.outputs[0].name == "input"


def test_pt2_files(tmp_path: Path, net: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    x = torch.randn(1, 3, 6, 6)
    torch.export.save(torch.export.export(module, (x,), strict=False), tmp_path / "net.pt2")
    captured = capture(str(tmp_path / "net.pt2"))
    (got,) = captured.graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, module(x).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere_at_all:build", "cannot be imported"),
        ("nothing", "is no source"),
        ("none.py:build", "no file none.py"),
        ("net.pth", "holds weights, not a network"),
        ("none.pt2", "no file none.pt2"),
        (3, "got int"),
    ],
)
def test_wrong_sources_say_what_to_do(source: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        capture(source)


def test_a_missing_factory_lists_what_there_is(net: str) -> None:
    with pytest.raises(CaptureError, match=r"no factory 'buld'; it defines: Net, build, number"):
        capture(net.replace(":build", ":buld"))
    with pytest.raises(CaptureError, match=r"gave a int, not a torch\.nn\.Module"):
        capture(net.replace(":build", ":number"))


# -- inputs ------------------------------------------------------------------------------------------------------
def test_inputs_must_be_known_and_fit(net: str) -> None:
    with pytest.raises(CaptureError, match="give --input"):
        capture(nn.Conv2d(3, 4, 3))
    with pytest.raises(CaptureError, match=r"net.py:12 with input \[1, 5, 8, 8\]: the input shape does not fit"):
        capture(net, inputs=[(1, 5, 8, 8)])
    with pytest.raises(CaptureError, match=r"takes the inputs \(x\), but 2 shape"):
        capture(net, inputs=[(1, 3, 8, 8), (1, 3, 8, 8)])
    with pytest.raises(CaptureError, match="not fixed"):
        capture(net, inputs=[(-1, 3, 8, 8)])
    with pytest.raises(CaptureError, match=r"has shape \[1, 3, 8, 8\], got"):
        capture(net).reference.run([np.zeros((1, 3, 4, 4), np.float32)])


def test_inputs_by_name_and_by_value() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a.float() + b

    captured = capture(Two(), inputs={"b": (2,), "a": np.zeros(2, np.int64)})
    assert dict(zip(captured.graph.input_names, (v.dtype for v in captured.graph.inputs), strict=True)) == {
        "a": "int64",
        "b": "float32",
    }


# -- refusals ----------------------------------------------------------------------------------------------------
def test_control_flow_on_data_is_refused_with_its_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(
        CaptureError, match=r"Branch cannot be captured at .*test_capture_sources.py:\d+ .*control flow"
    ):
        capture(Branch(), inputs=[(3,)])


def test_shapes_that_depend_on_data_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"test_capture_sources|capture_helpers.py:\d+\) makes a shape"):
        capture(Function(lambda x: x[x > 0].sum()), inputs=[(3,)])


def test_unknown_operators_are_refused_with_scope_and_line() -> None:
    class Inner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(
        CaptureError, match=r"'0' \(.*test_capture_sources.py:\d+\) uses the operator aten.special_bessel_j0"
    ):
        capture(nn.Sequential(Inner()), inputs=[(4,)])


def test_maxima_whose_places_nobody_reads_are_a_pool_alone() -> None:
    function = Function(lambda x: torch.nn.functional.max_pool2d(x, 2, return_indices=True)[0])
    agree(function, [(1, 2, 4, 4)])
    assert [n.op.name for n in capture(function, inputs=[(1, 2, 4, 4)]).graph.nodes] == ["MaxPool2d"]


def test_random_numbers_are_refused() -> None:
    for function in (lambda x: x + torch.randn_like(x), lambda x: x[torch.randint(0, 3, (2,))]):
        with pytest.raises(CaptureError, match="draws random numbers"):
            capture(Function(function), inputs=[(3,)])


def test_a_network_that_changes_its_buffer_says_so() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x * self.count

    captured = capture(Counting(), inputs=[(3,)])
    assert captured.notes == ["the network changes its buffer 'count' in place; the first call is captured"]


class MergingOnce(nn.Module):
    """Merges its two branches in the first forward() and deletes them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)
        self.both = nn.Conv2d(3, 4, 3, bias=False)
        self.merged = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.merged:
            self.both.weight.data = self.one.weight.data + self.two.weight.data
            self.merged = True
            del self.one
            del self.two
        return self.both(x)


def test_a_network_that_merges_its_branches_on_the_first_call_is_captured_merged() -> None:
    module, x = nn.Sequential(MergingOnce(), nn.ReLU()), torch.randn(1, 3, 8, 8)
    first = module[0]
    kernel = (first.one.weight + first.two.weight).detach()
    captured = capture(module, inputs=[x])
    assert captured.notes == [
        "forward() adds or replaces parts of the network on its first call: captured as it is afterwards"
    ]
    found = captured.reference.run([x.numpy()], dtype="float32", keep=[])[captured.graph.outputs[0].name]
    np.testing.assert_allclose(found, torch.relu(nn.functional.conv2d(x, kernel)).numpy(), atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-6)


def test_a_buffer_that_forward_registers_is_one_of_the_network_afterwards() -> None:
    """The trace's own copy of it is gone, and nothing is said of an input that is changed."""

    class Places(torch.nn.Module):
        places: torch.Tensor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "places"):
                self.register_buffer("places", torch.arange(x.shape[-1]).float())
            return x + self.places

    module = Places()
    captured = agree(module, [(1, 3, 5)])
    assert captured.notes == [
        "forward() adds or replaces parts of the network on its first call: captured as it is afterwards"
    ]
    assert module.places.tolist() == [0, 1, 2, 3, 4]


def test_an_error_in_a_network_that_keeps_its_parts_is_the_users() -> None:
    class Forgetful(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.missing(x)

    with pytest.raises(CaptureError, match="'Forgetful' object has no attribute 'missing'"):
        capture(Forgetful(), inputs=[(1, 3)])


# -- weights -----------------------------------------------------------------------------------------------------
def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    return {
        **{f"conv.{k}": v.detach() for k, v in conv.state_dict().items()},
        **{f"body.0.{k}": v.detach() for k, v in norm.state_dict().items()},
    }


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: s, None),
        (lambda s: {"state_dict": s, "epoch": 3}, "'state_dict'"),
        (lambda s: {"params": {}, "params_ema": s}, "'params_ema'"),
        (lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s}, "'params_ema'"),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, "prefix 'module.'"),
        (lambda s: {"net": {"params": s}}, "'params'"),
    ],
)
def test_wrapped_weights_are_unpacked(net: str, tmp_path: Path, wrap: Any, note: str | None) -> None:
    state = _state()
    torch.save(wrap(state), tmp_path / "w.pth")
    captured = capture(net, weights=str(tmp_path / "w.pth"))
    array = next(a for v, a in captured.graph.weights.items() if v.name == "conv.weight")
    np.testing.assert_array_equal(array, state["conv.weight"].numpy())
    assert note is None or any(note in n for n in captured.notes)


def test_safetensors(net: str, tmp_path: Path) -> None:
    save_file(_state(), tmp_path / "w.safetensors")
    captured = capture(net, weights=str(tmp_path / "w.safetensors"))
    array = next(a for v, a in captured.graph.weights.items() if v.name == "body.0.running_mean")
    np.testing.assert_array_equal(array, _state()["body.0.running_mean"].numpy())


def test_weights_that_do_not_fit_are_listed(net: str, tmp_path: Path) -> None:
    state = _state()
    state["extra.weight"] = torch.zeros(1)
    state["conv.weight"] = torch.zeros(5, 3, 3, 3)
    del state["conv.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CaptureError) as caught:
        capture(net, weights=str(tmp_path / "w.pth"))
    text = str(caught.value)
    assert "1 missing: conv.bias" in text and "1 unexpected: extra.weight" in text
    assert "1 mis-shaped: conv.weight (file [5, 3, 3, 3], network [4, 3, 3, 3])" in text


class Evil:
    """A pickle that would run code when it is loaded."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.mark),))


def test_files_that_would_run_code_are_refused_and_run_nothing(net: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": Evil(str(mark))}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil(str(mark))))
    (tmp_path / "noise.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "evil.pt2").write_bytes((tmp_path / "evil.pth").read_bytes())
    (tmp_path / "noise.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(CaptureError, match="would run code"):
        capture(net, weights=str(tmp_path / "evil.pth"))
    for name in ("plain.pth", "noise.pth", "noise.safetensors", "missing.pth", "odd.xyz"):
        with pytest.raises(CaptureError):
            capture(net, weights=str(tmp_path / name))
    with pytest.raises(CaptureError):
        capture(str(tmp_path / "evil.pt2"))
    assert not mark.exists()


def test_no_message_holds_a_traceback(net: str) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(net, inputs=[(1, 5, 8, 8)])
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


# -- the user's own module ---------------------------------------------------------------------------------------
def test_capture_leaves_a_users_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    module[1].eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    capture(module, inputs=[(1, 3, 6, 6)])
    assert [m.training for m in module.modules()] == [True, True, False, True]
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_half_precision_modules_are_captured_wider_and_stay_half() -> None:
    module = nn.Linear(4, 3).half()
    captured = capture(module, inputs=[(2, 4)])
    assert {v.dtype for v in captured.graph.values()} == {"float32"} and any("float16" in n for n in captured.notes)
    assert module.weight.dtype == torch.float16


def test_networks_and_inputs_in_float64_are_captured_in_float32_and_stay_as_they_are() -> None:
    class Doubled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3, dtype=torch.float64)
            self.dtype = torch.float64
            self.register_buffer("shift", torch.arange(3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.shift.to(self.dtype)

    module = Doubled()
    for given in ((2, 4), np.ones((2, 4)), torch.ones(2, 4, dtype=torch.float64)):
        captured = capture(module, inputs=[given])
        assert {v.dtype for v in captured.graph.values()} == {"float32"}
        assert any("float64 tensors were narrowed" in note for note in captured.notes)
        assert any("inputs in float64" in note for note in captured.notes) == (not isinstance(given, tuple))
    x = np.random.default_rng(0).standard_normal((2, 4))
    captured = capture(module, inputs=[(2, 4)])
    got = captured.reference.run([x], dtype="float64")[captured.graph.outputs[0].name]
    np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert {module.weight.dtype, module.shift.dtype, module.dtype} == {torch.float64}


def test_a_network_that_casts_to_the_float64_of_its_parameters_is_captured_as_it_is() -> None:
    class Casting(nn.Conv1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.double()).float()

    captured = capture(Casting(4, 3, 1, dtype=torch.float64), inputs=[(1, 4, 5)])
    assert not any("narrowed" in note for note in captured.notes)


def test_inputs_in_half_precision_go_with_the_module_that_takes_them() -> None:
    captured = capture(nn.Linear(4, 3).half(), inputs=[torch.ones(2, 4, dtype=torch.float16)])
    assert {v.dtype for v in captured.graph.values()} == {"float32"}


def test_float64_that_forward_makes_is_said() -> None:
    class Making(nn.Conv1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.double())

    class Multiplying(nn.Conv1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.bmm(x.double(), self.weight)

    for module in (Making(4, 4, 1), Multiplying(5, 4, 1)):
        with pytest.raises(CaptureError, match=r"test_capture_sources\.py:\d+.* makes tensors of float64"):
            capture(module, inputs=[(4, 4, 4)])


def test_a_half_precision_module_that_casts_to_the_dtype_it_keeps_is_captured_wider() -> None:
    class Casting(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3, dtype=torch.float16)
            self.dtype, self.scale = torch.float16, np.ones(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.to(self.dtype))

    module = Casting()
    captured = capture(module, inputs=[(2, 4)])
    assert {v.dtype for v in captured.graph.values()} == {"float32"}
    assert module.dtype == torch.float16


# -- timm --------------------------------------------------------------------------------------------------------
def test_timm_networks_have_seeded_weights_in_which_everything_matters() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    first, again, other = (capture("timm:test_resnet", seed=s) for s in (0, 0, 1))
    tables = [{v.name: a for v, a in c.graph.weights.items()} for c in (first, again, other)]
    assert all(np.array_equal(a, tables[1][k]) for k, a in tables[0].items())
    assert not np.array_equal(tables[0]["fc.weight"], tables[2]["fc.weight"])
    assert any("random weights (seed 0)" in n for n in first.notes)
    for name, array in tables[0].items():
        if array.dtype.kind == "f" and array.size > 1 and not name.startswith("scalar/"):
            assert array.std() > 0, f"{name} is constant: a mistake in it would not show"
    (out,) = first.reference.run(draw(first), keep=[]).values()
    assert 0.01 < out.std() < 100
    with pytest.raises(CaptureError, match=r"near names: .*resnet18"):
        capture("timm:resnet18x")


def test_a_file_inside_a_package_may_import_its_neighbours_relatively(tmp_path):
    folder = tmp_path / "house_of_blocks" / "nets"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").write_text("")
    (folder / "block.py").write_text("import torch\n\n\nclass Block(torch.nn.Conv2d):\n    pass\n")
    (folder / "net.py").write_text("from .block import Block\n\n\ndef net():\n    return Block(3, 4, 1)\n")
    captured = capture(f"{folder / 'net.py'}:net", inputs=[(1, 3, 5, 5)])
    assert [n.op.name for n in captured.graph.nodes] == ["Conv2d"]


def test_refusal_of_data_dependent_control_flow_prints_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.mean() > 0 else x

    with pytest.raises(CaptureError, match="depends on the data"):
        capture(Branch(), inputs=[(1, 3, 4, 4)])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x > 0],
        lambda x: x[x > 0].sum() + x,
        lambda x: x.clone().index_put_((x > 0,), x[x > 1]),
        lambda x: x.clone().index_put_((x > 0,), x[x > 0].cumsum(0)),
        lambda x: x * (x[x > 0].shape[0] * 2),
    ],
    ids=["returned", "summed", "another mask", "not element by element", "counted"],
)
def test_refusal_of_what_a_mask_picks(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(CaptureError, match=r"test_capture_sources\.py:\d+.*the data of a tensor"):
        capture(Function(function), inputs=[(1, 3, 4, 4)])


class Merging(nn.Module):
    """Merges its two branches into one convolution on each call, as SPAN does (Wan et al., 2024)."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.wide, self.narrow, self.merged = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3)
        self.kept = None
        self.again = again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.merged.weight.data.clone() if self.again else 0
        self.kept = self.wide.weight.data.clone() + nn.functional.pad(self.narrow.weight.data, (1, 1, 1, 1)) + own
        self.merged.weight.data = self.kept.contiguous()
        bias = self.wide.get_parameter("bias").data + self.narrow.get_parameter("bias").data
        self.merged.get_parameter("bias").data = bias
        return self.merged(x)


def test_weights_that_forward_merges_are_merged() -> None:
    network = Merging()
    captured = agree(network, [(1, 3, 6, 6)])
    assert [n.op.name for n in captured.graph.nodes] == ["Conv2d"]
    assert "data" not in vars(torch.Tensor)
    x = torch.randn(1, 3, 6, 6)
    with torch.no_grad():
        both = network.wide(x) + network.narrow(x[..., 1:-1, 1:-1])
        torch.testing.assert_close(network(x), both)
    assert any("'merged.weight' and 1 more" in note for note in captured.notes)


def test_refusal_of_weights_that_grow_with_every_call() -> None:
    with pytest.raises(CaptureError, match=r"'merged\.weight' on every call"):
        capture(Merging(again=True), inputs=[(1, 3, 6, 6)])


def test_refusal_of_a_scripted_module_names_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), torch.jit.script(nn.ReLU()))
    with pytest.raises(CaptureError, match="TorchScript module '1'"):
        capture(network, inputs=[(1, 3, 4, 4)])


def test_what_constants_are_computed_of_is_forgotten() -> None:
    """A table of positions, as windowed attention computes it: only what the network reads stays in memory."""

    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places = torch.arange(64.0)
            table = (places[:, None] - places[None]).abs()
            return x @ (table * 2).exp().reciprocal() + table.sum()

    captured = capture(Positions(), inputs=[(1, 64)])
    kept = captured.reference._program._values
    names = sorted(step.name for step, held in kept.items() if getattr(held, "dim", int)() == 2)
    assert len(names) == 1 and "reciprocal" in names[0]
    agree(Positions(), [torch.randn(1, 64)])
