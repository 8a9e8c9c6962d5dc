"""Any graph prints to text and comes back equal: structure, attributes, names, scopes and weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import instep
from instep.capture import capture
from instep.graph import Graph
from instep.graph.difference import difference
from instep.graph.text import dump, parse, save
from instep.graph.text.errors import TextError
from instep.graph.text.formatter import format_text
from instep.graph.text.writing import WIDTH
from instep.verbs.common import InstepError
from instep.zoo import path_of


def round_trip(graph: Graph, folder: Path) -> str:
    save(graph, folder / "net.yaml")
    again = parse(folder / "net.yaml")
    assert difference(graph, again) == ""
    assert graph.meta.get("buffers") == again.meta.get("buffers")
    text = (folder / "net.yaml").read_text("utf-8")
    assert format_text(text) == text, "what dump writes is what the formatter would"
    return text


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        hidden = 3 * cin
        self.expand = nn.Conv2d(cin, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.dw = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden)
        self.act = nn.PReLU(hidden)
        self.project = nn.Conv2d(hidden, cout, 1)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.act(self.dw(torch.relu(self.bn(self.expand(x))))))
        return y + x if self.residual else y


class Branches(nn.Module):
    """Shared modules, a parameter of its own, two inputs, a dict of outputs, split, top-k and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.gain = nn.Parameter(torch.full((1, 4, 1, 1), 0.3))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LayerNorm(5))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        a, b = self.shared(x), self.shared(y)
        left, right = torch.split(a, [1, 3], 1)
        mixed = torch.cat([left * 0.1, right.clamp(-1, 2), b * self.gain], 1)[:, ::2]
        values, index = torch.topk(self.head(mixed), 2)
        return {"values": values, "index": index, "mixed": torch.where(mixed > 0, mixed, y * 2.5)}


class Kept(nn.Module):
    """Buffers: a kernel of its own layer, one beside a trained bias, and an array that is read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(4, 4, 3, groups=4, bias=False)
        self.fixed = nn.Conv2d(4, 4, 1)
        self.free = nn.Conv2d(4, 4, 1)
        for layer in (self.blur, self.fixed):
            kernel = layer.weight.data
            del layer.weight
            layer.register_buffer("weight", kernel)
        self.register_buffer("mean", torch.randn(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fixed(self.blur(self.free(x - self.mean))) + torch.tensor([[[[0.1]], [[0.2]], [[0.3]], [[0.4]]]])


def test_buffers_stay_buffers(tmp_path: Path) -> None:
    graph = instep.capture(Kept().eval(), inputs=[(1, 4, 8, 8)]).graph
    assert {"blur.weight", "fixed.weight", "mean"} <= set(graph.meta["buffers"])
    text = round_trip(graph, tmp_path)
    assert "blur = conv: {out: 4, kernel: 3, groups: 4, bias: false, trained: false}" in text
    assert "free = conv: {out: 4, kernel: 1}" in text
    shared = """
        input: {x: [1, 3, 8, 8]}
        body:
          - a = conv: {out: 3, kernel: 1, trained: false}
          - b = conv: {out: 3, kernel: 1, at: a}
    """
    with pytest.raises(TextError, match=r"shares 'a\.weight', which is not trained; say the same here"):
        parse(shared)


class Again(nn.Module):
    """Weights that layers have and others read: of the same scope, and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.second(self.first(x) @ self.first.weight), self.second.weight


def test_weights_of_layers_that_others_read_too(tmp_path: Path) -> None:
    text = round_trip(instep.capture(Again().eval(), inputs=[(1, 4)]).graph, tmp_path)
    assert "at: first.weight" in text and "at: second.weight" in text


def test_blocks_that_differ_in_numbers_and_in_a_residual_are_one_struct(tmp_path: Path) -> None:
    rows = [(4, 8, 2), (8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1)]
    graph = instep.capture(nn.Sequential(*(Block(*r) for r in rows)).eval(), inputs=[(1, 4, 16, 16)]).graph
    text = round_trip(graph, tmp_path)
    assert text.count("body:") == 2, text  # one struct and the network
    assert text.count(" = Block: {") == len(rows) and "if residual:" in text


