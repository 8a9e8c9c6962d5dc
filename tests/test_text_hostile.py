"""Texts that mean harm are errors, soon and in little memory."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instep.capture.base import CaptureError
from instep.capture.foreign import renamed
from instep.graph.text import TextError, parse

HEAD = "input: {x: [1, 3, 8, 8]}\nbody:\n"


def _loops(depth: int, inner: str) -> str:
    lines = [f"{'    ' * d}  - for i{d} in range(10000):" for d in range(depth)]
    return "\n".join([*lines, f"{'    ' * depth}  - {inner}"]) + "\n"


def _key(text: str) -> str:
    """A step whose key is as long as one likes."""
    return f'{HEAD}  - ? "{text}"\n    :\n      - relu\n'


LAUGHS = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))

HOSTILE = {
    "deep nesting": "[" * 100_000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(1200)),
    "billion laughs": LAUGHS,
    "merge keys": "a: &a {x: 1}\nb: {<<: *a}\n",
    "tags": HEAD + "  - !!python/object/apply:os.system [ls]\n",
    "everything again and again": HEAD + "  - for i in range(3000):\n      - y.{i} := relu\n"
    + "  - for i in range(9000):\n      - concat(y.*)\n",
    "an endless unbind": "input: {x: [1, 100000000, 4]}\nbody:\n  - unbind: {axis: 1}\n",
    "words in a tower": HEAD + "  - conv: {out: '" + "(" * 900 + "true" + ")" * 900 + "', kernel: 1}\n",
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
    "an endless lstm": "input: {x: [1, 100000000, 4], h: [1, 9], c: [1, 9]}\nbody:\n  - lstm(x, h, c): {hidden: 9}\n",
    "a huge lstm": "input: {x: [1, 2, 4], h: [1, 90000], c: [1, 90000]}\nbody:\n  - lstm(x, h, c): {hidden: 90000}\n",
    "a huge embedding": 'input: {x: "int64[1]"}\nbody:\n  - embedding: {count: 1000000000, out: 1000000000}\n',
    "dropout of everything": HEAD + "  - dropout: {rate: 1}\n",
    "dropout of NaN": HEAD + "  - dropout: {rate: .nan}\n",
    "dropout along no axis": HEAD + "  - dropout: {shared: [0, 0]}\n",
    "decay below zero": HEAD + "  - conv: {out: 1, kernel: 1, decay: -1}\n",
    "names in loops": HEAD + "  - for i in range(10000):\n      - 'a{i} = relu'\n",
    "arguments in loops": "structs:\n  S:\n    args: {" + ", ".join(f"a{i}: int = {i}" for i in range(500))
    + "}\n    body:\n      - relu\n" + HEAD + "  - for i in range(10000):\n      - S\n",
    "work in names": HEAD + "  - for i in range(10000):\n      - 'a{i}_{sum(range(9000))} = relu'\n",
    "work in places": HEAD + "  - for i in range(10000):\n      - relu: {at: 'a{i}_{sum(range(9000))}'}\n",
    "spaces before a comma": HEAD
    + "".join(f"  - ? a{i}{' ' * 3900}, b{i} = top_k(x)\n    : {{k: 1}}\n" for i in range(450))
    + "  - relu(nothing)\n",
    "spaces in a type": "structs:\n  A:\n    args: {a: 'int" + " " * 1_900_000 + "!'}\n    body:\n      - relu\n"
    + HEAD + "  - A\n",
    "spaces in a loop": _key("for i" + " " * 1_900_000 + "!"),
    "many names in a loop": _key("for " + "i, " * 600_000 + "j inx"),
    "a long condition": _key("if 1" + " and 1" * 300_000),
    "a long key": _key("a" + " " * 1_900_000 + "= relu"),
    "a long name": "structs:\n  ? " + "A" * 1_900_000 + "\n  :\n    body:\n      - relu\n" + HEAD + "  - B\n",
    "an endless file": "networks: {N: /dev/zero}\n" + HEAD + "  - N\n",
    "a file of a device": "networks: {N: zero.yaml}\n" + HEAD + "  - N\n",
    "a file elsewhere": "weights: ../../etc/passwd\n" + HEAD + "  - conv: {out: 1, kernel: 1}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_errors_in_bounded_time(name: str) -> None:
    parse(HEAD + "  - relu\n")  # what is imported late is imported
    text = HOSTILE[name] if "\n" in HOSTILE[name] else HOSTILE[name] + "\n"
    spent = []
    for _ in range(3):  # other processes slow this one down: the best of three
        start = time.process_time()
        with pytest.raises(TextError) as caught:
            parse(text)
        spent.append(time.process_time() - start)
        if spent[-1] < 1:
            break
    assert min(spent) < 1
    assert len(str(caught.value)) < 2000


LIMITED = """
import json, resource, sys, time
from instep.graph.text import TextError, parse
texts = json.load(sys.stdin)
parse("input: {x: [1, 3, 8, 8]}\\nbody:\\n  - relu\\n")
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 300_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
said = {}
for name, text in texts.items():
    start = time.process_time()
    try:
        parse(text)
        said[name] = "no error"
    except TextError as error:
        spent = time.process_time() - start
        said[name] = "" if spent < 1 else f"{spent:.1f} s"
    except BaseException as error:
        said[name] = repr(error)[:200]
