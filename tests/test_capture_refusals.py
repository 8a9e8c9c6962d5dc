"""What PyTorch cannot trace is said in words of the user's: what it is, where, and what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from instep.capture import CaptureError, capture

#: Like the real torchvision, one whose compiled part is not there describes an operator of that part.
REGISTERS = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""


@dataclass
class Answer:
    logits: torch.Tensor


class Calls(nn.Module):
    """A convolution whose result goes through ``after``."""

    def __init__(self, after: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 3), after

    def forward(self, x: torch.Tensor) -> Any:
        return self.after(self.conv(x))


class Packed(nn.Module):
    """A recurrent layer on a packed sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


def quantised() -> nn.Module:
    with pytest.warns():  # PyTorch's quantised layers are on their way out
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})


IMAGE = [(2, 3, 8, 8)]
REFUSED = {
    "dataclass": (lambda: Calls(Answer), IMAGE, r"Calls cannot be captured.*a class of its own; return a tensor"),
    "vmap": (lambda: Calls(torch.vmap(torch.sin)), IMAGE, r"\d+\) .*torch\.vmap.*the batch"),
    "item": (
        lambda: Calls(lambda y: y * y.max().item()),
        IMAGE,
        r"\d+\) makes a shape or number that depends",
    ),
    "equal": (
        lambda: Calls(lambda y: y * float(torch.equal(y, y + 1))),
        IMAGE,
        r"\d+\) takes a plain number or a yes or no|depends on the data of a tensor \(an `if`.*`torch\.equal`",
    ),
    "packed": (
        lambda: Packed(),
        [(1, 5, 8)],
        r"a size is computed from the data of a tensor \(the lengths of packed sequences.*on padded sequences",
    ),
    "script": (lambda: torch.jit.script(nn.Conv2d(3, 4, 3)), IMAGE, r"is a TorchScript module, which"),
    "quantised": (quantised, [(1, 8)], r"quantised layers.*before it was quantised, and quantise the result$"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), IMAGE, r"lazy layers.*call the network once"),
    "table": (lambda: nn.Embedding(9, 4), [(1, 12)], r"--input int64:1,12, or example_inputs"),
    "list": (lambda: nn.Flatten(), [(1, 2), (1, 2)], r"takes the inputs \(input\), but 2 shape.*example_inputs = \(\["),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_traced_is_refused_in_plain_words(what: str) -> None:
    make, inputs, message = REFUSED[what]
    with pytest.raises(CaptureError, match=message) as refused:
        capture(make().eval(), inputs=inputs)
    assert not any(word in str(refused.value) for word in ("pytree", "__obj_flatten__", "_add_batch_dim'", "handler"))


def test_a_torchscript_file_is_no_source_but_its_factory_is() -> None:
    with pytest.raises(CaptureError, match=r"net\.jit is a TorchScript file.*file\.py:factory"):
        capture("net.jit")


@pytest.mark.parametrize("where", ["file", "factory", "forward"])
def test_torchvision_may_be_imported_anywhere_though_its_compiled_part_is_not_there(tmp_path: Path, where: str) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text(REGISTERS)
    use = {place: "import torchvision" if place == where else "pass" for place in ("file", "factory", "forward")}
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        f"{use['file']}\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        f"        {use['forward']}\n"
        "        return x.relu()\n"
        "def net():\n"
        f"    {use['factory']}\n"
        "    return Net()\n"
    )
    code = "import instep; print(len(instep.capture('net.py:net', inputs='1,3').graph.nodes))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == "1", run.stderr[-600:]


def test_a_token_that_the_table_has_no_row_for_is_told_with_its_operator() -> None:
    found = capture(nn.Embedding(10, 4).eval(), inputs=[np.array([[1, 2, 3]])])
    with pytest.raises(CaptureError, match=r"aten\.embedding\.default reads an index that has nothing behind it"):
        found.reference.run([np.array([[1, 2, 99]])])
