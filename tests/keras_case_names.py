"""The names of what ``keras_cases.py`` builds: that file imports Keras, tests do not."""

CASES = (
    "convolutions", "depthwise", "lines", "transposed", "volumes", "pools", "norms", "activations", "shapes", "joins",
    "attention", "recurrent", "states", "cells", "nested", "sequential", "words", "functions", "products",
)  # fmt: skip

#: Tensors within the config, which Keras cannot write into a .h5 file.
ARCHIVES_ALONE = ("products",)

APPLICATIONS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "NASNetMobile", "Xception",
                "ConvNeXtTiny")  # fmt: skip
