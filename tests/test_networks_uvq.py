"""UVQ 1.5 (examples/uvq): the published networks, the aggregation of patches, and their conversions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import instep  # noqa: E402
from instep.report.results import Conversion  # noqa: E402
from instep.runtime import run, tflite_info  # noqa: E402
from instep.verify.inputs import Picture  # noqa: E402
from uvq import networks as uvq  # noqa: E402
from uvq.blocks import TRUNK, SameConv2d, same_pads  # noqa: E402
from uvq.pictures import CAT, cut, frame_of, with_statistics  # noqa: E402

SOURCE = "examples/uvq/networks.py"
#: RGB in [-1, 1]
SIGNED = Picture(1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def published(data: Path) -> Path:
    """The folder of what others published: AggregationNet's weights and files, DistortionNet's small files."""
    folder = data / "checkpoints" / "uvq"
    if not folder.is_dir():
        pytest.skip("no checkpoints/uvq in the data folder")
    return folder


def parameters(network: Any) -> int:
    return sum(p.numel() for p in network.parameters())


def convert(network: Any, file: Path, *shapes: tuple[int, ...], verify: bool = True) -> Conversion:
    """The network as the port's hardware wants it: ``instep convert --target bstm``."""
    given = list(shapes) or None
    return instep.convert(network.eval(), file, inputs=given, picture=SIGNED, target="bstm", verify=verify)


def assert_fit_for_simple_hardware(file: str | Path) -> None:
    """What the hardware of UVQ's port takes: no tensor beyond four dimensions, no GATHER_ND, every shape fixed.

    Said by the profile, and counted in the file without it.
    """
    assert instep.check(file, "bstm").ok
    info = tflite_info(file)
    assert info.max_rank <= 4
    assert not {"GATHER_ND", "BROADCAST_TO"} & info.histogram.keys()
    assert all(size > 0 for t in info.tensors for size in t.shape)


# -- the networks are the published ones -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (uvq.DistortionNetCore, 3_759_228),
        (uvq.ContentNetCore, 3_759_228),
        (uvq.AggregationNetCore, 74_241),
        (lambda: uvq.SingleBlock(), 6_004),
        (lambda: uvq.SingleBlock(layout="NHWC"), 6_004),
        (lambda: uvq.SingleBlock(stem=True, layout="NHWC"), 17_496),
        (lambda: uvq.DistortionPatches(TRUNK[:3]), 31_378),
        (lambda: uvq.DistortionPatches(TRUNK[:8]), 349_620),
        (lambda: uvq.DistortionNetCore(depthwise=False), 161_585_532),
    ],
    ids=["distortion", "content", "aggregation", "single", "single-nhwc", "single-stem", "minimal", "medium", "dense"],
)
def test_parameter_count_is_the_published_one(make: Callable[[], Any], count: int) -> None:
    with torch.device("meta"):
        assert parameters(make()) == count


def test_every_layer_of_the_trunk_has_the_published_size_and_shape() -> None:
    sizes = [928, 1_448, 6_004, 10_710, 15_350, 31_290, 37_130, 102_900, 102_900, 126_004, 208_572, 208_572, 262_492,
             587_952, 587_952, 587_952, 717_232, 163_840]  # fmt: skip
    maps = [(180, 320)] * 2 + [(90, 160)] * 2 + [(45, 80)] * 2 + [(23, 40)] * 6 + [(12, 20)] * 6
    with torch.device("meta"):
        layers = uvq.DistortionNetCore().features
        x = torch.zeros(1, 3, 360, 640)
        assert [parameters(layer) for layer in layers] == sizes
        for layer, size in zip(layers, maps, strict=True):
            x = layer(x)
            assert tuple(x.shape[2:]) == size


