"""The style of pure functions: one function for each block, of the dictionary of its parameters."""

from __future__ import annotations

import re

from instep.emit.code.bodies import body
from instep.emit.code.layout import fitted
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Member, Program, layers_of
from instep.emit.code.state import written
from instep.emit.code.statements import identifier, unique
from instep.emit.code.writing import Style
from instep.emit.jax.modules import filled, frozen

__all__ = ["FunctionStyle", "applied"]


class FunctionStyle(Style):
    """Functions ``block(params, x, train, *, options)``; ``train`` only where something within does otherwise then."""

    def class_text(self, made: Class, doc: str, inputs: list[str], used: set[str]) -> str:
        made.name = unique(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", made.name).lower(), used)
        members = {m.path: m for m in made.members}
        layers = dict(layers_of(made))

        def member(path: Path) -> str:
            found = members.get(path)
            if found is not None and found.constant is not None:
                return self.array(found)
            # a layer's dictionary, or an array in one
            text = "params" + "".join(f'["{part}"]' for part in path)
            call = layers.get(path)
            if call is not None and call.untrained:
                return f"frozen({', '.join([text, *frozen(call)])})"
            within = layers.get(path[:-1])
            return f"lax.stop_gradient({text})" if within and path[-1] in within.untrained else text

        def invoke(path: Path, given: list[str]) -> str:
            found = members[path]
            assert found.inner is not None
            train = ["train"] if trained(found.inner) else []
            options = [f"{k}={written(self.dialect, v)}" for k, v in found.fields.items()]
            return f"{found.inner.name}({', '.join([member(path), *given, *train, *options])})"

        statements, _ = body(made, self.dialect, member, inputs, used | {"params", "train"}, invoke, "")
        train = ["train"] if trained(made) else []
        options = ["*", *made.args] if made.args else []
        head = f"def {made.name}({', '.join(['params', *inputs, *train, *options])}):"
        lines = [*fitted(head), f'    """{doc}"""']
        for text in statements:
            lines += fitted(text, "    ")
        return "\n".join(lines) + "\n"

    def array(self, member: Member) -> str:
        """How a constant is read: small ones are said where they are used, and what is no parameter is not trained."""
        constant = member.constant
        assert constant is not None
        if "value" in member.fields:
            return filled(self.dialect, constant, member)
        text = "params" + "".join(f'["{part}"]' for part in member.path)
        if not constant.dtype.startswith("float"):
            return f"{text}.array"
        return text if constant.trained else f"lax.stop_gradient({text})"


def trained(made: Class) -> bool:
    """Does something in ``made`` do otherwise while training?"""
    lines = any(line.call is not None and ", train" in line.call.code for line in made.all_lines())
    return lines or any(m.inner is not None and trained(m.inner) for m in made.members)


def applied(made: Program) -> list[str]:
    """The function ``apply`` around the network's own, and ``tied`` where layers share arrays."""
    main = made.main
    seen = {"params", "train", "key", "outputs"}
    inputs = [unique(identifier(n), seen) for n in made.graph.input_names]
    own = trained(main)
    if own:
        made.helpers.add("Training")
    places = [("params" + "".join(f'["{p}"]' for p in path[:-1]), path) for path in made.ties]
    lines = [
        f"def apply(params, {', '.join(inputs)}, *, train=False, key=None):",
        '    """Outputs of the network; while training a pair of them and of params with new running statistics.',
        "",
        "    What is no parameter (statistics, masks) has a gradient of zero. Dropouts drop when there is a key.",
        '    """',
        "    # dictionaries of our own: batch norms put their new statistics there",
        "    params = jax.tree.map(lambda array: array, params)",
    ]
    for (place, second), first in zip(places, made.ties.values(), strict=True):
        lines.append(f'    {place}["{second[-1]}"] = params' + "".join(f'["{p}"]' for p in first))
    call = ", ".join(["params", *inputs, *(["Training(key) if train else None"] if own else [])])
    lines += fitted(f"outputs = {main.name}({call})", "    ")
    lines += [f'    del {place}["{second[-1]}"]' for place, second in places]
    lines.append("    return (outputs, params) if train else outputs")
    texts = ["\n".join(lines)]
    if made.ties:
        tied = [
            "def tied(params):",
            '    """``params`` with a place for every layer, also for those whose arrays are others\'."""',
        ]
        for second in made.ties:
            chain = "params" + "".join(f'.setdefault("{p}", {{}})' for p in second[:-1])
            tied.append(f"    {chain}")
        texts.append("\n".join([*tied, "    return params"]))
    return texts
