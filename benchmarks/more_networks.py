"""Networks of further libraries with random weights: torchvision, more of timm, image restoration, segmentation.

Each entry is a name, how the network is made, and the shapes of its inputs: small pictures, and of the larger networks
a few blocks. spandrel, segmentation-models-pytorch and pytorchcv are installed without their dependencies:
``pip install --no-deps spandrel segmentation-models-pytorch pytorchcv``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from instep.capture.torch.timm_zoo import prepare_torchvision

__all__ = ["LIBRARIES", "TIMM_MORE", "Entry"]

_LISTS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "more_networks.json").read_text())
TIMM_MORE: list[str] = _LISTS["timm-more"]
#: name → side of the picture
PYTORCHCV: dict[str, int] = _LISTS["pytorchcv"]
#: name, module of spandrel.architectures, class, shape of the picture, arguments
RESTORERS: list[tuple[str, str, str, list[int], dict[str, Any]]] = _LISTS["restoration"]

#: (name, factory, shapes of the inputs)
Entry = tuple[str, Callable[[], torch.nn.Module], tuple[tuple[int, ...], ...]]


class Part(torch.nn.Module):
    """``part(network, *inputs)``: what of a network a file is to compute."""

    def __init__(self, network: torch.nn.Module, part: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self.part = part

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.part(self.network, *inputs)


# -- torchvision -----------------------------------------------------------------------------------------------------
#: name → side of the picture, and arguments of ``torchvision.models.get_model``
CLASSIFIERS: dict[str, tuple[int, dict[str, Any]]] = {
    **dict.fromkeys(
        ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg11_bn", "densenet121", "squeezenet1_0",
         "squeezenet1_1", "mnasnet0_5", "mnasnet1_3", "shufflenet_v2_x0_5", "shufflenet_v2_x1_5", "regnet_x_400mf",
         "regnet_y_400mf", "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny", "mobilenet_v2",
         "mobilenet_v3_small", "mobilenet_v3_large", "swin_t", "swin_v2_t"),
        (96, {}),
    ),
    "alexnet": (128, {}),
    "googlenet": (96, {"init_weights": False, "aux_logits": False}),
    "inception_v3": (139, {"init_weights": False, "aux_logits": False}),
    "maxvit_t": (224, {}),
    "vit_b_32": (64, {"image_size": 64}),
}  # fmt: skip
SEGMENTERS = {"lraspp_mobilenet_v3_large": 96, "deeplabv3_mobilenet_v3_large": 96, "fcn_resnet50": 64,
              "deeplabv3_resnet50": 64}  # fmt: skip
#: Without anchors, decoding and suppression of boxes.
DETECTORS = {"ssdlite320_mobilenet_v3_large": 160, "ssd300_vgg16": 300, "retinanet_resnet50_fpn": 64,
             "retinanet_resnet50_fpn_v2": 64, "fcos_resnet50_fpn": 64}  # fmt: skip
#: Volumetric: their tensors have five axes.
VIDEO = {"r3d_18": (8, 56), "mc3_18": (8, 56), "r2plus1d_18": (8, 56), "s3d": (16, 224), "mvit_v1_b": (16, 224),
         "swin3d_t": (8, 64)}  # fmt: skip


def _made(family: str, name: str, **options: Any) -> torch.nn.Module:
    prepare_torchvision()
    models: Any = importlib.import_module("torchvision.models")
    for part in filter(None, family.split(".")):
        models = getattr(models, part)
    return getattr(models, name)(weights=None, **options)


def _detector(name: str) -> torch.nn.Module:
    network = _made("detection", name, weights_backbone=None)
    return Part(network, lambda whole, x: whole.head(list(whole.backbone(x).values())))


def _segmenter(name: str) -> torch.nn.Module:
    return Part(_made("segmentation", name, weights_backbone=None), lambda whole, x: whole(x)["out"])


def _flow() -> torch.nn.Module:
    network = _made("optical_flow", "raft_small")
    return Part(network, lambda whole, first, second: whole(first, second, num_flow_updates=2)[-1])


def video() -> Iterator[Entry]:
    """torchvision's networks of clips."""
    for name, (frames, side) in VIDEO.items():
        yield name, lambda name=name: _made("video", name), ((1, 3, frames, side, side),)


def torchvision() -> Iterator[Entry]:
    """torchvision's networks of pictures."""
    for name, (side, options) in CLASSIFIERS.items():
        yield name, lambda name=name, options=options: _made("", name, **options), ((1, 3, side, side),)
    for name, side in SEGMENTERS.items():
        yield name, lambda name=name: _segmenter(name), ((1, 3, side, side),)
    for name, side in DETECTORS.items():
        yield name, lambda name=name: _detector(name), ((1, 3, side, side),)
    yield "raft_small", _flow, ((1, 3, 128, 128), (1, 3, 128, 128))


# -- image restoration -----------------------------------------------------------------------------------------------
def spandrel() -> Iterator[Entry]:
    """Super-resolution, denoising and low-light networks as spandrel builds them."""

    def make(module: str, kind: str, options: dict[str, Any]) -> torch.nn.Module:
        prepare_torchvision()
        return getattr(importlib.import_module(f"spandrel.architectures.{module}"), kind)(**options)

    for name, module, kind, shape, options in RESTORERS:
        shapes = (tuple(shape), (1, 1, *shape[2:])) if name == "lama" else (tuple(shape),)
        yield name, lambda m=module, k=kind, o=options: make(m, k, o), shapes


# -- segmentation-models-pytorch -------------------------------------------------------------------------------------
def segmentation() -> Iterator[Entry]:
    """The decoders of segmentation-models-pytorch on small encoders."""

    def make(decoder: str, encoder: str, options: dict[str, Any]) -> torch.nn.Module:
        prepare_torchvision()
        library: Any = importlib.import_module("segmentation_models_pytorch")
        return getattr(library, decoder)(encoder, encoder_weights=None, classes=4, **options)

    rows: list[tuple[str, str, int, dict[str, Any]]] = [
        (decoder, "mobilenet_v2", 96, {})
        for decoder in ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus",
                        "UPerNet", "Segformer")
    ]  # fmt: skip
    rows += [
        ("PAN", "mobilenet_v2", 128, {}),
        ("Unet", "mit_b0", 96, {}),
        ("Unet", "resnet18", 96, {"decoder_attention_type": "scse"}),
        ("DPT", "tu-vit_tiny_patch16_224", 224, {"dynamic_img_size": False}),
    ]
    for decoder, encoder, side, options in rows:
        name = decoder.lower() if encoder == "mobilenet_v2" else f"{decoder.lower()}-{encoder}"
        yield name, lambda d=decoder, e=encoder, o=options: make(d, e, o), ((1, 3, side, side),)


# -- pytorchcv -------------------------------------------------------------------------------------------------------
def pytorchcv() -> Iterator[Entry]:
    """Classifiers, segmenters and pose estimators of pytorchcv."""

    def make(name: str, side: int) -> torch.nn.Module:
        prepare_torchvision()
        library: Any = importlib.import_module("pytorchcv.model_provider")
        sized = {} if side == 224 else {"in_size": (side, side)}
        return library.get_model(name, pretrained=False, **sized)

    for name, side in PYTORCHCV.items():
        yield name, lambda n=name, s=side: make(n, s), ((1, 3, side, side),)


#: suite → its networks
LIBRARIES: dict[str, Callable[[], Iterator[Entry]]] = {
    "torchvision": torchvision,
    "torchvision-video": video,
    "restoration": spandrel,
    "segmentation": segmentation,
    "pytorchcv": pytorchcv,
}
