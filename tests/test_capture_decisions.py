"""What forward() decides on constants is decided when it is traced; what it decides on data is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from capture_helpers import agree  # noqa: E402
from instep.capture import CaptureError, capture  # noqa: E402

X = [1, 3, 4]


class Deciding(torch.nn.Module):
    """forward(x) is ``function(self, x)``, with a buffer ``steps``, a parameter ``scale`` and a plain tensor."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor([1, 3]))
        self.scale = torch.nn.Parameter(torch.tensor([2.0, 0.5]))
        self.plain = torch.tensor([4, 5])
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def literal(net: Any, x: Any) -> Any:
    std = torch.as_tensor([0.5, 0.25, 2.0], dtype=x.dtype)
    if (std == 0).any():
        raise ValueError("std evaluates to zero")
    return x / std.view(-1, 1)


def truth_of_buffer(net: Any, x: Any) -> Any:
    return x * 2 if net.steps[0] > 0 and not net.steps[1] < 2 else x


def number_of_parameter(net: Any, x: Any) -> Any:
    return x * net.scale[0].item() if net.scale.max() > 1 else x


def list_of_buffer(net: Any, x: Any) -> Any:
    first, last = net.steps.tolist()
    return x[..., first:last]


def int_of_plain(net: Any, x: Any) -> Any:
    return x + int(net.plain[1]) + float(net.plain.sum())


def sizes(net: Any, x: Any) -> Any:
    return x.reshape(tuple((torch.tensor(x.shape).flip(0) * 1).tolist()))


def compared(net: Any, x: Any) -> Any:
    same = torch.equal(net.steps, torch.tensor([1, 3])) and torch.allclose(net.scale, torch.tensor([2.0, 0.5]))
    return x.neg() if same and not torch.equal(net.steps, net.plain) else x


def written(net: Any, x: Any) -> Any:
    """Writes through views count, and those that come later do not."""
    table = torch.zeros(2, 3)
    table[1].fill_(7)
    before = table.sum()
    table[0, 2] = 1
    after = table.sum()
    table.add_(1)
    return x * 2 if before == 21 and after == 22 and table[0, 2] == 2 else x


def in_numpy(net: Any, x: Any) -> Any:
    return x * float(net.scale.detach().numpy().sum())


@pytest.mark.parametrize(
    "function",
    [
        literal, truth_of_buffer, number_of_parameter, list_of_buffer, int_of_plain, sizes, compared, written, in_numpy,
    ],
)  # fmt: skip
def test_a_decision_on_constants_is_the_one_that_pytorch_makes(function: Callable[..., Any]) -> None:
    agree(Deciding(function), [X])


def test_a_note_says_what_was_decided_from_what_training_could_change() -> None:
    notes = capture(Deciding(list_of_buffer), inputs=[X]).notes
    line = list_of_buffer.__code__.co_firstlineno + 1
    assert f"decided at conversion from 'steps' at tests/test_capture_decisions.py:{line}: 1, 3" in notes
    assert not any("decided" in note for note in capture(Deciding(literal), inputs=[X]).notes)


def test_pytorchs_decoder_compares_its_mask_with_a_causal_one() -> None:
    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)
            self.register_buffer("mask", torch.nn.Transformer.generate_square_subsequent_mask(5))

        def forward(self, target: Any, memory: Any) -> Any:
            return self.layers(target, memory, tgt_mask=self.mask)

    captured = capture(Decoder().eval(), inputs=[[1, 5, 8], [1, 6, 8]])
    assert any("from 'mask'" in note for note in captured.notes)


def on_input(net: Any, x: Any) -> Any:
    return x * 2 if x.mean() > 0 else x


def on_written_buffer(net: Any, x: Any) -> Any:
    table = torch.zeros(3)
    table[1] = x.mean()
    return x * 2 if table[0] > 0 else x


def on_number(net: Any, x: Any) -> Any:
    return x * x.max().item()


@pytest.mark.parametrize("function", [on_input, on_written_buffer, on_number])
def test_a_decision_on_data_is_refused_with_its_line(function: Callable[..., Any]) -> None:
    with pytest.raises(CaptureError, match=r"test_capture_decisions\.py:\d+.*depends on the data") as caught:
        capture(Deciding(function), inputs=[X])
    first = function.__code__.co_firstlineno
    assert any(f":{first + i}" in str(caught.value) for i in range(1, 5))


def test_a_decision_on_random_numbers_is_refused_as_what_it_is() -> None:
    with pytest.raises(CaptureError, match=r"test_capture_decisions\.py:\d+.* on a constant .*random numbers"):
        capture(Deciding(lambda net, x: x * 2 if torch.rand(1) > 0.5 else x), inputs=[X])
