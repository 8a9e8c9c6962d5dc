"""The HTML report and the terminal tables: complete, escaped, self-contained."""

from __future__ import annotations

import io
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from instep.report.chart import chart
from instep.report.html import render
from instep.report.model import Document, Picture, RewriteRow, ValueRow, human_bytes, human_count, human_ratio
from instep.report.table import table_of_graph
from instep.report.terminal import tree, values, verdict_panel

EVIL = '<script>alert("&")</script>'
VOID = {"meta", "img", "br", "link", "input"}


def row(ratio: float | None = 1.0, status: str = "in step", name: str = "blocks.0.conv") -> ValueRow:
    return ValueRow(name, name, "Conv2d", "model.py:41", status, ratio, 1e-6, "")


def document(**changes: object) -> Document:
    fields: dict[str, object] = {
        "title": "model.py:net", "file": "net.tflite", "verdict": "in step", "summary": "All is well.",
        "facts": [("size", "1.0 KiB")], "values": [row(0.5), row(20.0, "drifting"), row(None, "not comparable")],
        "outputs": [row()], "worst": [row(20.0, "drifting")], "thresholds": (10.0, 100.0),
        "ops_before": {"Conv2d": 2}, "ops_after": {"CONV_2D": 2},
        "rewrites": [RewriteRow("fold-scales", "scaling weights scales the result", 4, 3, 0.001, 0.5)],
        "environment": {"instep": "0.1.0"},
    }  # fmt: skip
    return Document(**{**fields, **changes})  # type: ignore[arg-type]


