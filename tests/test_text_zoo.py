"""The zoo: every entry has its published parameter count, published weights load by name and compute the same."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import instep
from instep.graph.text import TextError, parse
from instep.graph.text.formatter import format_text
from instep.report.table import table_of_graph
from instep.zoo import names, path_of

#: Networks whose widths were never published, and so no count either: their texts say so.
UNCOUNTED = ("rcbsr", "rcbsr_training")


@pytest.mark.parametrize("name", names())
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    graph = parse(path_of(name), initial=False)
    assert graph.meta["name"] == name and graph.meta["from"] and graph.meta["doc"]
    if name in UNCOUNTED:
        assert "parameters" not in graph.meta
        assert "not published" in graph.meta["doc"] or "see rcbsr" in graph.meta["doc"]
        return
    assert table_of_graph(graph, name).parameters == graph.meta["parameters"]


@pytest.mark.parametrize("name", names())
def test_texts_are_as_the_formatter_has_them(name: str) -> None:
    text = path_of(name).read_text("utf-8")
    assert format_text(text, name) == text


#: Counts of facts that the entries' arguments give (the papers' other sizes).
SIZES = [
    ("rlfn", {"scale": 2}, 526_856), ("rlfn", {"nf": 48}, 470_208), ("rlfn", {"nf": 48, "scale": 2}, 454_620),
    ("abpn", {"scale": 2}, 33_464), ("abpn", {"scale": 4}, 62_048), ("abpn", {"nf": 32, "scale": 2}, 42_664),
    ("quicksrnet_s", {"scale": 2}, 22_860), ("quicksrnet_s", {"scale": 3}, 27_195),
    ("quicksrnet_m", {"scale": 2}, 50_604), ("quicksrnet_m", {"scale": 3}, 54_939),
    ("quicksrnet_l", {"scale": 2}, 414_972), ("quicksrnet_l", {"scale": 3}, 423_687),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "count"), SIZES)
def test_other_sizes_are_arguments(name: str, args: dict[str, int], count: int) -> None:
    graph = parse(path_of(name), args=args, initial=False)
    assert table_of_graph(graph, name).parameters == count


#: Multiply-accumulates and output shapes that the sources state.
SAID = [
    ("distortion_net", 1_757.0, (1, 8, 8, 128)), ("distortion_net_minimal", 525.1, (1, 86, 148, 128)),
    ("distortion_net_medium", 763.5, (1, 19, 28, 128)), ("fbnet_a", 244.45, (1, 1000)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "macs", "shape"), SAID)
def test_multiply_accumulates_and_shapes_are_those_of_the_sources(name: str, macs: float, shape: tuple) -> None:
    graph = parse(path_of(name), initial=False)
    assert table_of_graph(graph, name).macs / 1e6 == pytest.approx(macs, abs=0.06)
    assert graph.outputs[0].shape == shape


def test_rlfn_of_the_seeds_networks_computes_what_its_convolutions_say() -> None:
    """One block by hand in numpy: leaky slopes, the residual, the mask."""
    graph = parse(path_of("elsr"), inputs=[(1, 3, 5, 7)])
    x = np.random.default_rng(0).random((1, 3, 5, 7))
    w = {v.name: a.astype("float64") for v, a in graph.weights.items()}

    def conv(x: np.ndarray, name: str) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # type: ignore[call-overload]
        return np.einsum("nchwij,ocij->nohw", windows, w[f"{name}.weight"]) + w[f"{name}.bias"][:, None, None]

    head = conv(x, "head")
    y = conv(head, "body.0")
    y = conv(np.where(y > 0, y, y * w["body.1.weight"][:, None, None]), "body.2") + head
    y = conv(y, "tail").reshape(1, 3, 4, 4, 5, 7).transpose(0, 1, 4, 2, 5, 3).reshape(1, 3, 20, 28)
    assert np.allclose(graph.run([x], keep=[])[graph.outputs[0]], y, atol=1e-12)


CHECKPOINTS = [
    ("rlfn", None, "rlfn/rlfn_x4.pth"), ("rlfn", {"scale": 2}, "rlfn/rlfn_x2.pth"),
    ("rlfn", {"nf": 48}, "rlfn/rlfn_s_x4.pth"), ("rlfn_ntire", None, "rlfn/rlfn_ntire_x4.pth"),
    ("imdn", None, "esr_baselines/imdn_baseline.pth"), ("rfdn", None, "esr_baselines/rfdn_baseline.pth"),
    ("aggregation_net", None, "uvq/aggregation_net.pth"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "file"), CHECKPOINTS)
def test_published_weights_load_by_name(name: str, args: dict[str, int] | None, file: str) -> None:
    path = Path(os.environ.get("INSTEP_DATA", "/nonexistent")) / "checkpoints" / file
    if not path.exists():
        pytest.skip(f"INSTEP_DATA has no {file}")
    captured = instep.capture(f"zoo:{name}", args=args, weights=str(path))
    assert captured.notes[0] == f"weights from {path.name}"
    assert max(np.abs(a).max() for a in captured.graph.weights.values()) > 0


def test_an_entry_converts_in_step(tmp_path: Path) -> None:
    result = instep.convert("zoo:elsr", tmp_path / "elsr.tflite", inputs=[(1, 3, 24, 32)])
    assert result.ok and result.verdict is not None and result.verdict.verdict == "in step"


def test_an_unknown_entry_says_what_comes_near() -> None:
    with pytest.raises(TextError, match="did you mean zoo:rlfn"):
        path_of("rlfm")


def test_the_page_of_the_zoo_says_what_the_networks_are() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "zoo_table.py"
    spec = importlib.util.spec_from_file_location("zoo_table", page)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text("utf-8")
    assert all(f"| `{name}` |" in text for name in names())
    assert module.refreshed(text) == text, "python docs/zoo_table.py writes the tables anew"
