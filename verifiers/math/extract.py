r"""Finding the answer in a solution: an ordered list of rules, each linear in the text's length.

In this order: the last whole ``\boxed{...}`` (or ``\fbox``, or ``\boxed 5``); what the last "the answer is" or
"Answer:" says; the last formula between dollar signs in the last sentence; the number that `NumberFormat` finds.
Reasoning up to its end mark is cut away first, and what a base model writes after its own solution.

A box that is cut off by the end of the text is no answer. If there is a whole one before it, that one counts: models
that are cut off there have mostly begun to repeat themselves. If there is none, no other rule gets a try.
"""

import re
from collections import deque

from verifiers.base import Extraction
from verifiers.exact import NO_ANSWER, last_match
from verifiers.numeric import NumberFormat, first_turn

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_SCAN = re.compile(r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z])\s*)(?P<brace>\{?)|\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"(?:\\[A-Za-z]+(?:\{[^{}]*\})*|[^\s$\\,;])+?(?=[\s$,;]|\\[)\]]|\.?\Z|\.\s)")
_SAYS = re.compile(r"(?i:\banswer\b[*_\s]{0,3}(?:(?:to|for)\s(?:the|this|that)\s\w{1,20}\s)?(?:is\b|:|=))[\s:*_]{0,6}")
_FORMULA = re.compile(r"\$\$([^$]{1,1000})\$\$|\$([^$]{1,1000})\$|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL)
_END_OF_SENTENCE = re.compile(r"[.!?](?=\s|\*|\Z)|\n")
_LAST = 3_000  # characters at the end in which a formula is looked for
_REGION = 600  # characters after "the answer is"
_LONGEST = 100_000  # characters of a box; a longer one is none
_NUMBERS = NumberFormat(reasoning_end="")


def find_answer(text: str, reasoning_end: str) -> Extraction:
    """The answer, as it stands in the text, and the rule that found it. Never raises, any text."""
    marked = bool(reasoning_end) and reasoning_end in text
    start = text.rindex(reasoning_end) + len(reasoning_end) if marked else 0
    body = first_turn(text[start:])
    span, rule = _boxed(body)
    if rule == "cut off":
        return NO_ANSWER
    for find in (_said, _formula) if span is None else ():
        span, rule = find(body)
        if span is not None:
            break
    if span is None:
        number = _NUMBERS.extract(body)
        if number.span is None or number.value is None:
            return NO_ANSWER
        return Extraction(value=number.value, rule=number.rule, span=(start + number.span[0], start + number.span[1]))
    first, last = _trimmed(body, *span, marks=" \t\n" if rule == "boxed" else " \t\n*_.")
    return Extraction(value=body[first:last], rule=rule, span=(start + first, start + last))


Found = tuple[tuple[int, int] | None, str]


def _boxed(body: str) -> Found:
    """The whole box that begins last and holds something; "cut off" if a box begins and none is whole."""
    first = _BOX.search(body)
    if first is None:
        return None, ""
    depth, opened, best = 0, deque[tuple[int, int]](), None
    for match in _SCAN.finditer(body, first.start()):
        if match["box"] is not None:
            if match["brace"]:
                opened.append((match.end(), depth))
                depth += 1
            elif (bare := _UNBRACED.match(body, match.end(), match.end() + _REGION)) is not None and match["box"][
                -1:
            ].isspace():
                best = bare.span()
        elif match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if opened and opened[-1][1] >= depth:
                start, _ = opened.pop()
                longest = start + _LONGEST >= match.start()
                if body[start : match.start()].strip() and longest and (best is None or start > best[0]):
                    best = start, match.start()
    return (best, "boxed") if best is not None else (None, "cut off" if opened else "")


def _said(body: str) -> Found:
    """What the last "the answer is" is followed by: a formula if it begins with one, else the rest of its sentence."""
    for mark in list(deque(_SAYS.finditer(body), maxlen=8))[::-1]:
        region = body[mark.end() : mark.end() + _REGION]
        formula = _FORMULA.match(region)
        if formula is not None:
            return _shifted(formula.span(formula.lastindex or 0), mark.end()), "answer is"
        end = _END_OF_SENTENCE.search(region)
        said = region[: end.start()] if end else region
        inner = _FORMULA.search(said)
        if inner is not None:
            return _shifted(inner.span(inner.lastindex or 0), mark.end()), "answer is"
        if said.strip(" *_$") and len(said.split()) <= 12:
            return (mark.end(), mark.end() + len(said)), "answer is"
    return None, ""


def _formula(body: str) -> Found:
    """The last formula of the last sentence."""
    tail = body.rstrip()[-_LAST:]
    offset = len(body.rstrip()) - len(tail)
    match = last_match(_FORMULA, tail)
    if match is None or _END_OF_SENTENCE.search(tail[match.end() :].rstrip(" .!?*\n")):
        return None, ""
    return _shifted(match.span(match.lastindex or 0), offset), "last formula"


def _shifted(span: tuple[int, int], offset: int) -> tuple[int, int]:
    return span[0] + offset, span[1] + offset


def _trimmed(body: str, start: int, end: int, marks: str) -> tuple[int, int]:
    """Without spaces, print marks and a full stop round it; one before a digit is a decimal point."""
    piece = body[start:end]
    left = len(piece) - len(piece.lstrip(marks.replace(".", "")))
    return start + left, max(start + left, start + len(piece.rstrip(marks)))
