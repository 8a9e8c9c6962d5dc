"""Texts that mean harm are errors, soon and in little memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from instep.graph.text import TextError, parse

HEAD = "input: {x: [1, 3, 8, 8]}\nbody:\n"


def _loops(depth: int, inner: str) -> str:
    lines = [f"{'    ' * d}  - for i{d} in range(10000):" for d in range(depth)]
    return "\n".join([*lines, f"{'    ' * depth}  - {inner}"]) + "\n"


LAUGHS = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))

HOSTILE = {
    "deep nesting": "[" * 100_000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(1200)),
    "billion laughs": LAUGHS,
    "merge keys": "a: &a {x: 1}\nb: {<<: *a}\n",
    "tags": HEAD + "  - !!python/object/apply:os.system [ls]\n",
    "many parts": "a: [" + "1," * 1_000_000 + "1]\n",
    "long": "#" * 5_000_000,
    "loops in loops": HEAD + _loops(4, "relu"),
    "empty loops": HEAD + _loops(3, "let: {a: 1}"),
    "a tower of powers": HEAD + "  - conv: {out: 10**10**10, kernel: 1}\n",
    "many factors": HEAD + "  - conv: {out: " + "*".join(["9" * 20] * 90) + ", kernel: 1}\n",
    "lists in lists": HEAD + "  - for i in [range(10000) for j in range(9999)]:\n      - relu\n",
    "calls": HEAD + "  - conv: {out: \"__import__('os').system('ls')\", kernel: 1}\n",
    "attributes": HEAD + '  - conv: {out: "x.__class__.__mro__", kernel: 1}\n',
    "lambdas": HEAD + '  - conv: {out: "(lambda: 3)()", kernel: 1}\n',
    "a call in a name": HEAD + '  - "{().__class__} = relu"\n',
    "recursion": "structs:\n  A:\n    body:\n      - A\n" + HEAD + "  - A\n",
    "a tree of structs": "structs:\n"
    + "".join(f"  S{i}:\n    body:\n      - S{i + 1}\n      - S{i + 1}\n" for i in range(20))
    + "  S20:\n    body:\n      - relu\n" + HEAD + "  - S0\n",
    "huge weights": HEAD + "  - conv: {out: 2000000000, kernel: 3}\n",
    "doubling": HEAD + "  - for i in range(200):\n      - concat(_, _)\n",
    "huge tiles": HEAD + _loops(1, "tile: {times: 1024}"),
    "huge rank": HEAD + "  - reshape: {shape: \"[1] * 5000\"}\n",
    "huge constants": HEAD + "  - c = param: {value: 1, shape: [100000, 100000]}\n",
    "a huge input": "input: {x: [1, 9999999999999999, 8, 8]}\nbody:\n  - relu\n",
    "no network": "[1, 2]",
    "nothing": "\n",
    "bytes": "\x00\x01\n",
    "NaN sizes": HEAD + "  - conv: {out: .nan, kernel: .inf}\n",
    "a file elsewhere": "weights: ../../etc/passwd\n" + HEAD + "  - conv: {out: 1, kernel: 1}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_errors_in_bounded_time_and_memory(name: str) -> None:
    parse(HEAD + "  - relu\n")  # what is imported late is imported
    text = HOSTILE[name] if "\n" in HOSTILE[name] else HOSTILE[name] + "\n"
    start = time.process_time()
    with pytest.raises(TextError) as caught:
        parse(text)
    assert time.process_time() - start < 2  # 1 s where nothing else runs
    tracemalloc.start()
    try:
        with pytest.raises(TextError):
            parse(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200e6
    assert len(str(caught.value)) < 2000
