"""DeepOBS, UVQ and ResNet-8 in the zoo: counts and costs of their sources, conventions, and files in step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from instep.graph import Graph, ops
from instep.graph.text import parse
from instep.report.table import table_of_graph
from instep.runtime import Job, run_jobs
from instep.zoo import path_of


def text(name: str, **args: Any) -> Graph:
    return parse(path_of(name), args=args, initial=False)


#: What DeepOBS 1.1.2 has, counted there: test problem → trainable parameters, shapes that come out.
PROBLEMS = {
    "mnist_logreg": (7_850, [(1, 10)]), "fmnist_logreg": (7_850, [(1, 10)]),
    "mnist_mlp": (1_336_610, [(1, 10)]), "fmnist_mlp": (1_336_610, [(1, 10)]),
    "mnist_2c2d": (3_274_634, [(1, 10)]), "fmnist_2c2d": (3_274_634, [(1, 10)]),
    "cifar10_3c3d": (895_210, [(1, 10)]), "svhn_3c3d": (895_210, [(1, 10)]), "cifar100_3c3d": (918_340, [(1, 100)]),
    "cifar10_vgg16": (134_301_514, [(1, 10)]), "cifar10_vgg19": (139_611_210, [(1, 10)]),
    "cifar100_vgg16": (134_670_244, [(1, 100)]), "cifar100_vgg19": (139_979_940, [(1, 100)]),
    "imagenet_vgg16": (138_361_641, [(1, 1001)]), "imagenet_vgg19": (143_671_337, [(1, 1001)]),
    "svhn_wrn164": (2_748_890, [(1, 10)]), "cifar100_wrn404": (8_972_340, [(1, 100)]),
    "imagenet_inception_v3": (27_164_082, [(1, 1001), (1, 1001)]),
    "mnist_vae": (10_151_489, [(1, 28, 28), (1, 8), (1, 8)]),
    "fmnist_vae": (10_151_489, [(1, 28, 28), (1, 8), (1, 8)]),
    "cifar100_allcnnc": (1_387_108, [(1, 100)]),
    "tolstoi_char_rnn": (284_499, [(1, 50, 83), (1, 128), (1, 128), (1, 128), (1, 128)]),
}  # fmt: skip
#: UVQ 1.5 and MLPerf Tiny, likewise; the architectures behind the test problems in other sizes.
OTHERS = [
    ("distortion_net", {}, 3_759_228, (1, 8, 8, 128)), ("distortion_net_minimal", {}, 31_378, (1, 86, 148, 128)),
    ("distortion_net_medium", {}, 349_620, (1, 19, 28, 128)), ("distortion_net_single", {}, 6_004, (1, 24, 180, 320)),
    ("distortion_net_single", {"stem": True, "H": 360, "W": 640}, 17_496, (1, 180, 320, 24)),
    ("distortion_net_no_depthwise", {}, 161_585_532, (1, 8, 8, 128)), ("content_net", {}, 3_759_228, (1, 128, 8, 8)),
    ("aggregation_net", {}, 74_241, (1, 1)), ("uvq", {}, 2 * 3_759_228 + 74_241, (1, 1)),
    ("uvq", {"batch": 2}, 2 * 3_759_228 + 74_241, (2, 1)), ("resnet8", {}, 78_186, (1, 10)),
    ("wrn", {"classes": 100}, 2_772_020, (1, 100)),
]  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_deepobs_counts(name: str) -> None:
    graph, (count, shapes) = text(name), PROBLEMS[name]
    assert table_of_graph(graph, name).parameters == count == graph.meta["parameters"]
    assert [v.shape for v in graph.outputs] == shapes


@pytest.mark.parametrize(("name", "args", "count", "shape"), OTHERS)
def test_other_counts(name: str, args: dict[str, Any], count: int, shape: tuple[int, ...]) -> None:
    graph = text(name, **args)
    assert table_of_graph(graph, name).parameters == count
    assert graph.outputs[0].shape == shape


def test_content_net_costs_what_its_source_does() -> None:
    assert table_of_graph(text("content_net"), "").macs / 1e6 == pytest.approx(486.3, abs=0.05)


# -- the conventions that ports by hand got wrong --------------------------------------------------------------------
#: Test problem → factor of L2 and the layers that have none: kernels alone, and in VGG and Inception no dense ones.
DECAYS = [
    ("mnist_mlp", None, ["dense1", "dense2", "dense3", "dense4"]), ("cifar10_3c3d", 0.002, []),
    ("cifar10_vgg16", 0.0005, ["dense1", "dense2", "dense3"]), ("svhn_wrn164", 0.0005, []),
    ("imagenet_inception_v3", 0.0005, ["auxiliary", "logits"]), ("cifar100_allcnnc", 0.0005, []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "factor", "free"), DECAYS)
def test_decay_is_of_the_kernels_that_the_source_names(name: str, factor: float | None, free: list[str]) -> None:
    graph = text(name)
    kernels = {n.inputs[1].name for n in graph.nodes if isinstance(n.op, ops.Conv2d | ops.Linear)}
    want = {} if factor is None else dict.fromkeys(kernels - {f"{layer}.weight" for layer in free}, factor)
    assert graph.meta.get("decay", {}) == want


def nodes(graph: Graph, kind: type) -> list[Any]:
    return [n.op for n in graph.nodes if isinstance(n.op, kind)]


def test_batch_norms_have_their_momentum_in_pytorchs_meaning() -> None:
    assert {(o.eps, o.momentum) for o in nodes(text("svhn_wrn164"), ops.BatchNorm)} == {(1e-5, 0.1)}
    assert {(o.eps, round(o.momentum, 12)) for o in nodes(text("inception_v3"), ops.BatchNorm)} == {(1e-3, 0.0003)}
    assert {o.momentum for o in nodes(text("distortion_net"), ops.BatchNorm)} == {0.0}


def test_small_pictures_are_enlarged_without_half_pixel_centres() -> None:
    (resize,) = nodes(text("cifar10_vgg16"), ops.Resize2d)
    assert (resize.size, resize.mode, resize.coordinates) == ((224, 224), "bilinear", "asymmetric")
    assert not nodes(text("imagenet_vgg16"), ops.Resize2d)


def test_the_pools_of_3c3d_pad_bottom_and_right_alone() -> None:
    assert {o.padding for o in nodes(text("cifar10_3c3d"), ops.MaxPool2d)} == {((0, 1), (0, 1))}


def test_dropout_is_of_single_elements() -> None:
    for name, rates in (
        ("cifar100_allcnnc", [0.2, 0.5, 0.5]), ("mnist_vae", [0.2] * 5), ("cifar10_vgg16", [0.5, 0.5]),
        ("tolstoi_char_rnn", [0.2] * 4), ("imagenet_inception_v3", []),
    ):  # fmt: skip
        assert nodes(text(name), ops.Dropout) == [ops.Dropout(r) for r in rates], name


def test_averages_do_not_count_what_is_padded() -> None:
    padded = [o for o in nodes(text("inception_v3"), ops.AvgPool2d) if any(map(any, o.padding))]
    assert len(padded) == 9 and not any(o.count_include_pad for o in padded)


def test_the_shortcut_of_a_wide_residual_unit_is_the_raw_input_but_in_the_first() -> None:
    graph = text("svhn_wrn164")
    makers = graph.producers()
    sources = Counter(makers[n.inputs[1]].op.name for n in graph.nodes if isinstance(n.op, ops.Add))
    assert sources == {"Conv2d": 3, "Add": 3}
    first = next(n for n in graph.nodes if n.scope.endswith("shortcut"))
    assert makers[first.inputs[0]].op.name == "Relu"


def test_stochastic_depth_drops_whole_branches() -> None:
    dropped = nodes(text("distortion_net"), ops.Dropout)
    assert {o.shared for o in dropped} == {(1, 2, 3)}
    assert [round(o.rate / 0.0125) for o in dropped] == [2, 4, 6, 7, 9, 10, 12, 13, 14]
    assert not nodes(text("content_net"), ops.Dropout)


def test_initial_values_of_deepobs() -> None:
    weights = {v.name: a for v, a in parse(path_of("mnist_2c2d")).weights.items()}
    assert set(weights["conv1.bias"]) == {np.float32(0.05)} and abs(weights["dense1.weight"]).max() <= 0.1
    assert not any(a.any() for a in parse(path_of("mnist_logreg")).weights.values())
    assert set({v.name: a for v, a in parse(path_of("allcnnc")).weights.items()}["conv9.bias"]) == {np.float32(0.1)}
    # TensorFlow 1's variables of 83 numbers without an initialiser: ±√(6 / (83 + 83))
    bias = {v.name: a for v, a in parse(path_of("char_rnn")).weights.items()}["dense.bias"]
    assert 0.9 * (6 / 166) ** 0.5 < abs(bias).max() <= (6 / 166) ** 0.5


def test_patches_lie_side_by_side_as_in_the_frame() -> None:
    """Distortion features of nine patches, by the text in four axes and by the source's six."""
    lines = path_of("uvq").read_text("utf-8").splitlines()
    start = lines.index("  Mosaic:")
    struct = "\n".join(lines[start : lines.index("body:", start)])
    graph = parse(f"input: {{x: [18, 8, 8, 5]}}\nstructs:\n{struct}\nbody:\n  - Mosaic\n")
    assert max(v.rank for v in graph.values()) <= 4
    x = np.random.default_rng(0).random((18, 8, 8, 5))
    want = x.reshape(2, 3, 3, 8, 8, 5).transpose(0, 1, 3, 2, 4, 5).reshape(2, 24, 24, 5)
    assert np.array_equal(graph.run([x], keep=[])[graph.outputs[0]], want)