print(json.dumps(said))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much a process has is read from /proc")
def test_hostile_texts_need_no_more_than_300_megabytes_of_the_process() -> None:
    """The limit is the kernel's: what numpy or the parser of YAML would take beside Python's own counts as well."""
    texts = {n: t if "\n" in t else t + "\n" for n, t in HOSTILE.items()}
    run = subprocess.run(
        [sys.executable, "-c", LIMITED], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert {n: s for n, s in json.loads(run.stdout).items() if s} == {}


def test_texts_as_files_are_read_no_further_than_a_text_may_be(tmp_path: Path) -> None:
    """A network named by another may be as long as anything; so may the text itself."""
    (tmp_path / "long.yaml").write_text("#" * 5_000_000)
    (tmp_path / "net.yaml").write_text("networks: {N: long.yaml}\n" + HEAD + "  - N\n")
    for name in ("long.yaml", "net.yaml"):
        with pytest.raises(TextError, match=r"long\.yaml"):
            parse(tmp_path / name)


def test_a_network_that_names_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("networks: {N: net.yaml}\n" + HEAD + "  - N\n")
    start = time.process_time()
    with pytest.raises(TextError, match="deeper"):
        parse(tmp_path / "net.yaml")
    assert time.process_time() - start < 1


def test_texts_that_name_each_other_are_not_read_again_and_again(tmp_path: Path) -> None:
    """Ten files, each of which names the next ten times, are ten files."""
    for i in range(8):
        named = ", ".join(f"N{j}: f{i + 1}.yaml" for j in range(10))
        (tmp_path / f"f{i}.yaml").write_text(f"networks: {{{named}}}\n" + HEAD + "  - relu\n")
    (tmp_path / "f8.yaml").write_text(HEAD + "  - relu\n")
    start = time.process_time()
    with contextlib.suppress(TextError):
        parse(tmp_path / "f0.yaml")
    assert time.process_time() - start < 1


def test_weights_of_a_hostile_size_are_not_drawn_before_they_are_read() -> None:
    """A text may have 2²⁸ parameters: a gigabyte, that whoever only looks at the network does not pay."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    graph = parse(HEAD + "  - flatten\n  - linear: {out: 1300000}\n")
    assert sum(v.size for v in graph.weights) > 2**27
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_names_that_could_be_matched_in_too_many_ways_are_refused() -> None:
    """Text names what weights are called in a stranger's file; eight holes in a row against a long name take days."""
    with pytest.raises(CaptureError, match="more than two"):
        renamed(["x" * 200 + "/kernel"], {"{a}{b}{c}{d}{e}{f}{g}{h}!": "y"})
    start = time.process_time()
    assert renamed(["x" * 1000 + "/kernel"], {"{a}{b}!": "y", "{a}/{b}": "{b}"}) == {"x" * 1000 + "/kernel": "kernel"}
    assert time.process_time() - start < 1
