"""Damaged TFLite files: real files mutated at random are read by what reads files, in bounded child processes."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report

__all__ = ["MUTATIONS", "READERS", "main"]

#: What one mutated file may take: seconds of processor time, and bytes of address space for the whole child.
SECONDS, MEMORY = 20, 3 << 30
#: Seconds that an engine may take for one mutated file, and what the file that it was is called beside it.
PATIENCE, HEALTHY = 20.0, "healthy.tflite"
#: Cases that one child reads before the next takes over.
BATCH = 250
EDGES = (0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)


# -- mutations of bytes ------------------------------------------------------------------------------------------------
def flip_bits(data: bytearray, rng: random.Random, _: list[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def put_numbers(data: bytearray, rng: random.Random, _: list[bytes]) -> bytearray:
    """Numbers at the edges of their kinds, where offsets, lengths and sizes may lie."""
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        width = rng.choice((1, 2, 4, 4, 4, 8))
        at = _place(data, rng) & ~(min(width, 4) - 1)
        number = rng.choice((rng.choice(EDGES), rng.randrange(len(data)), rng.getrandbits(32)))
        data[at : at + width] = (number % (1 << (8 * width))).to_bytes(width, "little")
    return data


def truncate(data: bytearray, rng: random.Random, _: list[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def splice(data: bytearray, rng: random.Random, corpus: list[bytes]) -> bytearray:
    """A piece of this file or of another one, laid over this one or pushed into it."""
    donor = rng.choice((bytes(data), rng.choice(corpus)))
    size = rng.choice((4, 8, 32, 256, 4096))
    start, at = rng.randrange(len(donor)), _place(data, rng)
    piece = donor[start : start + size]
    data[at : at + (0 if rng.random() < 0.3 else len(piece))] = piece
    return data


def erase(data: bytearray, rng: random.Random, _: list[bytes]) -> bytearray:
    at, size = _place(data, rng), rng.choice((1, 4, 16, 64, 1024))
    if rng.random() < 0.5:
        del data[at : at + size]
        return data
    data[at : at + size] = bytes(min(size, len(data) - at))
    return data


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, but mostly where the tables lie: our own files have them first, others have them last."""
    size = len(data)
    near = min(size, 1 << 15)
    return rng.choice((rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size), rng.randrange(64)))


