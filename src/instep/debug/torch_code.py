"""TFLite operators as PyTorch source code, one table entry each: the twin that a bug report brings along.

Values keep the file's layout (channels last); what PyTorch computes channels first is moved there and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.runtime import OpInfo, TFLiteInfo

__all__ = ["OPERATORS", "PRELUDE", "NoTwin", "statement"]

#: What the generated module starts with.
PRELUDE = '''
def channels_last(function, x):
    """``function`` works channels first; ``x`` and the result have their channels last."""
    return function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def padded(x, top, bottom, left, right, value=0.0):
    """Rows and columns added around an image whose channels are last; below zero they are taken away."""
    return F.pad(x, (0, 0, left, right, top, bottom), value=value)


def depth_to_space(x, size):
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, size, size, c // size**2).permute(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h * size, w * size, c // size**2)


def space_to_depth(x, size):
    n, h, w, c = x.shape
    y = x.reshape(n, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h // size, w // size, c * size**2)
'''


class NoTwin(ValueError):
    """An operator that the table does not have, or not in this form; the message is part of a sentence."""


@dataclass
class _Op:
    """One operator with the names that its operands have in the code."""

    info: TFLiteInfo
    op: OpInfo
    names: dict[int, str]

    def __getitem__(self, number: int) -> str:
        return self.names[self.op.inputs[number]]

    @property
    def count(self) -> int:
        return len([i for i in self.op.inputs if i >= 0])

    def has(self, number: int) -> bool:
        return len(self.op.inputs) > number and self.op.inputs[number] >= 0

    def shape(self, number: int) -> list[int]:
        return list(self.info.tensors[self.op.inputs[number]].shape)

    @property
    def out(self) -> list[int]:
        return list(self.info.tensors[self.op.outputs[0]].shape)

    def option(self, name: str, default: Any = 0) -> Any:
        return getattr(self.op.options, name, default) if self.op.options is not None else default

    def fixed(self, number: int) -> list[Any]:
        """A constant operand's numbers."""
        array = self.info.constant(self.op.inputs[number])
        if array is None:
            if self.info.tensors[self.op.inputs[number]].shape == (0,):
                return []
            raise NoTwin(f"{self.op.name} with an operand {number} that is computed")
        return array.ravel().tolist()

    @property
    def activation(self) -> str:
        kinds = {0: "{}", 1: "F.relu({})", 2: "torch.clamp({}, -1, 1)", 3: "F.relu6({})", 4: "torch.tanh({})"}
        found = kinds.get(self.option("fusedActivationFunction"))
        if found is None:
            raise NoTwin(f"{self.op.name} with activation {self.option('fusedActivationFunction')}")
        return found


#: Operators whose code gives one value for each part.
_SEVERAL = frozenset(("SPLIT", "SPLIT_V", "UNPACK"))
_TABLE: dict[str, Callable[[_Op], str]] = {}


def _code(*names: str) -> Callable[[Callable[[_Op], str]], Callable[[_Op], str]]:
    def register(function: Callable[[_Op], str]) -> Callable[[_Op], str]:
        _TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def statement(info: TFLiteInfo, op: OpInfo, names: dict[int, str]) -> str:
    """The expression that computes ``op``'s outputs (a tuple where there are several). NoTwin where there is none."""
    function = _TABLE.get(op.name)
    if function is None:
        raise NoTwin(op.name)
    code = function(_Op(info, op, names))
    return f"{code}[0]" if op.name in _SEVERAL and len(op.outputs) == 1 else code


