"""The expression language computes what it should, and nothing else: no calls, no attributes of Python, no blow-ups."""

from __future__ import annotations

import time

import pytest

from instep.graph.expression import Expression, ExpressionError, fill

X = {"x": {"shape": (1, 8, 8, 3), "rank": 4, "dtype": "float32"}, "n": 6}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n * 2 + 1", 13),
        ("n // 4, n % 4, -n", (1, 2, -6)),
        ("x.rank <= 4 and x.shape[3] == 3", True),
        ("x.shape[1:3]", (8, 8)),
        ("prod(x.shape)", 192),
        ("all(s == 1 for s in x.shape[:-3])", True),
        ("sum(a * b for a, b in zip(x.shape, (1, 1, 1, 2)) if a > 1)", 8 + 8 + 6),
        ("1 < n < 7", True),
        ("'even' if n % 2 == 0 else 'odd'", "even"),
        ("x.dtype in ('float32', 'float16')", True),
        ("max(x.shape) - min(x.shape)", 7),
        ("n > 3 or 1 / 0 > 1", True),
        ("None is None", True),
    ],
)
def test_expressions_compute(text: str, value: object) -> None:
    assert Expression(text, X).evaluate(X) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "x.__class__", "().__class__.__bases__", "open('f')", "lambda: 1", "(y := 1)", "f'{n}'",
        "[i for i in range(10 ** 9)]", "9 ** 9 ** 9", "'a' * 10 ** 9", "b'x'", "n.real", "x.nothing", "nowhere",
        "sum(i * j for i in range(9999) for j in range(9999))", "(" * 900, "-" * 1900 + "1", "n if", "1 +", "*n",
        "print(n)", "max(*x.shape)", "min(key=n)", "{1: 2}", "{1}", "x.shape[9]", "n / 0", "yield n", "await n", "1j",
        "n; n", "x" * 3000, "(1, 2) + n", "-'a'", "2.0 ** 1e9", "range(0, 10 ** 7)", "n @ n", "n << 9999",
    ],
)  # fmt: skip
def test_everything_else_is_an_error_that_comes_at_once(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError):
        Expression(text, X).evaluate(X)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("range('a')", "range takes one to three whole numbers, got 'a'"),
        ("range(2.5)", "range takes one to three whole numbers, got 2.5"),
        ("range()", "range takes one to three whole numbers, got none"),
        ("len(n)", "len does not take an int"),
        ("sum(x)", "sum does not take a record"),
        ("sqrt('a')", "sqrt does not take a str"),
    ],
)
def test_what_a_function_does_not_take_is_said_in_words_of_the_language(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text, X).evaluate(X)
    assert str(caught.value) == f"in {text!r}: {said}"


def test_a_message_is_filled_with_values() -> None:
    assert fill("{n} of {x.shape}, {{braces}}, {n / 4}", X) == "6 of 1×8×8×3, {braces}, 1.5"
    with pytest.raises(ExpressionError, match="brace"):
        fill("{n", None)


def test_the_names_that_are_read_are_known_beforehand() -> None:
    expression = Expression("all(s < n for s in x.shape)")
    assert expression.names == {"n", "x"}
    assert expression.fields == {("x", "shape")}
    with pytest.raises(ExpressionError, match="'y', which does not exist"):
        Expression("y + 1", X)
