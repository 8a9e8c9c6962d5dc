"""What is not read, and what to do instead."""

from __future__ import annotations

from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, function, layer

__all__: list[str] = []

_DEPENDS = "the shape of its result depends on the numbers that arrive, and every shape here is known before"
_CODE = "it calls Python functions, which are not in the file; write them out in keras.ops"
_WORDS = "it reads text; look the words up before the network and give it whole numbers"
_HASH = "its hash has no meaning as graph operators; compute it before the network and give it whole numbers"
_ELSE = "it holds a network of another framework; capture that one"
_LOSS = "it is a loss; leave it out of the network that is captured"
_SOLVES = "it has no closed form of fixed length; compute it outside of the network"
_MOVES = "it computes where each pixel comes from; do that before the network"

_FUNCTIONS: dict[str, tuple[str, ...]] = {
    _DEPENDS: ("Unique", "Nonzero", "Bincount", "tf.where_v2", "tf.boolean_mask", "tf.unique", "CTCDecode"),
    _CODE: ("Map", "Scan", "AssociativeScan", "ForiLoop", "WhileLoop", "Cond", "Switch", "VectorizedMap", "JVP"),
    _LOSS: (
        "BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "CTCLoss", "PSNR", "SSIM",
    ),
    _SOLVES: (
        "Cholesky", "CholeskyInverse", "Det", "Slogdet", "Logdet", "Inv", "Solve", "SolveTriangular", "Qr", "SVD",
        "Eig", "Eigh", "Lstsq", "Pinv", "LuFactor", "MatrixRank",
    ),
    _MOVES: ("AffineTransform", "PerspectiveTransform", "ElasticTransform", "MapCoordinates", "ScaleAndTranslate"),
}  # fmt: skip
_LAYERS: dict[str, tuple[str, ...]] = {
    _WORDS: ("StringLookup", "TextVectorization"),
    _HASH: ("Hashing", "HashedCrossing"),
    _ELSE: ("JaxLayer", "FlaxLayer", "TFSMLayer", "TorchModuleWrapper"),
    "its columns are Python objects; use Keras' preprocessing layers": ("DenseFeatures",),
    "it spreads the colours of each picture by its histogram; do that before the network": (
        "Equalization", "ContrastLimitedAdaptiveHistogramEqualization",
    ),
    "it works on boxes beside pictures; do that before the network": ("MaxNumBoundingBoxes",),
}  # fmt: skip


def _refused(reason: str) -> Any:
    def handler(b: Builder, *_: Any, **__: Any) -> Any:
        raise Unsupported(reason)

    return handler


for _reason, _names in _FUNCTIONS.items():
    function(*_names)(_refused(_reason))
for _reason, _names in _LAYERS.items():
    layer(*_names)(_refused(_reason))
