"""From a finished conversion or verification to the rows that the report shows."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from instep.report.model import Document, Picture, RewriteRow, ValueRow, human_bytes, human_count, human_ratio

__all__ = [
    "document_of_conversion",
    "document_of_verification",
    "facts_of",
    "facts_of_fault",
    "headline",
    "sentence",
    "value_row",
]

_PACKAGES = ("torch", "ai-edge-litert", "numpy", "flatbuffers", "timm")


def value_row(row: Any) -> ValueRow:
    """A verdict's row (``verify.Row``) as the report prints it."""
    return ValueRow(row.source, row.scope, row.operator, row.origin, row.verdict, row.ratio, row.max_abs, row.diagnosis)


def headline(verdict: Any) -> str:
    """The verdict in two words; for a lossy result whether it meets the thresholds."""
    if not verdict.thresholds_stated:
        return verdict.verdict
    return "good enough" if verdict.ok else "not good enough"


def sentence(verdict: Any) -> str:
    """The verdict in one sentence, with the numbers behind it."""
    from instep.verify.noise import LIMITS

    if verdict.said:
        return f"{verdict.engine} says: {verdict.said}"
    figures = ""
    if verdict.lossy is not None:
        figures = ", ".join(f"{k} {v:.4g}" for k, v in verdict.lossy["figures"].items() if isinstance(v, float))
    if verdict.lossy is not None and verdict.thresholds_stated:
        return f"by the thresholds stated: {figures}" + "".join(f"; {f}" for f in verdict.lossy["failed"])

    ratio = human_ratio(verdict.noise_ratio).removesuffix("×")
    ran = f"{len(verdict.inputs)} inputs" if len(verdict.inputs) != 1 else "1 input"
    if verdict.verdict == "not comparable":
        return "no output of the file could be compared with the source"
    place = f"on {verdict.engine} " if verdict.engine else ""
    why = f"{verdict.why}; " if verdict.why and not verdict.ok else ""
    return (
        f"{why}{place}the worst output is {ratio} times the network's own rounding noise away from the truth "
        f"(up to {LIMITS.in_step:g} is in step), on {ran}" + (f"; {figures}" if figures else "")
    )


def facts_of_fault(verdict: Any) -> list[tuple[str, str]]:
    """Where a result left its source and why, as (label, value) pairs; [] when it did not."""
    if verdict.ok:
        return []
    if verdict.first is None:
        return [("culprit", str(verdict.culprit))] if verdict.culprit is not None else []
    row, cause = verdict.first, verdict.diagnosis
    place = f" ({row.origin})" if row.origin else ""
    facts = [("first to leave", f"{row.operator} '{row.scope or row.source}'{place}")]
    if cause is not None:
        facts.append(("likely cause", f"{cause.cause}: {cause.evidence}"))
        if cause.also:
            facts.append(("or", ", ".join(cause.also)))
    elif verdict.suspects:
        facts.append(("suspects", "; ".join(verdict.suspects[:6])))
    if verdict.culprit is not None:
        facts.append(("culprit", str(verdict.culprit)))
        if verdict.culprit.exact:
            facts.append(("said to be exact", verdict.culprit.exact))
    return facts


def facts_of(conversion: Any) -> list[tuple[str, str]]:
    """(label, value) pairs about a conversion, for the panel and the page."""
    seconds = conversion.seconds
    converting = seconds["capture"] + seconds["rewrite"] + seconds["emit"]
    imported = f"importing {' and '.join(conversion.imported)}" if conversion.imported else "imports"
    facts = [
        ("size", human_bytes(conversion.bytes)),
        ("parameters", human_count(conversion.parameters)),
        ("MACs", human_count(conversion.macs)),
        ("operators", f"{sum(conversion.ops_captured.values())} → {sum(conversion.ops.values())}"),
        ("largest rank", str(conversion.max_rank)),
        ("converted in", f"{converting:.2f} s, after {seconds['import']:.2f} s of {imported}"),
    ]
    if "verify" in seconds:
        facts.append(("proved in", f"{seconds['verify']:.2f} s"))
    return facts


def document_of_conversion(conversion: Any, pictures: list[Picture]) -> Document:
    """The report of ``instep convert``."""
    verdict = conversion.verdict
    document = Document(
        conversion.source,
        conversion.file,
        headline(verdict) if verdict is not None else "not proved",
        _capital(sentence(verdict)) if verdict is not None else "The proof was not asked for.",
        facts=facts_of(conversion),
        ops_before=conversion.ops_captured,
        ops_after=conversion.ops,
        rewrites=[
            RewriteRow(
                p.name,
                p.exact,
                p.nodes_before,
                p.nodes_after,
                p.seconds,
                p.proof if isinstance(p.proof, float) else None,
            )
            for p in conversion.passes
            if p.changed
        ],
        pictures=pictures,
        notes=list(conversion.notes),
        environment=environment(),
    )
    return _with_verdict(document, verdict)


def document_of_verification(verification: Any, captured: Any, pictures: list[Picture]) -> Document:
    """The report of ``instep verify``; ``captured`` is None when the source is a file too."""
    from instep.report.table import table_of_graph
    from instep.runtime import tflite_info

    verdict = verification.verdict
    info = tflite_info(verification.file)
    facts = [("size", human_bytes(info.bytes)), ("operators", str(len(info.ops))), ("largest rank", str(info.max_rank))]
    facts.append(("proved in", f"{verification.seconds['verify']:.2f} s"))
    document = Document(
        verification.source,
        verification.file,
        headline(verdict),
        _capital(sentence(verdict)),
        facts=facts,
        ops_before=table_of_graph(captured.graph, "").ops if captured is not None else {},
        ops_after=dict(info.histogram.most_common()),
        pictures=pictures,
        notes=list(verification.notes),
        environment=environment(),
    )
    return _with_verdict(document, verdict)


def _with_verdict(document: Document, verdict: Any) -> Document:
    if verdict is None:
        return document
    from instep.verify.noise import LIMITS

    document.values = [value_row(r) for r in verdict.rows]
    document.outputs = [value_row(r) for r in verdict.outputs]
    document.worst = [value_row(r) for r in verdict.worst(12) if not r.output]
    document.thresholds = (LIMITS.in_step, LIMITS.drifting)
    document.notes += [note for note in verdict.notes if note not in document.notes]
    document.fault = facts_of_fault(verdict)
    document.environment["inputs"] = ", ".join(verdict.inputs)
    return document


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def environment() -> dict[str, str]:
    """Versions of what had a hand in the result, without importing any of it."""
    from instep import __version__

    found = {"instep": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["machine"] = f"{platform.system()} {platform.machine()}"
    return found
