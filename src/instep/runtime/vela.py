"""Asks Arm's compiler Vela, in a child process, what an Ethos-U would run of a file, how fast, in how much memory."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instep.runtime.child import environment, machine_memory, watch
from instep.runtime.engines import available, engine_of
from instep.runtime.info import TFLiteInfo, tflite_info

__all__ = ["Placed", "Placement", "place", "place_many"]


@dataclass(frozen=True)
class Placed:
    """One operator of the file: ``operator`` is its TFLite name, ``tensor`` its first output, ``on`` "NPU" or "CPU".

    ``reasons`` are Vela's own words for what stays on the CPU. ``cycles`` and ``macs`` are those of the NPU.
    """

    operator: str
    tensor: str
    on: str
    reasons: tuple[str, ...] = ()
    cycles: int = 0
    macs: int = 0


@dataclass
class Placement:
    """What the compiler makes of a file.

    ``outcome`` is "compiled", "refused", "crashed" (``signal``), "timed out", "out of memory" or "unavailable";
    ``message`` says why unless it compiled. Estimates are Vela's, for the NPU's share alone: ``cycles`` of one
    inference, ``seconds``, ``per_second`` (inferences; None when nothing is left on the NPU), ``sram`` and ``dram`` in
    bytes, for the ``system`` and ``memory_mode`` that it assumed at ``clock`` hertz.
    """

    engine: str
    outcome: str = "compiled"
    message: str = ""
    operators: list[Placed] = field(default_factory=list)
    cycles: int = 0
    macs: int = 0
    seconds: float = 0.0
    per_second: float | None = None
    sram: int = 0
    dram: int = 0
    flash: int = 0
    clock: float = 0.0
    system: str = ""
    memory_mode: str = ""
    signal: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def resident(self) -> bool:
        """Whether the whole file runs on the NPU."""
        return self.outcome == "compiled" and all(p.on == "NPU" for p in self.operators)

    @property
    def left(self) -> list[Placed]:
        """The operators that stay on the CPU."""
        return [p for p in self.operators if p.on == "CPU"]

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the log."""
        facts = {name: value for name, value in vars(self).items() if name != "log"}
        return {**facts, "operators": [dict(vars(p)) for p in self.operators]}


def place(
    path: str | Path,
    engine: str,
    *,
    out: str | Path | None = None,
    system: str = "",
    memory_mode: str = "",
    timeout: float = 300.0,
    memory: int | None = None,
) -> Placement:
    """Compile ``path`` for an Ethos-U (``engine``: "ethos-u55-128" …); ``out`` keeps the compiled file.

    ``system`` and ``memory_mode`` are names of Vela's configurations (its own defaults where empty). ``timeout`` and
    ``memory`` bound the child. Whatever happens to the compiler is a result. ValueError for an engine that is no
    compiler's; TFLiteError for a file that cannot be read.
    """
    wanted = engine_of(engine)
    if wanted.device != "npu":
        raise ValueError(f"{wanted.name} runs files and compiles none (instep.runtime.run)")
    info = tflite_info(path)
    missing = available(wanted.name)
    if missing is not None:
        return Placement(wanted.name, "unavailable", missing)
    with tempfile.TemporaryDirectory(prefix="instep-vela-") as name:
        folder = Path(name)
        # a name of our own: Vela calls its files after the input, whatever letters that has
        network = folder / "network.tflite"
        shutil.copyfile(path, network)
        command = [
            *(sys.executable, "-P", "-c", "from ethosu.vela.vela import main; raise SystemExit(main())"),
            *(str(network), "--accelerator-config", wanted.name, "--output-dir", name, "--verbose-performance"),
            *(("--system-config", system) if system else ()),
            *(("--memory-mode", memory_mode) if memory_mode else ()),
        ]
        limit = memory if memory is not None else int(machine_memory() * 0.75)
        with open(folder / "log", "w+b") as file:
            end = watch(command, file, environment(), folder / "current", timeout, limit)
            file.seek(0)
            log = file.read().decode(errors="replace")
        made = folder / "network_vela.tflite"
        if end is not None or not made.exists():
            return _failure(wanted.name, end, log)
        if out is not None:
            shutil.copyfile(made, out)
        return _placement(wanted.name, info, folder, log)


#: Compiles the files of a plan one after the other in one process; what each makes Vela say goes into its own log.
_MANY = """
import json, os, sys, traceback
from pathlib import Path
from ethosu.vela.vela import main
plan, first = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
for number in range(first, len(plan["folders"])):
    folder = Path(plan["folders"][number])
    Path(plan["current"]).write_text(f"{number} compile")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1), os.dup2(log, 2), os.close(log)
    try:
        main([str(folder / "network.tflite"), "--output-dir", str(folder), *plan["options"]])
    except (Exception, SystemExit):
        traceback.print_exc()
    sys.stdout.flush()
"""


