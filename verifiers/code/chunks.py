"""Python source as top-level statements, told apart by their lines alone.

Model text is never parsed here: a parser can be driven to its limits, and what was cut off doesn't parse. A statement
begins at a line without indentation, outside strings in triple quotes; closing brackets, ``else:`` and comments inside
a body go on with the one before.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

_WORD = re.compile(r"[^\W\d]\w*")
_QUOTES = re.compile(r'"""|\'\'\'|#')
_GOES_ON = re.compile(r"[)\]}]|(?:else|elif|except|finally)\b")
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_IMPORT = re.compile(r"from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+\w[\w.]*(?:[ \t]+as[ \t]+\w+)?[ \t]*(?:[,;#]|$)")
_MAIN = re.compile(r"if\s+\(?\s*__name__\b")
_COMPOUND = re.compile(r"(?:async|if|for|while|try|with)\b.*:[ \t]*(?:#.*)?$")
_TARGET = r"[^\W\d]\w*(?:\.\w+|\[[^\]\n]*\])*"
_ASSIGNMENT = re.compile(
    rf"({_TARGET}(?:[ \t]*,[ \t]*{_TARGET})*,?)[ \t]*(?::[^=\n]*)?(?://|\*\*|>>|<<|[-+*/%&|^@])?=(?!=)"
)
_CHANGE = re.compile(r"([^\W\d]\w*)(?:\[[^\]\n]*\])*[ \t]*(?:(?://|[-+*/%&|^])?=(?!=)|\.\w+\()")
_INNER = re.compile(
    r"^[ \t]+(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(.+))", re.M
)
_TEST_RUNNERS = frozenset({"unittest", "doctest", "pytest"})
_CALL = re.compile(r"([^\W\d]\w*)((?:\.\w+)*)[ \t]*\(|assert\b|[\"']")


class Kind(Enum):
    """What a statement is, as far as its first line tells."""

    BODY = auto()  # begins indented: it goes on with something before the text
    DEFINITION = auto()
    IMPORT = auto()
    ASSIGNMENT = auto()
    COMPOUND = auto()  # if, for, while, try, with
    MAIN = auto()  # if __name__ == ...
    CALL = auto()  # an expression or an assert
    PROSE = auto()  # no Python that is known here


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A top-level statement, with the comments and blank lines behind it."""

    kind: Kind
    text: str
    start: int  # in the source
    names: frozenset[str]  # what it binds, or changes

    @property
    def words(self) -> frozenset[str]:
        """All words in it, those of strings and comments too."""
        return frozenset(_WORD.findall(self.text))


def split_chunks(source: str) -> list[Chunk]:
    """The top-level statements of a source, in order; their texts add up to it. Linear in its length."""
    starts = _starts(source)
    ends = [*starts[1:], len(source)]
    return [_chunk(source[start:end], start) for start, end in zip(starts, ends, strict=True)]


def reachable(chunks: Sequence[Chunk], roots: Iterable[int]) -> set[int]:
    """Which chunks the roots need, [indices]: those that bind a word of theirs, and so on from there."""
    kept: set[int] = set()
    binders: dict[str, list[int]] = {}
    for index, chunk in enumerate(chunks):
        for name in chunk.names:
            binders.setdefault(name, []).append(index)
    waiting = list(roots)
    while waiting:
        index = waiting.pop()
        if index not in kept:
            kept.add(index)
            waiting += [other for word in chunks[index].words for other in binders.pop(word, ())]
    return kept


def _starts(source: str) -> list[int]:
    """Where the statements begin; the first one begins at 0."""
    starts, quote, position, comment = [0], "", 0, -1
    seen = decorated = False  # a statement; decorators, whose function is to follow
    for line in source.split("\n"):
        flush = bool(line) and not quote and not line[0].isspace()
        if flush and line[0] == "#":
            comment = position if comment < 0 else comment  # of the next statement, unless the body goes on
        elif flush and not _GOES_ON.match(line):
            if seen and not decorated:
                starts.append(position if comment < 0 else comment)
            decorated, comment = line[0] == "@", -1
        elif line.strip():
            comment = -1
        seen = seen or (bool(line.strip()) and comment < 0)
        quote = _quote_after(line, quote)
        position += len(line) + 1
    return starts


def _quote_after(line: str, quote: str) -> str:
    """The triple quote that is open at the end of a line, given the one at its beginning; empty if none is."""
    for mark in _QUOTES.findall(line):
        if quote:
            quote = "" if mark == quote else quote
        elif mark == "#":
            break
        else:
            quote = mark
    return quote


def _chunk(text: str, start: int) -> Chunk:
    code = "\n".join(line.rstrip() for line in text.split("\n") if line.strip() and not line.startswith("#"))
    kind, names = _kind(code)
    return Chunk(kind=kind, text=text, start=start, names=names)


def _kind(code: str) -> tuple[Kind, frozenset[str]]:
    """What a statement is, and what it binds; comments and blank lines are gone from its code."""
    first = code.partition("\n")[0]
    if first[:1].isspace():
        return Kind.BODY, frozenset()
    if first.startswith("@") or _DEFINITION.match(first):
        return Kind.DEFINITION, frozenset(_DEFINITION.findall(code))
    if _IMPORT.match(first):
        return Kind.IMPORT, frozenset(_WORD.findall(code))
    if _MAIN.match(first):
        return Kind.MAIN, frozenset()
    if _COMPOUND.match(first):
        return Kind.COMPOUND, frozenset(_CHANGE.findall(code)) | _inner_names(code)
    if match := _ASSIGNMENT.match(first):
        return Kind.ASSIGNMENT, frozenset(_WORD.findall(match[1]))
    if match := _CALL.match(first):
        return Kind.CALL, frozenset([match[1]] if match[2] else ()) - _TEST_RUNNERS
    return Kind.PROSE, frozenset()


def _inner_names(code: str) -> frozenset[str]:
    """What the branches of a compound statement define and import."""
    return frozenset(word for found in _INNER.findall(code) for part in found for word in _WORD.findall(part))
