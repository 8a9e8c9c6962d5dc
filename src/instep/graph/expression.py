"""A small expression language: parsed by ``ast``, evaluated by us, bounded in every direction, never executed.

Arithmetic, comparisons, ``and``/``or``/``not``, ``a if c else b``, tuples and lists, indexing and slicing, reading a
record's field (``x.shape``), one-line comprehensions and a fixed set of functions. Everything else is an error that
quotes the expression.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

__all__ = ["FUNCTIONS", "Expression", "ExpressionError", "MissingName", "expressions_in", "fill", "outlined"]


class ExpressionError(ValueError):
    """An expression that cannot be parsed, is not allowed, or fails on its values; the message quotes it."""


class MissingName(ExpressionError):
    """An expression reads a name that nothing has."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(f"in {text!r}: there is no {name!r} here")
        self.text, self.name = text, name


#: Longest source text, most syntax nodes, most evaluation steps, largest integer (bits), longest sequence or text.
MAX_TEXT, MAX_NODES, MAX_STEPS, MAX_BITS, MAX_LENGTH = 2000, 400, 20_000, 256, 10_000


def _prod(values: Any) -> Any:
    result: Any = 1
    for value in values:
        result = _bounded(result * value)
    return result


#: What an expression may call.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "ceil": math.ceil, "float": float, "floor": math.floor,
    "int": int, "len": len, "max": max, "min": min, "prod": _prod, "range": lambda *a: _range(*a), "reversed":
    lambda x: tuple(reversed(x)), "round": round, "sorted": lambda x: tuple(sorted(x)), "sqrt": math.sqrt, "sum": sum,
    "tuple": tuple, "zip": lambda *a: tuple(zip(*a, strict=True)),
}  # fmt: skip

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_KNOWN = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Constant, ast.Name, ast.Load, ast.Store,
    ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Call, ast.GeneratorExp, ast.ListComp,
    ast.comprehension, ast.And, ast.Or, *_BINARY, *_UNARY, *_COMPARE,
)  # fmt: skip
_FAILURES = (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError, ArithmeticError)


#: What a text calls so is the same in its expressions.
_WORDS = {"true": True, "false": False, "null": None}


class _Words(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_WORDS[node.id]) if node.id in _WORDS else node


