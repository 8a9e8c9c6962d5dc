"""The child process that holds a runtime: a crash, a hang or a leak of native code stays in here.

Two modes, both driven by ``litert.py``: ``run DIRECTORY`` does the jobs listed in ``DIRECTORY/jobs.json`` and writes
``result<i>.json`` and ``result<i>.bin`` beside it; ``bench`` loads one file and times invocations on request.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]


def _limit_memory(limit: int) -> None:
    if limit > 0:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _interpreter(path: str, engine: str, threads: int, keep_all: bool) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }[engine]
    interpreter = Interpreter(
        model_path=path,
        num_threads=threads,
        experimental_op_resolver_type=resolver,
        experimental_preserve_all_tensors=keep_all,
    )
    interpreter.allocate_tensors()
    return interpreter


def _set_inputs(interpreter: Any, arrays: list[np.ndarray]) -> None:
    details = interpreter.get_input_details()
    if len(details) != len(arrays):
        raise ValueError(f"the file has {len(details)} inputs, {len(arrays)} were given")
    for detail, array in zip(details, arrays, strict=True):
        shape = detail["shape"].tolist()
        if shape != list(array.shape):
            raise ValueError(f"input '{detail['name']}' is {shape}, got {list(array.shape)}")
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"], copy=False))


def _kept(interpreter: Any) -> list[dict[str, Any]]:
    """Details of the tensors that operators make, and of the inputs."""
    made = {int(i) for op in interpreter._get_ops_details() for i in op["outputs"] if i >= 0}
    made |= {d["index"] for d in interpreter.get_input_details()}
    return [d for d in interpreter.get_tensor_details() if d["index"] in made]


def _job(job: dict[str, Any], directory: Path, number: int) -> None:
    interpreter = _interpreter(job["path"], job["engine"], job["threads"], job["keep_all"])
    outputs = interpreter.get_output_details()
    kept = _kept(interpreter) if job["keep_all"] else []
    index: dict[str, Any] = {"sets": []}
    with open(directory / f"result{number}.bin", "wb") as blob:

        def put(detail: dict[str, Any]) -> list[Any]:
            array = np.asarray(interpreter.get_tensor(detail["index"]), order="C")
            blob.write(bytes(-blob.tell() % 64))
            at = blob.tell()
            blob.write(array.reshape(-1).view(np.uint8).data)
            scale, zero = detail["quantization"]
            return [detail["name"], str(array.dtype), list(array.shape), at, float(scale), int(zero)]

        for names in job["sets"]:
            arrays = [np.load(directory / name, mmap_mode="r") for name in names]
            _set_inputs(interpreter, arrays)
            start = time.perf_counter()
            interpreter.invoke()
            seconds = time.perf_counter() - start
            entry = {"outputs": [put(d) for d in outputs], "tensors": [], "seconds": seconds}
            for detail in kept:
                try:
                    entry["tensors"].append(put(detail))
                except ValueError:
                    continue  # a tensor that the runtime left without memory (unused outputs)
            index["sets"].append(entry)
    (directory / f"result{number}.json").write_text(json.dumps(index))


def run(directory: Path) -> None:
    """Do every job of ``directory/jobs.json``; a job that fails leaves its one-line reason in ``error<i>``."""
    plan = json.loads((directory / "jobs.json").read_text())
    _limit_memory(plan["memory"])
    for number, job in enumerate(plan["jobs"]):
        (directory / "current").write_text(str(number))
        try:
            _job(job, directory, number)
        except MemoryError:
            (directory / f"error{number}").write_text("out of memory")
        except (RuntimeError, ValueError, OSError) as error:
            (directory / f"error{number}").write_text(str(error))


def bench(path: str, threads: int) -> None:
    """Load ``path``; for each line ``n`` on stdin invoke n times, print the mean milliseconds: elapsed, processor."""
    interpreter = _interpreter(path, "xnnpack", threads, False)
    rng = np.random.default_rng(0)
    arrays = []
    for detail in interpreter.get_input_details():
        shape = tuple(detail["shape"])
        real = np.dtype(detail["dtype"]).kind == "f"
        arrays.append(rng.standard_normal(shape) if real else np.zeros(shape))
    _set_inputs(interpreter, arrays)
    interpreter.invoke()
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        start, spent = time.perf_counter(), time.process_time()
        for _ in range(count):
            interpreter.invoke()
        spent, elapsed = time.process_time() - spent, time.perf_counter() - start
        print(elapsed / count * 1e3, spent / count * 1e3, flush=True)


def main(arguments: list[str]) -> None:
    if arguments[0] == "run":
        run(Path(arguments[1]))
    else:
        bench(arguments[1], int(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