# -- element by element ----------------------------------------------------------------------------------------------
_UNARY = {
    "RELU": "F.relu({})", "RELU6": "F.relu6({})", "RELU_N1_TO_1": "torch.clamp({}, -1, 1)", "ELU": "F.elu({})",
    "RELU_0_TO_1": "torch.clamp({}, 0, 1)", "TANH": "torch.tanh({})", "LOGISTIC": "torch.sigmoid({})",
    "EXP": "torch.exp({})", "LOG": "torch.log({})", "SQRT": "torch.sqrt({})", "RSQRT": "torch.rsqrt({})",
    "ABS": "torch.abs({})", "NEG": "-{}", "SIN": "torch.sin({})", "COS": "torch.cos({})", "FLOOR": "torch.floor({})",
    "SQUARE": "torch.square({})", "CEIL": "torch.ceil({})", "ROUND": "torch.round({})", "SIGN": "torch.sign({})",
    "HARD_SWISH": "F.hardswish({})", "LOGICAL_NOT": "torch.logical_not({})", "LOG_SOFTMAX": "F.log_softmax({}, -1)",
    "DEQUANTIZE": "{}.float()",
}  # fmt: skip
_BINARY = {
    "ADD": "{} + {}", "SUB": "{} - {}", "MUL": "{} * {}", "DIV": "{} / {}", "POW": "torch.pow({}, {})",
    "MAXIMUM": "torch.maximum({}, {})", "MINIMUM": "torch.minimum({}, {})", "FLOOR_DIV": "torch.floor({} / {})",
    "FLOOR_MOD": "torch.remainder({}, {})", "SQUARED_DIFFERENCE": "torch.square({} - {})", "LESS": "{} < {}",
    "GREATER": "{} > {}", "LESS_EQUAL": "{} <= {}", "GREATER_EQUAL": "{} >= {}", "EQUAL": "{} == {}",
    "NOT_EQUAL": "{} != {}", "LOGICAL_AND": "torch.logical_and({}, {})", "LOGICAL_OR": "torch.logical_or({}, {})",
    "ATAN2": "torch.atan2({}, {})",
}  # fmt: skip
_DTYPES = {"float32": "torch.float32", "int32": "torch.int32", "int64": "torch.int64", "bool": "torch.bool",
           "float16": "torch.float16", "int8": "torch.int8", "uint8": "torch.uint8"}  # fmt: skip


@_code(*_UNARY)
def _unary(op: _Op) -> str:
    return _UNARY[op.op.name].format(op[0])


@_code(*_BINARY)
def _binary(op: _Op) -> str:
    return op.activation.format(_BINARY[op.op.name].format(op[0], op[1]))


@_code("GELU")
def _gelu(op: _Op) -> str:
    return f"F.gelu({op[0]}, approximate={'tanh' if op.option('approximate') else 'none'!r})"


@_code("LEAKY_RELU")
def _leaky(op: _Op) -> str:
    return f"F.leaky_relu({op[0]}, {op.option('alpha')!r})"


@_code("PRELU")
def _prelu(op: _Op) -> str:
    return f"torch.where({op[0]} < 0, {op[0]} * {op[1]}, {op[0]})"


@_code("SOFTMAX")
def _softmax(op: _Op) -> str:
    return f"F.softmax({op[0]} * {op.option('beta', 1.0)!r}, -1)"


@_code("CAST")
def _cast(op: _Op) -> str:
    kind = op.info.tensors[op.op.outputs[0]].dtype
    if kind not in _DTYPES:
        raise NoTwin(f"CAST to {kind}")
    return f"{op[0]}.to({_DTYPES[kind]})"


@_code("SELECT", "SELECT_V2")
def _select(op: _Op) -> str:
    return f"torch.where({op[0]}, {op[1]}, {op[2]})"


@_code("ADD_N")
def _sum(op: _Op) -> str:
    return " + ".join(op[n] for n in range(op.count))


