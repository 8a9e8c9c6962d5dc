"""Nodes in a row that people write as one expression are written so, in every framework, and compute the same."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import instep
from clean_code import assert_clean
from instep.emit import jax as emit_jax
from instep.emit import keras as emit_keras
from instep.emit import torch as emit_torch
from instep.emit.code.layout import fitted
from instep.graph import Graph
from instep.graph.text import parse

pytest.importorskip("flax", reason="Flax is not installed")

#: Each: the body, what the code of PyTorch, of JAX and of Keras has, and what none has.
CASES: dict[str, tuple[str, list[str], str]] = {
    "equal parts": ("a, b, c = split: {axis: 2}; add(a, b); mul(_, c)",
                    ["torch.chunk(", "jnp.split(x, 3", "ops.split("], ":2]"),
    "other parts": ("a, b, c = split: {sizes: [1, 3, 2], axis: 2}; concat(c, a, b): {axis: 2}",
                    ["torch.split(x, (1, 3, 2)", "jnp.split(x, [1, 4]", ", [1, 4]"], "1:4]"),
    "all places": ("a, b, c, d = unbind: {axis: 1}; add(a, b); mul(_, c); add(_, d)",
                   ["torch.unbind(x, 1)", "jnp.unstack(x, axis=1)", "ops.unstack("], "0:1]"),
    "a place": ("a = select: {axis: 2, index: 4}; relu(a)", ["x[:, :, 4]", "x[:, :, 4]", "[:, :, 4]"], "4:5]"),
    "the first place": ("a = select: {axis: 0, index: 1}; relu(a)", ["x[1]", "x[1]", "[1]"], "1:2]"),
    "a stack": ("a = relu; b = sigmoid(x); c = reshape(a): {shape: [2, 4, 1, 6]}; "
                "d = reshape(b): {shape: [2, 4, 1, 6]}; concat(c, d): {axis: 2}",
                ["torch.stack([", "jnp.stack([", "ops.stack(["], "reshape"),
}  # fmt: skip


def network(body: str) -> Graph:
    steps = "".join(f"  - {step}\n" for step in body.split("; "))
    return parse(f"input: {{x: [2, 4, 6]}}\nbody:\n{steps}")


def same(found: object, graph: Graph, x: np.ndarray) -> None:
    wanted = graph.run([x.astype(np.float64)], keep=graph.outputs)[graph.outputs[0]]
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", CASES)
def test_what_is_one_expression_in_every_framework(name: str, tmp_path: Path) -> None:
    body, forms, never = CASES[name]
    graph = network(body)
    x = np.random.default_rng(0).standard_normal((2, 4, 6), np.float32)
    same(emit_torch.build(graph)(torch.from_numpy(x)), graph, x)
    same(emit_jax.build(graph)(x), graph, x)
    apply, params = emit_jax.function(graph)
    same(apply(params, x), graph, x)
    codes = [emit_torch.source(graph), emit_jax.source(graph), emit_keras.source(graph)]
    for code, form, file in zip(codes, forms, "abc", strict=True):
        (tmp_path / f"{file}.py").write_text(code)
        network_code = code[code.index('"""Text."""') :]
        assert form in network_code and never not in network_code.partition("def load")[0], code
    assert_clean(tmp_path)


ATTENTION = "q = linear: {out: 6}; k = linear(x): {out: 6}; v = linear(x): {out: 5}; "
MIX = "mat_mul(_, k): {transpose_b: true}; "
END = "softmax: {axis: 2}; mat_mul(_, v)"
BIAS = "b = param: {shape: [4, 4], init: normal(1)}; "


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (f"{ATTENTION}s = scale(q): {{by: 0.5}}; permute(k): {{perm: [0, 2, 1]}}; mat_mul(s, _); {END}",
         "k, v, scale=0.5)"),
        (f"{ATTENTION}scale(q): {{by: {6**-0.5!r}}}; {MIX}{END}", "k, v)"),
        (f"{ATTENTION}scale(q): {{by: 0.5}}; {MIX}{END}", "k, v, scale=0.5)"),
        (f"{ATTENTION}mat_mul(q, k): {{transpose_b: true}}; scale: {{by: 2}}; {END}", "k, v, scale=2.0)"),
        (f"{ATTENTION}mat_mul(q, k): {{transpose_b: true}}; {END}", "k, v, scale=1.0)"),
        (f"{ATTENTION}s = scale(q): {{by: 0.5}}; t = scale(k): {{by: 0.25}}; mat_mul(s, t): {{transpose_b: true}}; "
         f"{END}", "k, v, scale=0.125)"),
        (f"{BIAS}{ATTENTION.replace('linear:', 'linear(x):', 1)}mat_mul(q, k): {{transpose_b: true}}; add(_, b); {END}",
         "attn_mask=self.b, scale=1.0)"),
    ],
    ids=["keys turned", "usual scale", "scaled queries", "scaled product", "no scale", "both scaled", "a bias"],
)  # fmt: skip
def test_attention_is_one_function_of_pytorch(body: str, form: str, tmp_path: Path) -> None:
    graph = network(body)
    x = np.random.default_rng(0).standard_normal((2, 4, 6), np.float32)
    code = emit_torch.source(graph)
    assert "F.scaled_dot_product_attention(" in code and "softmax" not in code, code
    assert re.sub(r"self\.(\w)\(x\)", r"\1", code).count(form) == 1, code
    same(emit_torch.build(graph)(torch.from_numpy(x)).detach(), graph, x)
    (tmp_path / "net.py").write_text(code)
    assert_clean(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        f"{ATTENTION}mat_mul(q, k): {{transpose_b: true}}; w = softmax: {{axis: 2}}; y = mat_mul(w, v); "
        "reduce_mean(w): {axes: [2], keepdims: true}; add(y, _)",
        f"{ATTENTION}mat_mul(q, k): {{transpose_b: true}}; softmax: {{axis: 1}}; mat_mul(_, v)",
        f"{ATTENTION}mat_mul(q, k): {{transpose_b: true}}; scale: {{by: -1}}; {END}",
        f"{ATTENTION}t = reshape(k): {{shape: [2, 6, 4]}}; mat_mul(q, t); {END}",
    ],
    ids=["weights that are read", "another axis", "a negative scale", "keys as they are"],
)
def test_what_is_no_attention_stays_as_it_is(body: str) -> None:
    graph = network(body)
    x = np.random.default_rng(0).standard_normal((2, 4, 6), np.float32)
    assert "scaled_dot_product" not in emit_torch.source(graph)
    same(emit_torch.build(graph)(torch.from_numpy(x)).detach(), graph, x)


MADE = "Block(in_channels=width, out_channels=width, kernel_size=3, padding=1, groups=width, stride=1, bias=True)"


@pytest.mark.parametrize("before", ["", "First(), "])
@pytest.mark.parametrize("made", [MADE, f"{MADE[:-1]}, dilation=1, init=0.5)"])
def test_equal_blocks_in_a_row_are_broken_into_lines_before_their_for(tmp_path: Path, made: str, before: str) -> None:
    """A comprehension that does not fit a line was broken in the brackets of its range."""
    lines = fitted(f"self.blocks = nn.ModuleList([{before}*({made} for _ in range(12))])", "        ")
    assert [line.strip() for line in lines].count("for _ in range(12)") == 1
    place = tmp_path / "code.py"
    place.write_text("\n".join(["class A:", "    def __init__(self, nn, Block, First, width):", *lines, ""]))
    assert_clean(place)


@pytest.mark.parametrize("length", range(60, 110))
def test_each_line_has_room_for_the_one_comma_behind_it(tmp_path: Path, length: int) -> None:
    """However deep lists lie in lists: a column was given away at each depth."""
    inner = f"nn.Sequential(nn.Conv2d({'w' * (length - 40)}, 64, bias=False), nn.BatchNorm2d(64))"
    text = (
        f"self.blocks = nn.ModuleList([nn.ModuleList([nn.ModuleList([{inner}, {inner}]), {inner}]), {inner}, {inner}])"
    )
    place = tmp_path / "code.py"
    word = "w" * (length - 40)
    lines = ["class A:", f"    def __init__(self, nn, {word}):", *fitted(text, "        "), ""]
    place.write_text("\n".join(lines))
    assert_clean(place)


HEADS = (
    "a = linear: {out: 12}; b = reshape: {shape: [2, 4, 3, 4]}; q, k, v := split: {sizes: [1, 1, 2], axis: 3}; "
    "qt := permute(q): {perm: [0, 2, 1, 3]}; kt := permute(k): {perm: [0, 2, 3, 1]}; "
    "vt := permute(v): {perm: [0, 2, 1, 3]}; mat_mul(qt, kt); scale: {by: 0.5}; softmax: {axis: 3}; mat_mul(_, vt)"
)


def test_keys_that_are_turned_with_their_heads_are_an_attention(tmp_path: Path) -> None:
    graph = network(HEADS)
    x = np.random.default_rng(0).standard_normal((2, 4, 6), np.float32)
    code = emit_torch.source(graph)
    assert "k.permute(0, 2, 1, 3)" in code and "scaled_dot_product_attention(" in code
    same(emit_torch.build(graph)(torch.from_numpy(x)).detach(), graph, x)
    (tmp_path / "net.py").write_text(code)
    assert_clean(tmp_path)


class Heads(torch.nn.Module):
    """An attention across channels, of queries and keys of length 1, with a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.gain = torch.nn.Linear(6, 18), torch.nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.mix(x).unsqueeze(1).reshape(2, 4, 3, 3, 2).permute(2, 0, 3, 4, 1)
        a, b, c = parts[0], parts[1], parts[2]
        a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
        return ((a @ b.transpose(-2, -1)) * self.gain).softmax(-1) @ c


@pytest.mark.parametrize("framework", ["torch", "jax", "keras"])
def test_values_of_an_attention_are_called_so_and_views_that_say_nothing_are_left_out(framework: str) -> None:
    torch.manual_seed(0)
    model, x = Heads().eval(), torch.rand(2, 4, 6)
    graph = instep.capture(model, inputs=x).graph
    code = import_module(f"instep.emit.{framework}").source(graph)
    assert re.search(r"\bq, k, v = ", code), code
    # x.unsqueeze(1).reshape(…) is one reshape, and what is divided by a norm is broadcast against it
    assert code.count("reshape(") == 1 and not re.search("expand|broadcast", code), code
    built = instep.build(graph, framework)
    with torch.no_grad():
        got = built(x).numpy() if framework == "torch" else np.asarray(built(x.numpy()))
        np.testing.assert_allclose(got, model(x).numpy(), rtol=1e-4, atol=1e-6)
