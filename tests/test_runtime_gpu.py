"""LiteRT's GPU delegate as an engine: values, refusals in its own words, crashes, bounds, and proofs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instep.emit.tflite import write
from instep.graph import Graph, Value, ops
from instep.graph.reference import GraphReference
from instep.runtime import COMPILERS, Job, Refusal, available, engine_of, run, run_jobs, tflite_info, vulkan
from instep.runtime.expose import expose
from instep.runtime.messages import meaningful, placement, refusals, without_driver
from instep.runtime.sessions import GpuSession
from instep.verify.files import verify_files
from instep.verify.noise import arithmetic_of, growth
from instep.verify.verdict import Verdict
from instep.verify.verify import verify
from raw_tflite import raw_tflite, schema

missing = available("litert-gpu")
on_gpu = pytest.mark.skipif(missing is not None, reason=missing or "")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def healthy(path: Path) -> Path:
    write(gated(), path)
    return path


def gated() -> Graph:
    """A convolution, a sigmoid gate and a pixel shuffle, two outputs."""
    graph = Graph()
    x = Value("image", (1, 6, 8, 3))
    graph.inputs, graph.input_names = [x], ["image"]
    weight = graph.constant(noise(16, 3, 3, 3) / 4, "weight")
    padding = ((1, 1), (1, 1))
    hidden = graph.add(ops.Conv2d(padding=padding, layout="NHWC"), [x, weight], scope="conv").output
    gate = graph.add(ops.Sigmoid(), [hidden], scope="gate").output
    gated = graph.add(ops.Mul(), [hidden, gate], scope="gated").output
    large = graph.add(ops.DepthToSpace(2, "DCR", "NHWC"), [gated], scope="shuffle").output
    graph.outputs, graph.output_names = [large, gate], ["large", "gate"]
    return graph


def convolved(channels: int, filters: int, groups: int) -> Graph:
    """A RELU and a convolution with groups."""
    x = Value("x", (1, 8, 8, channels))
    graph = Graph([x], input_names=["x"])
    kernel = graph.constant(noise(filters, 3, 3, channels // groups), "kernel")
    positive = graph.add(ops.Relu(), [x], scope="positive").output
    op = ops.Conv2d(padding=((1, 1), (1, 1)), groups=groups, layout="NHWC")
    graph.outputs, graph.output_names = [graph.add(op, [positive, kernel], scope="conv").output], ["y"]
    return graph


def proved(graph: Graph, path: Path) -> Verdict:
    """The proof of ``graph``, written as it is, on the GPU."""
    write(graph, path)
    return verify(GraphReference(graph), path, graph=graph, on="litert-gpu")


def grouped(path: Path, channels: int, filters: int, groups: int) -> Path:
    """One grouped CONV_2D, after a RELU."""
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.padding = 0
    shape = (1, 8, 8, channels)
    return raw_tflite(
        path,
        [
            ("x", shape, "float32", None),
            ("positive", shape, "float32", None),
            ("weight", (filters, 3, 3, channels // groups), "float32", noise(filters, 3, 3, channels // groups)),
            ("bias", (filters,), "float32", np.zeros(filters)),
            ("y", (1, 8, 8, filters), "float32", None),
        ],
        [("RELU", [0], [1], None), ("CONV_2D", [1, 2, 3], [4], options)],
        [0],
        [4],
    )


def gather_nd(path: Path) -> Path:
    tensors = [
        ("x", (4, 5, 3), "float32", None),
        ("t", (4, 5, 3), "float32", None),
        ("where", (2, 2), "int32", np.array([[0, 1], [2, 3]])),
        ("y", (2, 3), "float32", None),
    ]
    calls = [("TANH", [0], [1], None), ("GATHER_ND", [1, 2], [3], schema.GatherNdOptionsT())]
    return raw_tflite(path, tensors, calls, [0], [3])


def rank_five(path: Path) -> Path:
    shape = (1, 2, 3, 4, 5)
    tensors = [("deep", shape, "float32", None), ("y", shape, "float32", None)]
    return raw_tflite(path, tensors, [("TANH", [0], [1], None)], [0], [1])


# -- on the engine ---------------------------------------------------------------------------------------------------
@on_gpu
def test_a_healthy_file_runs_whole_and_right_and_its_outputs_keep_their_order(tmp_path: Path) -> None:
    path = healthy(tmp_path / "net.tflite")
    x = noise(1, 6, 8, 3)
    cpu, gpu, half = (
        r[0] for r in run_jobs([Job(path, [[x]], e) for e in ("builtin", "litert-gpu", "litert-gpu-fp16")])
    )
    assert (gpu.outcome, gpu.resident, gpu.engine, gpu.log) == ("ran", True, "litert-gpu", [])
    assert gpu.output_names == cpu.output_names == ["shuffle", "gate"]
    for one, two, three in zip(cpu.outputs, gpu.outputs, half.outputs, strict=True):
        np.testing.assert_allclose(two, one, atol=2e-6)
        np.testing.assert_allclose(three, one, atol=2e-2)


@on_gpu
def test_refusals_name_operator_reason_and_tensor_and_the_other_jobs_run(tmp_path: Path) -> None:
    deep, nd = rank_five(tmp_path / "deep.tflite"), gather_nd(tmp_path / "nd.tflite")
    net = healthy(tmp_path / "net.tflite")
    jobs = [
        Job(deep, [[noise(1, 2, 3, 4, 5)]], "litert-gpu"),
        Job(nd, [[noise(4, 5, 3)]], "litert-gpu"),
        Job(nd, [[noise(4, 5, 3)]], "xnnpack"),
        Job(net, [[noise(1, 6, 8, 3)]], "litert-gpu"),
    ]
    first, second, on_cpu, last = (r[0] for r in run_jobs(jobs))
    assert first.outcome == second.outcome == "refused"
    assert first.refusals == [Refusal("TANH", "Tensor dimensions must be less than 5.", "deep")]
    assert second.refusals == [Refusal("GATHER_ND", "Operation is not supported.")]
    assert second.placed == (1, 1) and second.resident is False and second.failed and not second.crashed
    assert on_cpu.outcome == last.outcome == "ran"


@on_gpu
def test_a_crash_is_a_result_and_the_jobs_after_it_go_on(tmp_path: Path) -> None:
    """The delegate dies of a convolution whose groups are no multiples of four channels."""
    jobs = [
        Job(grouped(tmp_path / "dies.tflite", 12, 8, 2), [[noise(1, 8, 8, 12)]], "litert-gpu"),
        Job(healthy(tmp_path / "net.tflite"), [[noise(1, 6, 8, 3)]], "litert-gpu"),
    ]
    dead, alive = (r[0] for r in run_jobs(jobs))
    assert dead.crashed and dead.outcome == "crashed" and dead.signal.startswith("SIG") and dead.stage == "compile"
    assert dead.signal in dead.message
    assert alive.outcome == "ran" and not alive.failed


@on_gpu
def test_time_and_memory_are_bounded(tmp_path: Path) -> None:
    path = healthy(tmp_path / "net.tflite")
    late = run(path, [noise(1, 6, 8, 3)], engine="litert-gpu", timeout=0.05)
    assert (late.outcome, late.crashed) == ("timed out", True)
    large = run(path, [noise(1, 6, 8, 3)], engine="litert-gpu", memory=20 << 20)
    assert (large.outcome, large.crashed) == ("out of memory", True)


@on_gpu
def test_accepted_and_wrong_is_caught_and_the_engine_is_blamed(tmp_path: Path) -> None:
    verdict = proved(convolved(8, 8, 4), tmp_path / "grouped.tflite")
    assert verdict.verdict == "out of step" and verdict.engine == "litert-gpu"
    assert any("in step on the CPU" in note for note in verdict.notes)
    culprit = verdict.culprit
    assert culprit is not None
    assert (culprit.stage, culprit.name, culprit.operator, culprit.scope) == (
        "runtime",
        "litert-gpu",
        "CONV_2D",
        "conv",
    )


@on_gpu
def test_healthy_files_are_in_step_and_deadly_ones_crashed_on_the_engine(tmp_path: Path) -> None:
    assert proved(gated(), tmp_path / "net.tflite").verdict == "in step"
    dead = proved(convolved(12, 8, 2), tmp_path / "dies.tflite")
    assert (dead.verdict, dead.ok) == ("crashed", False)
    assert dead.culprit is not None and dead.culprit.operator == "CONV_2D"


@on_gpu
def test_a_refused_file_is_a_verdict_in_the_engines_words(tmp_path: Path) -> None:
    path = gather_nd(tmp_path / "nd.tflite")
    verdict = verify_files(path, path, on="litert-gpu")
    assert verdict.verdict == "refused" and not verdict.ok
    assert verdict.refusals == [{"operator": "GATHER_ND", "message": "Operation is not supported.", "tensor": ""}]
    assert verdict.said == "GATHER_ND: Operation is not supported."


@on_gpu
def test_the_sine_of_a_gpu_is_coarse_and_legal(tmp_path: Path) -> None:
    """Vulkan asks for an absolute error of 2⁻¹¹ only."""
    x = Value("x", (4, 9))
    graph = Graph([x], input_names=["x"])
    graph.outputs = [graph.add(ops.Sin(), [x], scope="sine").output]
    graph.output_names = ["y"]
    verdict = proved(graph, tmp_path / "sine.tflite")
    assert verdict.verdict == "in step"
    error = np.abs(run(tmp_path / "sine.tflite", [noise(4, 9)], engine="litert-gpu").outputs[0] - np.sin(noise(4, 9)))
    assert 1e-6 < error.max() < 2**-11  # no CPU would be so far off, and no proof on a CPU would let it pass
    sine = graph.outputs[0].name
    assert growth(graph)[sine] < 2 < growth(graph, arithmetic=arithmetic_of("litert-gpu"))[sine]


# -- everywhere ------------------------------------------------------------------------------------------------------
def test_values_become_outputs_behind_the_files_own(tmp_path: Path) -> None:
    path = healthy(tmp_path / "net.tflite")
    shown = expose(path, tmp_path / "shown.tflite", ["conv", "gate", "image", "weight", "gated", "conv"])
    assert shown == ["conv", "gated"]  # `gate` is an output already, the others are no computed values
    x = noise(1, 6, 8, 3)
    inner = run(path, [x], engine="builtin", keep_all=True)
    outer = run(tmp_path / "shown.tflite", [x], engine="builtin")
    assert outer.output_names == ["shuffle", "gate", "conv", "gated"]
    for name, array in zip(outer.output_names, outer.outputs, strict=True):
        np.testing.assert_array_equal(array, inner.tensors[name])
    assert tflite_info(tmp_path / "shown.tflite").output_names == ["large", "gate", "conv", "gated"]


def test_an_engine_is_known_by_its_names_and_a_compiler_runs_nothing(tmp_path: Path) -> None:
    assert engine_of("litert-reference").name == "builtin" and engine_of("litert-cpu").name == "xnnpack"
    assert [engine_of(f"ethos-{u}").name for u in ("u55", "u65", "u85")] == [
        "ethos-u55-256", "ethos-u65-512", "ethos-u85-2048"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="litert-gpu"):
        engine_of("litert-npu")
    with pytest.raises(ValueError, match="only compiles"):
        run(healthy(tmp_path / "net.tflite"), [noise(1, 6, 8, 3)], engine=COMPILERS[0])


def test_drivers_are_the_users_choice_else_the_systems_else_swiftshader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, system = tmp_path / "browser", tmp_path / "icd.d"
    browser.mkdir(), system.mkdir()
    for name in ("libvk_swiftshader.so", "libvulkan.so.1"):
        (browser / name).touch()
    (system / "card.json").write_text("{}")
    for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(vulkan, "_BROWSERS", (str(browser),))
    monkeypatch.setattr(vulkan, "_MANIFESTS", (str(system),))
    monkeypatch.setattr(vulkan.ctypes.util, "find_library", lambda name: None)
    find = vulkan.drivers.__wrapped__
    assert [d.name for d in find()] == ["the system's", "SwiftShader"]
    variables = vulkan.environment(find()[1], tmp_path)
    assert (Path(variables["LD_LIBRARY_PATH"].split(":")[0]) / "libvulkan.so.1").resolve() == browser / "libvulkan.so.1"
    assert str(browser / "libvk_swiftshader.so") in Path(variables["VK_DRIVER_FILES"]).read_text()
    assert variables["XDG_RUNTIME_DIR"] == str(tmp_path)
    monkeypatch.setenv("VK_ICD_FILENAMES", "/my/card.json")
    assert [d.manifests for d in find()] == [("/my/card.json",)]
    (browser / "libvulkan.so.1").unlink()
    assert find() == []  # no loader: nothing can be reached


def test_without_a_driver_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vulkan, "drivers", list)
    assert "apt-get install chromium" in (available("litert-gpu") or "")
    result = run(healthy(tmp_path / "net.tflite"), [noise(1, 6, 8, 3)], engine="litert-gpu")
    assert (result.outcome, result.failed) == ("unavailable", True) and "chromium" in result.message


LOG = """\
INFO: [environment.cc:36] Creating LiteRT environment with options
WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: kLiteRtStatusErrorNotFound.
└ Could not load shared library /x/libLiteRtCompilerPlugin.so: libopenvino.so: cannot open shared object file.
I0000 00:00:1795257772.260514    8340 environment.cc:532] Selected adapter: SwiftShader Device
ERROR: Following operations are not supported by GPU delegate:
RESHAPE: Tensor dimensions must be less than 5. body/a b
TRANSPOSE: Permutation for transpose is invalid.
3 operations will run on the GPU, and the remaining 2 operations will run on the CPU.
"""


def test_a_log_is_read_as_the_engine_wrote_it() -> None:
    assert refusals(LOG, {"body/a b", "b"}) == [
        Refusal("RESHAPE", "Tensor dimensions must be less than 5.", "body/a b"),
        Refusal("TRANSPOSE", "Permutation for transpose is invalid."),
    ]
    assert placement(LOG) == (3, 2)
    assert meaningful(LOG)[1:3] == [
        "RESHAPE: Tensor dimensions must be less than 5. body/a b", "TRANSPOSE: Permutation for transpose is invalid."
    ]  # fmt: skip
    assert not any("Selected adapter" in line or "shared library" in line for line in meaningful(LOG))
    lost = "E0000 00:00:1795.8 8861 delegate_webgpu.cc:736] Failed to get it: Failed to initialize WebGPU environment"
    assert without_driver(lost) and not without_driver(LOG)
    assert meaningful(lost) == ["Failed to get it: Failed to initialize WebGPU environment"]


class Slow:
    """A device whose reads give up ``times`` times, as LiteRT's do after 120 s, and lock their buffer for good."""

    def __init__(self, times: int, said: str) -> None:
        self.left, self.said, self.reads = times, said, 0

    def create_output_buffers(self, _: int) -> list[Slow.Buffer]:
        return [Slow.Buffer(self, 4), Slow.Buffer(self, 2)]

    def run_by_index(self, *_: object) -> None:
        pass

    class Buffer:
        def __init__(self, device: Slow, size: int) -> None:
            self.device, self.size, self.locked = device, size, False

        def get_tensor_details(self) -> dict[str, object]:
            return {"shape": (self.size,), "dtype": "float32"}

        def read(self, count: int, dtype: np.dtype) -> np.ndarray:
            assert not self.locked
            self.device.reads += 1
            if self.device.left:
                self.device.left, self.locked = self.device.left - 1, True
                raise RuntimeError(self.device.said)
            return np.zeros(count, dtype)


def slow_session(device: Slow) -> GpuSession:
    session: Any = object.__new__(GpuSession)
    session.model, session.inputs, session.results = device, [], device.create_output_buffers(0)
    session.smallest, session.spare = 1, []
    return session


def test_a_device_that_needs_longer_than_a_read_waits_is_waited_for() -> None:
    session = slow_session(Slow(3, "error: code=7, message=ERROR\n└ Failed to lock custom tensor buffer."))
    session.invoke()
    session.invoke()
    assert [v.shape for v in session.values] == [(4,), (2,)]


def test_any_other_failure_of_a_read_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="code=3"):
        slow_session(Slow(1, "error: code=3, message=ERROR")).invoke()