# -- files ---------------------------------------------------------------------------------------------------------
#: In sizes that take little time; the rest is in benchmarks/zoo.py.
CONVERTED = {
    "logreg": {}, "mlp": {}, "2c2d": {}, "3c3d": {}, "wrn": {"widening": 1}, "vae": {"latent": 3},
    "char_rnn": {"length": 3, "batch": 2}, "resnet8": {}, "distortion_net_single": {"H": 24, "W": 32},
    "aggregation_net": {},
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_entries_convert_in_step(name: str, tmp_path: Path) -> None:
    result = instep.convert(f"zoo:{name}", tmp_path / "net.tflite", args=CONVERTED[name])
    assert result.verdict is not None and result.verdict.verdict == "in step"


def test_resnet8_with_its_trained_weights_is_the_shipped_file() -> None:
    folder = Path(os.environ.get("INSTEP_DATA", "/nonexistent")) / "checkpoints" / "mlperf_tiny"
    if not folder.exists():
        pytest.skip("INSTEP_DATA has no checkpoints/mlperf_tiny")
    h5py = pytest.importorskip("h5py", reason="h5py reads Keras' files")
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            arrays[name.split("/", 1)[1].removesuffix(":0")] = np.array(entry)

    with h5py.File(folder / "pretrainedResnet.h5") as file:
        file["model_weights"].visititems(keep)
    from instep.capture.foreign import fit_keras

    fitted, _ = fit_keras(arrays, text("resnet8"), {}, "pretrainedResnet.h5")
    graph = parse(path_of("resnet8"), weights=fitted)
    pictures = [np.random.default_rng(s).integers(0, 256, (1, 32, 32, 3)).astype(np.float32) for s in range(4)]
    (results,) = run_jobs([Job(folder / "pretrainedResnet.tflite", [[p] for p in pictures], "builtin")])
    for picture, result in zip(pictures, results, strict=True):
        want = graph.run([picture.astype(np.float64)], keep=[])[graph.outputs[0]]
        assert np.abs(result.outputs[0] - want).max() < 1e-5


BUILD = """
import json, sys, time
start = time.process_time()
from instep.graph.text import parse
from instep.zoo import path_of
graph = parse(path_of(sys.argv[1]))
spent = time.process_time() - start
frameworks = [m for m in ("torch", "tensorflow", "keras", "jax", "flax", "timm") if m in sys.modules]
print(json.dumps([spent, len(graph.nodes), frameworks]))
"""


@pytest.mark.parametrize("name", ["imagenet_inception_v3", "cifar100_wrn404", "imagenet_vgg19", "uvq"])
def test_the_largest_entries_are_read_in_a_second_without_a_framework(name: str) -> None:
    """Imports included; the numbers of the weights are drawn when they are first read."""
    done = subprocess.run([sys.executable, "-c", BUILD, name], capture_output=True, text=True, check=True)
    spent, count, frameworks = json.loads(done.stdout)
    assert count > 20 and frameworks == [] and spent < 1