@pytest.mark.parametrize(
    ("make", "given", "made"),
    [
        (uvq.DistortionNet, (9, 360, 640, 3), (1, 24, 24, 128)),
        (uvq.DistortionNetCore, (2, 3, 360, 640), (2, 8, 8, 128)),
        (uvq.ContentNet, (1, 1080, 1920, 3), (1, 8, 8, 128)),
        (uvq.ContentNetReduced, (1, 256, 256, 3), (1, 8, 8, 128)),
        (lambda: uvq.DistortionPatches(TRUNK[:3]), (9, 360, 640, 3), (9, 86, 148, 128)),
        (lambda: uvq.DistortionPatches(TRUNK[:8]), (9, 360, 640, 3), (9, 19, 28, 128)),
        (lambda: uvq.SingleBlock(), (1, 16, 180, 320), (1, 24, 180, 320)),
        (lambda: uvq.SingleBlock(layout="NHWC"), (1, 16, 180, 320), (1, 180, 320, 24)),
        (lambda: uvq.SingleBlock(True, "NHWC"), (9, 360, 640, 3), (9, 180, 320, 24)),
    ],
    ids=["distortion", "core", "content", "reduced", "minimal", "medium", "single", "single-nhwc", "single-stem"],
)
def test_output_shape_is_the_published_one(
    make: Callable[[], Any], given: tuple[int, ...], made: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        assert make().eval()(torch.zeros(given)).shape == made


@pytest.mark.parametrize(
    ("make", "given", "millions"),
    [
        (lambda: uvq.DistortionNetCore(), (1, 3, 360, 640), 1757.0),
        (lambda: uvq.ContentNetCore(), (1, 3, 256, 256), 486.3),
        (lambda: uvq.DistortionPatches(TRUNK[:3]), (1, 360, 640, 3), 525.1),
        (lambda: uvq.DistortionPatches(TRUNK[:8]), (1, 360, 640, 3), 763.5),
    ],
    ids=["distortion", "content", "minimal", "medium"],
)
def test_multiply_accumulates_are_the_counted_ones(
    make: Callable[[], Any], given: tuple[int, ...], millions: float
) -> None:
    assert instep.show(make().eval(), inputs=[given]).macs / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (360, 3, 2, (0, 1)),
        (45, 3, 2, (1, 1)),
        (80, 3, 2, (0, 1)),
        (90, 5, 2, (1, 2)),
        (23, 5, 2, (2, 2)),
        (12, 2, 1, (0, 1)),
    ],
)
def test_same_padding_puts_the_odd_pixel_last(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    assert same_pads(size, kernel, stride) == pads


def test_symmetric_padding_gives_the_same_shape_and_other_values() -> None:
    conv, x = SameConv2d(3, 4, 3, 2), torch.randn(1, 3, 16, 16)
    symmetric = torch.nn.functional.conv2d(x, conv.conv.weight, stride=2, padding=1)
    assert conv(x).shape == symmetric.shape
    assert (conv(x) - symmetric).abs().max() > 0.1


def test_statistics_of_one_picture_suit_another_part_of_the_world() -> None:
    network = uvq.DistortionNetCore(pool=(1, 1)).eval()
    with_statistics(network.features)
    assert not any(m.training for m in network.modules())
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 12, 12)).cumsum(2).cumsum(3) / 12)
    x = torch.nn.functional.interpolate(pixels.float(), size=(192, 192), mode="bilinear").clamp(-1, 1)
    with torch.no_grad():
        for layer in network.features:
            x = layer(x)
            assert 0.2 < x.std() < 20


def test_a_factory_makes_the_same_network_again() -> None:
    torch.manual_seed(0)
    first = uvq.distortion_minimal().state_dict()
    torch.manual_seed(0)
    second = uvq.distortion_minimal().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# -- nine patches become one map ---------------------------------------------------------------------------------
def by_definition(patches: Any) -> Any:
    """The published six-dimensional aggregation: [S·9, h, w, C] → [S, 3h, 3w, C]."""
    _, h, w, c = patches.shape
    return patches.reshape(-1, 3, 3, h, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 3 * h, 3 * w, c)


def of_the_seed(patches: Any) -> Any:
    """The four-dimensional aggregation of a port in use."""
    return patches.reshape(3, 24, 8, 128).permute(0, 2, 1, 3).reshape(1, 24, 24, 128)


def test_the_four_dimensional_aggregation_is_the_six_dimensional_one() -> None:
    patches = torch.randn(9, 8, 8, 128)
    assert torch.equal(uvq.aggregate(patches), by_definition(patches))


def test_the_aggregation_in_use_transposes_every_patch() -> None:
    patches = torch.randn(9, 8, 8, 128)
    theirs = of_the_seed(patches)
    assert not torch.equal(theirs, by_definition(patches))
    assert torch.equal(theirs, by_definition(patches.transpose(1, 2)))
    assert theirs[0, 3, 1, 0] == patches[0, 1, 3, 0]  # row 3, column 1 holds what the first patch has at (1, 3)