class Expression:
    """One parsed expression. ``names`` are the free names it reads, ``fields`` the (name, field) pairs it reads."""

    def __init__(self, text: str, known: Collection[str] | None = None) -> None:
        """Parse ``text``. With ``known``, a name that is not among them is an error too."""
        self.text = text.strip() if isinstance(text, str) else str(text)
        if len(self.text) > MAX_TEXT:
            raise ExpressionError(f"expression of {len(self.text)} letters; at most {MAX_TEXT} are read")
        try:
            tree = ast.parse(self.text, mode="eval")
            if any(word in self.text for word in _WORDS):
                tree = _Words().visit(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"{self.text[:80]!r} is no expression: {_reason(error)}") from None
        self.body = tree.body
        self._check()
        bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        read = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called]
        #: every name that is read, those too that the expression itself gives a value
        self.reads = frozenset(n.id for n in read)
        self.names = self.reads - bound
        self.fields = frozenset(
            (n.value.id, n.attr)
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id not in bound
        )
        #: every field that is read of anything
        self.attributes = frozenset(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute))
        for name in sorted(self.names - set(known)) if known is not None else ():
            self._fail(f"it reads {name!r}, which does not exist here; known: {', '.join(sorted(known or ()))}")

    def _fail(self, why: str) -> NoReturn:
        raise ExpressionError(f"in {self.text!r}: {why}")

    def _check(self) -> None:
        for count, node in enumerate(ast.walk(self.body)):
            if count >= MAX_NODES:
                self._fail(f"it has more than {MAX_NODES} parts")
            if not isinstance(node, _KNOWN):
                self._fail(f"{type(node).__name__} is not part of the language")
            if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str | bool | None):
                self._fail(f"a {type(node.value).__name__} is not part of the language")
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                self._fail(f"there is no field {node.attr!r}")
            if isinstance(node, ast.Call):
                if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
                    self._fail(f"only these are called, without keywords: {', '.join(FUNCTIONS)}")
                if any(isinstance(a, ast.Starred) for a in node.args):
                    self._fail("'*' before an argument is not part of the language")
            if isinstance(node, ast.GeneratorExp | ast.ListComp) and len(node.generators) > 2:
                self._fail("a comprehension has at most two loops")

    def evaluate(self, values: Mapping[str, Any], spend: Callable[[int], None] | None = None) -> Any:
        """The value, with names read from ``values``. Mappings are records: their keys are read as fields.

        ``spend`` is told how many steps it took, so that many expressions can be bounded together.
        """
        evaluation = _Evaluation(self, values)
        try:
            return evaluation.value(self.body)
        except ExpressionError:
            raise
        except (*_FAILURES, RecursionError, MemoryError) as error:
            raise ExpressionError(f"in {self.text!r}: {_reason(error)}") from None
        finally:
            if spend is not None:
                spend(evaluation.steps)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class _Evaluation:
    """One walk over one expression's syntax, counting its steps."""

    def __init__(self, expression: Expression, values: Mapping[str, Any]) -> None:
        self.expression = expression
        self.scope: dict[str, Any] = {n: values[n] for n in expression.reads if n in values}
        self.steps = 0

    def value(self, node: ast.AST) -> Any:
        self._count(1)
        return getattr(self, "_" + type(node).__name__)(node)

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            self.expression._fail(f"it takes more than {MAX_STEPS} steps")

    def _sized(self, result: Any) -> Any:
        """``result``, counted by its elements: lists within lists would take memory without bound."""
        if isinstance(result, str | tuple | list):
            self._count(len(result))
        return result

    def _Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        if node.id not in self.scope:
            raise MissingName(self.expression.text, node.id)
        return self.scope[node.id]

    def _Attribute(self, node: ast.Attribute) -> Any:
        record = self.value(node.value)
        if not isinstance(record, Mapping):
            self.expression._fail(f"{ast.unparse(node.value)} is {_kind(record)}, which has no field {node.attr!r}")
        if node.attr not in record:
            self.expression._fail(f"{ast.unparse(node.value)} has no field {node.attr!r}")
        return record[node.attr]

    def _Subscript(self, node: ast.Subscript) -> Any:
        whole = self.value(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            return whole[slice(*(None if p is None else self.value(p) for p in parts))]
        return whole[self.value(node.slice)]

    def _Tuple(self, node: ast.Tuple | ast.List) -> tuple[Any, ...]:
        return tuple(self.value(e) for e in node.elts)

    _List = _Tuple

    def _BinOp(self, node: ast.BinOp) -> Any:
        a: Any = self.value(node.left)
        b: Any = self.value(node.right)
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        if isinstance(node.op, ast.Add) and type(a) is type(b) and isinstance(a, str | tuple):
            return self._sized(_bounded(_BINARY[ast.Add](a, b)))
        if not numbers:
            symbol = type(node.op).__name__
            self.expression._fail(f"{symbol} takes two numbers, got {_kind(a)} and {_kind(b)}")
        if isinstance(node.op, ast.Pow) and isinstance(b, int) and abs(b) * max(int(abs(a)).bit_length(), 1) > MAX_BITS:
            self.expression._fail("a power beyond what anything here needs")
        return _bounded(_BINARY[type(node.op)](a, b))

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self.value(node.operand))

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        result: Any = None
        for part in node.values:
            result = self.value(part)
            if bool(result) is stop:
                break
        return result

    def _Compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _IfExp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _Call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        given = [self.value(a) for a in node.args]
        try:
            result = FUNCTIONS[node.func.id](*given)
        except TypeError:  # Python's words are about Python
            self.expression._fail(f"{node.func.id} does not take {' and '.join(map(_kind, given)) or 'nothing'}")
        return self._sized(_bounded(result))

    def _GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp) -> tuple[Any, ...]:
        found: list[Any] = []
        outside = dict(self.scope)
        self._loop(node, 0, found)
        self.scope = outside
        return tuple(found)

    _ListComp = _GeneratorExp

    def _loop(self, node: ast.GeneratorExp | ast.ListComp, depth: int, found: list[Any]) -> None:
        if depth == len(node.generators):
            found.append(self.value(node.elt))
            return
        loop = node.generators[depth]
        items = self.value(loop.iter)
        if not isinstance(items, tuple | list):
            self.expression._fail(f"{ast.unparse(loop.iter)} is {_kind(items)}, not a list")
        for item in items:
            self._bind(loop.target, item)
            if all(self.value(condition) for condition in loop.ifs):
                self._loop(node, depth + 1, found)

    def _bind(self, target: ast.expr, item: Any) -> None:
        if isinstance(target, ast.Name):
            self.scope[target.id] = item
            return
        if not isinstance(target, ast.Tuple | ast.List) or len(target.elts) != len(item):
            self.expression._fail(f"{item!r} does not fit {ast.unparse(target)}")
        for part, value in zip(target.elts, item, strict=True):
            self._bind(part, value)


