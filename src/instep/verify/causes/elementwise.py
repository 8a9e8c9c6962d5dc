"""Mistakes of activations, arithmetic, comparisons, selections and casts; and of wiring, for any operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, Operator, ops
from instep.verify.causes.table import Arrays, Context, Found, Meaning, changed, explains, swapped

__all__: list[str] = []

ACTIVATIONS: tuple[type[Operator], ...] = (
    ops.Relu, ops.Sigmoid, ops.Tanh, ops.Silu, ops.HardSwish, ops.HardSigmoid, ops.Mish, ops.Selu, ops.Gelu,
    ops.LeakyRelu, ops.Elu, ops.Celu, ops.Softplus, ops.Clip, ops.Prelu,
)  # fmt: skip
ARITHMETIC = (ops.Add, ops.Sub, ops.Mul, ops.Div)
UNARY = (
    ops.Abs, ops.Neg, ops.Exp, ops.Log, ops.Sqrt, ops.Rsqrt, ops.Square, ops.Reciprocal, ops.Erf, ops.Sin, ops.Cos,
)  # fmt: skip


@explains("GELU approximation (tanh for erf)", ops.Gelu)
def gelu_form(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    names = {True: "the tanh form", False: "the exact erf form"}
    yield (
        f"{names[not op.approximate]} instead of {names[op.approximate]}",
        changed(node, approximate=not op.approximate),
    )
    yield "x · sigmoid(1.702 x)", lambda ins: ins[0] / (1 + np.exp(-1.702 * ins[0]))


@explains("activation dropped", *ACTIVATIONS)
def activation_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "the value before the activation", lambda ins: np.broadcast_to(ins[0], node.output.shape)


@explains("slope of a leaky ReLU", ops.LeakyRelu, ops.Prelu)
def leaky_slope(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if isinstance(op, ops.Prelu):
        yield "slopes negated", swapped(node, 1, np.negative)
        yield "slope 0 (a plain ReLU)", swapped(node, 1, np.zeros_like)
        yield "every slope 0.25, as at initialisation", swapped(node, 1, lambda s: np.full_like(s, 0.25))
        yield "one slope for all channels (the first)", swapped(node, 1, lambda s: np.full_like(s, s.ravel()[0]))
        if node.inputs[1].size > 1:
            for name, by in (("reversed", None), ("moved by one", 1), ("moved back by one", -1)):

                def moved(s: np.ndarray, by: int | None = by) -> np.ndarray:
                    return (s.ravel()[::-1] if by is None else np.roll(s.ravel(), by)).reshape(s.shape)

                yield f"slopes {name}", swapped(node, 1, moved)
        return
    for slope in (0.0, -op.slope, 0.01, 0.1, 0.2, 0.3, 0.05, 0.25, 1 / op.slope if op.slope else 1.0, 1 - op.slope):
        if slope != op.slope:
            yield f"slope {slope:g} instead of {op.slope:g}", changed(node, slope=slope)


@explains("wrong activation", *ACTIVATIONS)
def wrong_activation(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    others: list[Operator] = [
        ops.Relu(), ops.Clip(0.0, 6.0), ops.Silu(), ops.HardSwish(), ops.Sigmoid(), ops.HardSigmoid(), ops.Tanh(),
        ops.Gelu(False), ops.Gelu(True), ops.Elu(1.0), ops.Selu(), ops.Softplus(), ops.Mish(), ops.LeakyRelu(0.01),
        ops.LeakyRelu(0.2), ops.LeakyRelu(0.1), ops.Clip(-1.0, 1.0), ops.Clip(0.0, 1.0), ops.Clip(0.0, np.inf),
    ]  # fmt: skip
    for other in others:
        if other != op and not (isinstance(op, ops.Gelu) and isinstance(other, ops.Gelu)):
            yield f"{other} instead of {op.name}", lambda ins, o=other: o.evaluate(ins[0])
    yield "clip(0.2 x + 0.5, 0, 1)", lambda ins: np.clip(0.2 * ins[0] + 0.5, 0, 1)


@explains("activation's parameter", ops.Elu, ops.Celu, ops.Softplus, ops.Clip)
def activation_parameter(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if isinstance(op, ops.Clip):
        yield f"no lower bound {op.low:g}", changed(node, low=-np.inf)
        yield f"no upper bound {op.high:g}", changed(node, high=np.inf)
        for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 6.0), (0.0, 255.0)):
            said = f"clipped to [{low:g}, {high:g}] instead of [{op.low:g}, {op.high:g}]"
            yield said, changed(node, low=low, high=high)
    elif isinstance(op, ops.Softplus):
        for beta in (1.0, 1 / op.beta):
            if beta != op.beta:
                yield f"beta {beta:g} instead of {op.beta:g}", changed(node, beta=beta)
        yield "threshold ignored", changed(node, threshold=np.inf)
    else:
        for alpha in (1.0, 0.1, 0.5, 2.0, 1.6732632423543772, 1 / op.alpha if op.alpha else 1.0):
            if alpha != op.alpha:
                yield f"alpha {alpha:g} instead of {op.alpha:g}", changed(node, alpha=alpha)


@explains("activation applied twice", *ACTIVATIONS)
def activation_twice(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield f"{op.name} of {op.name}", lambda ins: op.evaluate(op.evaluate(*ins)[0], *ins[1:])


def _is_constant(node: Node, number: int, context: Context) -> bool:
    return context.graph.array(node.inputs[number]) is not None


@explains("operands in the wrong order", ops.Sub, ops.Div, ops.Pow, ops.Less, ops.LessEqual, ops.Greater,
          ops.GreaterEqual, ops.FloorDiv, ops.FloorMod, ops.Atan2)  # fmt: skip
def operand_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "b ∘ a for a ∘ b", lambda ins: op.evaluate(ins[1], ins[0])


@explains("scale missing", ops.Mul, ops.Div)
def scale_missing(node: Node, context: Context) -> Iterator[Found]:
    shape = node.output.shape
    for number in (0, 1):
        if _is_constant(node, number, context) and not (isinstance(node.op, ops.Div) and number == 0):
            yield "the constant factor missing", lambda ins, n=1 - number: np.broadcast_to(ins[n], shape)


@explains("residual dropped", ops.Add, ops.Sub)
def residual_dropped(node: Node, context: Context) -> Iterator[Found]:
    if _is_constant(node, 0, context) or _is_constant(node, 1, context):
        return
    sign = -1 if isinstance(node.op, ops.Sub) else 1
    shape = node.output.shape
    yield "the second operand missing", lambda ins: np.broadcast_to(ins[0], shape)
    yield "the first operand missing", lambda ins: np.broadcast_to(sign * ins[1], shape)


@explains("residual doubled", ops.Add, ops.Sub)
def residual_doubled(node: Node, context: Context) -> Iterator[Found]:
    if _is_constant(node, 0, context) or _is_constant(node, 1, context):
        return
    sign = -1 if isinstance(node.op, ops.Sub) else 1
    yield "the second operand twice", lambda ins: ins[0] + 2 * sign * ins[1]
    yield "the first operand twice", lambda ins: 2 * ins[0] + sign * ins[1]
    yield "the second operand added to itself", lambda ins: np.broadcast_to(ins[1] + sign * ins[1], node.output.shape)
    yield "the first operand added to itself", lambda ins: np.broadcast_to(ins[0] + sign * ins[0], node.output.shape)


@explains("scale applied twice or inverted", ops.Mul, ops.Div)
def scale_wrong(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    inverse = ops.Div() if isinstance(op, ops.Mul) else ops.Mul()
    for number in (0, 1):
        if not _is_constant(node, number, context) or (isinstance(op, ops.Div) and number == 0):
            continue

        def twice(ins: Arrays, number: int = number) -> Any:
            return op.evaluate(op.evaluate(*ins)[0], ins[number])

        def inverted(ins: Arrays, number: int = number) -> Any:
            return inverse.evaluate(ins[1 - number], ins[number])

        def root(ins: Arrays, number: int = number) -> Any:
            ins = list(ins)
            ins[number] = np.sqrt(np.abs(ins[number]))
            return op.evaluate(*ins)

        def square(ins: Arrays, number: int = number) -> Any:
            ins = list(ins)
            ins[number] = np.square(ins[number])
            return op.evaluate(*ins)

        yield "the constant factor applied twice", twice
        yield "multiplied for divided (or the other way round)", inverted
        yield "the constant factor's root", root
        yield "the constant factor's square", square


@explains("mask or offset dropped", ops.Add, ops.Sub)
def offset_dropped(node: Node, context: Context) -> Iterator[Found]:
    shape = node.output.shape
    for number in (0, 1):
        if _is_constant(node, number, context):
            yield (
                "the constant term missing",
                lambda ins, n=1 - number: np.broadcast_to(
                    -ins[n] if isinstance(node.op, ops.Sub) and n == 1 else ins[n], shape
                ),
            )
            yield "the constant term with the wrong sign", swapped(node, number, np.negative)
            yield "the constant term twice", swapped(node, number, lambda c: 2 * c)


@explains("gate dropped", ops.Mul)
def gate_dropped(node: Node, context: Context) -> Iterator[Found]:
    if _is_constant(node, 0, context) or _is_constant(node, 1, context):
        return
    shape = node.output.shape
    yield "the second factor missing", lambda ins: np.broadcast_to(ins[0], shape)
    yield "the first factor missing", lambda ins: np.broadcast_to(ins[1], shape)


@explains("wrong arithmetic operation", *ARITHMETIC, ops.Maximum, ops.Minimum, ops.Pow)
def wrong_arithmetic(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    others = (ops.Add(), ops.Sub(), ops.Mul(), ops.Div(), ops.Maximum(), ops.Minimum())  # type: ignore[call-arg]
    for other in others:
        if other.name != op.name:
            yield f"{other.name} instead of {op.name}", lambda ins, o=other: o.evaluate(*ins)


@explains("broadcast along the wrong axis", *ARITHMETIC, ops.Maximum, ops.Minimum, ops.Prelu)
def broadcast_axis(node: Node, context: Context) -> Iterator[Found]:
    import itertools

    out = node.output.shape
    for number, value in enumerate(node.inputs[:2]):
        shape = (1,) * (len(out) - len(value.shape)) + value.shape
        if value.size in (1, node.output.size) or len(out) > 4:
            continue
        seen = {shape}
        for perm in itertools.permutations(range(len(out))):
            moved = tuple(shape[p] for p in perm)
            fits = all(a in (1, b) for a, b in zip(moved, out, strict=True))
            turned = [p for p in perm if shape[p] > 1] != [i for i in range(len(out)) if shape[i] > 1]
            if fits and (moved not in seen or turned):
                seen.add(moved)
                yield (
                    f"operand {number + 1} laid along axes {list(moved)}",
                    swapped(node, number, lambda x, s=shape, p=perm: x.reshape(s).transpose(p)),
                )


@explains("constant permuted", *ARITHMETIC)
def constant_permuted(node: Node, context: Context) -> Iterator[Found]:
    for number in (0, 1):
        if _is_constant(node, number, context) and node.inputs[number].size > 1:
            for name, change in (
                ("reversed", lambda x: x.ravel()[::-1].reshape(x.shape)),
                ("moved by one", lambda x: np.roll(x.ravel(), 1).reshape(x.shape)),
                ("moved back by one", lambda x: np.roll(x.ravel(), -1).reshape(x.shape)),
            ):
                yield f"constant {name}", swapped(node, number, change)


@explains("constant in the wrong layout", *ARITHMETIC)
def constant_misread(node: Node, context: Context) -> Iterator[Found]:
    import itertools

    for number in (0, 1):
        shape = node.inputs[number].shape
        if not _is_constant(node, number, context) or sum(n > 1 for n in shape) < 2 or len(shape) > 4:
            continue
        for perm in itertools.permutations(range(len(shape))):
            if perm == tuple(range(len(shape))):
                continue
            yield (
                f"constant's memory in the order {list(perm)}",
                swapped(node, number, lambda x, s=shape, p=perm: np.ascontiguousarray(x.transpose(p)).reshape(s)),
            )


@explains("selection branches swapped", ops.Where)
def branches_swapped(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "the condition negated", lambda ins: op.evaluate(~ins[0], ins[1], ins[2])
    yield "always the first branch", lambda ins: np.broadcast_to(ins[1], node.output.shape)
    yield "always the second branch", lambda ins: np.broadcast_to(ins[2], node.output.shape)


@explains("strictness or direction of a comparison", ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual,
          ops.Equal, ops.NotEqual)  # fmt: skip
def comparison(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for other in (ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual, ops.Equal, ops.NotEqual):
        if not isinstance(op, other):
            made = other()  # type: ignore[call-arg]
            yield f"{made.name} instead of {op.name}", lambda ins, m=made: m.evaluate(*ins)


@explains("rounding mode", ops.Round, ops.Floor, ops.Ceil, ops.Cast, ops.FloorDiv)
def rounding(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    functions = {"rounded": np.round, "floored": np.floor, "truncated": np.trunc, "ceiled": np.ceil}
    own = {"Round": "rounded", "Floor": "floored", "Ceil": "ceiled", "Cast": "truncated"}.get(op.name, "floored")
    for name, function in functions.items():
        if name == own:
            continue
        if isinstance(op, ops.FloorDiv):
            yield f"{name} instead of {own}", lambda ins, f=function: f(ins[0] / ins[1])
        elif node.inputs[0].dtype.startswith("float"):
            yield f"{name} instead of {own}", lambda ins, f=function: f(ins[0]).astype(node.output.dtype)
    if not isinstance(op, (ops.Cast, ops.FloorDiv)):
        yield "not rounded", lambda ins: ins[0]
    if isinstance(op, ops.Round):
        yield "halves away from zero instead of to even", lambda ins: np.sign(ins[0]) * np.floor(np.abs(ins[0]) + 0.5)


@explains("remainder's sign", ops.FloorMod)
def remainder(node: Node, context: Context) -> Iterator[Found]:
    yield "the sign of the dividend (fmod)", lambda ins: np.fmod(ins[0], ins[1])


@explains("function dropped", *UNARY)
def function_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield f"no {node.op.name}", lambda ins: ins[0]


@explains("wrong function", *UNARY)
def wrong_function(node: Node, context: Context) -> Iterator[Found]:
    for other in UNARY:
        if not isinstance(node.op, other):
            made = other()  # type: ignore[call-arg]
            yield f"{made.name} instead of {node.op.name}", lambda ins, m=made: m.evaluate(*ins)


def _rounded16(run: Meaning) -> Meaning:
    def rounded(ins: Arrays) -> Any:
        result = run(ins)
        first = result[0] if isinstance(result, tuple) else result
        return first.astype(np.float16).astype(np.float64)

    return rounded


@explains("computed in half precision", ops.Conv2d, ops.ConvTranspose2d, ops.Linear, ops.MatMul, *ARITHMETIC,
          *ACTIVATIONS, *UNARY)  # fmt: skip
def half_precision(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "the result rounded to float16", _rounded16(lambda ins: op.evaluate(*ins))