def test_shared_modules_own_parameters_and_several_outputs(tmp_path: Path) -> None:
    graph = instep.capture(Branches().eval(), inputs=[(1, 4, 4, 4), (1, 4, 4, 4)]).graph
    round_trip(graph, tmp_path)


#: ``code`` is read and given back, and its steps are said in the place of their block.
HALVES = """input: {x: [1, 1, 8, 8]}
structs:
  Encoder:
    body:
      - c1 = conv: {out: 4, kernel: 3, stride: 2}
      - flatten
      - fc = linear: {out: 2}
  Decoder:
    body:
      - fc = linear: {out: 16, act: relu}
      - reshape: {shape: [1, 1, 4, 4]}
      - d1 = conv_transpose: {out: 1, kernel: 3}
body:
  - code = Encoder
  - image = Decoder
output: {image: image, code: code}
"""


def test_what_a_block_gives_back_has_its_name_where_the_block_is_said_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "halves.yaml").write_text(HALVES)
    graph = parse(tmp_path / "halves.yaml")
    text = round_trip(graph, tmp_path)
    assert "code: code.fc" in text
    assert parse(tmp_path / "halves.yaml").output_names == ["image", "code"]


def test_a_graph_without_weights_needs_no_file_beside_it(tmp_path: Path) -> None:
    graph = instep.capture(nn.Sequential(nn.ReLU(), nn.PixelShuffle(2)), inputs=[(1, 4, 3, 3)]).graph
    assert save(graph, tmp_path / "net.yaml") == [tmp_path / "net.yaml"]
    again = parse(dump(graph))
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "mobilevit_xxs", "coat_tiny"])
def test_captured_timm_networks(name: str, tmp_path: Path) -> None:
    graph = instep.capture(f"timm:{name}").graph
    text = round_trip(graph, tmp_path)
    if name in ("resnet18", "mobilenetv2_050"):
        assert len(text.splitlines()) <= len(graph.nodes)


def test_a_tflite_file_prints_with_its_own_layout(tmp_path: Path) -> None:
    instep.convert("zoo:rlfn_ntire", tmp_path / "net.tflite", inputs=[(1, 3, 16, 16)], verify=False)
    graph = instep.capture(tmp_path / "net.tflite").graph
    round_trip(graph, tmp_path)


def test_what_is_exported_converts_in_step(tmp_path: Path) -> None:
    network = nn.Sequential(Block(4, 8, 2), Block(8, 8, 1)).eval()
    truth = instep.capture(network, inputs=[(1, 4, 16, 16)])
    instep.export(network, tmp_path / "net.yaml", inputs=[(1, 4, 16, 16)])
    x = np.random.default_rng(0).normal(size=(1, 4, 16, 16))
    again = instep.capture(str(tmp_path / "net.yaml"))
    name, other = truth.graph.outputs[0].name, again.graph.outputs[0].name
    expected = truth.reference.run([x], dtype="float64")[name]
    assert np.allclose(again.reference.run([x], dtype="float64")[other], expected, rtol=1e-12, atol=1e-12)


def test_dropout_comes_back_with_its_rate_and_axes(tmp_path: Path) -> None:
    body = [nn.Conv2d(3, 4, 3), nn.Dropout(0.2), nn.ReLU(), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(4 * 36, 5)]
    text = round_trip(instep.capture(nn.Sequential(*body).eval(), inputs=[(1, 3, 8, 8)]).graph, tmp_path)
    assert "dropout: {rate: 0.2}" in text and "dropout: {shared: [2, 3]}" in text


@pytest.mark.parametrize("name", ["vae", "uvq", "wrn", "swrn"])
def test_a_text_comes_back_with_its_facts(name: str, tmp_path: Path) -> None:
    """Facts, states, factors of L2 and names of constants too: what the first text says, the second one says."""
    graph = parse(path_of(name))
    round_trip(graph, tmp_path)
    again = parse(tmp_path / "net.yaml")
    kept = {k: v for k, v in graph.meta.items() if k not in ("constants", "loaded", "blocks")}
    assert kept and {k: again.meta.get(k) for k in kept} == kept


