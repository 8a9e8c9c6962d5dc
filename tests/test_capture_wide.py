"""The float64 forms of slow operators are PyTorch's own operators."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from instep.capture.torch.wide import depthwise, in_double  # noqa: E402

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(13, 19), st.integers(13, 19)),
    channels=st.integers(2, 5),
    batch=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_shifted_products_are_pytorchs_depthwise_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int],
    size: tuple[int, int], channels: int, batch: int, bias: bool, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    x, w, b = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((batch, channels, *size), (channels, 1, *kernel), (channels,))
    )
    b = b if bias else None
    theirs = torch.nn.functional.conv2d(x, w, b, stride, padding, dilation, channels)
    torch.testing.assert_close(depthwise(x, w, b, stride, padding, dilation), theirs, rtol=1e-12, atol=1e-12)
    conv2d = torch.ops.aten.conv2d.default
    torch.testing.assert_close(
        in_double(conv2d)(x, w, b, stride, padding, dilation, channels), theirs, rtol=1e-12, atol=1e-12
    )


def test_other_convolutions_are_left_to_pytorch() -> None:
    x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    conv2d = torch.ops.aten.conv2d.default
    for outputs, groups in ((4, 1), (8, 4), (6, 2)):
        w = torch.randn(outputs, 4 // groups, 3, 3, dtype=torch.float64)
        given = (x, w, None, [1], [1], [1], groups)
        assert torch.equal(in_double(conv2d)(*given), conv2d(*given))
    assert in_double(torch.ops.aten.silu.default) is torch.ops.aten.silu.default
