"""What sympy's ``parse_expr`` builds, without its ``eval``.

``parse_expr`` rewrites the tokens of a text into Python source and evaluates it. ``sympify`` of a string comes down to
it, and so does ``Number("9")``, which the readers of LaTeX call for each numeral. Here the same rewriting makes the
source, Python's ``ast`` reads it, and a walk over arithmetic, numbers, symbols and a few named functions builds the
value. All else is refused: attributes, indexing, strings, comprehensions, other names.
"""

import ast
import builtins
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import BuiltinFunctionType
from typing import Any

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_CONSTANTS = ("pi", "oo", "zoo", "nan")
_FUNCTIONS = ("sqrt", "ln", "log", "exp", "re", "im", "factorial")
_NUMBERS = ("Integer", "Float", "Rational")
_NAMED = ("Symbol", "Function")


@contextmanager
def no_eval() -> Iterator[None]:
    """Put this in the place of ``parse_expr`` for sympy and Math-Verify while they read a model's text.

    In a worker, where nothing else runs. Comparing what was read needs no text, and is left as it is: sympy hands
    ``parse_expr`` texts of its own there.
    """
    from sympy.parsing import sympy_parser

    holders: list[Any] = [sympy_parser]
    try:
        from math_verify import parser
    except ImportError:
        pass
    else:
        holders.append(parser)
    original = sympy_parser.parse_expr
    try:
        for holder in holders:
            holder.parse_expr = _parse_expr
        yield
    finally:
        for holder in holders:
            holder.parse_expr = original


def parse_implicit(text: str) -> Any:
    """What ``parse_expr`` with implicit multiplication gives; raises where it does, and where this refuses."""
    from sympy.parsing import sympy_parser

    return _parse_expr(
        text, transformations=(*sympy_parser.standard_transformations, sympy_parser.implicit_multiplication_application)
    )


def _parse_expr(
    s: str, local_dict: Any = None, transformations: Any = None, global_dict: Any = None, evaluate: bool = True
) -> Any:
    """Stands for ``sympy.parsing.sympy_parser.parse_expr``."""
    from sympy.parsing import sympy_parser

    if not evaluate:
        return _arithmetic(ast.parse(s.strip(), mode="eval").body)
    source = sympy_parser.stringify_expr(
        s, {}, dict(_names()), transformations or sympy_parser.standard_transformations
    )
    return _value(ast.parse(source.strip(), mode="eval").body)


@cache
def _names() -> dict[str, Any]:
    """The names that ``parse_expr`` leaves as they are; none of those outside our lists is ever used."""
    import sympy

    functions = {name: None for name, made in vars(builtins).items() if isinstance(made, BuiltinFunctionType)}
    return functions | {name: getattr(sympy, name) for name in sympy.__all__}


def _value(node: ast.AST) -> Any:
    import sympy

    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return getattr(sympy, node.id)
    if isinstance(node, ast.Call) and not node.keywords:
        return _call(node)
    raise ValueError(f"{type(node).__name__} is not read")


def _call(node: ast.Call) -> Any:
    import sympy

    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _NUMBERS or name in _NAMED:
        return getattr(sympy, name)(*(_constant(argument, word=name in _NAMED) for argument in node.args))
    arguments = [_value(argument) for argument in node.args]
    if name in _FUNCTIONS:
        return getattr(sympy, name)(*arguments)
    if isinstance(node.func, ast.Call):  # an unknown function of something
        function = _value(node.func)
        if isinstance(function, sympy.core.function.UndefinedFunction):
            return function(*arguments)
    raise ValueError(f"{name or 'this'} is not called")


def _constant(node: ast.AST, *, word: bool) -> int | str:
    """A number, which Float has as a text, or the name of a symbol."""
    value = node.value if isinstance(node, ast.Constant) else None
    if type(value) is int and not word:
        return value
    if isinstance(value, str) and (value.isidentifier() if word else value.isascii()):
        return value
    raise ValueError("a constant is not read")


def _arithmetic(node: ast.AST) -> Any:
    """Numbers and operators alone, with ``evaluate=False``."""
    import sympy

    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sympy.Integer(node.value) if isinstance(node.value, int) else sympy.Float(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _arithmetic(node.operand)
        return sympy.Mul(-1, inner, evaluate=False) if isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        raise ValueError(f"{type(node).__name__} is not read")
    left, right = _arithmetic(node.left), _arithmetic(node.right)
    if isinstance(node.op, ast.Sub):
        right = sympy.Mul(-1, right, evaluate=False)
    if isinstance(node.op, ast.Div):
        right = sympy.Pow(right, -1, evaluate=False)
    made = {ast.Add: sympy.Add, ast.Sub: sympy.Add, ast.Pow: sympy.Pow}.get(type(node.op), sympy.Mul)
    return made(left, right, evaluate=False)
