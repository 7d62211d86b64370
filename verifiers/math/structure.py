"""What an answer is: a value, a point or interval, a list, a union, a matrix, an equation, words.

`read_answer` finds the structure of a normalised text and reads the values in it with `read_expression`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from verifiers.math.expression import read_expression
from verifiers.math.form import Form, Letter, Unreadable, unknown
from verifiers.math.latex import letters
from verifiers.math.units import read_scale, read_unit

MAX_ITEMS = 200


class Value(NamedTuple):
    """A number or a closed form."""

    form: Form
    unit: str | None = None  # one of those that are known; None too for words that are none


class Numeral(NamedTuple):
    """Digits in a base that is written with them."""

    digits: str
    base: int


class Words(NamedTuple):
    """Text; it may hold formulas that can't be told from it."""

    text: str  # without spaces and brackets


class Group(NamedTuple):
    """A point, a vector, an interval: entries in order, between brackets that count."""

    brackets: str  # (), [], (] or [)
    items: "tuple[Answer, ...]"


class Collection(NamedTuple):
    """A list without brackets, or a set."""

    items: "tuple[Answer, ...]"
    braces: bool  # a set: repeated items count once


class Union(NamedTuple):
    """A union of intervals and sets."""

    parts: "tuple[Answer, ...]"


class Matrix(NamedTuple):
    """Rows of entries."""

    rows: "tuple[tuple[Answer, ...], ...]"


class Named(NamedTuple):
    """What a name is said to be: x = 5, f(x) = 2x, x in [0, 1], (b, c) = (6, 5)."""

    name: str
    body: "Answer"


class Equation(NamedTuple):
    """A relation between unknowns: left side less right side."""

    difference: Form


Answer: TypeAlias = Value | Numeral | Words | Group | Collection | Union | Matrix | Named | Equation

_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_CONJUNCTION = re.compile(r"[,;]?\\text\{(?:and|or|and also)\},?|;")
_NUMERAL = re.compile(r"(-?[0-9][0-9A-F]*)_\{?([0-9]{1,2})\}?(?:\\text\{[a-z]*\})?")
_FUNCTION_NAME = re.compile(r"[A-Za-z](?:_\{?[0-9]\}?)?(?:\^\{-1\})?\([a-z](?:,[a-z])*\)")
_NAMES = re.compile(r"\([A-Za-z](?:,[A-Za-z])+\)")
_MATRIX = re.compile(r"\(?\\begin\{[pb]?(?:matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{[pb]?(?:matrix|array)\}\)?")
_AFFIX = r"\\text\{([^{}]*)\}"
_SUFFIX = re.compile(rf"(.+?)(?:{_AFFIX}(?:\^\{{?([0-9])\}}?)?|(%)|(\^\{{?\\circ\}}?)|(\\dollar))")
_PREFIX = re.compile(rf"(?:{_AFFIX}|(-?\\dollar ?))(.+)")
_RELATION = re.compile(r"\\le(?![a-z])|\\ge(?![a-z])|<|>|=|\\in(?![a-z])|\\approx|\\ne(?![a-z])|\\to|\\equiv")
_SIDE_CONDITIONS = ("where", "for", "with", "if", "such", "since", "when")
_CHOICE = ("option", "choice", "answer", "the answer is", "answer is", "is")
_INFINITY = unknown("\\infty")


@lru_cache(maxsize=4096)
def read_answer(text: str) -> Answer:
    """The structure of a normalised text; raises `Unreadable`, or `Absurd` for what could never be written down."""
    disjunction = r"\text{or}" in text
    text = _CONJUNCTION.sub(",", text)
    if text[:1] not in "([" and not text.startswith(r"\{"):
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    pieces = [piece for piece in _split(text, ",") if not _is_side_condition(piece)]
    if len(pieces) > MAX_ITEMS:
        raise Unreadable(f"more than {MAX_ITEMS} items")
    if len(pieces) == 1:
        return _read_piece(pieces[0])
    items = tuple(_flat(_read_piece(piece) for piece in pieces))
    if any(isinstance(item, Named) and _is_interval(item.body) for item in items):
        if not disjunction:
            raise Unreadable("inequalities side by side")
        return Union(tuple(item.body if isinstance(item, Named) else item for item in items))
    return Collection(items, braces=False)


