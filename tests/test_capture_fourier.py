"""Fourier transforms of fixed sizes are captured as matrix products that give torch.fft's numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from instep.capture import capture  # noqa: E402


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
}


@pytest.mark.parametrize("name", CASES)
def test_transform_is_the_one_of_torch(name: str) -> None:
    shape = (2, 6, 7, 4) if name == "spectrum reordered" else (2, 6, 7)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    graph = capture(Wrapped(CASES[name]), inputs=[x.float()]).graph
    (got,) = graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, CASES[name](x).numpy(), rtol=0, atol=2e-6)


def test_global_filter_with_a_complex_parameter() -> None:
    torch.manual_seed(0)
    module = GlobalFilter()
    x = torch.randn(2, 6, 7, 3)
    graph = capture(module, inputs=[x]).graph
    (got,) = graph.run([x.numpy()], keep=[]).values()
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=0, atol=2e-6)