# -- mutations of structure --------------------------------------------------------------------------------------------
def change_fields(data: bytearray, rng: random.Random, _: list[bytes]) -> bytearray:
    """Some fields of the schema's objects get other values of their kind: a well-formed file that makes no sense."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        _change(_descend(model, rng), rng)
    builder = flatbuffers.Builder(1 << 16)
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except Exception:  # what the schema's own writer refuses is no file
        return put_numbers(data, rng, [])
    return bytearray(builder.Output())


def _descend(thing: Any, rng: random.Random) -> Any:
    """Some object below the model that is not the contents of a buffer."""
    for _ in range(12):
        below = [v for k, v in vars(thing).items() if hasattr(v, "Pack") and k != "buffers"]
        lists = [
            v for k, v in vars(thing).items() if isinstance(v, list) and v and hasattr(v[0], "Pack") and k != "buffers"
        ]
        if lists and (not below or rng.random() < 0.8):
            thing = rng.choice(rng.choice(lists))
        elif below:
            thing = rng.choice(below)
        else:
            return thing
        if rng.random() < 0.25:
            return thing
    return thing


def _change(thing: Any, rng: random.Random) -> None:
    if not vars(thing):
        return
    name = rng.choice(list(vars(thing)))
    value = getattr(thing, name)
    number = rng.choice((rng.choice(EDGES), -1, -2, rng.randrange(-4, 300)))
    if isinstance(value, bool):
        setattr(thing, name, not value)
    elif isinstance(value, int):
        setattr(thing, name, number if number < 2**31 else -1)
    elif isinstance(value, float):
        setattr(thing, name, rng.choice((0.0, -1.0, float("inf"), float("nan"), 1e38)))
    elif value is not None and not isinstance(value, str | bytes) and hasattr(value, "__len__"):
        setattr(thing, name, _changed_list(list(value), rng, number))
    elif rng.random() < 0.5:
        setattr(thing, name, None)


def _changed_list(values: list[Any], rng: random.Random, number: int) -> list[Any]:
    if not values:
        return [number] * rng.choice((1, 4, 70))
    at = rng.randrange(len(values))
    way = rng.randrange(5)
    if way == 0:
        return values[:at] + values[at + 1 :]
    if way == 1:
        return values[: at + 1] + values[at:]
    if way == 2:
        rng.shuffle(values)
        return values
    if way == 3:
        return values * rng.choice((2, 3, 20))
    if isinstance(values[at], int):
        values[at] = min(number, 2**31 - 1)
    return values


Mutation = Callable[[bytearray, random.Random, list[bytes]], bytearray]
MUTATIONS: dict[str, Mutation] = {
    "bits flipped": flip_bits,
    "numbers at edges": put_numbers,
    "cut short": truncate,
    "spliced": splice,
    "erased": erase,
    "fields changed": change_fields,
}


# -- the readers -------------------------------------------------------------------------------------------------------
def _show(path: Path, _: Path) -> None:
    from instep.api import show

    show(path)


def _check(path: Path, _: Path) -> None:
    from instep.api import check

    check(path, "litert-gpu", run=False)


def _capture(path: Path, _: Path) -> None:
    from instep.capture import capture
    from instep.graph.validate import validate

    validate(capture(path).graph, stage="captured")


def _stages(path: Path, _: Path) -> None:
    from instep.api import stages

    stages(path)


def _cut(path: Path, out: Path) -> None:
    """From the first input, by number, to the last value that is computed, by name."""
    from instep.api import cut
    from instep.debug.flow import Flow
    from instep.runtime import tflite_info

    info = tflite_info(path)
    computed = Flow(info).computed
    start = [f"#{i}" for i in info.inputs[:1]]
    cut(path, out, start=start, end=[info.tensors[i].name for i in computed[-1:]])


def _legalize(path: Path, out: Path) -> None:
    from instep.api import legalize

    legalize(path, "portable-4d", out, verify=False, force=True)


def _verify(path: Path, _: Path) -> None:
    """The damaged file against the one that it was."""
    from instep.api import verify

    verify(path.with_name(HEALTHY), path, timeout=PATIENCE)


def _verify_itself(path: Path, _: Path) -> None:
    from instep.api import verify

    verify(path, path, timeout=PATIENCE)


#: What reads a file; the second path is for what it writes.
READERS: dict[str, Callable[[Path, Path], None]] = {
    "show": _show, "check": _check, "capture": _capture, "stages": _stages, "cut": _cut, "legalize": _legalize,
    "verify": _verify, "verify-itself": _verify_itself,
}  # fmt: skip


# -- the child ---------------------------------------------------------------------------------------------------------
def read_everything(path: Path, readers: list[str]) -> Counter[str]:
    """How each reader took the file: "read", "refused", or the exception that nobody is to see."""
    outcomes: Counter[str] = Counter()
    for name in readers:
        try:
            READERS[name](path, path.with_name("written.tflite"))
            outcomes[f"{name}: read"] += 1
        except Exception as error:
            outcomes[f"{name}: {_answer(error)}"] += 1
    return outcomes


def _answer(error: Exception) -> str:
    """ "refused" where the exception is one sentence of ours; else what it is, and where it was raised."""
    from instep.api import TargetError
    from instep.verify.tflite import EngineError

    said, kind = str(error), type(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = Path(last.tb_frame.f_code.co_filename) if last is not None else Path()
    # ValueErrors are sentences of ours where we raise them, and name the file
    ours = kind.__module__.startswith("instep") or (kind is ValueError and "fuzzed.tflite" in said)
    if isinstance(error, TargetError):
        return "refused"
    if isinstance(error, EngineError) or (ours and isinstance(error, ValueError)):
        return "many lines" if "\n" in said else "refused"
    return f"{kind.__name__} at {place.name}:{last.tb_lineno if last is not None else ''}"


def child(corpus: list[Path], readers: list[str], seed: int, first: int, last: int) -> None:
    """Cases ``first`` … ``last``: one JSON line each, "begin" before it is read and its outcome after."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    originals = [p.read_bytes() for p in corpus]
    names = list(MUTATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed.tflite"
        for case in range(first, last):
            rng = random.Random(f"{seed}/{case}")
            name = names[case % len(names)]
            number = rng.randrange(len(originals))
            data = MUTATIONS[name](bytearray(originals[number]), rng, originals)
            path.write_bytes(data)
            path.with_name(HEALTHY).write_bytes(originals[number])
            print(json.dumps({"begin": case, "mutation": name, "file": corpus[number].name}), flush=True)
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # a hang ends the child
            outcomes = read_everything(path, readers)
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps({"end": case, "outcomes": outcomes, "seconds": time.process_time() - start}), flush=True)


