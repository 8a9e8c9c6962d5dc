"""Vision networks of the transformers library, made from small configurations with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from instep.capture.torch.timm_zoo import prepare_torchvision

__all__ = ["FACTORIES", "Picked"]


class Picked(torch.nn.Module):
    """``network(pixel_values)`` reduced to the tensors named by ``fields``, so that every tool sees plain tensors."""

    def __init__(self, network: torch.nn.Module, input_shape: tuple[int, ...], fields: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.input_shape = input_shape
        self.fields = fields

    def forward(self, pixel_values: torch.Tensor) -> Any:
        result = self.network(pixel_values)
        picked = tuple(getattr(result, name) for name in self.fields)
        return picked[0] if len(picked) == 1 else picked


def make(
    config: str, network: str, size: int, options: dict[str, Any], fields: tuple[str, ...], channels: int = 3
) -> Callable[[], torch.nn.Module]:
    """A factory of ``transformers.<network>(transformers.<config>(**options))`` for images of size × size."""

    def factory() -> torch.nn.Module:
        prepare_torchvision()
        transformers: Any = importlib.import_module("transformers")
        settings = getattr(transformers, config)(**{"num_labels": 10} | options)
        settings._attn_implementation = "sdpa" if getattr(settings, "_attn_implementation", None) else "eager"
        return Picked(getattr(transformers, network)(settings), (1, channels, size, size), fields)

    return factory


LOGITS = ("logits",)
HIDDEN = ("last_hidden_state",)
#: A small plain vision transformer.
VIT: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "image_size": 96,
    "patch_size": 16,
}
#: A small hierarchical (window) transformer.
SWIN: dict[str, Any] = {"image_size": 96, "embed_dim": 32, "depths": [2, 2, 2], "num_heads": [2, 4, 8]}

#: name → factory
FACTORIES: dict[str, Callable[[], torch.nn.Module]] = {
    "vit": make("ViTConfig", "ViTForImageClassification", 96, VIT, LOGITS),
    "vit-features": make("ViTConfig", "ViTModel", 96, VIT, ("last_hidden_state", "pooler_output")),
    "vit-msn": make("ViTMSNConfig", "ViTMSNForImageClassification", 96, VIT, LOGITS),
    "deit": make("DeiTConfig", "DeiTForImageClassificationWithTeacher", 96, VIT, LOGITS),
    "beit": make("BeitConfig", "BeitForImageClassification", 96, VIT, LOGITS),
    "data2vec": make("Data2VecVisionConfig", "Data2VecVisionForImageClassification", 96, VIT, LOGITS),
    "dinov2": make(
        "Dinov2Config", "Dinov2ForImageClassification", 98, VIT | {"image_size": 98, "patch_size": 14}, LOGITS
    ),
    "dinov2-registers": make(
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersForImageClassification",
        98,
        VIT | {"image_size": 98, "patch_size": 14},
        LOGITS,
    ),
    "ijepa": make("IJepaConfig", "IJepaForImageClassification", 96, VIT, LOGITS),
    "yolos": make(
        "YolosConfig",
        "YolosForObjectDetection",
        96,
        VIT | {"image_size": [96, 96], "num_detection_tokens": 10},
        ("logits", "pred_boxes"),
    ),
    "clip-vision": make("CLIPVisionConfig", "CLIPVisionModel", 96, VIT, ("last_hidden_state", "pooler_output")),
    "siglip-vision": make("SiglipVisionConfig", "SiglipVisionModel", 96, VIT, ("last_hidden_state", "pooler_output")),
    "dpt": make(
        "DPTConfig",
        "DPTForSemanticSegmentation",
        96,
        VIT
        | {
            "is_hybrid": False,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [24, 32, 48, 64],
            "fusion_hidden_size": 32,
            "reassemble_factors": [4, 2, 1, 0.5],
        },
        LOGITS,
    ),
    "swin": make("SwinConfig", "SwinForImageClassification", 96, SWIN | {"window_size": 3}, LOGITS),
    "swinv2": make("Swinv2Config", "Swinv2ForImageClassification", 96, SWIN | {"window_size": 3}, LOGITS),
    "swin2sr": make(
        "Swin2SRConfig",
        "Swin2SRForImageSuperResolution",
        32,
        {
            "image_size": 32,
            "embed_dim": 36,
            "depths": [2, 2],
            "num_heads": [4, 4],
            "window_size": 4,
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
        ("reconstruction",),
    ),
    "focalnet": make(
        "FocalNetConfig", "FocalNetForImageClassification", 96, {"image_size": 96, "embed_dim": 24}, LOGITS
    ),
    "hiera": make(
        "HieraConfig",
        "HieraForImageClassification",
        96,
        {"image_size": [96, 96], "embed_dim": 24, "depths": [1, 2, 3, 1]},
        LOGITS,
    ),
    "convnext": make(
        "ConvNextConfig",
        "ConvNextForImageClassification",
        96,
        {"hidden_sizes": [24, 48, 96, 192], "depths": [2, 2, 3, 2]},
        LOGITS,
    ),
    "convnextv2": make(
        "ConvNextV2Config",
        "ConvNextV2ForImageClassification",
        96,
        {"hidden_sizes": [24, 48, 96, 192], "depths": [2, 2, 3, 2]},
        LOGITS,
    ),
    "cvt": make("CvtConfig", "CvtForImageClassification", 96, {"embed_dim": [16, 48, 96], "depth": [1, 2, 3]}, LOGITS),
    "levit": make("LevitConfig", "LevitForImageClassification", 224, {"hidden_sizes": [64, 128, 192]}, LOGITS),
    "mobilevit": make(
        "MobileViTConfig",
        "MobileViTForImageClassification",
        128,
        {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "image_size": 128},
        LOGITS,
    ),
    "mobilevit-segmentation": make(
        "MobileViTConfig",
        "MobileViTForSemanticSegmentation",
        128,
        {
            "hidden_sizes": [64, 80, 96],
            "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
            "image_size": 128,
            "aspp_out_channels": 32,
            "atrous_rates": [2, 4, 6],
        },
        LOGITS,
    ),
    "mobilevitv2": make(
        "MobileViTV2Config",
        "MobileViTV2ForImageClassification",
        128,
        {"image_size": 128, "width_multiplier": 0.5},
        LOGITS,
    ),
    "mobilenet-v1": make("MobileNetV1Config", "MobileNetV1ForImageClassification", 128, {"image_size": 128}, LOGITS),
    "mobilenet-v2": make("MobileNetV2Config", "MobileNetV2ForImageClassification", 128, {"image_size": 128}, LOGITS),
    "mobilenet-v2-segmentation": make(
        "MobileNetV2Config",
        "MobileNetV2ForSemanticSegmentation",
        129,
        {"image_size": 129, "depth_multiplier": 0.5, "output_stride": 16},
        LOGITS,
    ),
    "resnet": make(
        "ResNetConfig",
        "ResNetForImageClassification",
        96,
        {"embedding_size": 32, "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1]},
        LOGITS,
    ),
    "regnet": make(
        "RegNetConfig",
        "RegNetForImageClassification",
        96,
        {"hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 2, 1], "groups_width": 16},
        LOGITS,
    ),
    "bit": make(
        "BitConfig",
        "BitForImageClassification",
        96,
        {"embedding_size": 32, "hidden_sizes": [64, 128, 192, 256], "depths": [1, 1, 1, 1], "num_groups": 8},
        LOGITS,
    ),
    "efficientnet": make(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        96,
        {"image_size": 96, "width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
        LOGITS,
    ),
    "poolformer": make(
        "PoolFormerConfig",
        "PoolFormerForImageClassification",
        96,
        {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1]},
        LOGITS,
    ),
    "pvt": make(
        "PvtConfig",
        "PvtForImageClassification",
        96,
        {
            "image_size": 96,
            "hidden_sizes": [16, 32, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        LOGITS,
    ),
    "pvt-v2": make(
        "PvtV2Config",
        "PvtV2ForImageClassification",
        96,
        {
            "image_size": 96,
            "hidden_sizes": [16, 32, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        LOGITS,
    ),
    "segformer": make(
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        128,
        {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 1, 1], "decoder_hidden_size": 64},
        LOGITS,
    ),
    "glpn": make(
        "GLPNConfig",
        "GLPNForDepthEstimation",
        96,
        {
            "hidden_sizes": [16, 32, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "decoder_hidden_size": 32,
        },
        ("predicted_depth",),
    ),
    "swiftformer": make(
        "SwiftFormerConfig",
        "SwiftFormerForImageClassification",
        96,
        {"embed_dims": [24, 32, 64, 96], "depths": [2, 2, 2, 2]},
        LOGITS,
    ),
    "pp-lcnet": make("PPLCNetConfig", "PPLCNetForImageClassification", 96, {"scale": 0.5}, HIDDEN),
    "hgnet-v2": make("HGNetV2Config", "HGNetV2ForImageClassification", 96, {}, LOGITS),
    "textnet": make("TextNetConfig", "TextNetForImageClassification", 96, {"image_size": [96, 96]}, LOGITS),
}