def quiet(seed: int) -> tuple[Any, Any]:
    """Content [1, 8, 8, 128] and patches' features [9, 8, 8, 128], smooth as real maps are: no score is near 1 or 5."""
    coarse = torch.randn(10, 128, 6, 6, generator=torch.Generator().manual_seed(seed))
    maps = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bicubic").permute(0, 2, 3, 1)
    return maps[:1], maps[1:]


@pytest.fixture
def trained(published: Path) -> Any:
    """AggregationNet with its published weights."""
    network = uvq.aggregation_net()
    network.load_state_dict(torch.load(published / "aggregation_net.pth", weights_only=True))
    return network


@torch.no_grad()
def test_transposed_patches_change_the_score(trained: Any) -> None:
    largest = 0.0
    for seed in range(4):
        content, patches = quiet(seed)
        right, wrong = (trained(content, f(patches)).item() for f in (by_definition, of_the_seed))
        assert right == trained(content, uvq.aggregate(patches)).item()
        assert abs(right - wrong) > 0.005
        largest = max(largest, abs(right - wrong))
    assert largest > 0.1


@pytest.mark.parametrize("write", [uvq.aggregate, by_definition], ids=["4-D", "6-D"])
def test_either_aggregation_becomes_four_dimensional_in_the_file(write: Callable[[Any], Any], tmp_path: Path) -> None:
    class Aggregation(torch.nn.Module):
        def forward(self, patches: Any) -> Any:
            return write(patches)

    result = convert(Aggregation(), tmp_path / "a.tflite", (9, 8, 8, 128))
    assert result.ok
    assert_fit_for_simple_hardware(result.file)
    assert Counter(result.ops) == {"RESHAPE": 2, "TRANSPOSE": 1}


# -- AggregationNet, with its published weights ------------------------------------------------------------------
def test_aggregation_net_converts_and_agrees_with_the_published_files(
    trained: Any, published: Path, root: Path, tmp_path: Path
) -> None:
    source, weights = f"{root / SOURCE}:aggregation_net", published / "aggregation_net.pth"
    ours = instep.convert(source, tmp_path / "a.tflite", weights=weights, target="bstm")
    assert ours.ok
    assert_fit_for_simple_hardware(ours.file)
    theirs = published / "aggregation_net.tflite"
    assert ours.bytes <= theirs.stat().st_size
    assert instep.verify(source, theirs, weights=weights).ok

    scores = []
    for seed in range(4):
        content, patches = quiet(seed)
        given = [content, uvq.aggregate(patches)]
        with torch.no_grad():
            score = trained(*given).item()
        arrays = [g.numpy() for g in given]
        for file, bound in ((ours.file, 1e-5), (theirs, 1e-5), (published / "aggregation_net_int8.tflite", 0.06)):
            assert run(file, arrays).outputs[0].item() == pytest.approx(score, abs=bound)
        scores.append(score)
    assert max(scores) - min(scores) > 0.5 and all(1.02 < s < 4.98 for s in scores)


# -- the networks that ran on the device -------------------------------------------------------------------------
def outline(file: str | Path) -> list[tuple[str, tuple[int, ...]]]:
    """Operator and output shape of everything but the squeeze's mean, which tools spell in different ways."""
    info = tflite_info(file)
    known = {"CONV_2D", "DEPTHWISE_CONV_2D", "LOGISTIC", "ADD"}
    return [(op.name, info.tensors[op.outputs[0]].shape) for op in info.ops if op.name in known]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: uvq.SingleBlock(True, "NHWC"), "single"),
        (lambda: uvq.DistortionPatches(TRUNK[:3]), "minimal"),
        (lambda: uvq.DistortionPatches(TRUNK[:8]), "medium"),
    ],
    ids=["single", "minimal", "medium"],
)
def test_small_variants_have_the_operators_of_the_published_files(
    make: Callable[[], Any], name: str, published: Path, tmp_path: Path
) -> None:
    theirs = published / f"distortion_net_{name}.tflite"
    ours = convert(make(), tmp_path / f"{name}.tflite", verify=False)
    assert_fit_for_simple_hardware(ours.file)
    assert outline(ours.file) == outline(theirs)
    # two MEANs, rows before columns, where the published file spends SUM, MUL and RESHAPE, and a smaller file
    assert ours.ops["MEAN"] == 2 * tflite_info(theirs).histogram["SUM"]
    assert ours.bytes < theirs.stat().st_size