class Checker(HTMLParser):
    """Tags that open and close in order, and every address that the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    return checker


def test_the_page_is_sound_and_self_contained() -> None:
    picture = Picture("cat.png", b"\x89PNG1", b"\x89PNG2", b"\x89PNG3", b"\x89PNG4", 1e4, 1e-6)
    page = render(document(pictures=[picture]))
    checker = parsed(page)
    assert "script" not in checker.tags
    assert len(checker.addresses) == 4
    assert all(a.startswith("data:image/png;base64,") for a in checker.addresses)
    assert "http" not in page.replace("http-equiv", "")
    assert 'name="viewport"' in page
    for said in ("In step", "All is well.", "fold-scales", "weights scales the result", "CONV_2D", "model.py:41"):
        assert said in page


def test_every_text_is_escaped() -> None:
    evil = ValueRow(EVIL, EVIL, EVIL, EVIL, EVIL, 1.0, 1.0, EVIL)
    page = render(
        document(
            title=EVIL, file=EVIL, verdict=EVIL, summary=EVIL, facts=[(EVIL, EVIL)], values=[evil], outputs=[evil],
            worst=[evil], ops_before={EVIL: 1}, ops_after={EVIL: 1}, rewrites=[RewriteRow(EVIL, EVIL, 1, 1, 0.0)],
            notes=[EVIL], environment={EVIL: EVIL}, pictures=[Picture(EVIL, b"", b"", b"", b"", 1.0, 1.0)],
        )
    )  # fmt: skip
    assert "<script" not in page
    assert parsed(page).tags.count("script") == 0


@pytest.mark.parametrize("ratio", [0.0, 1e-30, math.inf, math.nan, 1e300])
def test_the_chart_takes_every_ratio(ratio: float) -> None:
    drawn = chart([row(1.0), row(ratio, "out of step")], (10.0, 100.0))
    heights = [float(h) for h in re.findall(r'd="M[\d.]+ ([-\d.]+)h', drawn)]
    assert len(heights) == 2
    assert all(0 <= h <= 100 for h in heights)
    parsed(drawn)


def test_a_larger_ratio_is_drawn_higher_and_thresholds_lie_between() -> None:
    drawn = chart([row(1.0), row(50.0, "drifting"), row(5000.0, "out of step")], (10.0, 100.0))
    low, middle, high = (float(h) for h in re.findall(r'd="M[\d.]+ ([-\d.]+)h', drawn))
    bands = [float(b) for b in re.findall(r'y="([\d.]+)"', drawn)]
    assert high < bands[1] < middle < bands[2] < low


def test_a_large_network_keeps_its_worst_value_in_a_bounded_chart() -> None:
    rows = [row(1.0, name=f"v{i}") for i in range(20000)]
    rows[12345] = row(777.0, "out of step", "the-culprit")
    drawn = chart(rows, (10.0, 100.0))
    assert "the-culprit" in drawn
    assert len(drawn) < 400_000


def test_nothing_to_draw_draws_nothing() -> None:
    assert chart([], (10.0, 100.0)) == ""
    assert chart([row(None)], (10.0, 100.0)) == ""
    parsed(render(Document("a", "b", "not proved", "")))


def test_the_words_for_numbers() -> None:
    assert human_bytes(1536) == "1.5 KiB"
    assert human_count(66984) == "67 k"
    assert human_count(999) == "999"
    assert human_ratio(None) == "–" and human_ratio(math.inf) == "∞" and human_ratio(math.nan) == "NaN"
    assert human_ratio(2.345) == "2.3×"


def text(renderable: object) -> str:
    screen = Console(file=io.StringIO(), width=120)
    screen.print(renderable)
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_brackets_in_names_are_printed_as_they_are() -> None:
    said = text(values([row(name="layers[0].[bold]conv")], "Worst"))
    assert "layers[0].[bold]conv" in said
    assert "[red]" in text(verdict_panel("in step", "[red] is no colour here", [("file", "[x].tflite")]))
    assert "[x].tflite" in text(verdict_panel("in step", "", [("file", "[x].tflite")]))


def test_the_tree_counts_a_shared_parameter_once() -> None:
    import numpy as np

    from instep.graph import Graph, Value, ops

    graph = Graph(inputs=[Value("x", (1, 3, 8, 8))], input_names=["x"], output_names=["y"])
    weight = graph.constant(np.zeros((3, 3, 3, 3), np.float32), "conv.weight")
    conv = ops.Conv2d(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1, layout="NCHW")
    first = graph.add(conv, [graph.inputs[0], weight], scope="body.a.conv", names=["body.a.conv"])
    second = graph.add(conv, [first.output, weight], scope="body.b.conv", names=["body.b.conv"])
    graph.outputs = [second.output]
    table = table_of_graph(graph, "test")
    assert table.parameters == 81
    assert table.macs == 2 * 81 * 64
    assert [(r.depth, r.name, r.operator) for r in table.lines] == [
        (0, "body", ""), (1, "a.conv", "Conv2d"), (1, "b.conv", "Conv2d")
    ]  # fmt: skip
    assert table.lines[0].macs == table.macs
    assert "a.conv" in text(tree(table)) and "a.conv" not in text(tree(table, depth=1))


def test_the_style_sheet_has_the_colour_of_each_verdict() -> None:
    from instep.report.style import STYLE

    assert STYLE.count("{") == STYLE.count("}")
    for kind in ("good", "warn", "bad"):
        assert f"tr.{kind} .pill {{ color:var(--{kind})" in STYLE
        assert f"header.{kind} {{" in STYLE


@pytest.mark.parametrize(
    "name", ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "MAX_POOL_2D"]
)
def test_operators_of_a_damaged_file_are_counted_as_nothing(name: str) -> None:
    """Shapes without axes, inputs that are left out, options of another operator."""
    from types import SimpleNamespace

    from instep.report.table import _arithmetic, _macs

    info: Any = SimpleNamespace(tensors=[SimpleNamespace(shape=()), SimpleNamespace(shape=(1, 2, 3))])
    for inputs in ([0, 0, 0], [1, 0], [1, -1], [-1, 1], [0], []):
        op = SimpleNamespace(name=name, inputs=inputs, outputs=[1], options=SimpleNamespace())
        assert _macs(info, op) == 0
        assert _arithmetic(info, op) in (0, 6)