# -- convolutions, products ------------------------------------------------------------------------------------------
def _pads(op: _Op, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> tuple[int, ...]:
    """(top, bottom, left, right); TFLite puts the odd row of SAME last."""
    strides = (op.option("strideH", 1), op.option("strideW", 1))
    pads = []
    for axis in (0, 1):
        if op.option("padding") == 1:
            pads += [0, 0]
            continue
        reach = (size[axis] - 1) * dilation[axis] + 1
        total = max(0, (op.out[1 + axis] - 1) * strides[axis] + reach - op.shape(0)[1 + axis])
        pads += [total // 2, total - total // 2]
    return tuple(pads)


@_code("CONV_2D", "DEPTHWISE_CONV_2D")
def _conv(op: _Op) -> str:
    deep = op.op.name == "DEPTHWISE_CONV_2D"
    shape = op.shape(1)
    dilation = (op.option("dilationHFactor", 1) or 1, op.option("dilationWFactor", 1) or 1)
    pads = _pads(op, (shape[1], shape[2]), dilation)
    x = f"padded({op[0]}, {', '.join(map(str, pads))})" if any(pads) else op[0]
    # depthwise filters lie as [1, height, width, channels]
    weight = f"{op[1]}.permute({'3, 0, 1, 2' if deep else '0, 3, 1, 2'})"
    groups = op.shape(0)[3] if deep else op.shape(0)[3] // shape[3]
    stride = (op.option("strideH", 1), op.option("strideW", 1))
    bias = op[2] if op.has(2) else "None"
    call = f"F.conv2d(x, {weight}, {bias}, stride={stride}, dilation={dilation}, groups={groups})"
    return op.activation.format(f"channels_last(lambda x: {call}, {x})")


@_code("TRANSPOSE_CONV")
def _transposed(op: _Op) -> str:
    shape, stride = op.shape(1), (op.option("strideH", 1), op.option("strideW", 1))
    full = [(op.shape(2)[1 + a] - 1) * stride[a] + shape[1 + a] for a in (0, 1)]
    cut = [full[a] - op.out[1 + a] for a in (0, 1)]
    pads = [side for c in cut for side in (-(c // 2), -(c - c // 2))]
    bias = op[3] if op.has(3) else "None"
    call = f"F.conv_transpose2d(x, {op[1]}.permute(3, 0, 1, 2), {bias}, stride={stride})"
    return op.activation.format(f"padded(channels_last(lambda x: {call}, {op[2]}), {', '.join(map(str, pads))})")


@_code("FULLY_CONNECTED")
def _linear(op: _Op) -> str:
    bias = op[2] if op.has(2) else "None"
    x = f"{op[0]}.reshape(-1, {op.shape(1)[1]})"
    return op.activation.format(f"F.linear({x}, {op[1]}, {bias}).reshape({op.out})")


@_code("BATCH_MATMUL")
def _matmul(op: _Op) -> str:
    a = f"{op[0]}.transpose(-1, -2)" if op.option("adjX") else op[0]
    b = f"{op[1]}.transpose(-1, -2)" if op.option("adjY") else op[1]
    return f"torch.matmul({a}, {b})"


# -- sums, pools, sizes ----------------------------------------------------------------------------------------------
@_code("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
def _reduce(op: _Op) -> str:
    axes = tuple(op.fixed(1)) or tuple(range(len(op.shape(0))))
    if op.op.name == "REDUCE_PROD":  # PyTorch multiplies along one axis at a time
        return f"{op[0]}{''.join(f'.prod({a}, keepdim=True)' for a in axes)}.reshape({op.out})"
    kind = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "amax", "REDUCE_MIN": "amin"}[op.op.name]
    return f"torch.{kind}({op[0]}, dim={axes}, keepdim={bool(op.option('keepDims'))})"


@_code("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(op: _Op) -> str:
    size = (op.option("filterHeight"), op.option("filterWidth"))
    stride = (op.option("strideH", 1), op.option("strideW", 1))
    top, bottom, left, right = _pads(op, size)
    around = f"{top}, {bottom}, {left}, {right}"
    if op.op.name == "MAX_POOL_2D":
        call = f"channels_last(lambda x: F.max_pool2d(x, {size}, {stride}), padded({op[0]}, {around}, -torch.inf))"
    else:
        # the mean of what lies inside: the mean of the padded image over the share that is no padding
        pool = f"channels_last(lambda x: F.avg_pool2d(x, {size}, {stride}), padded("
        call = f"{pool}{op[0]}, {around})) / {pool}torch.ones_like({op[0]}), {around}))"
    return op.activation.format(call)


@_code("RESIZE_BILINEAR")
def _bilinear(op: _Op) -> str:
    corners, half = bool(op.option("alignCorners")), bool(op.option("halfPixelCenters"))
    if not corners and not half:
        raise NoTwin("RESIZE_BILINEAR with neither half-pixel centres nor aligned corners")
    call = f"F.interpolate(x, size={tuple(op.out[1:3])}, mode='bilinear', align_corners={corners})"
    return f"channels_last(lambda x: {call}, {op[0]})"


@_code("RESIZE_NEAREST_NEIGHBOR")
def _nearest(op: _Op) -> str:
    if op.option("alignCorners"):
        raise NoTwin("RESIZE_NEAREST_NEIGHBOR with aligned corners")
    mode = "nearest-exact" if op.option("halfPixelCenters") else "nearest"
    return f"channels_last(lambda x: F.interpolate(x, size={tuple(op.out[1:3])}, mode={mode!r}), {op[0]})"


# -- shapes ----------------------------------------------------------------------------------------------------------
@_code("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _reshape(op: _Op) -> str:
    return f"{op[0]}.reshape({op.out})"


@_code("TRANSPOSE")
def _transpose(op: _Op) -> str:
    return f"{op[0]}.permute({op.fixed(1)})"


@_code("BROADCAST_TO")
def _broadcast(op: _Op) -> str:
    return f"{op[0]}.expand({op.out})"


@_code("TILE")
def _tile(op: _Op) -> str:
    return f"{op[0]}.repeat({op.fixed(1)})"


@_code("CONCATENATION")
def _concat(op: _Op) -> str:
    return op.activation.format(f"torch.cat([{', '.join(op[n] for n in range(op.count))}], {op.option('axis')})")


@_code("PACK")
def _pack(op: _Op) -> str:
    return f"torch.stack([{', '.join(op[n] for n in range(op.count))}], {op.option('axis')})"


@_code("UNPACK")
def _unpack(op: _Op) -> str:
    return f"torch.unbind({op[0]}, {op.option('axis')})"


@_code("SPLIT")
def _split(op: _Op) -> str:
    return f"torch.tensor_split({op[1]}, {len(op.op.outputs)}, {op.fixed(0)[0]})"


@_code("SPLIT_V")
def _split_v(op: _Op) -> str:
    sizes = [op.info.tensors[i].shape[op.fixed(2)[0]] for i in op.op.outputs]
    return f"torch.split({op[0]}, {sizes}, {op.fixed(2)[0]})"


@_code("SLICE")
def _slice(op: _Op) -> str:
    ends = [b + n for b, n in zip(op.fixed(1), op.out, strict=True)]
    return f"{op[0]}[{', '.join(f'{b}:{e}' for b, e in zip(op.fixed(1), ends, strict=True))}]"


@_code("STRIDED_SLICE")
def _strided(op: _Op) -> str:
    begin, end, step = op.fixed(1), op.fixed(2), op.fixed(3)
    if op.option("ellipsisMask") or op.option("newAxisMask") or min(step) < 1:
        raise NoTwin("STRIDED_SLICE with an ellipsis, a new axis or a step below one")
    parts = []
    for axis, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        first = "" if op.option("beginMask") >> axis & 1 else b
        last = "" if op.option("endMask") >> axis & 1 else e
        parts.append(str(b) if op.option("shrinkAxisMask") >> axis & 1 else f"{first}:{last}:{s}")
    return f"{op[0]}[{', '.join(parts)}]"


def _mirrored(op: _Op, pairs: list[int]) -> str:
    """PyTorch reflects the last axes alone: the channels go to the front for it. ``pairs`` begin with the last axis."""
    if op.option("mode") != 0:
        raise NoTwin("MIRROR_PAD that repeats the edge")
    if len(op.out) != 4 or any(pairs[:2] + pairs[6:]):
        raise NoTwin("MIRROR_PAD of other axes than height and width")
    return f"channels_last(lambda x: F.pad(x, {pairs[2:6]}, mode='reflect'), {op[0]})"


@_code("PAD", "PADV2", "MIRROR_PAD")
def _pad(op: _Op) -> str:
    pairs = np.asarray(op.fixed(1)).reshape(-1, 2)[::-1].ravel().tolist()
    if op.op.name == "MIRROR_PAD":
        return _mirrored(op, pairs)
    value = op.fixed(2)[0] if op.op.name == "PADV2" else 0.0
    return f"F.pad({op[0]}, {pairs}, value={value!r})"


@_code("DEPTH_TO_SPACE")
def _depth_to_space(op: _Op) -> str:
    return f"depth_to_space({op[0]}, {op.option('blockSize')})"


@_code("SPACE_TO_DEPTH")
def _space_to_depth(op: _Op) -> str:
    return f"space_to_depth({op[0]}, {op.option('blockSize')})"


@_code("GATHER")
def _gather(op: _Op) -> str:
    if op.option("batchDims"):
        raise NoTwin("GATHER with batch dimensions")
    axis = op.option("axis") % len(op.shape(0))
    return f"torch.index_select({op[0]}, {axis}, {op[1]}.long().reshape(-1)).reshape({op.out})"


@_code("GATHER_ND")
def _gather_nd(op: _Op) -> str:
    return f"{op[0]}[tuple({op[1]}.long().unbind(-1))]"


@_code("REVERSE_V2")
def _reverse(op: _Op) -> str:
    return f"torch.flip({op[0]}, {op.fixed(1)})"


@_code("CUMSUM")
def _cumsum(op: _Op) -> str:
    if op.option("exclusive") or op.option("reverse"):
        raise NoTwin("CUMSUM exclusive or in reverse")
    return f"torch.cumsum({op[0]}, {op.fixed(1)[0]})"


@_code("ARG_MAX", "ARG_MIN")
def _arg(op: _Op) -> str:
    kind = "argmax" if op.op.name == "ARG_MAX" else "argmin"
    return f"torch.{kind}({op[0]}, {op.fixed(1)[0]}).to({_DTYPES[op.info.tensors[op.op.outputs[0]].dtype]})"


@_code("TOPK_V2")
def _topk(op: _Op) -> str:
    return f"[t if n == 0 else t.int() for n, t in enumerate(torch.topk({op[0]}, {op.fixed(1)[0]}))]"


@_code("L2_NORMALIZATION")
def _l2(op: _Op) -> str:
    return op.activation.format(f"F.normalize({op[0]}, dim=-1, eps=1e-6)")


#: The operators that have a twin.
OPERATORS = frozenset(_TABLE)
