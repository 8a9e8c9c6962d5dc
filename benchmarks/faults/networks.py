"""The networks that faults are planted into: small ones that together use most operators, and some of timm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["OWN", "TIMM", "build"]


class SuperResolution(nn.Module):
    """Residual distillation blocks with spatial attention and a pixel shuffle, in the manner of RLFN and IMDN."""

    shape = (1, 3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        n = 16
        self.head = nn.Conv2d(3, n, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1) for _ in range(3))
        self.split = nn.Conv2d(n, n, 3, padding=1)
        self.narrow, self.stride = nn.Conv2d(n, 8, 1), nn.Conv2d(8, 8, 3, 2)
        self.group, self.skip, self.wide = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, n, 1)
        self.join = nn.Conv2d(n + n // 2, n, 1)
        self.tail = nn.Conv2d(n, 3 * 4, 3, padding=1)
        self.up = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.head(x)
        y = first
        for conv in self.body:
            y = F.leaky_relu(conv(y), 0.05)
        y = y + first
        c = self.narrow(y)
        s = F.max_pool2d(self.stride(c), 5, 2)
        s = F.interpolate(self.group(s), size=x.shape[2:], mode="bilinear", align_corners=False)
        y = y * torch.sigmoid(self.wide(s + self.skip(c)))
        a, b = torch.split(F.leaky_relu(self.split(y), 0.05), 8, 1)
        y = self.join(torch.cat([y, a * 0.5 + b], 1))
        base = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.up(self.tail(y + first)) + base


class Mobile(nn.Module):
    """Inverted residuals with batch norms, squeeze-and-excitation and hard swishes, in the manner of MobileNet v3."""

    shape = (1, 3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList()
        for stride in (1, 2, 1):
            self.blocks.append(nn.ModuleDict({
                "expand": nn.Conv2d(16, 32, 1, bias=False), "bn1": nn.BatchNorm2d(32),
                "depth": nn.Conv2d(32, 32, 3 if stride == 1 else 5, stride, 1 if stride == 1 else 2, groups=32,
                                   bias=False), "bn2": nn.BatchNorm2d(32),
                "reduce": nn.Conv2d(32, 8, 1), "restore": nn.Conv2d(8, 32, 1),
                "project": nn.Conv2d(32, 16, 1, bias=False), "bn3": nn.BatchNorm2d(16),
            }))  # fmt: skip
        self.last, self.bn_last = nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24)
        self.hidden, self.head = nn.Linear(24, 24), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.bn(self.stem(x)))
        for i, b in enumerate(self.blocks):
            y = F.relu(b["bn1"](b["expand"](x)))
            y = F.relu6(b["bn2"](b["depth"](y)) * 3)
            gate = F.hardsigmoid(b["restore"](F.relu(b["reduce"](y.mean((2, 3), keepdim=True)))))
            y = b["bn3"](b["project"](y * gate))
            x = y if i == 1 else x + y
        x = F.silu(self.bn_last(self.last(x))).mean((2, 3))
        return self.head(F.hardswish(self.hidden(x)))


class Attention(nn.Module):
    """Patches, shifted windows, multi-head attention with a mask, and a gelu MLP, in the manner of ViT and Swin."""

    shape = (1, 3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        c = 24
        self.patch = nn.Conv2d(3, c, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 64, c) * 0.3)
        self.mask = nn.Parameter(torch.randn(1, 3, 16, 16) * 2)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c, eps=1e-6), nn.LayerNorm(c)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.fc1, self.fc2 = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)
        self.fc3, self.head = nn.Linear(c, c), nn.Linear(c, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        y = torch.roll(self.norm1(x).view(1, 8, 8, 24), (-2, -1), (1, 2))
        y = y.view(1, 2, 4, 2, 4, 24).permute(0, 1, 3, 2, 4, 5).reshape(4, 16, 24)
        q, k, v = self.qkv(y).reshape(4, 16, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1)) * 8**-0.5 + self.mask
        y = (a.softmax(-1) @ v).transpose(1, 2).reshape(4, 16, 24)
        y = self.proj(y).view(1, 2, 2, 4, 4, 24).permute(0, 1, 3, 2, 4, 5).reshape(1, 8, 8, 24)
        x = x + torch.roll(y, (2, 1), (1, 2)).reshape(1, 64, 24)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        x = x + torch.tanh(self.fc3(x).clamp(-1.5, 1.5))
        return self.head(self.norm3(x).mean(1))


class Pyramid(nn.Module):
    """Down and up again with every kind of pool, pad and resize, in the manner of U-Net and FPN."""

    shape = (1, 3, 30, 30)

    def __init__(self) -> None:
        super().__init__()
        n = 12
        self.head = nn.Conv2d(3, n, 3, padding=1, padding_mode="reflect")
        self.norm, self.bend = nn.GroupNorm(3, n), nn.PReLU(n)
        self.dilated, self.down = nn.Conv2d(n, n, 3, padding=2, dilation=2), nn.Conv2d(n, n, 3, 2, 1)
        self.square = nn.Conv2d(n, n, 1)
        self.up = nn.ConvTranspose2d(n, n, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(n, n, 3, 2, 1, output_padding=1)
        self.bn = nn.BatchNorm2d(n)
        self.instance = nn.InstanceNorm2d(n, affine=True)
        self.tail = nn.Conv2d(3 * n, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.bend(self.norm(self.head(x)))
        b = F.max_pool2d(a, 3, 2, 1)
        b = self.bn(F.elu(self.dilated(b)))
        c = F.avg_pool2d(b, 3, 2, 1, ceil_mode=True, count_include_pad=True)
        c = F.interpolate(self.square(c), size=(15, 15), mode="bicubic")
        d = self.down(a) + c
        d = F.pad(d, (1, 2, 2, 1), value=0.25)[:, :, 1:16, 2:17]
        e = self.up(F.softplus(d))
        f = self.up2(self.instance(b - d))
        g = F.interpolate(F.avg_pool2d(b, 2, 2), size=(30, 30), mode="bilinear", align_corners=True)
        y = torch.cat([e, torch.maximum(f, g), a], 1)
        y = F.interpolate(self.tail(y), size=(15, 15), mode="bilinear", antialias=True)
        return F.interpolate(y, size=(32, 32), mode="nearest-exact")


class Shuffle(nn.Module):
    """Groups, channel shuffles, multipliers, gathers, selections and reductions, in the manner of ShuffleNet."""

    shape = (1, 3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.grouped, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16, eps=1e-3)
        self.multiplied = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.back, self.bn3 = nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16)
        self.register_buffer("index", torch.randperm(16))
        self.register_buffer("scale", torch.rand(1, 16, 1, 1) + 0.5)
        self.square, self.again = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head, self.extra = nn.Linear(64, 12), nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.bn1(self.stem(x)))
        y = F.silu(self.bn2(self.grouped(x)))
        y = y.view(1, 4, 4, 24, 24).transpose(1, 2).reshape(1, 16, 24, 24)
        y = F.leaky_relu(self.bn3(self.back(self.multiplied(y))), 0.1)
        y = y[:, self.index] * self.scale - x
        a, b = y.chunk(2, 1)
        z = torch.cat([b, torch.flip(a, (3,))], 1)
        z = torch.where(z > 0.3, z, self.square(y) / 1.7)
        columns = F.unfold(z[:, :4, 3:21:2, 1:19:2], 3, padding=1).mean(2)
        w = F.pixel_unshuffle(self.again(z), 2)
        top = torch.cat([z.amax((2, 3)), columns.flatten(1)[:, :32], w.mean((2, 3))[:, 5:21]], 1)
        logits = self.extra(F.gelu(self.head(top), approximate="tanh"))
        return F.softmax(logits, 1), z.sum(3)


OWN: dict[str, type[nn.Module]] = {
    "super_resolution": SuperResolution, "mobile": Mobile, "attention": Attention, "pyramid": Pyramid,
    "shuffle": Shuffle,
}  # fmt: skip
#: timm name → input size that keeps the proof short
TIMM: dict[str, int] = {"mobilenetv3_small_050": 64, "resnet10t": 64, "convnext_atto": 64, "regnetx_002": 64}


def build(name: str, seed: int = 0) -> tuple[nn.Module, tuple[int, ...]]:
    """The network in evaluation mode, with statistics and affine weights that say something, and its input shape."""
    torch.manual_seed(seed)
    if name in OWN:
        net: nn.Module = OWN[name]()
        shape = net.shape
    else:
        from instep.capture.torch.timm_zoo import prepare_torchvision

        prepare_torchvision()
        import timm

        net = timm.create_model(name, pretrained=False)
        side = TIMM.get(name, 64)
        shape = (1, 3, side, side)
    assert isinstance(shape, tuple)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.3, 1.5)
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)):
                module.weight.uniform_(0.6, 1.4)
                module.bias.uniform_(-0.3, 0.3)
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(0.05, 0.5)
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not module.weight.any():
                module.weight.normal_(0, 0.05)
    return net.eval(), shape
