"""The folder that ``instep bisect`` writes: the minimal file, its twin, arrays, a script that shows it, a README."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from instep.debug.bisection import Bisection
from instep.debug.flow import Part
from instep.debug.folder import MARK, arrays, whole_folder
from instep.debug.trial import Outcome, Row
from instep.debug.twin import Twin, run_twin, write_twin
from instep.runtime import TensorInfo, engine_of
from instep.verify.tflite import floats_of

__all__ = ["write_report"]


def write_report(
    result: Bisection, out: str | os.PathLike[str], label: str, twin: Callable[[Part, Path], Twin]
) -> Path:
    """Write what ``result`` found into the folder ``out``, whole or not at all.

    ``label``: what the file is called. ``twin`` gives the trusted side of a part and may use a folder for it; it
    raises ValueError, whose message becomes part of the README, where there is none.
    """
    assert result.found is not None and result.proof is not None
    with whole_folder(out) as folder:
        part, info = result.found.outcome.part, result.cutter.info
        result.cutter.write(part, folder / "minimal.tflite", f"cut from {Path(label).name} by Instep")
        number = _shown_set(result)
        names = [[info.tensors[i].name for i in side] for side in (part.inputs, part.outputs)]
        fed = [result.trusted.given(number, i) for i in part.inputs]
        expected = [np.asarray(result.trusted.values[number][i]) for i in part.outputs]
        expected = [e.astype(np.float32) if e.dtype == np.float64 else e for e in expected]
        arrays(folder / "inputs", names[0], fed)
        arrays(folder / "expected", names[1], expected)
        ran = result.proof.results[number]
        if not ran.failed:
            actual = [floats_of(a, n, ran) for a, n in zip(ran.outputs, ran.output_names, strict=True)]
            arrays(folder / "actual", names[1], actual)
        said = _twin(result, twin, folder)
        (folder / "show.py").write_text(_script(result, number), encoding="utf-8")
        (folder / "README.md").write_text(_readme(result, label, number, said), encoding="utf-8")
        result.folder = str(out)
        (folder / MARK).write_text(json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(out)


def _twin(result: Bisection, twin: Callable[[Part, Path], Twin], folder: Path) -> tuple[str, str]:
    """(why there is no twin, what the twin says when it runs)."""
    assert result.found is not None
    try:
        with tempfile.TemporaryDirectory(prefix="instep-twin-") as place:
            source = twin(result.found.outcome.part, Path(place))
            missing = write_twin(source, folder, f"The PyTorch twin of minimal.tflite: {', '.join(result.operators)}")
    except ValueError as error:
        missing = str(error)
    result.twin = run_twin(folder) if not missing else ""
    return missing, result.twin


def _shown_set(result: Bisection) -> int:
    """The input set on which the found part is worst."""
    assert result.proof is not None
    worst = result.proof.worst
    if worst is not None:
        return result.trusted.names.index(worst.inputs)
    return next((n for n, r in enumerate(result.proof.results) if r.failed), 0)


def _rows(proof: Outcome, name: str) -> list[Row]:
    return [r for r in proof.rows if r.inputs == name]


def _script(result: Bisection, number: int) -> str:
    assert result.found is not None and result.proof is not None
    part, info = result.found.outcome.part, result.cutter.info
    signature = result.cutter.excerpt(part).signatureDefs[0]
    rows = {r.tensor: r for r in _rows(result.proof, result.trusted.names[number])}
    close = [_allowed(rows.get(i)) for i in part.outputs]
    facts = {
        "ENGINE": result.engine,
        "INPUTS": [e.name.decode() for e in signature.inputs],
        "OUTPUTS": [e.name.decode() for e in signature.outputs],
        "EXPECTED": [_scale(info.tensors[i]) for i in part.outputs],
        "CLOSE": close,
    }
    text = (files("instep.debug") / "show_template.py.txt").read_text(encoding="utf-8")
    for key, value in facts.items():
        text = text.replace(f"@{key}@", repr(value))
    return text


def _allowed(row: Row | None) -> float:
    """The largest error that the operators' own rounding would excuse."""
    if row is None or not row.ratio or not np.isfinite(row.ratio) or not np.isfinite(row.max_abs):
        return 0.0
    return float(f"{10 * row.max_abs / row.ratio:.3g}")


def _scale(tensor: TensorInfo) -> tuple[float, int] | None:
    if len(tensor.scale) != 1 or tensor.dtype.startswith("float"):
        return None
    return tensor.scale[0], tensor.zero_point[0]


# -- the README ------------------------------------------------------------------------------------------------------
def _readme(result: Bisection, label: str, number: int, twin: tuple[str, str]) -> str:
    operators = result.operators
    title = operators[0] if len(operators) == 1 else f"{len(operators)} operators, {', '.join(operators[:4])}"
    if len(operators) > 4:
        title += ", …"
    what = {"refused": "is refused", "crashed": "crashes", "timed out": "does not end", "out of memory": "takes too "
            "much memory"}.get(result.verdict, "computes something else")  # fmt: skip
    lines = [f"# {title} {what} on {result.engine}", "", _what(result, number), "", "## Operators", ""]
    lines += _operators(result)
    lines += ["", "## Runtime", "", *_runtime(result), "", "## Reproduce", "", "```", "python show.py", "```", ""]
    lines += ["| file | what it is |", "|---|---|", *_files(result, twin)]
    lines += ["", "## Where it comes from", "", *_origin(result, label)]
    if result.notes:
        lines += ["", *(f"- {note}" for note in result.notes)]
    return "\n".join(lines) + "\n"


