"""Mobile super-resolution in the zoo: counts of facts, states, and the merging of what was trained in branches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import instep
from instep.graph.text import parse
from instep.report.table import table_of_graph
from instep.rewrite.pipelines import to_tflite
from instep.zoo import names, path_of

#: (entry, arguments, parameters): counts that papers, checkpoints or the seed's log state.
COUNTS = [
    ("vapsr", {}, 342_220), ("vapsr", {"blocks": 20, "scale": 3}, 336_811),
    ("vapsr", {"blocks": 20, "scale": 2}, 329_236), ("vapsr_s", {}, 154_956),
    ("vapsr_0", {}, 154_252), ("vapsr_1", {}, 155_916), ("vapsr_2", {}, 131_276), ("vapsr_3", {}, 131_276),
    ("vapsr_3_1", {}, 73_484), ("vapsr_3_2", {}, 64_108), ("vapsr_4", {}, 64_108), ("vapsr_4_1", {}, 59_468),
    ("vapsr_4_2_0", {}, 64_108), ("vapsr_4_2_1", {}, 64_108), ("vapsr_4_3", {}, 63_852),
    ("swrn", {}, 43_472), ("swrn", {"blocks": 2}, 36_512), ("swrn_1", {}, 36_512),
    ("mobile_rrn", {}, 35_664), ("mobile_rrn_32", {}, 126_576), ("mobile_rrn_64", {}, 474_288),
    ("swat_0", {}, 50_624), ("swat_1", {}, 33_984), ("swat_2", {}, 25_664), ("swat_3", {}, 25_664),
    ("swat_3_1", {}, 24_160), ("swat_3_2", {}, 26_016), ("swat_4", {}, 53_696), ("swat_5", {}, 25_664),
    ("swat_6", {}, 21_056),
    ("ecbsr", {"c": 8, "scale": 2}, 2_748), ("ecbsr", {"c": 8}, 3_624), ("ecbsr", {"scale": 2}, 10_100),
    ("ecbsr", {}, 11_840), ("ecbsr", {"m": 10, "c": 32}, 97_776), ("ecbsr", {"m": 16, "c": 64}, 601_808),
    ("ecbsr", {"c": 8, "relu": True}, 3_584), ("ecbsr", {"relu": True}, 11_760),
    ("ecbsr_training", {"c": 8}, 16_624), ("ecbsr_training", {}, 47_120),
    ("skipskip", {}, 62_048), ("eesrnet", {}, 28_192), ("diggers", {}, 23_371),
    ("rlfn_s", {}, 470_208), ("rlfn_s", {"scale": 2}, 454_620), ("rlfn_0", {}, 306_992),
    ("quicksrnet_s", {"scale": 1.5}, 22_875), ("quicksrnet_m", {"scale": 1.5}, 50_619),
    ("quicksrnet_l", {"scale": 1.5}, 415_695),
    ("abpn", {"nf": 32}, 52_279), ("abpn", {"nf": 32, "scale": 4}, 72_544),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "count"), COUNTS)
def test_parameters_are_those_of_the_sources(name: str, args: dict, count: int) -> None:
    assert table_of_graph(parse(path_of(name), args=args, initial=False), name).parameters == count


RECURRENT = [n for n in names() if n.partition("_")[0] in ("swrn", "swat") or n.startswith("mobile_rrn")]


@pytest.mark.parametrize("name", RECURRENT)
def test_a_hidden_state_goes_in_and_comes_out(name: str) -> None:
    graph = parse(path_of(name), args={"H": 12, "W": 9})
    assert graph.meta["state"] == {"hidden": "hidden_next"}
    assert (graph.input_names, graph.output_names) == (["frames", "hidden"], ["frame", "hidden_next"])
    rng = np.random.default_rng(0)
    frames, hidden = (rng.uniform(0, 255, v.shape) for v in graph.inputs)
    first = graph.run([frames, np.zeros_like(hidden)], keep=[])
    frame, state = (first[v] for v in graph.outputs)
    assert frame.shape == (1, 3, 48, 36) and state.shape == hidden.shape
    later = graph.run([frames, state], keep=[])[graph.outputs[0]]
    assert np.abs(later - frame).max() > 0  # the state matters


def test_a_sequences_biases_start_as_those_of_the_convolution_that_they_belong_to() -> None:
    """torch's rule counts the inputs of the convolution: 16 and 9 · 32 in an inner block of ECBSR."""
    w = {v.name: a for v, a in parse(path_of("ecbsr_training")).weights.items()}
    for name, fan in (("k0", 16), ("b0", 16), ("k1", 288), ("b1", 288)):
        drawn = np.abs(w[f"backbone.1.conv1x1_3x3.{name}"])
        assert 0.8 / fan**0.5 < drawn.max() <= 1 / fan**0.5


