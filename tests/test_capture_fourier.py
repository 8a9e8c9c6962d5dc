"""Fourier transforms of fixed sizes are captured as matrix products that give torch.fft's numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import agree  # noqa: E402
from instep.capture import capture  # noqa: E402
from instep.capture.base import CaptureError  # noqa: E402


class Wrapped(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class GlobalFilter(torch.nn.Module):
    """x → irfft2(rfft2(x) · weight), the layer of GFNet (Rao et al., arXiv 2107.00645)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 4, 3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        return torch.fft.irfft2(spectrum * torch.view_as_complex(self.weight), s=(6, 7), dim=(1, 2), norm="ortho")


real = torch.view_as_real
CASES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rfft": lambda x: real(torch.fft.rfft(x)),
    "rfft along rows, orthonormal": lambda x: real(torch.fft.rfft(x, dim=1, norm="ortho")),
    "rfft padded": lambda x: real(torch.fft.rfft(x, n=11)),
    "rfft cut": lambda x: real(torch.fft.rfft(x, n=4, norm="forward")),
    "rfft2": lambda x: real(torch.fft.rfft2(x)),
    "fft of a real signal": lambda x: real(torch.fft.fft(x, dim=2)),
    "fft2 and back": lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real,
    "irfft of odd length": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1) * 2, n=5, dim=1),
    "irfft of even length": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1, norm="ortho"), dim=1, norm="ortho"),
    "magnitude": lambda x: torch.fft.rfft(x).abs(),
    "imaginary part of a product": lambda x: (torch.fft.fft(x) * torch.fft.fft(x, dim=1)).imag,
    "spectrum reordered": lambda x: real(torch.fft.rfft(x).permute(0, 2, 1, 3).reshape(2, 7, -1)),
    "a held complex number": lambda x: real(torch.fft.rfft(x) * torch.polar(torch.ones(4), torch.arange(4.0))),
    "divided, negated, summed": lambda x: real((-torch.fft.fft(x) / (torch.fft.fft(x, dim=1) + 9)).sum(-1)),
    "phase and size": lambda x: real(torch.polar(torch.fft.rfft(x).abs() + 1, x[..., :4].angle())),
    "phase": lambda x: (torch.fft.rfft(x)[..., 1:3] + 2j).angle(),
    "exponential": lambda x: real((torch.fft.rfft(x) / 9).exp()),
    "parts moved": lambda x: real(torch.cat(torch.fft.fft(x).flip(-1).roll(2, 1).chunk(2, 1), -1).mean(1)[:, 0]),
}

CASES |= {
    "imaginary part of a conjugate": lambda x: torch.fft.fft(x).conj().imag,
    "turned by the signal": lambda x: torch.exp(1j * x).real,
    "real by complex numbers": lambda x: real((x + 2j) * (1 - 1j) / 2j - x / (x + 3j)),
    "complex matrices": lambda x: real(torch.fft.fft(x)[0] @ torch.fft.fft(x).transpose(1, 2)),
    "a sum over three": lambda x: real(
        torch.einsum("...ij,jk,...lk->...il", torch.fft.fft(x), x[0].T @ x[0] / 99 + 0j, torch.fft.fft(x) / 9)
    ),
    "parts filled": lambda x: real(filled(torch.fft.fft(x))),
    "chosen and stacked": lambda x: real(torch.stack([torch.where(x > 0, torch.fft.fft(x), 1j * x), x + 0j], 2)),
}


def filled(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, 1:3] = x[:, :2] * 2j
    y[:, 4] += x[:, 5, :1]
    y[..., -1] = 3.0
    return y + x.new_full((7,), 1 + 2j)


@pytest.mark.parametrize("name", CASES)
def test_transform_is_the_one_of_torch(name: str) -> None:
    shape = (2, 6, 7, 4) if name == "spectrum reordered" else (2, 6, 7)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    graph = capture(Wrapped(CASES[name]), inputs=[x.float()]).graph
    (got,) = graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, CASES[name](x).resolve_neg().numpy(), rtol=0, atol=2e-6)