class Exchange(nn.Module):
    """Each of many streams has a layer of its own, and the sum of all."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(count))

    def forward(self, *streams: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = torch.stack(streams, 1).sum(1)
        return tuple(layer(x) + total for layer, x in zip(self.layers, streams, strict=True))


class Streams(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.sizes = [1 + n % 2 for n in range(count)]
        self.mixes = nn.ModuleList(Exchange(count) for _ in range(2))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        streams = tuple(part[:, :1] for part in torch.split(x, self.sizes, 1))
        for mix in self.mixes:
            streams = mix(*streams)
        return {f"stream_{n}": y for n, y in enumerate(streams)}


def test_lists_that_are_long_are_one_line_and_mappings_are_many(tmp_path: Path) -> None:
    text = round_trip(capture(Streams(30), inputs=[(1, 45, 4)]).graph, tmp_path)
    named = next(line for line in text.splitlines() if line.startswith("    in: [x1, "))
    assert named.endswith("x29, x30]") and len(named) > WIDTH, text
    assert "\n  stream_29: " in text


def test_facts_that_are_long_are_written_as_the_formatter_has_them(tmp_path: Path) -> None:
    graph = capture(nn.ReLU(), inputs=[(1, 3)]).graph
    pairs = {f"a_word_of_some_length_{n}": n / 7 for n in range(4)}
    steps = [
        {"crop": {**pairs}},
        {"flip": True},
        {"flip": True, "turn": "a, b"},
        [1, {"b": 2}],
        "x, y",
        {"c": {**pairs, **pairs}},
    ]
    graph.meta |= {"training": {"loss": "l1", "augment": steps, "rate": 1e-5, "all": {**pairs, "more": 1, "yes": 2}}}
    graph.meta["state"] = {f"what_goes_in_{n}": f"what_comes_out_{n}" for n in range(5)}
    text = dump(graph)
    assert format_text(text) == text
    assert "\n    - crop:\n        a_word_of_some_length_0: 0.0\n" in text and "\n    - flip: true\n" in text
    assert "\n  what_goes_in_4: what_comes_out_4\n" in text


class Conv2d(nn.Module):
    """Named as an operator that it uses: a kernel of differences, as edge detectors have it."""

    def __init__(self, cin: int, cout: int, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin // groups, 3, 3))
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = self.weight.sum((2, 3), keepdim=True)
        y = nn.functional.conv2d(x, self.weight, None, 1, 1, 1, self.groups)
        return y - nn.functional.conv2d(x, middle, None, 1, 0, 1, self.groups)


def test_a_class_of_the_name_of_an_operator_that_it_uses(tmp_path: Path) -> None:
    net = nn.Sequential(Conv2d(3, 8), Conv2d(8, 8, 8), Conv2d(8, 8, 8))
    text = round_trip(capture(net, inputs=[(1, 3, 8, 8)]).graph, tmp_path)
    assert "  Conv2d2:" in text and "Conv2d(" in text


def test_a_text_that_would_not_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("instep.graph.text.dump"), "struct_text", lambda *_: ["  - relu6"])
    with pytest.raises(InstepError, match="would not read back as it is"):
        instep.export(nn.ReLU(), tmp_path / "net.yaml", inputs=[(1, 3)])
    assert not list(tmp_path.iterdir())


class SelfAttention(nn.Module):
    """An attention as it is written by hand: one product for queries, keys and values, cut into three."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * 0.5
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, width))


def test_what_an_attention_reads_is_called_query_key_and_value(tmp_path: Path) -> None:
    text = round_trip(capture(SelfAttention(), inputs=[(1, 5, 8)]).graph, tmp_path)
    assert "q, k, v := unbind" in text, text
    assert "mat_mul(_, v)" in text or "mat_mul(softmax, v)" in text, text
    # a product, a softmax and a product of other things are no attention
    plain = "input: {x: [1, 4, 4]}\nbody:\n  - a, b = split: {axis: 1}\n  - softmax(a): {axis: 2}\n  - add(_, b)\n"
    assert "q" not in dump(parse(plain)).partition("body:")[2]
