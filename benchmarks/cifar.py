"""ResNet-8 of MLPerf Tiny on CIFAR-10's test pictures: Keras' file in every form answers as the shipped file does."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.report import add_arguments, deliver, table

__all__ = ["FORMS", "answers", "main", "pictures", "written"]

#: Form → the file's suffix; the first two are the published files as they are.
FORMS = {
    "shipped": ".tflite", "keras": ".h5", "tflite": ".tflite", "torch-source": ".py", "keras-source": ".py",
    "keras-file": ".keras", "jax-source": ".py",
}  # fmt: skip
FOLDER, PICTURES = Path("checkpoints") / "mlperf_tiny", "cifar10_test_jpeg.npz"


def pictures(data: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` test pictures, [N, 32, 32, 3] in 0…255, and their classes."""
    from PIL import Image

    with np.load(data / PICTURES) as kept:
        packed, offsets, labels = kept["data"], kept["offsets"], kept["labels"]
    count = min(count, len(labels))
    shown = [
        np.asarray(Image.open(io.BytesIO(packed[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB"))
        for i in range(count)
    ]
    return np.stack(shown).astype(np.float32), labels[:count].astype(np.int64)


def written(form: str, data: Path, folder: Path) -> Path:
    """The file of ``form``: a published one, or what Instep makes of Keras' file."""
    import instep

    source = data / FOLDER / "pretrainedResnet.h5"
    if form == "shipped":
        return source.with_suffix(".tflite")
    if form == "keras":
        return source
    path = folder / f"{form.replace('-', '_')}{FORMS[form]}"
    if form == "tflite":
        instep.convert(source, path, verify=False)
    else:
        instep.export(source, path, to=form)
    return path


def answers(file: Path, shown: np.ndarray) -> np.ndarray:
    """[N, 10] probabilities, picture by picture, on the engine that the file is made for."""
    from instep.runtime import Job, run_jobs
    from instep.runtime.modules import engine_for

    engine = "xnnpack" if file.suffix == ".tflite" else engine_for(file)
    axes = (0, 3, 1, 2) if _channels_first(file) else (0, 1, 2, 3)
    given = [[np.ascontiguousarray(p[None].transpose(axes))] for p in shown]
    return np.concatenate(list(_values(run_jobs([Job(file, given, engine)], timeout=3600)[0], file)))


def _channels_first(file: Path) -> bool:
    """Whether the file says that its input shows Keras' with the channels moved to the front."""
    from instep.runtime.modules import module_facts

    facts = module_facts(file).get("inputs") if file.suffix != ".tflite" else None
    return bool(facts) and list(facts[0][1]) == [0, 3, 1, 2]


def _values(results: Sequence[Any], file: Path) -> Iterator[np.ndarray]:
    for result in results:
        if result.failed:
            raise RuntimeError(f"{file.name}: {result.message}")
        yield np.asarray(result.outputs[0]).reshape(1, -1)


def judged(form: str, data: Path, shown: np.ndarray, labels: np.ndarray, want: np.ndarray | None) -> dict[str, Any]:
    """The accuracy of a form, and how its answers differ from those of the shipped file."""
    with tempfile.TemporaryDirectory() as folder:
        made = answers(written(form, data, Path(folder)), shown)
    want = made if want is None else want
    chosen = made.argmax(1)
    return {
        "form": form, "pictures": len(labels), "accuracy": float((chosen == labels).mean()),
        "other_answers": int((chosen != want.argmax(1)).sum()), "largest_difference": float(np.abs(made - want).max()),
        "answers": made,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar", description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    add_arguments(parser)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    from tests.networks.checkpoints import data_dir

    data = data_dir()
    if data is None or not (data / FOLDER).is_dir() or not (data / PICTURES).is_file():
        print(f"{FOLDER} and {PICTURES} are not there; set INSTEP_DATA to their folder", file=sys.stderr)
        return 1
    shown, labels = pictures(data, options.pictures)
    results: list[dict[str, Any]] = []
    want = None
    for form in ["shipped", *(f for f in options.forms if f != "shipped")]:
        results.append(judged(form, data, shown, labels, want))
        made = results[-1].pop("answers")
        want = made if want is None else want
        print(results[-1], file=sys.stderr, flush=True)
    rows = [[r["form"], f"{r['accuracy']:.2%}", r["other_answers"], f"{r['largest_difference']:.1e}"] for r in results]
    text = f"{len(labels):,} test pictures.\n\n" + table(
        ("form", "accuracy", "answers unlike the shipped file's", "largest difference of a probability"), rows
    )
    deliver(options, "cifar", text, {"cifar": results})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
