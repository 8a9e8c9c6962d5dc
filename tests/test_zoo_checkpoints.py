"""Published weights in the zoo's networks: each computes what its origin computes, on real pictures and frames."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import instep
from instep.graph import Graph

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
torch = pytest.importorskip("torch")

from tests.networks.checkpoints import CHECKPOINTS, Checkpoint, load  # noqa: E402

#: Checkpoint (tests/networks/checkpoints.py) → entry of the zoo and its arguments.
ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vapsr-x4": ("vapsr", {}),
    "vapsr-x3": ("vapsr", {"blocks": 20, "scale": 3}),
    "vapsr-x2": ("vapsr", {"blocks": 20, "scale": 2}),
    "vapsr-s": ("vapsr_s", {}),
    "rlfn-x4": ("rlfn", {}),
    "rlfn-x2": ("rlfn", {"scale": 2}),
    "rlfn-s-x4": ("rlfn_s", {}),
    "rlfn-s-x2": ("rlfn_s", {"scale": 2}),
    "rlfn-ntire": ("rlfn_ntire", {}),
    "imdn": ("imdn", {}),
    "rfdn": ("rfdn", {}),
}


def trained(data: Path, entry: str, file: str, shapes: list[tuple[int, ...]], **args: Any) -> Graph:
    """An entry's graph with a checkpoint's weights. Skips where the data folder lacks the file."""
    path = data / "checkpoints" / file
    if not path.exists():
        pytest.skip(f"the data folder has no {file}")
    return instep.capture(f"zoo:{entry}", args=args, weights=str(path), inputs=shapes).graph


def computed(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs in float64."""
    values = graph.run([x.astype(np.float64) for x in inputs], keep=[])
    return [values[v] for v in graph.outputs]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda c: c.name)
def test_every_pytorch_checkpoint_computes_what_its_network_computes(data: Path, checkpoint: Checkpoint) -> None:
    entry, args = ENTRIES[checkpoint.name]
    graph = trained(data, entry, checkpoint.file, [(1, 3, 24, 32)], **args)
    assert graph.meta["range"] == [0, checkpoint.data_range]
    picture = np.asarray(Image.open(data / "sr" / "set5" / "butterfly.png").convert("RGB"))[64:88, 64:96]
    x = picture.transpose(2, 0, 1)[None] * (checkpoint.data_range / 255)
    with torch.no_grad():
        truth = load(checkpoint).double()(torch.from_numpy(x)).numpy()
    (made,) = computed(graph, x)
    assert made.shape == truth.shape and truth.std() > checkpoint.data_range / 50
    assert np.abs(made - truth).max() < 1e-10 * checkpoint.data_range


# -- recurrent networks of TensorFlow --------------------------------------------------------------------------------
def frames(data: Path, count: int, height: int, width: int) -> list[np.ndarray]:
    """A picture that a camera pans over: ``count`` frames [1, 3, height, width] in [0, 255]."""
    picture = np.asarray(Image.open(data / "sr" / "div2k_lr_x4" / "0901.png").convert("RGB"), np.float32)
    crops = [picture[3 * i : 3 * i + height, 5 * i : 5 * i + width] for i in range(count)]
    assert crops[-1].shape == (height, width, 3)
    return [c.transpose(2, 0, 1)[None] for c in crops]


def nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("width", [16, pytest.param(32, marks=pytest.mark.slow)])
def test_mobile_rrn_is_the_file_that_was_shipped_frame_after_frame(data: Path, width: int) -> None:
    """The checkpoint in our text against MediaTek's own TFLite file, each with its own hidden state."""
    from ai_edge_litert.interpreter import Interpreter

    folder = f"mobile_rrn/mobile_rrn_{width}"
    entry = "mobile_rrn" if width == 16 else f"mobile_rrn_{width}"
    h, w = 320, 180  # as shipped
    graph = trained(data, entry, f"{folder}/ckpt-150.index", [(1, 6, h, w), (1, width, h, w)])
    shipped = Interpreter(str(data / "checkpoints" / folder / f"rrn_{width}.tflite"))
    shipped.allocate_tensors()
    ports = shipped.get_input_details() + shipped.get_output_details()
    theirs = mine = np.zeros((1, width, h, w), np.float32)
    before = None
    for now in frames(data, 2, h, w):
        pair = np.concatenate([now if before is None else before, now], 1)
        before = now
        ours, mine = computed(graph, pair, mine)
        for port, x in zip(ports[:2], (pair, theirs), strict=True):
            shipped.set_tensor(port["index"], nhwc(x))
        shipped.invoke()
        frame, theirs = (shipped.get_tensor(p["index"]).transpose(0, 3, 1, 2) for p in ports[2:])
        assert frame.std() > 20
        assert np.abs(ours - frame).max() < 2e-3  # of 255, in float32
        assert np.abs(mine - theirs).max() < 2e-3 * max(np.abs(mine).max() / 255, 1)


def test_aggregation_net_is_the_file_that_was_shipped(data: Path) -> None:
    """google/uvq's PyTorch weights in our text against the TFLite file of another tool."""
    from ai_edge_litert.interpreter import Interpreter

    graph = trained(data, "aggregation_net", "uvq/aggregation_net.pth", [(1, 8, 8, 128), (1, 24, 24, 128)])
    shipped = Interpreter(str(data / "checkpoints" / "uvq" / "aggregation_net.tflite"))
    shipped.allocate_tensors()
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(4):
        given = [rng.normal(size=v.shape).astype(np.float32) * rng.uniform(0.2, 3) for v in graph.inputs]
        for port, x in zip(sorted(shipped.get_input_details(), key=lambda p: p["name"]), given, strict=True):
            assert tuple(port["shape"]) == x.shape
            shipped.set_tensor(port["index"], x)
        shipped.invoke()
        (score,) = computed(graph, *given)
        scores.append(score.item())
        assert abs(shipped.get_tensor(shipped.get_output_details()[0]["index"]).item() - score.item()) < 1e-5
    assert np.ptp(scores) > 0.05


