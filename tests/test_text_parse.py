"""What a text means, and what its errors say: the file, the line, what is wrong and what would be right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instep.graph import Graph, ops
from instep.graph.text import TextError, parse
from instep.zoo import path_of

HEAD = "input: {x: [1, 3, 8, 8]}\n"


def net(body: str, head: str = HEAD, **more: object) -> Graph:
    return parse(f"{head}body:\n{body}", **more)  # type: ignore[arg-type]


def fails(text: str) -> str:
    with pytest.raises(TextError) as caught:
        parse(text)
    return str(caught.value)


def test_channels_come_from_the_value_and_weights_are_named_by_scope() -> None:
    graph = net("  - stem = conv: {out: 5, kernel: [3, 1], groups: 1, act: relu}\n  - batch_norm\n")
    assert {v.name: v.shape for v in graph.weights} == {
        "stem.weight": (5, 3, 3, 1), "stem.bias": (5,), "batch_norm_1.weight": (5,), "batch_norm_1.bias": (5,),
        "batch_norm_1.running_mean": (5,), "batch_norm_1.running_var": (5,),
    }  # fmt: skip
    assert [n.op.name for n in graph.nodes] == ["Conv2d", "Relu", "BatchNorm"]
    assert [n.scope for n in graph.nodes] == ["stem", "stem", "batch_norm_1"]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 3, 1, (1, 1)), (8, 5, 2, (1, 2)), (8, 2, 1, (0, 1))],
)
def test_same_is_tensorflows_with_the_odd_pixel_last(size: int, kernel: int, stride: int, pads: tuple) -> None:
    head = f"input: {{x: [1, 3, {size}, {size}]}}\n"
    graph = net(f"  - conv: {{out: 1, kernel: {kernel}, stride: {stride}, padding: same}}\n", head)
    op = graph.nodes[0].op
    assert isinstance(op, ops.Conv2d) and op.padding == (pads, pads)
    assert graph.outputs[0].shape[2] == -(-size // stride)


def test_padding_of_one_is_symmetric_also_at_stride_two() -> None:
    op = net("  - conv: {out: 1, kernel: 3, stride: 2, padding: 1}\n").nodes[0].op
    assert isinstance(op, ops.Conv2d) and op.padding == ((1, 1), (1, 1))


STRUCTS = """
args: {width: int = 4, deep: bool = true}
input: {x: [1, 3, 8, 8]}
structs:
  Unit:
    args: {out: int, half: int = out // 2}
    body:
      - a = conv: {out: half, kernel: 1}
      - if half > 2:
          - relu
      - elif half == 2:
          - tanh
      - else:
          - sigmoid
      - b = conv: {out: out, kernel: 1}
      - if x.channels == out:
          - add(_, x)
body:
  - for i, n in zip(range(3), [width, width, 2 * width]):
      - u{i} = Unit: {out: n}
  - if deep:
      - last = Unit: {out: 3, half: 1}
"""


def test_structs_loops_conditions_and_arguments() -> None:
    graph = parse(STRUCTS)
    kinds = [n.op.name for n in graph.nodes]
    unit = ["Conv2d", "Tanh", "Conv2d"]
    assert kinds == [*unit, *unit, "Add", "Conv2d", "Relu", "Conv2d", "Conv2d", "Sigmoid", "Conv2d"]
    assert [v.name for v in graph.weights if v.name.startswith("u2")] == [
        "u2.a.weight", "u2.a.bias", "u2.b.weight", "u2.b.bias",
    ]  # fmt: skip
    flat = parse(STRUCTS, args={"deep": False, "width": 8})
    assert flat.outputs[0].shape == (1, 16, 8, 8)


def test_sizes_that_are_arguments_follow_the_input_that_is_given() -> None:
    text = "args: {H: int = 8}\ninput: {x: [1, 3, H, H]}\nbody:\n  - resize: {size: [2 * H, H]}\n"
    assert parse(text, inputs=[(1, 3, 6, 6)]).outputs[0].shape == (1, 3, 12, 6)


@pytest.mark.parametrize("given", [(1, 5, 6, 6), (1, 3, 6, 7), (3, 6, 6)])
def test_sizes_that_are_none_stay_what_they_are(given: tuple[int, ...]) -> None:
    text = "args: {H: int = 8}\ninput: {x: [1, 3, H, H]}\nbody:\n  - relu\n"
    assert parse(text, inputs=[(4, 3, 6, 6)]).outputs[0].shape == (4, 3, 6, 6), "but for the batch"
    with pytest.raises(TextError, match=r"^<text>:2: input 'x' is \[1, 3, .*\] was given; make"):
        parse(text, inputs=[given])


@pytest.mark.parametrize(("said", "act"), [("true", "Tanh"), ("false", "Sigmoid")])
def test_arguments_are_true_and_false_as_in_the_text(said: str, act: str) -> None:
    head = "args: {deep: bool = true, kind: str = relu}\n" + HEAD
    body = "  - if deep:\n      - tanh\n  - else:\n      - sigmoid\n"
    assert net(body, head, args={"deep": said}).nodes[0].op.name == act
    with pytest.raises(TextError, match="no layer or struct 'true'"):  # a word stays a word
        net("  - '{kind}'\n", head, args={"kind": "true"})


def test_json_is_the_same_tree() -> None:
    text = '{"input": {"x": [1, 3, 8, 8]}, "body": [{"c = conv": {"out": "2 * 2", "kernel": 1}}, "relu"]}'
    assert [n.op.name for n in parse(text).nodes] == ["Conv2d", "Relu"]


def test_several_inputs_and_outputs_and_state() -> None:
    text = """
input: {x: [1, 3, 4, 4], h: [1, 2, 4, 4]}
body:
  - concat(x, h)
  - conv: {out: 5, kernel: 1}
  - y, h2 = split: {sizes: [3, 2]}
output: {y: y, h_next: h2}
state: {h: h_next}
"""
    graph = parse(text)
    assert (graph.input_names, graph.output_names) == (["x", "h"], ["y", "h_next"])
    assert graph.meta["state"] == {"h": "h_next"}
    assert "comes back as" in fails(text.replace("output: {y: y, h_next: h2}", "output: {y: y, h_next: y}"))


def test_weights_are_shared_on_purpose_only() -> None:
    both = "  - a = conv: {out: 3, kernel: 1}\n  - b = conv: {out: 3, kernel: 1, at: a}\n"
    graph = net(both)
    assert len(graph.weights) == 2 and graph.nodes[0].inputs[1] is graph.nodes[1].inputs[1]
    twice = "  - a = conv: {out: 3, kernel: 1}\n  - a = conv: {out: 3, kernel: 1}\n"
    assert "share the weights with at: a" in fails(f"{HEAD}body:\n{twice}")


def test_initialisers_depend_on_seed_and_name_alone() -> None:
    one = net("  - a = conv: {out: 64, kernel: 3, init: he_normal}\n")
    two = net("  - b = conv: {out: 3, kernel: 1}\n  - a = conv(x): {out: 64, kernel: 3, init: he_normal}\n")
    arrays = [next(a for v, a in g.weights.items() if v.name == "a.weight") for g in (one, two)]
    assert np.array_equal(arrays[0], arrays[1])
    other = net("  - a = conv: {out: 64, kernel: 3, init: he_normal}\n", seed=1)
    assert not np.array_equal(arrays[0], next(iter(other.weights.values())))
    assert abs(arrays[0].std() / np.sqrt(2 / 27) - 1) < 0.05


def test_glorot_normal_has_its_deviation_after_the_cut() -> None:
    graph = net("  - flatten\n  - linear: {out: 300, init: glorot_normal}\n")
    weight = next(iter(graph.weights.values()))
    wanted = np.sqrt(2 / (192 + 300))
    assert abs(weight.std() / wanted - 1) < 0.02 and np.abs(weight).max() <= 2 * wanted / 0.8796 + 1e-6


def test_attention_is_softmax_of_scaled_products() -> None:
    text = "input: {x: [2, 5, 8]}\nbody:\n  - attention: {heads: 2}\n"
    graph = parse(text)
    x = np.random.default_rng(0).normal(size=(2, 5, 8))
    w = {v.name.removeprefix("attention_1."): a.astype("float64") for v, a in graph.weights.items()}
    q, k, v = ((x @ w[f"{n}.weight"].T + w[f"{n}.bias"]).reshape(2, 5, 2, 4).transpose(0, 2, 1, 3) for n in "qkv")
    scores = q @ k.swapaxes(-1, -2) / 2
    share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = (share @ v).transpose(0, 2, 1, 3).reshape(2, 5, 8)
    wanted = mixed @ w["out.weight"].T + w["out.bias"]
    assert np.allclose(graph.run([x], keep=[])[graph.outputs[0]], wanted, atol=1e-12)


def test_networks_of_other_files_are_structs(tmp_path: Path) -> None:
    (tmp_path / "unit.yaml").write_text(
        "args: {n: int = 2}\ninput: {x: [1, 3, 4, 4]}\nbody:\n  - c = conv: {out: n, kernel: 1}\n"
    )
    whole = HEAD + "networks: {Unit: unit.yaml}\nbody:\n  - first = Unit: {n: 6}\n  - second = Unit\n"
    (tmp_path / "net.yaml").write_text(whole)
    graph = parse(tmp_path / "net.yaml")
    assert graph.outputs[0].shape == (1, 2, 8, 8)
    assert [n.origin for n in graph.nodes] == ["unit.yaml:4", "unit.yaml:4"]
    (tmp_path / "net.yaml").write_text(whole.replace("unit.yaml", "../unit.yaml"))
    with pytest.raises(TextError, match="outside the folder"):
        parse(tmp_path / "net.yaml")


MISTAKES = [
    ("  - relu\n  - fuse = conv: {out: 'nf//0', kernel: 1}\n",
     ":4: conv 'fuse': out must be a positive integer, got 'nf//0'"),
    ("  - conv: {out: 8 // 0, kernel: 1}\n", "got '8 // 0' (in '8 // 0': integer division or modulo by zero)"),
    ("  - conv: {out: 0, kernel: 1}\n", ":3: conv 'conv_1': out must be a positive integer, got 0"),
    ("  - conv: {out: 4}\n", "conv 'conv_1' needs 'kernel', a positive integer or two"),
    ("  - conv: {out: 4, kernel: 1, strides: 2}\n", "has no field 'strides'; did you mean 'stride'? It has act, bias"),
    ("  - convv: {out: 4, kernel: 1}\n", "there is no layer or struct 'convv'; did you mean 'conv'?"),
    ("  - add(x, z)\n", "reads 'z', which does not exist here"),
    ("  - conv: {out: 4, kernel: 9}\n", "a window of 9"),
    ("  - conv: {out: 4, kernel: 1, groups: 2}\n", "groups=2 does not divide the 3 input channels"),
    ("  - conv: {out: 4, kernel: 1, act: rleu}\n", "act must be an activation (none, relu"),
    ("  - a, b, c = split: {sizes: [1, 1]}\n", "sizes must be positive integers of sum 3"),
    ("  - else:\n      - relu\n", "'else' has no 'if' right before it"),
    ("  - conv: {out: 4, kernel: 1}\n    relu: {}\n", "a step is one key"),
    ("  - relu\n  - batch_norm: {eps: -1}\n", ":4: batch_norm 'batch_norm_1': eps must be 0 or more, got -1"),
    ("  - group_norm: {groups: 3, eps: -1}\n", ":3: group_norm 'group_norm_1': eps must be 0 or more, got -1"),
    ("  - layer_norm: {eps: .nan}\n", ":3: layer_norm 'layer_norm_1': eps must be 0 or more, got nan"),
    ("  - w = param: {shape: [8]}\n  - rms_norm(x, w): {axes: [3], eps: -0.1}\n", "eps must be 0 or more, got -0.1"),
    ("  - batch_norm: {momentum: 7}\n", ":3: batch_norm 'batch_norm_1': momentum must be from 0 to 1"),
    ("  - leaky_relu(0.1)\n", "reads '0.1', which does not exist here: in parentheses stand values by name; fields are "
                                  "written 'leaky_relu: {slope: 0.1}'"),
    ("  - conv(3)\n", "written 'conv: {out: 3}'"),
    ("  - add(x, 2)\n", ":3: add 'add' reads '2', which does not exist here: in parentheses stand values by name"),
    ("  - head = convv: {out: 3}\n", ":3: there is no layer or struct 'convv'; did you mean 'conv'?"),
    ("  - relu\n  - for i in range('a'):\n      - relu\n", "range takes one to three whole numbers, got 'a'"),
    ("  - a = max_pool: {kernel: 2}\n  - add(_, x)\n",
     ":4: add 'add': [1, 3, 4, 4] and [1, 3, 8, 8] cannot be broadcast together"),
    ("  - expand: {shape: [2, 2]}\n", "[1, 3, 8, 8] and [2, 2] cannot be broadcast together"),
    ("  - a = reshape: {shape: [2, 12, 8]}\n  - b = reshape(x): {shape: [3, 8, 8]}\n  - mat_mul(a, b)\n",
     ":5: mat_mul 'mat_mul': [2] and [3] cannot be broadcast together"),
    ("  - x = = conv\n", "is no step"),
    ("  - concat: {axis: 1, axis: 2}\n", "'axis' is here a second time"),
    ("  - relu\n  - require: x.height in [16, 32] and x.rank == 4\n",
     ":4: 'x.height in [16, 32] and x.rank == 4' is required here, and it is not so"),
    ("  - let: {n: 3}\n  - require: n < 2\n", ":4: 'n < 2' is required here, and n is 3"),
    ("  - require: m < 2\n", ":3: "),
    ("  - require: {n: 3}\n", ":3: 'require' needs a condition"),
    ("  - require: true\n", ":3: 'require' needs a condition"),
    # what other frameworks call it
    ("  - Conv2D: {filters: 8, kernel_size: 3}\n", ":3: there is no layer or struct 'Conv2D'; did you mean 'conv'?"),
    ("  - conv: {out_channels: 8, kernel: 3}\n", "has no field 'out_channels'; did you mean 'out'? It has act"),
    ("  - conv2d: {out_channels: 8}\n", "'conv' is the layer that has weights of its own"),
    ("  - transpose: {perm: [0, 2, 3, 1]}\n", "there is no layer or struct 'transpose'; did you mean 'permute'?"),
    ("  - dropout: {p: 0.1}\n", "has no field 'p'; did you mean 'rate'?"),
    ("  - conv: {out: 8, kernel: 1, act: swish}\n", "got 'swish'; did you mean 'silu'?"),
    ("  - conv: {out: 8, kernel: 1, padding: SAME}\n", "got 'SAME'; did you mean 'same'?"),
    ("  - conv: {out: 8, kernel: 1, bias: no}\n", "bias must be true or false, got 'no'; did you mean 'false'?"),
    ("  - conv: {out: 8, kernal: 1}\n", "has no field 'kernal'; did you mean 'kernel'?"),
    # signs and spaces
    ("  - conv: {out=8, kernel=1}\n", "has no field 'out=8'; write 'out: 8', with a space behind the colon"),
    ("  - conv: {out:8, kernel:1}\n", "has no field 'out:8'; write 'out: 8', with a space behind the colon"),
    ("  - conv:{out: 8, kernel: 1}\n", ":3: not YAML: mapping values are not allowed in this context; behind a colon"),
    ("  - relu\n\t- relu\n", "; there is a tab here; steps are indented by spaces"),
    ("  - conv: {out: 8, kernel: 1\n  - relu\n", "what begins on line 3 is not closed"),
    ("  - y = conv(x, out=8)\n", "fields stand behind a colon: 'name = layer(a): {field: value}'"),
    ("  - my conv = relu\n", "'my conv = relu' is no step; 'my conv' is no name"),
    ("  - dropout: [0.5]\n", "fields are written {rate: …}"),
    # names
    ("  - let: {nf: 3}\n  - conv: {out: nff, kernel: 1}\n", "(there is no 'nff' here; did you mean 'nf'?)"),
    ("  - let: {nf: 3}\n  - conv: {out: 2 * nff, kernel: 1}\n", "(in '2 * nff': there is no 'nff' here; did you mean"),
    # loops and conditions
    ("  - for i, (a, b) in [[1, [2, 3]]]:\n      - relu\n", "is no step; a loop is 'for i in range(n):'"),
    ("  - for i in range(2)\n      - relu\n", "a loop ends in a colon"),
    ("  - if 0:\n      - relu\n  - else if 1:\n      - relu\n", "is no step; write 'elif condition:' or 'else:'"),
    ("  - if:\n      - relu\n", ":3: 'if' needs a condition"),
    # axes
    ("  - concat(x, x): {axis: 5}\n", "there is no axis 5; a value of shape [1, 3, 8, 8] has axes 0 to 3"),
    ("  - softmax: {axis: -5}\n", "there is no axis -5"),
    ("  - batch_norm: {axis: 4}\n", "there is no axis 4"),
    ("  - dropout: {shared: [4]}\n", "there is no axis 4"),
    ("  - select: {axis: 4, index: 0}\n", "there is no axis 4"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), MISTAKES)
def test_mistakes_are_said_with_their_line(body: str, message: str) -> None:
    said = fails(f"{HEAD}body:\n{body}")
    assert message in said and said.startswith("<text>:"), said


@pytest.mark.parametrize("version", ["banana", "2", "1.0", "'1'", "true", "[1]", ""])
def test_only_the_version_that_is_known_is_read(version: str) -> None:
    said = fails(f"name: a\ninstep: {version}\n{HEAD}body:\n  - relu\n")
    assert said.startswith("<text>:2: instep must be 1, the version of the form that is understood here, got ")
    assert parse(f"instep: 1\n{HEAD}body:\n  - relu\n")


def test_a_body_has_each_name_once_but_for_results_that_take_the_place_of_others() -> None:
    said = fails(f"{HEAD}body:\n  - a = relu\n  - a = sigmoid\n")
    assert said.startswith("<text>:4: a second step is called 'a', the first is on line 3")
    assert "'a', the first is on line 3" in fails(f"{HEAD}body:\n  - a = relu; a = sigmoid\n")
    assert net("  - a = relu\n  - a := sigmoid\n  - for i in range(2):\n      - a = tanh\n")


NAMED = """input: {x: [1, 3, 8, 8], h: [1, 3, 8, 8]}
structs:
  Inner:
    args: {k: int}
    body:
      - conv: {out: 3, kernel: k}
  Block:
    args: {k: int = 3}
    out: y
    body:
      - y = Inner: {k: k}
body:
  - Block: {k: 1}
  - y = max_pool: {kernel: 2}
output:
  a: y
  h_next: y
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  h_next: y\n", "  h_next: z\n", "<text>:17: the network gives back 'z', which does not exist in it"),
        ("  h_next: y\n", "  h_next: []\n", "<text>:17: one name belongs here, got 0"),
        ("    out: y\n", "    out: yy\n", "<text>:9: Block 'Block_1' gives back 'yy'"),
        ("  h_next: y\n", "  h_next: y\nstate:\n  g: h_next\n", "<text>:19: state g: h_next: the network has no input"),
        ("  h_next: y\n", "  h_next: y\nstate:\n  h: z\n", "<text>:19: state h: z: the network has no output 'z'"),
        ("  h_next: y\n", "  h_next: y\nstate:\n  h: h_next\n",
         "<text>:19: state h: h_next: float32[1, 3, 8, 8] comes back as float32[1, 3, 4, 4]"),
        ("{k: 1}", "{k: 9}", "<text>:6: conv 'Block_1.y.conv_1': "),
        ("{k: 1}", "{k: 9}", " (in Inner, used on line 11, in Block, used on line 13)"),
        ("{kernel: 2}", "{kernel: 9}", "<text>:14: max_pool 'y': "),
    ],
)  # fmt: skip
def test_mistakes_of_names_and_arguments_are_said_where_they_were_made(old: str, new: str, message: str) -> None:
    assert parse(NAMED) and old in NAMED
    assert message in fails(NAMED.replace(old, new))


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    good = {"c.weight": np.zeros((4, 3, 1, 1), "float32"), "c.bias": np.zeros(5, "float32"), "d": np.zeros(1)}
    with pytest.raises(TextError) as caught:
        net("  - c = conv: {out: 4, kernel: 1}\n", weights=good)
    assert "1 of another shape: c.bias is [5], needs [4]" in str(caught.value)
    assert "1 not in the network: d" in str(caught.value)


