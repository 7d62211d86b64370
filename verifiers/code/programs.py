"""From a model's text to a program: what of the text is code, and how it goes together with the prompt.

Base models go on with the prompt, chat models write fenced blocks, and both write more than was asked for: examples,
tests, the next problem. `find_code` takes what is code from the text alone. `assemble` knows the function that is
wanted and keeps that, all that it needs, and the prompt's own imports and helpers.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from verifiers.base import Extraction
from verifiers.code.chunks import Chunk, Kind, reachable, split_chunks
from verifiers.exact import NO_ANSWER

CELL = "\n\f\n"  # between blocks of one text; white space to Python
_LONGEST = 200_000  # characters of a text that are read
_FENCE = re.compile(
    r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ \t]*(?P<tag>[^\s`]*)[^`\n]*\n"
    r"(?P<code>.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t\r]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_BARE_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_PYTHON = frozenset({"python", "py", "python3", "py3"})
_CONTINUES = re.compile(r"\s*^(?: {2,}|\t)\S", re.MULTILINE)
_STARTS = (Kind.DEFINITION, Kind.IMPORT)  # with what a program in plain text begins
_BINDING = (*_STARTS, Kind.ASSIGNMENT)
_THINK, _THOUGHT = "<think>", "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFormat:
    """Programs: in fenced blocks, as a continuation of the prompt, or as plain text.

    Two programs are equal when they are spelt alike, up to white space at the ends of lines and empty lines.
    """

    name = "code"
    equality = None

    def extract(self, text: str) -> Extraction:
        """The code in a model's text, see `find_code`."""
        return find_code(text)

    def key(self, value: str) -> str:
        """The program without what can't be seen."""
        return "\n".join(line.rstrip() for line in value.split("\n") if line.strip())


