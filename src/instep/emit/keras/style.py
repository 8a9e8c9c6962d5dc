"""The style of Keras' functional models: one function for each block, which adds the block's layers to a tensor."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from instep.emit.code.bodies import body
from instep.emit.code.call import Call, Dialect, NoCode
from instep.emit.code.layout import fitted
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Member, Program, layers_of
from instep.emit.code.state import written
from instep.emit.code.statements import constructor, identifier, unique
from instep.emit.code.writing import Style, one_line

__all__ = ["FunctionalStyle", "layer_name"]

#: What Keras calls what has no name of its own, with or without a number: no layer of the network may be called so.
_AUTOMATIC = re.compile(
    "("
    "absolute|add|a(ll|ny)|arc?tan2?|arg(max|min)|broadcast_to|cast|ceil|celu|clip|concatenate|cos|cumsum|"
    "depth_to_space|divide|elu|equal|erf|exp|flip|floor(_divide)?|gelu|get_item|greater(_equal)?|hard_(silu|sigmoid)|"
    "leaky_relu|less(_equal)?|log(_softmax|ical_(and|not|or))?|matmul|max(imum)?|mean|min(imum)?|mod|moveaxis|"
    "multiply|negative|not_equal|pad|power|prod|reciprocal|relu6?|reshape|resize|roll|round|rsqrt|selu|sigmoid|sign|"
    "silu|sin|softmax|softplus|space_to_depth|sqrt|square|subtract|sum|swapaxes|take(_along_axis)?|tanh|tile|top_k|"
    "transpose|true_divide|where|zeros_like|((adaptive_)?(average|max)_pooling|cropping|up_sampling|zero_padding)[23]d"
    r")(_\d+)?"
)


#: A constant that is longer is said in a line of its own.
LONG = 48


def layer_name(path: Path, found: Program) -> str:
    """The name of the layer at ``path`` from the network on: ``stem.conv``."""
    name = ".".join(path)
    taken = bool(_AUTOMATIC.fullmatch(name))
    if re.fullmatch(r"conv(_\d+)?", name):  # where a kernel is computed
        taken = any(line.call and "conv" in line.call.code for made in found.classes for line in made.all_lines())
    return f"{name}_layer" if taken else name


def _frozen(call: Call) -> bool:
    """Whether nothing of a layer is trained. A batch norm is meant only where its statistics are fixed: Keras has one
    that is not trained normalise with them."""
    if "trainable" in call.fields:
        return True
    return bool(call.untrained) and len(call.untrained) == len(call.weights)


class FunctionalStyle(Style):
    """``block(x, name, *, options)`` for each block, ``build()`` for the network."""

    def __init__(self, dialect: Dialect, found: Program, batch: bool) -> None:
        super().__init__(dialect)
        self.found, self.batch = found, batch

    def class_text(self, made: Class, doc: str, inputs: list[str], used: set[str]) -> str:
        main = made is self.found.main
        opening: list[str] = []
        if main:
            made.name, inputs = "build", self.inputs(inputs)
            opening = [f"{name} = {self.input(n)}" for n, name in enumerate(inputs)]
        else:
            made.name = unique(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", made.name).lower(), used)
        members = {m.path: m for m in made.members}
        calls = Counter(line.path for line in made.lines if line.path)
        calls.update(made.arrays[v] for line in made.lines for v in line.inputs if v in made.arrays)
        # what a loop calls, it calls in every round
        for line in (found for loop in made.lines if loop.rounds for found in loop.within()):
            calls.update([line.path] * 2 if line.path else [])
        calls.update(made.arrays[v] for loop in made.lines if loop.rounds for v in loop.inputs if v in made.arrays)
        calls.update(made.arrays[v] for v in made.outputs if v in made.arrays)
        seen = {*used, *inputs, *made.args, "name"}
        variables: dict[Path, str] = {}
        for path, count in calls.items():
            member = members.get(path)
            if member is None:
                raise NoCode(f"'{'.'.join(path)}' is an array of one layer that others read")
            # what is made once and called several times has a name, and what is long
            lengthy = member.constant is not None and len(self.made(member, main, inputs)) > LONG
            if (count > 1 or lengthy) and member.inner is None and "value" not in member.fields:
                words = [p for p in path if not p.isdecimal()]
                variables[path] = unique(identifier(words[-1] if words else "layer"), seen)
                opening.append(f"{variables[path]} = {self.made(member, main, inputs)}")
        seen |= set(variables.values())

        def member_text(path: Path) -> str:
            return variables.get(path) or self.made(members[path], main, inputs)

        def invoke(path: Path, given: list[str]) -> str:
            found = members[path]
            assert found.inner is not None
            options = [f"{k}={written(self.dialect, v)}" for k, v in found.fields.items()]
            return f"{found.inner.name}({', '.join([*given, self.name(path, main), *options])})"

        statements, _ = body(made, self.dialect, member_text, inputs, seen, invoke, "")
        if main:
            statements[-1:] = self.model(inputs, statements[-1].removeprefix("return "))
        options = ["*", *made.args] if made.args else []
        head = "def build():" if main else f"def {made.name}({', '.join([*inputs, 'name', *options])}):"
        lines = [*fitted(head), f'    """{doc}"""']
        for text in (*opening, *statements):
            lines += fitted(text, "    ")
        return "\n".join(lines) + "\n"

    # -- the network ---------------------------------------------------------------------------------------------------
    def inputs(self, names: list[str]) -> list[str]:
        """What the inputs are called: words that nothing else in the function gets."""
        if len(names) == 1:
            return ["inputs"]
        return [f"{n}_input" if n in ("x", "y", "z", "name") else n for n in names]

    def input(self, number: int) -> str:
        """The statement that makes an input."""
        value = self.found.graph.inputs[number]
        shape = f"batch_shape={self.dialect.literal(value.shape)}"
        if self.batch:
            shape = self.dialect.literal(value.shape[1:])
        kind = "" if value.dtype == "float32" else f', dtype="{value.dtype}"'
        name = identifier(self.found.graph.input_names[number])
        return f'keras.Input({shape}{kind}, name="{name}")'

    def model(self, inputs: list[str], outputs: str) -> list[str]:
        """The statements that end ``build``."""
        many = len(self.found.graph.outputs) > 1
        reads = inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]"
        about = self.found.graph.meta
        words = one_line(about.get("name") or about.get("source") or "", 40).rpartition(":")[2]
        # TensorFlow's scopes begin with no underscore
        name = re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower() or "network"
        made = f'keras.Model({reads}, {f"[{outputs}]" if many else outputs}, name="{name}")'
        kept = [
            f'model.get_layer("{layer_name(path, self.found)}").{array}.trainable = False'
            for path, call in layers_of(self.found.main) if not _frozen(call) for array in call.untrained
        ]  # fmt: skip
        return [f"model = {made}", *kept, "return model"] if kept else [f"return {made}"]

    # -- layers --------------------------------------------------------------------------------------------------------
    def name(self, path: Path, main: bool) -> str:
        """The name of a layer or a block, as an expression."""
        return f'"{layer_name(path, self.found)}"' if main else f'f"{{name}}.{".".join(path)}"'

    def made(self, member: Member, main: bool, inputs: list[str]) -> str:
        """What makes a layer, or the tensor that a constant is."""
        literals = {k: written(self.dialect, v) for k, v in member.fields.items()}
        if member.constant is None:
            assert member.call is not None
            text = constructor(Call(**{**vars(member.call), "fields": member.fields}), literals)
            comma = "" if text.endswith("()") else ", "
            kept = "trainable=False, " if _frozen(member.call) and "trainable" not in literals else ""
            return f"{text[:-1]}{comma}{kept}name={self.name(member.path, main)})"
        constant = member.constant
        if "value" in literals:
            kind = "" if constant.dtype == "bool" else f', "{constant.dtype}"'
            return f"np.array({literals['value']}{kind})"
        options = [] if constant.dtype == "float32" else [f'kind="{constant.dtype}"']
        if constant.fill == 1.0:
            options.append('initializer="ones"')
        elif constant.fill and np.isfinite(constant.fill):
            options.append(f"initializer=keras.initializers.Constant({constant.fill:.9g})")
        options += [] if constant.trained else ["trainable=False"]
        given = ", ".join([literals["shape"], *options, f"name={self.name(member.path, main)}"])
        return f"Parameter({given})({inputs[0]})"