def test_what_is_required_of_a_structs_arguments_is_said_with_its_use() -> None:
    text = (
        f"{HEAD}structs:\n  Up:\n    args: {{scale: int}}\n    body:\n      - require: scale in [2, 4]\n      - relu\n"
    )
    assert len(parse(f"{text}body:\n  - Up: {{scale: 4}}\n").nodes) == 1
    said = fails(f"{text}body:\n  - Up: {{scale: 3}}\n")
    assert ":6: 'scale in [2, 4]' is required here, and scale is 3" in said and "in Up, used on line 9" in said


def test_a_depth_that_vgg_does_not_have_is_refused() -> None:
    with pytest.raises(TextError, match=r"vgg.yaml:\d+: 'depth in \[16, 19\]' is required here, and depth is 17"):
        parse(path_of("vgg"), args={"depth": 17}, initial=False)
    with pytest.raises(TextError, match=r"scale is 2\.5"):
        parse(path_of("quicksrnet_s"), args={"scale": 2.5}, initial=False)


WHOLE_MISTAKES = [
    ("inputs: {x: [1, 3, 8, 8]}\nbody:\n  - relu\n", ":1: 'inputs' is no section; did you mean 'input'? Known: instep"),
    ("defaults: {cnov: {kernel: 3}}\n" + HEAD + "body:\n  - relu\n", ":1: defaults: there is no layer or struct"),
    (HEAD + "defaults: {conv: {kernal: 3}}\nbody:\n  - relu\n", ":2: defaults: conv has no field 'kernal'; did"),
    (HEAD + "structs:\n  A:\n    arguments: {a: int}\nbody:\n  - A\n", "has no part 'arguments'; did you mean"),
    (HEAD + "structs:\n  A:\n    args: {a: integer}\nbody:\n  - A\n", "got 'integer'; did you mean 'int'?"),
    (HEAD + "structs:\n  A:\n    body: [B]\n  B:\n    body: [A]\nbody:\n  - A\n", "A is made of itself: A → B → A"),
    (HEAD + "structs:\n  A:\n    in: [x, y]\n    body: [relu]\nbody:\n  - A\n", "reads 2 values (x, y), got 1"),
    (HEAD + "args: {nf: int}\nbody:\n  - relu\n", "the network needs 'nf', an integer; give it: --arg nf=…"),
    (HEAD + "args: {nf: int = 3}\nstructs:\n  A:\n    body:\n      - conv: {out: nf, kernel: 1}\nbody:\n  - A\n",
     ":6: conv 'A_1.conv_1': out must be a positive integer, got 'nf' ('nf' is an argument of the network, which"),
    ("input: {x: [1, 2, 8]}\nbody:\n  - conv: {out: 4, kernel: 1}\n", "a sequence is a picture of height 1"),
    ("doc: a: b\n" + HEAD + "body:\n  - relu\n", ":1: not YAML: mapping values are not allowed in this context; a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WHOLE_MISTAKES)
def test_mistakes_of_a_whole_text_are_said_with_what_to_do(text: str, message: str) -> None:
    said = fails(text)
    assert message in said and said.startswith("<text>:"), said


def test_files_that_a_text_names_and_that_are_not_there_are_said_with_their_line(tmp_path: Path) -> None:
    place = tmp_path / "net.yaml"
    place.write_text(f"{HEAD}networks: {{N: unit.yaml}}\nbody:\n  - N\n")
    with pytest.raises(TextError, match=r"net.yaml:2: 'unit.yaml' cannot be read: there is no such file beside"):
        parse(place)
    place.write_text(f"{HEAD}weights: net.safetensors\nbody:\n  - c = conv: {{out: 1, kernel: 1}}\n")
    with pytest.raises(TextError, match=r"net.yaml:2: weights: there is no file 'net.safetensors' beside the text"):
        parse(place)
    place.write_bytes(HEAD.encode("utf-16"))
    with pytest.raises(TextError, match="save it as UTF-8"):
        parse(place)


def test_axes_below_zero_count_from_the_last() -> None:
    for step in (
        "softmax: {axis: AXIS}",
        "reduce_mean: {axes: [AXIS]}",
        "concat(x, x): {axis: AXIS}",
        "ArgMax: {axis: AXIS}",
    ):
        below, above = (net(f"  - {step.replace('AXIS', axis)}\n").nodes[0].op for axis in ("-3", "1"))
        assert below == above
