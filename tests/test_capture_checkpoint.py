"""TensorFlow's checkpoints read without TensorFlow, and their names and arrangements fitted to a text."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from instep.capture import CaptureError, capture
from instep.capture.foreign import renamed
from instep.capture.tf.checkpoint import read_checkpoint

MAGIC = bytes.fromhex("57fb808b247547db")


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a table as LevelDB writes it: keys share their beginnings; type and checksum behind it."""
    data, last = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return data + struct.pack("<II", 0, 1) + b"\0" + b"\0\0\0\0"


def write(folder: Path, arrays: dict[str, np.ndarray], kinds: dict[str, int]) -> Path:
    """A checkpoint with one file of data."""
    data, entries = b"", [(b"", field(1, 1) + field(3, field(1, 1)))]
    for name in sorted(arrays):
        raw = arrays[name].tobytes()
        shape = b"".join(field(2, field(1, n)) for n in arrays[name].shape)
        entry = field(1, kinds.get(name, 1)) + field(2, shape) + field(4, len(data)) + field(5, len(raw))
        entries.append((f"{name}/.ATTRIBUTES/VARIABLE_VALUE".encode(), entry))
        data += raw
    table = block(entries)
    index = block([(entries[-1][0], varint(0) + varint(len(table) - 5))])
    meta = block([])
    handles = varint(len(table)) + varint(len(meta) - 5) + varint(len(table) + len(meta)) + varint(len(index) - 5)
    path = folder / "ckpt-1.index"
    path.write_bytes(table + meta + index + handles.ljust(40, b"\0") + MAGIC)
    (folder / "ckpt-1.data-00000-of-00001").write_bytes(data)
    return path


def some() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "model/stem/kernel": rng.standard_normal((3, 3, 3, 8)).astype(np.float32),
        "model/stem/bias": rng.standard_normal(8).astype(np.float32),
        "model/blocks/0/conv/kernel": rng.standard_normal((3, 3, 8, 8)).astype(np.float32),
        "model/blocks/0/conv/bias": rng.standard_normal(8).astype(np.float32),
        "optimizer/iter": np.asarray(7, np.int64),
    }


TEXT = """
instep: 1
name: net
names: {"model/blocks/{i}/conv": "body.{i}", "model/{layer}": "{layer}"}
layout: LAYOUT
input: {x: SHAPE}
body:
  - stem = conv: {out: 8, kernel: 3, padding: same, act: relu}
  - body.0 = conv: {out: 8, kernel: 3, padding: same}
"""


def test_every_variable_by_its_name_and_none_of_the_optimiser(tmp_path: Path) -> None:
    path = write(tmp_path, some(), {"optimizer/iter": 9})
    for given in (path, path.with_suffix(""), tmp_path, tmp_path / "ckpt-1.data-00000-of-00001"):
        found = read_checkpoint(given)
        assert set(found) == {n for n in some() if n.startswith("model/")}
        assert all(np.array_equal(found[n], some()[n]) for n in found)
    assert read_checkpoint(path, training=True)["optimizer/iter"] == 7


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    halves = np.asarray([1.0, -2.5, 0.15625], np.float32).view(np.uint32)
    path = write(tmp_path, {"a": (halves >> 16).astype(np.uint16)}, {"a": 14})
    assert read_checkpoint(path)["a"].tolist() == [1.0, -2.5, 0.15625]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_text_takes_a_checkpoint_in_either_layout(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path, some(), {"optimizer/iter": 9})
    shape = "[1, 3, 5, 5]" if layout == "NCHW" else "[1, 5, 5, 3]"
    (tmp_path / "net.yaml").write_text(TEXT.replace("LAYOUT", layout).replace("SHAPE", shape))
    captured = capture(tmp_path / "net.yaml", weights=str(path))
    x = np.random.default_rng(1).standard_normal((1, 5, 5, 3))
    given = x.transpose(0, 3, 1, 2) if layout == "NCHW" else x
    got = captured.graph.run([given], keep=[])[captured.graph.outputs[0]]
    got = got.transpose(0, 2, 3, 1) if layout == "NCHW" else got
    a = some()
    hidden = np.maximum(_conv(x, a["model/stem/kernel"]) + a["model/stem/bias"], 0)
    want = _conv(hidden, a["model/blocks/0/conv/kernel"]) + a["model/blocks/0/conv/bias"]
    assert np.abs(got - want).max() < 1e-5


def _conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 3 × 3 convolution with zeros around, by its definition."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[1:3]
    return sum(
        np.einsum("nhwi,io->nhwo", padded[:, i : i + h, j : j + w], kernel[i, j].astype(np.float64))
        for i in range(3)
        for j in range(3)
    )


def test_names_are_renamed_by_the_first_key_that_fits() -> None:
    table = {"ema/{x}/{y}": None, "model/{b}/conv{i}": "block.{i}.{b}", "model/head/kernel": "last.weight"}
    names = ["ema/a/kernel", "model/up/conv3/kernel", "model/head/kernel", "other/bias"]
    assert renamed(names, table) == {
        "ema/a/kernel": None, "model/up/conv3/kernel": "block.3.up.weight", "model/head/kernel": "last.weight",
    }  # fmt: skip


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    arrays = some() | {"model/stem/kernel": np.zeros((5, 5, 3, 8), np.float32)}
    path = write(tmp_path, arrays, {"optimizer/iter": 9})
    (tmp_path / "net.yaml").write_text(TEXT.replace("LAYOUT", "NCHW").replace("SHAPE", "[1, 3, 5, 5]"))
    with pytest.raises(CaptureError, match=r"model/stem/kernel.*\[5, 5, 3, 8\].*stem.weight"):
        capture(tmp_path / "net.yaml", weights=str(path))


def test_missing_and_cut_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no checkpoint"):
        read_checkpoint(tmp_path / "none.index")
    path = write(tmp_path, some(), {"optimizer/iter": 9})
    data = tmp_path / "ckpt-1.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CaptureError, match="100 bytes of data"):
        read_checkpoint(path)
    data.unlink()
    with pytest.raises(CaptureError, match="is missing"):
        read_checkpoint(path)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_indices_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = write(tmp_path, some(), {"optimizer/iter": 9})
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data if rng.random() < 0.8 else data[: rng.randrange(len(data))])
        try:
            read_checkpoint(path)
        except CaptureError as error:
            assert str(error).strip()


@pytest.mark.parametrize(
    ("file", "count"),
    [("swrn/ckpt-98", 43472), ("mobile_rrn/mobile_rrn_16", 35664), ("mobile_rrn/mobile_rrn_32", 126576),
     ("abpn/saved_model", 42539)],
)  # fmt: skip
def test_published_checkpoints_have_the_published_counts(data: Path, file: str, count: int) -> None:
    path = data / "checkpoints" / file
    if not path.parent.is_dir():
        pytest.skip(f"checkpoints/{file} is not among the optional data")
    assert sum(a.size for a in read_checkpoint(path).values()) == count