def _what(result: Bisection, number: int) -> str:
    proof = result.proof
    assert proof is not None
    failed = proof.failed
    if failed is not None:
        words = {"refused": "does not take the file", "crashed": f"dies of {failed.signal or 'a crash'}",
                 "timed out": "does not end in time", "out of memory": "runs out of memory"}  # fmt: skip
        stage = f" while it {'compiles' if failed.stage == 'compile' else 'runs'} it" if failed.stage else ""
        said = "".join(f"\n\n    {line}" for line in (failed.message, *failed.log[:6]) if line)
        return f"{result.engine} {words.get(failed.outcome, failed.outcome)}{stage}.{said}"
    info = result.cutter.info
    rows = ["| output | max error | error / RMS of the value | error / rounding noise |", "|---|---:|---:|---:|"]
    for row in _rows(proof, result.trusted.names[number]):
        name = info.tensors[row.tensor].name
        rows.append(f"| `{name}` | {row.max_abs:.3g} | {row.relative:.3g} | {row.ratio:.3g} |")
    said = f"It runs, and gives other values than {result.trusted.who}. Rounding explains a ratio up to 10.\n\n"
    return said + "\n".join(rows)


def _operators(result: Bisection) -> list[str]:
    assert result.found is not None
    info = result.cutter.info
    lines = []
    for number in result.found.outcome.part.ops:
        op = info.ops[number]
        lines.append(f"- **{op.name}** version {op.version}, operator {number} of the whole file")
        lines += [f"  - input {_tensor(info.tensors[i])}" for i in op.inputs if i >= 0]
        lines += [f"  - output {_tensor(info.tensors[i])}" for i in op.outputs if i >= 0]
        options = ", ".join(f"{k} = {v}" for k, v in _options(op.options).items())
        if options:
            lines.append(f"  - options {options}")
    return lines


def _options(options: Any) -> dict[str, Any]:
    """An options object as names and values, enumerations in words."""
    from ai_edge_litert import schema_py_generated as schema

    words = {"padding": schema.Padding, "fusedActivationFunction": schema.ActivationFunctionType}
    found = {}
    for key, value in (vars(options) if options is not None else {}).items():
        kind = words.get(key)
        names = {v: k for k, v in vars(kind).items() if isinstance(v, int)} if kind is not None else {}
        found[key] = value.tolist() if isinstance(value, np.ndarray) else names.get(value, value)
    return found


def _tensor(tensor: TensorInfo) -> str:
    kind = "constant " if tensor.constant_bytes else ""
    scale = f", {len(tensor.scale)} scale(s)" if tensor.scale else ""
    return f"{kind}`{tensor.name}` {tensor.dtype} {list(tensor.shape)}{scale}"


def _runtime(result: Bisection) -> list[str]:
    versions = [f"{name} {_version(name)}" for name in ("ai-edge-litert", "numpy")]
    lines = [f"- {result.engine}: {engine_of(result.engine).about}", f"- {', '.join(versions)}"]
    if engine_of(result.engine).device == "gpu":
        from instep.runtime import vulkan

        drivers = vulkan.drivers()
        lines.append(f"- Vulkan driver: {drivers[0].name if drivers else 'none'}")
    lines.append(f"- Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    return lines


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _files(result: Bisection, twin: tuple[str, str]) -> list[str]:
    assert result.proof is not None
    rows = [
        "| `minimal.tflite` | these operators alone, with their options and weights |",
        "| `inputs/` | what flows into them in the whole network |",
        f"| `expected/` | what ought to come out: {result.trusted.who} |",
    ]
    if result.proof.failed is None:
        rows.append(f"| `actual/` | what came out on {result.engine} |")
    missing, said = twin
    if missing:
        rows.append(f"| no `twin.py` | {missing} |")
    else:
        rows.append("| `twin.py`, `weights.npz` | the same in PyTorch" + (f": {said} |" if said else " |"))
    rows.append("| `show.py` | runs `minimal.tflite` and compares; needs numpy and ai-edge-litert |")
    return rows


def _origin(result: Bisection, label: str) -> list[str]:
    assert result.found is not None
    info, part = result.cutter.info, result.found.outcome.part
    shown = [f"`{info.tensors[i].name}`" for i in part.outputs]
    lines = [f"- file: {Path(label).name if label.endswith('.tflite') else label}, {len(info.ops)} operators"]
    lines.append(f"- value: {', '.join(shown)}")
    sources = [result.trusted.shows[i] for i in part.outputs if i in result.trusted.shows]
    if sources:
        lines.append(f"- in the source: {', '.join(f'`{s}`' for s in sources)}")
    if result.origins:
        lines.append(f"- source line: {', '.join(f'`{line}`' for line in result.origins)}")
    worst = result.whole.worst
    if worst is not None and result.whole.failed is None:
        lines.append(f"- the whole file is {result.verdict}: {worst.ratio:.3g} times its rounding noise")
    lines.append(f"- found in {result.runs} runs of parts of the file; Instep cuts files without changing operators")
    return lines