def _range(*arguments: Any) -> tuple[int, ...]:
    if not 1 <= len(arguments) <= 3 or not all(isinstance(a, int) for a in arguments):
        got = ", ".join(repr(a)[:40] for a in arguments[:4]) or "none"
        raise ValueError(f"range takes one to three whole numbers, got {got}")
    span = range(*arguments)
    if len(span) > MAX_LENGTH:
        raise ValueError(f"a range of {len(span)} numbers")
    return tuple(span)


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError("a number beyond what anything here needs")
    if isinstance(value, complex):
        raise ValueError("a complex number")
    if isinstance(value, str | tuple | list) and len(value) > MAX_LENGTH:
        raise OverflowError(f"more than {MAX_LENGTH} elements")
    return value


def _kind(value: Any) -> str:
    if value is None or isinstance(value, Mapping):
        return "nothing" if value is None else "a record"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    return str(error) or type(error).__name__


@functools.lru_cache(maxsize=1024)
def _placeholders(text: str) -> tuple[str | Expression, ...]:
    """The literal pieces and the ``{expressions}`` of a message, in order; ``{{`` and ``}}`` are braces."""
    pieces: list[str | Expression] = []
    rest = text
    while rest:
        at = min((i for i in (rest.find("{"), rest.find("}")) if i >= 0), default=-1)
        if at < 0:
            pieces.append(rest)
            break
        pieces.append(rest[:at])
        if rest[at : at + 2] in ("{{", "}}"):
            pieces.append(rest[at])
            rest = rest[at + 2 :]
            continue
        end = rest.find("}", at)
        if rest[at] == "}" or end < 0:
            raise ExpressionError(f"in {text!r}: a brace without its partner (write {{{{ and }}}} for braces)")
        pieces.append(Expression(rest[at + 1 : end]))
        rest = rest[end + 1 :]
    return tuple(pieces)


def expressions_in(text: str) -> tuple[Expression, ...]:
    """The expressions in the braces of ``text``."""
    return tuple(p for p in _placeholders(text) if isinstance(p, Expression))


def outlined(text: str, word: str) -> str:
    """``text`` with ``word`` in the place of each expression."""
    return "".join(p if isinstance(p, str) else word for p in _placeholders(text))


def fill(text: str, values: Mapping[str, Any] | None, spend: Callable[[int], None] | None = None) -> str:
    """``text`` with each ``{expression}`` replaced by its value; with ``values=None`` it is only checked. ``spend`` as
    in ``Expression.evaluate``."""
    pieces = _placeholders(text)
    if values is None:
        return text
    return "".join(p if isinstance(p, str) else _shown(p.evaluate(values, spend)) for p in pieces)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return "×".join(_shown(v) for v in value) if value else "[]"
    return str(value)
