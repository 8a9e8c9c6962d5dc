"""The names of what ``keras_cases.py`` builds: that file imports Keras, tests do not."""

CASES = (
    "convolutions", "depthwise", "lines", "transposed", "volumes", "pools", "norms", "activations", "shapes", "joins",
    "attention", "recurrent", "nested", "sequential", "words", "functions",
)  # fmt: skip

APPLICATIONS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "NASNetMobile", "Xception",
                "ConvNeXtTiny")  # fmt: skip
