"""torchvision, where its compiled part does not load.

Its Python side describes two operators of the compiled one and fails without them ("operator torchvision::nms does not
exist"), whoever imports it and wherever: at the top of a user's file, in a factory, in forward(). The operators are
declared just before that, and those that can be said in PyTorch's own mean that.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["prepare_torchvision"]

#: The module of torchvision that asks for the operators; it is imported after the compiled part was tried.
_ASKS = "torchvision._meta_registrations"
#: The modules that call the operators, once they have asked whether there are any.
_CALLS = "torchvision.ops"
#: The arguments and results of the operators of torchvision's compiled part.
_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "deform_conv2d": "(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "ps_roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio) -> (Tensor, Tensor)",
    "roi_pool": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "ps_roi_pool": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
}
_library: list[Any] = []


class _Declares(MetaPathFinder):
    """Finds nothing; looks on as modules are imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == _ASKS and not _library:
            _declare()
        if fullname == _CALLS and _library:
            sys.modules["torchvision.extension"]._has_ops = lambda: True  # type: ignore[attr-defined]


def _declare() -> None:
    import torch

    from instep.capture.torch.definitions import definition

    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _library.append(library)
    library.define("_cuda_version() -> int")
    library.impl("_cuda_version", lambda: -1, "CompositeImplicitAutograd")  # built without CUDA
    for name in missing:
        library.define(name + _SCHEMAS[name])
        meaning = definition(f"torchvision.{name}.default")
        if meaning is not None:
            library.impl(name, meaning, "CompositeImplicitAutograd")
        elif "nms" in name:
            library.impl(name, _absent(name), "CPU")  # torchvision says itself what its result is like
        else:
            library.impl(name, _absent(name), "CompositeImplicitAutograd")


def _absent(name: str) -> Any:
    def refuse(*_: Any) -> Any:
        raise NotImplementedError(
            f"torchvision.ops.{name} needs torchvision's compiled part, which does not load here, and Instep has no "
            "other meaning of it (it has of deform_conv2d, roi_align and ps_roi_align)"
        )

    return refuse


def prepare_torchvision() -> None:
    """See to it that every later import of torchvision finds its operators. Imports nothing."""
    if not any(isinstance(finder, _Declares) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Declares())