# -- the parent --------------------------------------------------------------------------------------------------------
def run(corpus: list[Path], readers: list[str], seed: int, count: int) -> dict[str, Any]:
    """All cases in child processes, one at a time; a child that dies or hangs is the case's outcome."""
    found: dict[str, Any] = {"cases": [], "died": []}
    next_case = 0
    while next_case < count:
        last = min(next_case + BATCH, count)
        numbers = map(str, (seed, next_case, last))
        command = [sys.executable, "-m", "benchmarks.fuzz", "--child", ",".join(readers), *numbers]
        try:
            done = subprocess.run(
                [*command, *map(str, corpus)], capture_output=True, text=True, timeout=SECONDS * BATCH, check=False
            )
            said, code = done.stdout, str(done.returncode)
        except subprocess.TimeoutExpired as error:
            said, code = (error.stdout or b"").decode(), "timeout"
        begun: dict[str, Any] = {}
        for line in said.splitlines():
            entry = json.loads(line)
            if "begin" in entry:
                begun = entry
            else:
                found["cases"].append({**begun, **entry})
                begun = {}
        if begun:
            found["died"].append({**begun, "code": code})
        elif code != "0":
            raise SystemExit(f"a child failed before it read anything:\n{done.stderr[-2000:]}")
        next_case = begun["begin"] + 1 if begun else last
        print(f"{next_case} of {count}", file=sys.stderr)
    return found


def summary(found: dict[str, Any], readers: list[str]) -> str:
    cases = found["cases"]
    rows = []
    for name in MUTATIONS:
        mine = [c for c in cases if c["mutation"] == name]
        totals: Counter[str] = Counter()
        for case in mine:
            totals.update(case["outcomes"])
        cells = [totals[f"{reader}: {way}"] for reader in readers for way in ("read", "refused")]
        escaped = sum(n for k, n in totals.items() if not k.endswith((": read", ": refused")))
        dead = sum(d["mutation"] == name for d in found["died"])
        slow = max((c["seconds"] for c in mine), default=0.0)
        rows.append([name, len(mine) + dead, *cells, escaped, dead, f"{slow:.2f}"])
    ways = [said for reader in readers for said in (f"{reader} reads", "refuses")]
    return report.table(["mutation", "files", *ways, "other exceptions", "crashes, hangs", "slowest s"], rows)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child([Path(p) for p in sys.argv[6:]], sys.argv[2].split(","), *map(int, sys.argv[3:6]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    report.add_arguments(parser)
    parser.add_argument("files", nargs="*", type=Path, help="files to mutate beside those that are made here")
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), help="what reads the files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = [*_made(Path(folder)), *(Path(shutil.copy(file, folder)) for file in options.files)]
        found = run(corpus, options.readers, options.seed, options.count)
    strange: Counter[str] = Counter()
    for case in found["cases"]:
        strange.update({k: n for k, n in case["outcomes"].items() if not k.endswith((": read", ": refused"))})
    for what, count in strange.most_common():
        print(f"{count} × {what}", file=sys.stderr)
    for death in found["died"]:
        print(f"died: {death}", file=sys.stderr)
    bad = sum(strange.values()) + len(found["died"])
    text = "\n\n".join(
        [
            f"{options.count} mutations (`python -m benchmarks.fuzz --seed {options.seed}`) of {len(corpus)} files, "
            f"each read by {', '.join(f'`{r}`' for r in options.readers)} in a child process with {MEMORY >> 30} GiB. "
            f"A sound answer is a table, a judgement, a graph or a file, or one sentence that says what is wrong. "
            f"Other answers: {bad}.",
            summary(found, options.readers),
        ]
    )
    report.deliver(options, "fuzz", text, {"files": [p.name for p in corpus], "bad": bad, "other": dict(strange)})
    return 1 if bad else 0


def _made(folder: Path) -> list[Path]:
    """Files of networks with convolutions, attention, norms and index operators, as Instep converts them."""
    from instep.api import convert

    made = []
    sources = {
        "elsr": ("tests/networks/elsr.py:ELSR", [[1, 3, 32, 32]]),
        "rlfn": ("tests/networks/rlfn.py:RLFN", [[1, 3, 16, 16]]),
        "convnext": ("timm:test_convnext", None),
        "vit": ("timm:test_vit", None),
        "efficientnet": ("timm:test_efficientnet", None),
    }
    for name, (source, inputs) in sources.items():
        for half in (False, True):
            path = folder / f"{name}{'.half' if half else ''}.tflite"
            convert(source, path, inputs=inputs, half=half, verify=False)
            made.append(path)
    return made


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