def place_many(
    paths: Sequence[str | Path], engine: str, *, timeout: float = 300.0, memory: int | None = None
) -> list[Placement]:
    """As ``place``, for many small files: one child compiles as many as it lives through, so that each takes
    hundredths of a second instead of the start of a process. ``timeout`` bounds each file."""
    wanted = engine_of(engine)
    if wanted.device != "npu":
        raise ValueError(f"{wanted.name} runs files and compiles none (instep.runtime.run)")
    missing = available(wanted.name)
    if missing is not None:
        return [Placement(wanted.name, "unavailable", missing) for _ in paths]
    limit = memory if memory is not None else int(machine_memory() * 0.75)
    with tempfile.TemporaryDirectory(prefix="instep-vela-") as name:
        root = Path(name)
        folders = [root / str(i) for i in range(len(paths))]
        for path, folder in zip(paths, folders, strict=True):
            folder.mkdir()
            shutil.copyfile(path, folder / "network.tflite")
        plan, current = root / "plan.json", root / "current"
        options = ["--accelerator-config", wanted.name, "--verbose-performance"]
        plan.write_text(json.dumps({"folders": list(map(str, folders)), "current": str(current), "options": options}))
        found: list[Placement] = []
        while len(found) < len(paths):
            first = len(found)
            current.write_text(f"{first} start")
            with open(root / "log", "w+b") as file:
                arguments = [sys.executable, "-P", "-c", _MANY, str(plan), str(first)]
                end = watch(arguments, file, environment(), current, timeout, limit)
            reached = len(paths) if end is None else int(current.read_text().partition(" ")[0])
            found += [_of_folder(wanted.name, folder, None) for folder in folders[first:reached]]
            if end is not None:
                found.append(_of_folder(wanted.name, folders[reached], end))
        return found


def _of_folder(engine: str, folder: Path, end: Any) -> Placement:
    """What one compilation of ``place_many`` left; ``end``: how the child died at it."""
    path = folder / "log"
    log = path.read_text(errors="replace") if path.exists() else ""
    if end is not None or not (folder / "network_vela.tflite").exists():
        return _failure(engine, end, log)
    return _placement(engine, tflite_info(folder / "network.tflite"), folder, log)


def _failure(engine: str, end: Any, log: str) -> Placement:
    said = [line for line in _lines(log) if not line.startswith(("Traceback", "File ", "^"))]
    last = said[-1] if said else "it wrote no file and said nothing"
    if end is not None and (end.signal or end.kind != "crashed"):
        return Placement(engine, end.kind, f"{end.message.replace('the runtime', 'Vela')}", signal=end.signal, log=said)
    return Placement(engine, "refused", f"Vela refuses the file: {last}", log=said)


def _lines(log: str) -> list[str]:
    noise = ("Warning: No ", "Tensor '")
    stripped = (line.strip() for line in log.splitlines())
    return [line for line in stripped if line and not line.startswith(noise)]


_WARNED = re.compile(
    r"Warning \(supported operators\) operator: (?P<operator>[^,]*), ofm: '(?P<tensor>[^\n]*)'\n"
    r"(?P<reason>.*?)(?=\n\s*\n|\nWarning \(|\n#{8}|\Z)",
    re.DOTALL,
)


def _reasons(log: str) -> dict[str, list[str]]:
    """Output tensor → why its operator is left to the CPU."""
    found: dict[str, list[str]] = {}
    for match in _WARNED.finditer(log):
        # stdout and stderr are one log: Vela's remarks about its own defaults may stand right behind a reason
        lines = [line.strip() for line in match["reason"].splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("Warning:")]
        reason = "; ".join(line.removeprefix("Reason:").strip().removeprefix("- ") for line in lines)
        found.setdefault(match["tensor"], []).append(reason)
    return found


def _placement(engine: str, info: TFLiteInfo, folder: Path, log: str) -> Placement:
    layers: dict[str, list[dict[str, str]]] = {}
    for row in _rows(folder / "network_per-layer.csv"):
        layers.setdefault(row["Name"], []).append(row)
    reasons = _reasons(log)
    operators = []
    for op in info.ops:
        made = info.made(op)
        name = made.name if made is not None else ""
        rows = layers.get(name, [])
        why = tuple(reasons.get(name, ()))
        on = "CPU" if why or any(r["Target"] == "CPU" for r in rows) else "NPU"
        cycles, macs = (int(sum(_number(r[key]) for r in rows)) for key in ("Op Cycles", "MAC Count"))
        operators.append(Placed(op.name, name, on, why, cycles, macs))
    summary = next((r for f in folder.glob("network_summary_*.csv") for r in _rows(f)), {})
    kib = {key: int(_number(summary.get(f"{key}_memory_used", "")) * 1024) for key in _MEMORIES}
    rate = _number(summary.get("inferences_per_second", ""))
    return Placement(
        engine,
        operators=operators,
        cycles=int(_number(summary.get("cycles_total", ""))),
        macs=int(_number(summary.get("nn_macs", ""))),
        seconds=_number(summary.get("inference_time", "")),
        per_second=rate or None,
        sram=kib["sram"],
        dram=kib["dram"],
        flash=kib["on_chip_flash"] + kib["off_chip_flash"],
        clock=_number(summary.get("core_clock", "")),
        system=summary.get("system_config", ""),
        memory_mode=summary.get("memory_mode", ""),
        log=_lines(log),
    )


_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0
