"""The examples that a problem shows: doctests, "f(x) == y" and "f(x) -> y", read and never run.

What goes into a test is either a literal or built of a few harmless names (`_SAFE`); an example that takes more, such
as a call of a helper, is left out.
"""

import ast
import builtins
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_ARROW = re.compile(r"\s*(?:={1,3}>|-{1,2}>|==|=|➞|→|➔|(?:#\s*)?(?:(?:should |will |must )?returns?|gives)\b:?)\s*")
_AFTER = re.compile(r"\s*$|\s*[#,;(\"'\n]|\.(?:\s|$)|\s+(?!(?:or|if|in|is|not)\b)[^\W\d]")
_SAFE = frozenset({"set", "frozenset", "sorted", "list", "tuple", "dict", "len", "abs", "round", "int", "float", "str"})
_NODES = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load, ast.Call, ast.keyword),
    *(ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.Compare, ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.Add, ast.Sub),
)
_MOST, _LONGEST = 32, 2000  # examples of a problem, characters of one

SAME = '''
import math


def _same(found, wanted):
    """Equal; numbers up to what printing them cuts off."""
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return found == wanted or abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted))
    if isinstance(wanted, (list, tuple)) and type(found) is type(wanted) and len(found) == len(wanted):
        return all(map(_same, found, wanted))
    return found == wanted
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A call of the wanted function and what it is to give."""

    call: str  # source: the function's name and literals
    test: str  # source of an assert; may use `SAME`
    shown: str  # for people and models


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What a problem shows of the function that it wants."""

    entry_point: str  # empty: no function is named
    examples: tuple[Example, ...]


def read_examples(question: str) -> Examples:
    """The examples in a question: code whose last function is the wanted one, or prose with asserts."""
    tree = _parsed(question, "exec")
    functions = [node for node in getattr(tree, "body", ()) if isinstance(node, ast.FunctionDef)]
    if functions:
        entry_point, text = functions[-1].name, ast.get_docstring(functions[-1]) or question
    else:
        entry_point, text = _called(question), question
    found = dict.fromkeys(_examples(text, entry_point)) if entry_point else {}
    return Examples(entry_point=entry_point, examples=tuple(found)[:_MOST])


def _examples(text: str, entry_point: str) -> Iterator[Example]:
    lines = [line.strip() for line in text.split("\n")]
    for index, line in enumerate(lines):
        example = None
        if line.startswith("assert "):
            example = _assertion(line.removeprefix("assert "), entry_point)
        elif line.startswith(">>>"):
            example = _doctest(line[3:].strip(), lines[index + 1 :], entry_point)
        elif line.startswith("Input:") and index + 1 < len(lines):
            example = _in_and_out(line, lines[index + 1], entry_point)
        if example is not None:
            yield example
        elif not line.startswith(">>>") and not (line.startswith("assert ") and _parsed(line, "exec")):
            yield from _inline(line, entry_point)


def _in_and_out(line: str, after: str, entry_point: str) -> Example | None:
    """``Input: 3`` or ``Input: n = 3, k = 4``, and ``Output: 5`` on the line behind."""
    call, rest = _split_call(f"{entry_point}({line.removeprefix('Input:').strip()})", entry_point)
    literal = _literal_prefix(after.removeprefix("Output:")) if after.startswith("Output:") else None
    return None if call is None or rest or literal is None else _example(call, literal)


def _assertion(source: str, entry_point: str) -> Example | None:
    """An assert as it stands, if it holds nothing but literals, safe names and calls of the function."""
    tree = _parsed(source, "eval")
    if tree is None or not _harmless(tree, entry_point):
        return None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) == entry_point]
    shown = ast.unparse(tree)
    return Example(call=ast.unparse(calls[0]), test=f"assert {shown}", shown=shown) if calls else None


def _doctest(source: str, after: list[str], entry_point: str) -> Example | None:
    """A doctest: what is behind the prompt, and the lines up to the next one or an empty one."""
    call, rest = _split_call(source, entry_point)
    if call is None or rest:
        return _assertion(source, entry_point) if call is not None and after[:1] != ["False"] else None
    wanted: list[str] = []
    for line in after:
        if not line or line.startswith(">>>"):
            break
        wanted.append(line)
        literal = _literal(" ".join(wanted))
        if literal is not None:
            return _example(call, literal)
    return None


def _inline(line: str, entry_point: str) -> Iterator[Example]:
    """All "f(x) == y" of a line, with any of the arrows that stand for "gives"."""
    while (start := line.find(entry_point + "(")) >= 0:
        if start and (line[start - 1].isalnum() or line[start - 1] in "_."):
            line = line[start + 1 :]
            continue
        call, line = _split_call(line[start:], entry_point)
        if call is None:
            line = line[len(entry_point) :]
            continue
        if arrow := _ARROW.match(line):
            literal = _literal_prefix(line[arrow.end() :])
            if literal is not None:
                yield _example(call, literal)


def _example(call: str, literal: str) -> Example:
    return Example(call=call, test=f"assert _same({call}, {literal})", shown=f"{call} == {literal}")


def _split_call(text: str, entry_point: str) -> tuple[str | None, str]:
    """The call of the function at the beginning of a text, all its arguments literals, and what follows."""
    if not text.startswith(entry_point + "("):
        return None, text
    for end in (match.end() for match in re.finditer(r"\)", text[:_LONGEST])):
        tree = _parsed(text[:end], "eval")
        if isinstance(tree, ast.Expression) and isinstance(tree.body, ast.Call):
            literal = all(map(_is_literal, [*tree.body.args, *(word.value for word in tree.body.keywords)]))
            return (ast.unparse(tree) if literal else None), text[end:]
    return None, text


def _literal_prefix(text: str) -> str | None:
    """The longest literal that a text begins with, if what follows can't be more of the expression."""
    text = text[:_LONGEST]
    for end in range(len(text), 0, -1):
        if text[end - 1] not in " \t.," and _AFTER.match(text, end) and (found := _literal(text[:end])) is not None:
            return found
    return None


def _literal(source: str) -> str | None:
    source = source.strip()
    tree = _parsed(source.capitalize() if source in ("true", "false") else source, "eval")
    return ast.unparse(tree) if isinstance(tree, ast.Expression) and _is_literal(tree.body) else None


def _is_literal(node: ast.AST) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _is_complex(node: ast.AST) -> bool:
    """Whether it is the sum that spells a complex number."""
    return isinstance(node, ast.BinOp) and _is_literal(node)


def _harmless(tree: ast.AST, entry_point: str) -> bool:
    calls = {id(node.func): _name(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = _SAFE | {entry_point, "math.isclose"}
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # the name before the dot
    return all(name in names for name in calls.values()) and all(
        id(node) in calls or id(node) in inside or isinstance(node, _NODES) or _is_complex(node)
        for node in ast.walk(tree)
    )


def _called(question: str) -> str:
    """The function that the asserts of a text call; empty if none does."""
    names: list[str] = []
    for line in question.split("\n"):
        tree = _parsed(line.strip(), "exec") if line.strip().startswith("assert ") else None
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree is not None else []
        names += [name for name in map(_name, calls) if name.isidentifier()]
    return next((name for name in names if not hasattr(builtins, name)), names[0] if names else "")


def _name(call: ast.Call) -> str:
    """The name that is called, with the dots in it; empty for what has none."""
    return ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""


def _parsed(source: str, mode: str) -> ast.AST | None:
    """The tree of a source; None where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, mode=mode)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