def find_code(text: str) -> Extraction:
    """The code in a text. What stands before ``</think>`` is none, nor is prose.

    - ``continuation``: the text goes on with the prompt's function; that, and what follows of statements it needs.
    - ``text``: the text begins with code.
    - ``fenced``: all blocks of Python, or those without a language where none is; joined by `CELL`. A block that never
      closes counts only if it is the only one.
    - ``behind prose``: code without fences.
    """
    text = text[:_LONGEST]
    start = text.rfind(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else 0
    if _THINK in text[start:]:
        return NO_ANSWER
    if _CONTINUES.match(text, start):
        return _continuation(text, start)
    chunks = split_chunks(_before_fence(text, start))
    first = _first_code(chunks)
    fenced = _fenced(text, start)
    if first is None or (first > 0 and _BARE_FENCE.search(text, start)):
        return fenced
    code = list(takewhile(lambda chunk: chunk.kind is not Kind.PROSE, chunks[first:]))
    while code[-1].kind in (Kind.CALL, Kind.MAIN):  # what follows the program are uses of it
        code.pop()
    found = "".join(chunk.text for chunk in code).rstrip()
    begin = start + chunks[first].start
    rule = "behind prose" if first else "text"
    return _extraction(found, rule, begin, begin + len(found))


def assemble(value: str, *, prompt: str, entry_point: str, also: Collection[str] = ()) -> str:
    """A whole program that defines the entry point, if the extracted value does, or can with the prompt before it.

    Args:
        value: What `find_code` found.
        prompt: Code that the model saw: imports, helpers, and perhaps the head of the function.
        entry_point: The function that is wanted.
        also: Other names that are wanted where the program has them, such as classes that its tests use.
    """
    cells = [_Cell.of(cell, entry_point) for cell in value.split(CELL)]
    main = max((index for index, cell in enumerate(cells) if cell.root is not None), default=None)
    if main is None:
        return _complete(value, cells, prompt, entry_point)
    chunks = [chunk for chunk in split_chunks(prompt) if entry_point not in chunk.names and chunk.kind in _BINDING]
    for index, cell in enumerate(cells):
        kinds = (*_BINDING, Kind.COMPOUND, Kind.CALL) if index == main else _BINDING
        chunks += [c for c in cell.chunks if c.kind in kinds and not _is_example(c, entry_point)]
    return _pruned(chunks, {entry_point, *also})


def _is_example(chunk: Chunk, entry_point: str) -> bool:
    """Whether a statement uses the entry point, or asks somebody at a keyboard."""
    if chunk.kind in (Kind.DEFINITION, Kind.IMPORT) or entry_point in chunk.names:
        return False
    return not chunk.words.isdisjoint((entry_point, "input"))


class _Cell(NamedTuple):
    text: str
    chunks: Sequence[Chunk]
    root: int | None  # the chunk that defines the entry point

    @classmethod
    def of(cls, text: str, entry_point: str) -> "_Cell":
        chunks = split_chunks(text)
        defining = [i for i, chunk in enumerate(chunks) if chunk.kind in _BINDING and entry_point in chunk.names]
        return cls(text, chunks, max(defining, default=None))


def _complete(value: str, cells: Sequence[_Cell], prompt: str, entry_point: str) -> str:
    """The prompt and the body that goes on with it; the value alone where none does."""
    body = next((cell for cell in cells if cell.chunks[0].kind is Kind.BODY), None)
    if body is None:
        return value
    head = prompt if prompt.endswith("\n") else prompt + "\n"
    return head + "".join(chunk.text for chunk in body.chunks if entry_point not in chunk.names).rstrip() + "\n"


def _pruned(chunks: Sequence[Chunk], wanted: Collection[str]) -> str:
    """What is wanted, imports, and whatever these need, in order; imports from the future come first."""
    roots = [
        index
        for index, chunk in enumerate(chunks)
        if chunk.kind is Kind.IMPORT or (chunk.kind in _BINDING and not chunk.names.isdisjoint(wanted))
    ]
    kept = reachable(chunks, roots)
    statements = [chunks[index].text.strip("\n") for index in sorted(kept)]
    statements.sort(key=lambda text: not text.startswith("from __future__"))
    return "\n\n".join(statements) + "\n"


def _continuation(text: str, start: int) -> Extraction:
    """The body at the beginning and what it needs of the statements behind it, up to prose or a fence."""
    start += len(text[start:]) - len(text[start:].lstrip("\n"))
    chunks = split_chunks(_before_fence(text, start))
    end = next((i for i, chunk in enumerate(chunks) if chunk.kind is Kind.PROSE), len(chunks))
    kept = sorted(reachable(chunks[:end], [0]))
    value = "".join(chunks[index].text for index in kept).rstrip()
    last = chunks[kept[-1]]
    return _extraction(value, "continuation", start, start + last.start + len(last.text.rstrip()))


def _fenced(text: str, start: int) -> Extraction:
    """The blocks of Python, or those without a language where none is."""
    blocks = list(_FENCE.finditer(text, start))
    python = [block for block in blocks if block["tag"].lower() in _PYTHON]
    blocks = python or [block for block in blocks if not block["tag"] and _is_program(block["code"])]
    if len(blocks) > 1 and blocks[-1].end("code") == blocks[-1].end():
        blocks.pop()
    blocks = [block for block in blocks if block["code"].strip() and not block["code"].lstrip().startswith(">>>")]
    if not blocks:
        return NO_ANSWER
    cells = [re.sub(rf"^{block['indent']}", "", block["code"], flags=re.MULTILINE).rstrip() for block in blocks]
    return _extraction(CELL.join(cells), "fenced", blocks[0].start(), blocks[-1].end())


def _is_program(code: str) -> bool:
    """Whether a block without a language is one: the fence may also close code, and prose follows."""
    kinds = {chunk.kind for chunk in split_chunks(code)}
    return not kinds.isdisjoint((*_STARTS, Kind.BODY)) and Kind.PROSE not in kinds


def _before_fence(text: str, start: int) -> str:
    fence = _BARE_FENCE.search(text, start)
    return text[start : fence.start() if fence else len(text)]


def _first_code(chunks: Sequence[Chunk]) -> int | None:
    """Where code in plain text begins: at the first definition or import, or at the statements right before it."""
    first = next((i for i, chunk in enumerate(chunks) if chunk.kind in _STARTS), None)
    while first and chunks[first - 1].kind is not Kind.PROSE:
        first -= 1
    return first


def _extraction(value: str, rule: str, start: int, end: int) -> Extraction:
    return Extraction(value=value.replace("\r\n", "\n").strip("\n"), rule=rule, span=(start, end))