# -- what TensorFlow itself computes ---------------------------------------------------------------------------------
def swrn_in_tensorflow(tf: Any, w: dict[str, np.ndarray], x: Any, hidden: Any) -> tuple[Any, Any]:
    """SWRN (Lian et al., arXiv 2208.11608) on the checkpoint's own arrays, NHWC."""

    def conv(name: str, x: Any, act: bool = True) -> Any:
        y = tf.nn.conv2d(x, w[f"{name}/kernel"], 1, "SAME") + w[f"{name}/bias"]
        return tf.nn.relu(y) if act else y

    def trunk(name: str, x: Any) -> Any:
        for i in range(3):
            x = conv(f"{name}/layer_with_weights-{i}/conv", x)
        return x

    before, now, after = tf.split(x, 3, -1)
    branches, states = [], []
    for side, frame, state in (("forward", before, hidden[..., :16]), ("backward", after, hidden[..., 16:])):
        y = conv(f"conv_first_{side}", tf.concat([frame, now, state], -1))
        branches.append(trunk(f"recon_trunk_{side}", y))
        states.append(conv(f"conv_hidden_{side}", branches[-1], act=False))
    y = conv("conv_fusion", tf.concat(branches, -1))
    y = tf.nn.depth_to_space(conv("conv_last", trunk("recon_trunk", y), act=False), 4)
    up = tf.image.resize(now, (4 * now.shape[1], 4 * now.shape[2]))
    return tf.clip_by_value(y + tf.cast(up, y.dtype), 0, 255), tf.concat(states, -1)


def test_swrn_is_what_tensorflow_computes_with_its_checkpoint(data: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from instep.capture.tf.checkpoint import read_checkpoint

    h, w = 45, 80
    graph = trained(data, "swrn", "swrn/ckpt-98.index", [(1, 9, h, w), (1, 32, h, w)])
    arrays = read_checkpoint(str(data / "checkpoints" / "swrn" / "ckpt-98.index"))
    arrays = {k.partition("/")[2] if k.startswith("model/") else k: v for k, v in arrays.items()}
    mine = np.zeros((1, 32, h, w), np.float32)
    theirs: Any = tf.zeros((1, h, w, 32))
    shown = frames(data, 4, h, w)
    for t in (1, 2):
        window = np.concatenate(shown[t - 1 : t + 2], 1)
        ours, mine = computed(graph, window, mine)
        frame, theirs = swrn_in_tensorflow(tf, arrays, tf.constant(nhwc(window)), theirs)
        assert np.std(frame) > 20
        assert np.abs(nhwc(ours) - frame.numpy()).max() < 1e-3
        assert np.abs(nhwc(mine) - theirs.numpy()).max() < 1e-3 * max(np.abs(mine).max() / 255, 1)


def test_abpn_is_what_tensorflow_computes_with_its_saved_model(data: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    graph = trained(data, "abpn", "abpn/saved_model", [(1, 3, 40, 56)])
    picture = np.asarray(Image.open(data / "sr" / "set5" / "butterfly.png").convert("RGB"), np.float32)[64:104, 64:120]
    # the object graph names an optimizer of Keras 2, which need not be installed: the graph alone is run
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signature = v1.saved_model.load(session, ["serve"], str(data / "checkpoints" / "abpn" / "saved_model"))
        signature = signature.signature_def["serving_default"]
        ((_, fed),), ((_, fetched),) = signature.inputs.items(), signature.outputs.items()
        truth = session.run(fetched.name, {fed.name: picture[None]})
    (made,) = computed(graph, picture.transpose(2, 0, 1)[None])
    assert np.std(truth) > 20
    assert np.abs(nhwc(made) - truth).max() < 1e-3


@pytest.mark.parametrize("trained_for_it", ["", "_qat"])
def test_abpns_quantised_files_show_the_same_picture(data: Path, trained_for_it: str) -> None:
    """The authors' 8-bit files, quantised afterwards and in training, against the SavedModel's weights in our text."""
    from ai_edge_litert.interpreter import Interpreter

    graph = trained(data, "abpn", "abpn/saved_model", [(1, 3, 40, 56)])
    shipped = Interpreter(str(data / "checkpoints" / "abpn" / f"base7_D4C28_bs16ps64_lr1e-3{trained_for_it}.tflite"))
    port = shipped.get_input_details()[0]
    shipped.resize_tensor_input(port["index"], (1, 40, 56, 3))
    shipped.allocate_tensors()
    picture = np.asarray(Image.open(data / "sr" / "set5" / "butterfly.png").convert("RGB"))[64:104, 64:120]
    shipped.set_tensor(port["index"], picture[None])
    shipped.invoke()
    result = shipped.get_output_details()[0]
    scale, zero = result["quantization"]
    theirs = (shipped.get_tensor(result["index"]).astype(np.float64) - zero) * scale
    (made,) = computed(graph, picture.transpose(2, 0, 1)[None])
    assert 10 * np.log10(255**2 / np.mean((nhwc(made) - theirs) ** 2)) > 40
