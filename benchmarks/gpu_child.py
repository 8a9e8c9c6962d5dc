"""One network converted for LiteRT's GPU delegate, run on it and proved there, in a process of its own."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

TARGET = "litert-gpu"
#: The peer's file is right where its outputs on the GPU are those of its own on the CPU, relative to the largest.
CLOSE = 1e-3
#: How pixels become the inputs of networks that classify.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def say(**facts: Any) -> None:
    """One line of JSON: what was found is kept if the process does not reach its end."""
    print("\n" + json.dumps(facts), flush=True)


def real_picture(folder: Path, scale: int) -> Path | None:
    """A real image of the data folder, reduced by ``scale``; None without the data."""
    from benchmarks.prove import pictures
    from PIL import Image

    for pixels in pictures(1, scale):
        Image.fromarray(pixels).save(folder / "real.png")
        return folder / "real.png"
    return None


def foretold(path: Path) -> dict[str, Any]:
    """What ``check`` says of a file without running it: the codes of its errors, and of which kind they are."""
    from instep.runtime import tflite_info
    from instep.targets import check_facts, facts_of_file, load

    errors = [v for v in check_facts(facts_of_file(tflite_info(path)), load(TARGET)) if v.level == "error"]
    return {
        "errors": sorted({f"{v.operator} {v.code}" for v in errors}),
        "refused": any(v.severity == "refused" for v in errors),
        "wrong": any(v.severity == "wrong" for v in errors),
    }


def converted(captured: Any, plain: Path, ours: Path, picture: Any, image: Path | None) -> dict[str, Any]:
    """Write the plain file and that for the target; what legalising did."""
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite
    from instep.runtime import tflite_info
    from instep.verbs.aim import Aim

    start = time.perf_counter()
    graph, _ = to_tflite(captured.graph)
    write(graph, plain, metadata={})
    middle = time.perf_counter()
    aim = Aim(TARGET, picture=picture, images=image, force=True)
    if aim.profile.avoid:
        graph, _ = to_tflite(captured.graph, avoid=aim.profile.avoid)
    graph, passes = aim.reach(graph, [])
    write(graph, ours, metadata={})
    before, after = tflite_info(plain).histogram, tflite_info(ours).histogram
    return {
        "seconds": {"plain": middle - start, TARGET: time.perf_counter() - middle},
        "ops": dict(after),
        "plain_ops": dict(before),
        "added": sum(after.values()) - sum(before.values()),
        "rewrites": sorted({p.name for p in passes}),
        "left": sorted({f"{v.operator} {v.code} {v.message}" for v in aim.left if v.level == "error"}),
    }


#: Seconds for one network under proof: software renders an attention over 4096 places in minutes.
PATIENCE = 1500.0


def proved(captured: Any, path: Path, sets: Sequence[Any], *, locate: bool) -> dict[str, Any]:
    """The verdict of the proof on the engine, on the outputs; with ``locate`` also the operator to blame."""
    from instep.verify import on_engine
    from instep.verify.noise import arithmetic_of
    from instep.verify.tflite import EngineError, TfliteSubject
    from instep.verify.verify import judge

    watched: dict[str, Any] = {}

    class Watched(TfliteSubject):
        """Remembers what the engine said of itself."""

        def _gather(self, run: Any, engine: str, result: Any) -> None:
            watched.update(resident=result.resident, gpu_seconds=result.seconds)
            super()._gather(run, engine, result)

    subject = Watched.load(path, captured.reference, graph=captured.graph, sets=sets)
    subject.engines = (TARGET,)
    subject.timeout = PATIENCE
    try:
        verdict = judge(captured.reference, subject, sets, graph=captured.graph, draws=1, only=set(), explain=False,
                        arithmetic=arithmetic_of(TARGET))  # fmt: skip
    except EngineError as error:
        if error.result is None:
            raise
        verdict = on_engine.not_run(error.result, subject, sets)
    else:
        if locate and not verdict.ok:
            on_engine.locate(verdict, captured.reference, subject, sets, graph=captured.graph, explain=False)
    return {
        "verdict": verdict.verdict,
        "noise_ratio": verdict.noise_ratio,
        "said": verdict.said[:300],
        "culprit": None if verdict.culprit is None else str(verdict.culprit)[:400],
        "notes": [*subject.notes, *verdict.notes],
        "inputs": [s.name for s in sets],
        **watched,
    }


def compared(captured: Any, path: Path, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """The quick question: are the engine's outputs the truth, relative to the largest value?

    Ill-conditioned networks (team16) are as far from it in PyTorch's own float32: ten times that far is right.
    """
    from benchmarks.child import channel_last

    from instep.runtime import run

    result = run(path, [np.ascontiguousarray(channel_last(x)) for x in arrays], engine=TARGET)
    facts: dict[str, Any] = {"said": result.message[:300], "culprit": None, "notes": list(result.log[:2])}
    facts |= {"resident": result.resident, "gpu_seconds": result.seconds}
    if result.failed:
        return facts | {"verdict": result.outcome}
    names = [v.name for v in captured.graph.outputs]
    truth, own = (captured.reference.run(arrays, dtype=d, keep=names) for d in ("float64", "float32"))
    off = rounding = 0.0
    for got, name in zip(result.outputs, names, strict=True):
        want = channel_last(truth[name])
        off = max(off, _off(got.reshape(want.shape), want))
        rounding = max(rounding, _off(channel_last(own[name]), want))
    return facts | {"verdict": "right" if off <= max(CLOSE, 10 * rounding) else "wrong", "off": off}


def latency(plain: Path, ours: Path, rounds: int) -> dict[str, Any]:
    """Processor time of one thread on XNNPACK, in turn: the file for the target beside the plain one.

    A network in which there is nothing to legalise gives the same file twice.
    """
    from instep.runtime import bench

    if plain.read_bytes() == ours.read_bytes():
        return {"slower": 1.0}
    times = bench([plain, ours], repeats=rounds)
    if times.failed:
        return {"latency_error": next(iter(times.failed.values()))}
    cpu = {path: statistics.median(times.cpu[str(path)]) for path in (plain, ours)}
    pairs = zip(times.cpu[str(ours)], times.cpu[str(plain)], strict=True)
    return {"ms": cpu[ours], "plain_ms": cpu[plain], "slower": statistics.median(a / b for a, b in pairs)}


def peer_runs(path: Path, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """Another converter's file: does it run there, with the numbers it has on the CPU, and what does check say?

    The engine's answer is kept beside the file, for it does not change.
    """
    record = path.with_suffix(f".{TARGET}.json")
    if not record.is_file():
        record.write_text(json.dumps(_asked(path, arrays)))
    answer = json.loads(record.read_text())
    return foretold(path) | answer | {"right": "off" in answer and answer["off"] <= CLOSE}


def _asked(path: Path, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    from instep.runtime import Job, run_jobs, tflite_info

    info = tflite_info(path)
    shapes = [tuple(info.tensors[i].shape) for i in info.inputs]
    inputs = [np.ascontiguousarray(x if x.shape == s or x.ndim != 4 else x.transpose(0, 2, 3, 1))
              for x, s in zip(arrays, shapes, strict=True)]  # fmt: skip
    (usual,), (there,) = run_jobs([Job(path, [inputs], "xnnpack"), Job(path, [inputs], TARGET)])
    answer: dict[str, Any] = {"outcome": there.outcome, "said": there.message[:300], "log": list(there.log[:2])}
    answer["refusals"] = sorted({f"{r.operator}: {r.message}" for r in there.refusals})
    if not there.failed and not usual.failed:
        answer["off"] = max(map(_off, there.outputs, usual.outputs))
    return answer


def _off(got: np.ndarray, want: np.ndarray) -> float:
    if not np.isfinite(got).all():
        return float("inf")
    scale = max(float(np.abs(want).max()), 1e-30)
    return float(np.abs(got.astype(np.float64) - want).max()) / scale


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_child")
    parser.add_argument("suite")
    parser.add_argument("name")
    parser.add_argument("--peer", type=Path, help="a file that another tool made of the same network")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--locate", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--latency", action="store_true", help="time the two files on the CPU and do nothing else")
    parser.add_argument("--keep", type=Path, help="folder in which the two files stay")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch
    from benchmarks import networks

    from instep.capture import capture
    from instep.verify import Picture
    from instep.verify.inputs import make_inputs

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    network = networks.find(options.suite, options.name)
    module = network.build()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with tempfile.TemporaryDirectory() as place:
        folder = options.keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        plain, ours = folder / f"{network.name}.plain.tflite", folder / f"{network.name}.{TARGET}.tflite"
        captured = capture(module, inputs=list(network.inputs(module)))
        picture = Picture(scale=network.data_range) if network.data_range else Picture(mean=MEAN, std=STD)
        image = None if options.latency else real_picture(Path(place), network.scale)
        say(**converted(captured, plain, ours, picture, image), check=foretold(ours))
        if options.latency:
            say(**latency(plain, ours, options.rounds))
            return 0
        kinds = ("noise",) if image else ("noise", "natural")
        sets = make_inputs(captured.reference.input_specs, images=image, picture=picture, kinds=kinds)
        if options.peer:
            say(peer=peer_runs(options.peer, sets[0].arrays))
        if options.quick:
            say(**compared(captured, ours, sets[-1].arrays))
        else:
            say(**proved(captured, ours, sets, locate=options.locate))
        if options.rounds:
            say(**latency(plain, ours, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
