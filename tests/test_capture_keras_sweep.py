"""Every layer and function of Keras, in the forms that matter: as captured it computes what Keras computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from instep.capture import CaptureError, capture
from instep.graph.validate import validate
from keras_sweep_tables import FUNCTIONS, LAYERS, LAYERS_2, REFUSED, REFUSED_2
from test_capture_keras import saved

if not importlib.util.find_spec("tensorflow"):
    pytest.skip("TensorFlow is not installed here", allow_module_level=True)

FAMILIES = [*((3, n, e) for n, e in {**FUNCTIONS, **LAYERS}.items()), *((2, n, e) for n, e in LAYERS_2.items())]
#: In one table, what float32 loses: sums of waves, differences of powers.
CLOSE = 3e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {}
    for major, package in ((3, "keras"), (2, "tf_keras")):
        if importlib.util.find_spec(package):
            found[major] = saved(tmp_path_factory.mktemp(f"sweep{major}"), "keras_sweep.py", str(major))
    return found


def folder_of(folders: dict[int, Path], major: int) -> Path:
    if major not in folders:
        pytest.skip(f"Keras {major} is not installed here")
    return folders[major]


@pytest.mark.parametrize(("major", "name", "expressions"), FAMILIES, ids=[f"{n}-{m}" for m, n, _ in FAMILIES])
def test_it_computes_what_keras_computes(
    folders: dict[int, Path], major: int, name: str, expressions: list[str]
) -> None:
    folder = folder_of(folders, major)
    with np.load(folder / f"{name}.npz") as kept:
        inputs = [kept[f"in{i}"] for i in range(sum(k.startswith("in") for k in kept))]
        wanted = [kept[f"out{i}"] for i in range(len(expressions))]
    for path in (folder / f"{name}.keras", folder / f"{name}.h5"):
        if not path.exists():
            continue
        graph = capture(path, inputs=[list(a.shape) for a in inputs]).graph
        validate(graph, stage="captured")
        table = graph.run([a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs], keep=[])
        for expression, value, want in zip(expressions, graph.outputs, wanted, strict=True):
            differs = difference(table[value], want)
            assert not differs, f"{path.name}: {expression}: {differs}"


def difference(got: np.ndarray, want: np.ndarray) -> str:
    """What is not the same of two arrays, or nothing."""
    if got.shape != want.shape:
        return f"{got.shape} for {want.shape}"
    if (got.dtype.kind, want.dtype.kind) not in (("f", "f"), ("i", "i"), ("b", "b"), ("u", "u")):
        return f"{got.dtype} for {want.dtype}"
    mine, theirs = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(theirs)
    if not np.array_equal(finite, np.isfinite(mine)):
        return "other places are no numbers"
    far = np.abs(mine - theirs)[finite].max(initial=0.0)
    size = np.abs(theirs)[finite].max(initial=0.0)
    return "" if far <= CLOSE * (1e-3 + size) else f"{far:.3g} of {size:.3g} away"


@pytest.mark.parametrize(("major", "table"), [(3, REFUSED), (2, REFUSED_2)], ids=["3", "2"])
def test_what_cannot_be_read_says_what_to_do(folders: dict[int, Path], major: int, table: dict[str, str]) -> None:
    folder = folder_of(folders, major)
    for number, (expression, words) in enumerate(table.items()):
        with pytest.raises(CaptureError, match="is not supported here") as said:
            capture(folder / f"refused_{number}.keras")
        assert words in str(said.value), expression
