"""The HTML report: one self-contained file that reads well on a phone, without script or outside asset."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from instep.report.chart import chart
from instep.report.model import Document, Picture, RewriteRow, ValueRow, human_ratio
from instep.report.style import STYLE

__all__ = ["render"]

_MARKS = {
    "in step": ("good", "✓"),
    "good enough": ("good", "✓"),
    "drifting": ("warn", "≈"),
    "out of step": ("bad", "✕"),
    "not good enough": ("bad", "✕"),
}


def render(document: Document) -> str:
    """The whole page as text (UTF-8 when written). Every text of the document is escaped."""
    parts = [
        _head(document),
        _facts(document.facts),
        _notes(document.notes),
        _pictures(document.pictures),
        _section("Outputs", "The verdict of the file is that of its worst output.", _values_table(document.outputs)),
        _chart(document),
        _section("Furthest from the truth", _WORST, _values_table(document.worst)),
        _operators(document),
        _rewrites(document.rewrites),
        _environment(document.environment),
    ]
    title = escape(f"{document.verdict}: {document.title}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="instep"><title>{title}</title>\n<style>{STYLE}</style></head>\n'
        f"<body><main>{''.join(p for p in parts if p)}</main></body></html>\n"
    )


_WORST = "The first value that left step, if one did, then those that are furthest in units of the noise."


def _section(title: str, lead: str, body: str) -> str:
    if not body:
        return ""
    said = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>\n"


def _kind(status: str) -> str:
    return _MARKS.get(status, ("mute", "·"))[0]


def _head(document: Document) -> str:
    kind, mark = _MARKS.get(document.verdict, ("mute", "·"))
    return (
        f'<header class="{kind}"><div class="mark">{mark}</div><div><h1>{escape(document.verdict.capitalize())}</h1>'
        f"<p>{escape(document.summary)}</p>"
        + "".join(f"<p><b>{escape(label.capitalize())}:</b> {escape(said)}</p>" for label, said in document.fault)
        + f'<p class="path"><code>{escape(document.title)}</code> → <code>{escape(document.file)}</code></p>'
        "</div></header>\n"
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    tiles = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in facts)
    return f'<dl class="facts">{tiles}</dl>\n'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>\n"


def _image(png: bytes, caption: str, pixelated: bool = False) -> str:
    data = base64.b64encode(png).decode("ascii")
    style = ' class="pixels"' if pixelated else ""
    return (
        f'<figure><img{style} alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    rows = [
        '<div class="pictures">'
        + _image(p.input, f"input {p.name}", pixelated=True)
        + _image(p.source, "source network (float64)")
        + _image(p.result, "TFLite file")
        + _image(p.difference, f"difference × {p.amplification:.3g} (largest {p.max_abs:.1e})")
        + "</div>"
        for p in pictures
    ]
    lead = "The same picture through both. The difference is amplified until its largest value shows."
    return _section("Side by side", lead, "".join(rows))


def _values_table(rows: Sequence[ValueRow]) -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr class="{_kind(r.status)}"><td data-label="value"><code>{escape(r.scope or r.name)}</code></td>'
        f'<td data-label="operator">{escape(r.operator)}</td>'
        f'<td data-label="source line">{escape(r.origin)}</td>'
        f'<td data-label="error / noise" class="number">{human_ratio(r.ratio)}</td>'
        f'<td data-label="largest error" class="number">{"–" if r.max_abs is None else f"{r.max_abs:.2g}"}</td>'
        f'<td data-label="verdict"><span class="pill">{escape(r.status)}</span></td></tr>'
        + (f'<tr class="said"><td colspan="6">{escape(r.diagnosis)}</td></tr>' if r.diagnosis else "")
        for r in rows
    )
    heads = "".join(
        f"<th{' class=number' if i in (3, 4) else ''}>{h}</th>"
        for i, h in enumerate(["value", "operator", "source line", "error / noise", "largest error", "verdict"])
    )
    return f'<table class="stack"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _chart(document: Document) -> str:
    picture = chart(document.values, document.thresholds)
    steady, drift = document.thresholds
    lead = (
        f"Each dot is a value, in the order of computation: its distance from the float64 truth, divided by the "
        f"rounding noise of the source network itself. Up to {steady:g} it is in step, up to {drift:g} drifting."
    )
    return _section("Error against noise, along the network", lead, picture)


def _operators(document: Document) -> str:
    if not document.ops_before and not document.ops_after:
        return ""

    def bars(title: str, counts: dict[str, int]) -> str:
        most = max(counts.values(), default=1)
        rows = "".join(
            f'<tr><td>{escape(name)}</td><td class="number">{count}</td>'
            f'<td class="bar"><i style="width:{100 * count / most:.0f}%"></i></td></tr>'
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        )
        total = sum(counts.values())
        return (
            f"<div><h3>{escape(title)} <small>{total} operators</small></h3>"
            f'<table class="bars"><tbody>{rows}</tbody></table></div>'
        )

    columns = bars("As captured", document.ops_before) + bars("In the file", document.ops_after)
    return _section("Operators, before and after", "", f'<div class="columns">{columns}</div>')


def _rewrites(rows: Sequence[RewriteRow]) -> str:
    if not rows:
        return ""

    def proof(row: RewriteRow) -> str:
        return "" if row.proof is None else f"{row.proof:.2g}"

    proven = any(r.proof is not None for r in rows)
    extra = "<th class=number>change / noise</th>" if proven else ""
    body = "".join(
        f'<tr><td data-label="rewrite"><code>{escape(r.name)}</code></td>'
        f'<td data-label="why it is exact">{escape(r.exact)}</td>'
        f'<td data-label="nodes" class="number">{r.nodes_before} → {r.nodes_after}</td>'
        f'<td data-label="ms" class="number">{1000 * r.seconds:.1f}</td>'
        + (f'<td data-label="change / noise" class="number">{proof(r)}</td>' if proven else "")
        + "</tr>"
        for r in rows
    )
    head = "<th>rewrite</th><th>why it is exact</th><th class=number>nodes</th><th class=number>ms</th>" + extra
    table = f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return _section("The rewrites that ran", "Each leaves the function as it was, and says why.", table)


def _environment(facts: dict[str, str]) -> str:
    body = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return _section("Made with", "", f'<dl class="environment">{body}</dl>' if body else "")