@pytest.mark.parametrize("version", ["nchw", "nhwc"])
def test_the_single_block_is_in_step(version: str, root: Path, tmp_path: Path) -> None:
    source, given = f"{root / SOURCE}:distortion_single", [(1, 16, 36, 64)]
    result = instep.convert(source, tmp_path / "s.tflite", args={"version": version}, inputs=given, target="bstm")
    assert result.ok
    assert_fit_for_simple_hardware(result.file)


# -- DistortionNet, ContentNet, the scorer -----------------------------------------------------------------------
def test_distortion_net_on_small_patches_is_in_step(tmp_path: Path) -> None:
    network = uvq.DistortionNet(pool=(1, 1))
    with_statistics(network.features)
    result = convert(network, tmp_path / "d.tflite", (9, 64, 32, 3))
    assert result.ok
    assert_fit_for_simple_hardware(result.file)
    assert tflite_info(result.file).tensors[tflite_info(result.file).outputs[0]].shape == (1, 6, 3, 128)


def test_content_net_resizes_in_the_file(tmp_path: Path) -> None:
    network = uvq.ContentNet(size=48)
    with_statistics(network.features)
    result = convert(network, tmp_path / "c.tflite", (1, 54, 96, 3))
    assert result.ok
    assert_fit_for_simple_hardware(result.file)
    assert result.ops["RESIZE_BILINEAR"] == 1


def test_the_whole_scorer_gives_the_same_score_in_the_file(tmp_path: Path) -> None:
    content, distortion = uvq.ContentNet(size=128), uvq.DistortionNet(pool=(1, 1))
    for network in (content, distortion):
        with_statistics(network.features)
    whole = uvq.Scorer(content, distortion, uvq.aggregation_net()).eval()
    result = convert(whole, tmp_path / "s.tflite", (1, 384, 384, 3), verify=False)
    assert_fit_for_simple_hardware(result.file)
    frame = frame_of(CAT, 384, 384)
    with torch.no_grad():
        score = whole(frame).item()
        apart = whole.aggregation(content(frame), distortion(cut(frame))).item()
    assert score == apart and 1 < score < 5
    assert run(result.file, [frame.numpy()]).outputs[0].item() == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
def test_full_size_files_have_the_shapes_and_sizes_of_the_port(instep: Any, root: Path) -> None:
    for name, given, made, port in (
        ("distortion_net", (9, 360, 640, 3), (1, 24, 24, 128), 14.53),
        ("content_net", (1, 256, 256, 3), (1, 8, 8, 128), 14.55),
    ):
        done = instep("convert", f"{root / SOURCE}:{name}", "--target", "bstm", "--no-verify", "-o", f"{name}.tflite")
        assert done.returncode == 0, done.stderr
        file = instep.folder / f"{name}.tflite"
        assert_fit_for_simple_hardware(file)
        info = tflite_info(file)
        assert [info.tensors[i].shape for i in (*info.inputs, *info.outputs)] == [given, made]
        # no larger than the port's; below it by its long names at most, since the folded weights alone are 14.27 MiB
        assert 0.98 * port < file.stat().st_size / 2**20 <= port


# -- what went wrong (docs/debugging-a-device.md) ----------------------------------------------------------------
def test_a_symmetric_padding_is_found_where_it_is(root: Path, tmp_path: Path) -> None:
    port = instep.convert(f"{root}/examples/uvq/faults.py:symmetric", tmp_path / "p.tflite", inputs=[(1, 48, 80, 3)])
    assert port.ok
    found = instep.bisect(f"{root / SOURCE}:distortion_minimal", port.file, tmp_path / "f", inputs=[(1, 48, 80, 3)])
    assert found.verdict == "out of step"
    assert found.operators == ["PAD", "DEPTHWISE_CONV_2D"]


def test_a_network_thought_in_six_dimensions_is_written_in_four(root: Path, tmp_path: Path) -> None:
    result = instep.convert(f"{root}/examples/uvq/faults.py:Corners", tmp_path / "c.tflite", target="bstm")
    assert result.ok
    assert_fit_for_simple_hardware(result.file)