def test_global_filter_with_a_complex_parameter() -> None:
    torch.manual_seed(0)
    module = GlobalFilter()
    x = torch.randn(2, 6, 7, 3)
    graph = capture(module, inputs=[x]).graph
    (got,) = graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=0, atol=2e-6)


class SpectralConvolution(torch.nn.Module):
    """The lowest frequencies times a complex matrix each, zero above (Li et al., arXiv 2010.08895)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 5, 4, dtype=torch.cfloat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(x)
        low = torch.zeros(x.shape[0], 5, spectrum.shape[-1], dtype=torch.cfloat)
        low[:, :, :4] = torch.einsum("bix,iox->box", spectrum[:, :, :4], self.weight)
        return torch.fft.irfft(low, n=x.shape[-1])


def test_a_spectral_convolution_takes_one_product_of_matrices() -> None:
    torch.manual_seed(0)
    captured = agree(SpectralConvolution(), [(2, 3, 16)], rtol=1e-6)
    assert [n.op.name for n in captured.graph.nodes].count("MatMul") == 1


def test_the_reference_reads_values_that_pytorch_negates_later() -> None:
    agree(Wrapped(lambda x: torch.fft.fft(x).conj().imag), [(2, 3, 16)], rtol=1e-6)


STFT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda x: real(torch.stft(x, 32, return_complex=True, window=torch.hann_window(32))),
    "no window": lambda x: real(torch.stft(x, 16, 5, return_complex=True, center=False)),
    "window in the middle": lambda x: real(
        torch.stft(x, 33, 8, 20, torch.hamming_window(20), return_complex=True, normalized=True, pad_mode="constant")
    ),
    "both sides": lambda x: real(torch.stft(x, 16, 8, onesided=False, return_complex=True)),
    "padded by the operator": lambda x: torch.ops.aten.stft.center(
        x, 32, 8, None, None, True, "replicate", False, None, False
    ),
    "one signal": lambda x: torch.stft(x[0], 32, 16, return_complex=True).abs(),
    "and back": lambda x: torch.istft(
        torch.stft(x, 32, 8, window=torch.hann_window(32), return_complex=True), 32, 8, window=torch.hann_window(32)
    ),
    "and back to a length": lambda x: torch.istft(
        torch.stft(x, 32, 8, 20, normalized=True, return_complex=True) * 1j, 32, 8, 20, normalized=True, length=150
    ),
    "and back from both sides": lambda x: torch.istft(
        torch.stft(x, 16, 4, onesided=False, return_complex=True), 16, 4, onesided=False, length=x.shape[-1]
    ),
}


@pytest.mark.parametrize("name", STFT)
def test_short_time_transforms_are_one_convolution(name: str) -> None:
    x = torch.randn(2, 160, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    graph = capture(Wrapped(STFT[name]), inputs=[x.float()]).graph
    assert all(n.op.name != "Gather" and n.output.rank <= 4 for n in graph.nodes)
    (got,) = graph.run([x.numpy()], keep=[]).values()
    truth = STFT[name](x.float()).numpy()
    np.testing.assert_allclose(got, truth, rtol=0, atol=1e-5 * np.abs(truth).max())


class Rotary(torch.nn.Module):
    """Turns the channels of each token by an angle of its place, held as a complex buffer (RoFormer, LLaMA)."""

    def __init__(self) -> None:
        super().__init__()
        turns = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1, 0.01]))
        self.register_buffer("turns", torch.polar(torch.ones_like(turns), turns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return real(torch.view_as_complex(x.reshape(2, 5, 3, 2)) * self.turns).flatten(2)


def test_complex_buffer_keeps_both_parts() -> None:
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    module = Rotary()
    (got,) = capture(module, inputs=[x]).graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, module(x).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (torch.fft.fft, "it is complex"),
        (lambda x: torch.fft.rfft(x).tan().real, "known for real ones only"),
    ],
)
def test_refusal_of_complex_numbers_says_so(function: Callable[..., torch.Tensor], why: str) -> None:
    with pytest.raises(CaptureError, match=why):
        capture(Wrapped(function), inputs=[torch.randn(2, 3, 4)])
