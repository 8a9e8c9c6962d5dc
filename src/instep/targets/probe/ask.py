"""Asks an engine: writes the files of the questions, runs them on the engine and on TFLite's own kernels, judges."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from instep.runtime import Job, Placement, available, engine_of, place_many, run_jobs, vulkan
from instep.targets.probe.answers import Answer, Answers
from instep.targets.probe.judge import judge
from instep.targets.probe.question import Question

__all__ = ["ask", "runtime_of"]

#: Questions asked in one child process, and between two reports of progress.
TOGETHER = 64
#: Seconds for one question; a healthy one takes less than one.
PATIENCE = 30.0

#: Called with how many questions are answered, how many there are, and the last one answered.
Progress = Callable[[int, int, str], None]


def runtime_of(engine: str) -> tuple[str, str]:
    """(version, driver) of an engine as this machine has it."""
    known = engine_of(engine)
    package = "ethos-u-vela" if known.device == "npu" else "ai-edge-litert"
    try:
        said = f"{package} {version(package)}"
    except PackageNotFoundError:
        said = package
    drivers = vulkan.drivers() if known.device == "gpu" else []
    return said, drivers[0].name if drivers else ""


def ask(engine: str, questions: Iterable[Question], *, progress: Progress | None = None) -> Answers:
    """Ask ``engine`` every question. A crash or a refusal is an answer.

    What is wrong or crashes among others is asked again alone, in a process of its own: the answer is that one.
    Raises ValueError where this machine lacks the engine.
    """
    known = engine_of(engine)
    missing = available(known.name)
    if missing is not None:
        raise ValueError(missing)
    asked = list(questions)
    together = _together if known.runs else _compiled
    tell = progress or (lambda done, total, name: None)
    answers = Answers(known.name, *runtime_of(known.name))
    with tempfile.TemporaryDirectory(prefix="instep-probe-") as folder:
        for start in range(0, len(asked), TOGETHER):
            some = asked[start : start + TOGETHER]
            found = together(known.name, some, Path(folder))
            for question, answer in zip(some, found, strict=True):
                if answer.kind in ("wrong", "crashed", "timed out"):
                    answer = together(known.name, [question], Path(folder))[0]
                answers.answers[question.name] = answer
            tell(min(start + TOGETHER, len(asked)), len(asked), some[-1].name)
    return answers


def _together(engine: str, questions: Sequence[Question], folder: Path) -> list[Answer]:
    jobs = []
    for i, question in enumerate(questions):
        path, given = question.write(folder / f"{i}.tflite"), [question.inputs()]
        jobs += [Job(path, given, "builtin"), Job(path, given, engine)]
    results = run_jobs(jobs, timeout=PATIENCE)
    pairs = zip(questions, results[::2], results[1::2], strict=True)
    return [judge(question, result[0], own[0]) for question, own, result in pairs]


def _compiled(engine: str, questions: Sequence[Question], folder: Path) -> list[Answer]:
    """What a compiler makes of the questions' files in eight bits: its values are not to be had, its placement is."""
    paths = [question.write(folder / f"{i}.tflite", int8=True) for i, question in enumerate(questions)]
    return [_placed(p) for p in place_many(paths, engine, timeout=PATIENCE)]


def _placed(found: Placement) -> Answer:
    if found.outcome != "compiled":
        kind = {"refused": "crashed", "out of memory": "crashed"}.get(found.outcome, found.outcome)
        return Answer(kind, found.signal or found.message)
    left = [reason for placed in found.left for reason in (placed.reasons or ("left to the CPU",))]
    return Answer("refused", "; ".join(dict.fromkeys(left))) if found.left else Answer("right")