def _read_piece(text: str) -> Answer:
    """What stands between commas."""
    if not text:
        raise Unreadable("nothing between two commas")
    parts = _split(text, r"\cup")
    if len(parts) > 1 and not any(_RELATION.search(part) for part in parts):
        return Union(tuple(_read_item(part) for part in parts))
    cuts = [match for match in _RELATION.finditer(text) if _depth(text, match.start()) == 0]
    if cuts:
        bounds = [0, *(place for match in cuts for place in match.span()), len(text)]
        sides = [text[start:end].strip() for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
        return _read_relation(sides, [match[0] for match in cuts])
    return _read_item(text)


def _read_relation(sides: list[str], signs: list[str]) -> Answer:
    if set(signs) == {"="}:
        return _read_equation(sides)
    if signs == [r"\in"]:
        return Named(sides[0], _read_piece(sides[1]))
    forms = [read_expression(side) for side in sides]
    places = [index for index, form in enumerate(forms) if _only_unknown(form) is not None]
    upward, downward = set(signs) <= {"<", r"\le"}, set(signs) <= {">", r"\ge"}
    if len(places) != 1 or len(forms) > 3 or not (upward or downward) or (len(forms) == 3 and places != [1]):
        raise Unreadable("a relation that is no interval")
    if downward:
        forms, signs, places = forms[::-1], signs[::-1], [len(forms) - 1 - places[0]]
    (place,) = places
    low, high = (Value(forms[0]) if place else Value(-_INFINITY)), (Value(forms[-1]) if place < len(signs) else None)
    opening = "[" if place and signs[0] in (r"\le", r"\ge") else "("
    closing = "]" if high is not None and signs[-1] in (r"\le", r"\ge") else ")"
    return Named(
        sides[1] if len(sides) == 3 else sides[place if upward else 1 - place],
        Group(opening + closing, (low, high if high is not None else Value(_INFINITY))),
    )


def _read_equation(sides: list[str]) -> Answer:
    first, last = sides[0], sides[-1]
    body = _read_piece(last) if last else None
    if body is None:
        raise Unreadable("nothing behind an equals sign")
    if _FUNCTION_NAME.fullmatch(first) or _NAMES.fullmatch(first) or first.startswith((r"\text{", "?")) or not first:
        return Named(first, body)
    left = read_expression(first)
    if _only_unknown(left) is not None or not isinstance(body, Value):
        return Named(first, body)
    if len(sides) > 2:
        return body
    difference = left - body.form
    if difference.is_zero or not any(letter.kind == "unknown" for letter in difference.letters):
        return body  # 2^3 = 8: working, and its result
    return Equation(difference)


def _read_item(text: str) -> Answer:
    """A value, or something in brackets."""
    if not text:
        raise Unreadable("nothing where something should be")
    if text == r"\emptyset":
        return Collection((), braces=True)
    if text.startswith(r"\{") and text.endswith(r"\}") and _closes_last(text):
        return Collection(tuple(_flat(_read_piece(piece) for piece in _split(text[2:-2], ","))), braces=True)
    if r"\pm" in text or r"\mp" in text:
        upper = text.replace(r"\pm", "+").replace(r"\mp", "-")
        lower = text.replace(r"\pm", "-").replace(r"\mp", "+")
        return Collection(tuple(_flat([_read_item(upper), _read_item(lower)])), braces=False)
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        rows = [row for row in matrix[1].split(r"\\") if row]
        return Matrix(tuple(tuple(_read_item(entry) for entry in row.split("&")) for row in rows))
    if text[0] in "([" and text[-1] in ")]" and _closes_last(text) and len(items := _split(text[1:-1], ",")) > 1:
        return Group(text[0] + text[-1], tuple(_read_item(item) for item in items))
    if (numeral := _NUMERAL.fullmatch(text)) is not None:
        return Numeral(numeral[1].lstrip("0") or "0", int(numeral[2]))
    return _read_value(text)


def _read_value(text: str) -> Answer:
    r"""A form between what names its unit; ``\text`` elsewhere makes words of it all."""
    body, unit, scale = text, None, 0
    while (match := _PREFIX.fullmatch(body)) is not None:
        if len(match[3]) == 1 and match[3].isalpha() and (match[1] or "").casefold() not in _CHOICE:
            return Words(letters(text))  # "The vitamin C" is not C
        sign = "-" if match[2] and match[2].startswith("-") else ""
        unit, body = unit or ("dollar" if match[2] else None), sign + match[3]
    while (match := _SUFFIX.fullmatch(body)) is not None:
        body, words, power, percent, degree, dollar = match.groups()
        tens, words = read_scale(words or "")
        scale += tens
        unit = unit or ("percent" if percent else "degree" if degree else "dollar" if dollar else None)
        unit = unit or read_unit(words, power or "")
    if r"\text" in body:
        return _read_text(text)
    form = read_expression(body)
    return Value(form * Form.number(10**scale) if scale else form, unit)


def _read_text(text: str) -> Answer:
    match = re.fullmatch(_AFFIX, text)
    if match is None or not re.fullmatch(r"[-+0-9A-Z.,/ ]*", match[1]) or not match[1].strip("-+., "):
        return Words(letters(text))
    pieces = match[1].replace(" ", "").split(",")  # \text{5}, \text{A,D}
    if len(pieces) == 1 and pieces[0].isalpha():
        return Words(letters(text))
    values = [Value(read_expression(piece)) for piece in pieces]
    return values[0] if len(values) == 1 else Collection(tuple(values), braces=False)


def _flat(items: "Iterator[Answer] | list[Answer]") -> Iterator[Answer]:
    """Items, with those of lists among them: the two of a plus-minus, say."""
    for item in items:
        if isinstance(item, Collection) and not item.braces:
            yield from item.items
        else:
            yield item


def _is_interval(answer: Answer) -> bool:
    return isinstance(answer, Group) and len(answer.items) == 2


def _is_side_condition(piece: str) -> bool:
    """Whether it says for what the answer holds: where k is an integer."""
    if re.match(r"[A-Za-z]\\in\\mathbb", piece):
        return True
    return piece.startswith(r"\text{") and piece[6:].split(" ")[0].rstrip("}").casefold() in _SIDE_CONDITIONS


def _only_unknown(form: Form) -> Letter | None:
    """The unknown that a form is, if it is one and nothing more."""
    letters = form.letters
    alone = len(letters) == 1 and form.spelling == Form.letter(next(iter(letters))).spelling
    letter = next(iter(letters)) if alone else None
    return letter if letter is not None and letter.kind == "unknown" and letter.name != "\\infty" else None


def _depths(text: str) -> list[int]:
    """How many brackets are open before each character; round and square ones close each other, as in (0, 1]."""
    depths, depth = [], 0
    for character in text:
        depth -= character in ")]}"
        depths.append(depth)
        depth += character in "([{"
    return depths


def _depth(text: str, position: int) -> int:
    return _depths(text)[position]


def _closes_last(text: str) -> bool:
    """Whether the bracket that a text begins with is closed by its last one."""
    first = 1 if text.startswith("\\") else 0
    depths = _depths(text)
    return min(depths[first + 1 : -1], default=1) >= 1 and depths[-1] == 0


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators outside of all brackets."""
    depths, parts, start = _depths(text), [], 0
    position = text.find(separator)
    while position >= 0:
        if depths[position] == 0:
            parts.append(text[start:position].strip())
            start = position + len(separator)
        position = text.find(separator, position + len(separator))
    return [*parts, text[start:].strip()]