# -- what was trained in branches ------------------------------------------------------------------------------------
def merged(w: dict[str, np.ndarray], block: str) -> tuple[np.ndarray, np.ndarray]:
    """An edge-oriented block as one 3×3, by the formulas of its paper: Σ k1 · k0, Σ k1 · b0 + b1 (in float64)."""
    w = {k.removeprefix(f"{block}."): v.astype(np.float64) for k, v in w.items() if k.startswith(f"{block}.")}
    kernel, bias = w["conv3x3.weight"].copy(), w["conv3x3.bias"].copy()
    filters = {
        "conv1x1_sbx": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        "conv1x1_sby": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        "conv1x1_lpl": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    }
    later = {"conv1x1_3x3": (w["conv1x1_3x3.k1"], w["conv1x1_3x3.b1"])}
    for name, filter in filters.items():
        each = w[f"{name}.scale"] * np.array(filter, np.float64)  # [out, 1, 3, 3]
        later[name] = (np.eye(len(each))[:, :, None, None] * each, w[f"{name}.bias"])
    for name, (k1, b1) in later.items():
        kernel += np.einsum("omij,mc->ocij", k1, w[f"{name}.k0"][:, :, 0, 0])
        bias += np.einsum("omij,m->o", k1, w[f"{name}.b0"]) + b1
    return kernel, bias


@pytest.mark.parametrize(
    ("name", "args"), [("ecbsr", {}), ("ecbsr", {"m": 2, "c": 8, "scale": 2}), ("rcbsr", {"m": 2})]
)
def test_the_form_that_is_trained_converts_to_the_merged_form(name: str, args: dict) -> None:
    colors = 1 if name == "ecbsr" else 3
    shapes = [(1, colors, 12, 9)]
    trained = parse(path_of(f"{name}_training"), args=args, inputs=shapes)
    blocks = args.get("m", 4) + 2
    rng = np.random.default_rng(0)
    for value, array in list(trained.weights.items()):
        if value.name.endswith(("scale", "bias", "b0", "b1")):  # those that start near zero hide mistakes
            trained.weights[value] = rng.normal(size=array.shape).astype(np.float32)
    w = {v.name: a for v, a in trained.weights.items()}
    given = {k: v for k, v in w.items() if ".act." in k}
    for i in range(blocks):
        kernel, bias = merged(w, f"backbone.{i}")
        given |= {f"backbone.{i}.conv3x3.weight": kernel, f"backbone.{i}.conv3x3.bias": bias}
    plain = parse(path_of(name), args=args, inputs=shapes, weights={k: v.astype(np.float32) for k, v in given.items()})

    x = rng.uniform(0, 255, shapes[0])
    truth = trained.run([x], keep=[])[trained.outputs[0]]
    assert np.allclose(plain.run([x], keep=[])[plain.outputs[0]], truth, rtol=1e-4, atol=1e-4 * np.abs(truth).max())
    (ours, _), (theirs, _) = to_tflite(trained), to_tflite(plain)
    assert [str(n.op) for n in ours.nodes] == [str(n.op) for n in theirs.nodes]
    for a, b in zip(ours.weights.values(), theirs.weights.values(), strict=True):
        assert a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6 * max(np.abs(b).max(), 1))


# -- files -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["swrn", "swat_3_1", "vapsr_4_1", "vapsr_4_3", "ecbsr_training", "eesrnet"])
def test_entries_convert_in_step(name: str, tmp_path: Path) -> None:
    made = instep.convert(f"zoo:{name}", tmp_path / "network.tflite", args={"H": 12, "W": 16})
    assert made.ok and made.verdict is not None and made.verdict.verdict == "in step" and made.max_rank == 4
