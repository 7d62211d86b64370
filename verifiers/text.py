"""Answers that are text: found behind "Answer:", in a box or on the last line, and equal up to spaces and case."""

import re
from dataclasses import dataclass

from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED

_ANSWER = re.compile(r"\banswer\s*:(?:\*\*)?", re.IGNORECASE)
_MOST_BOXES = 16  # looked at, from the last one backwards: a text of nothing else must not take for ever
_LONGEST_BOX = 5000  # characters
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    r"""What follows the last "Answer:", else the last ``\boxed``, else the last line."""

    name = "text"
    equality = None

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text, without spaces around it; None if nothing is there."""
        if spans := [match.end() for match in _ANSWER.finditer(text)]:
            return _cut(text, spans[-1], len(text), "answer")
        for match in list(_BOXED.finditer(text))[: -_MOST_BOXES - 1 : -1]:
            end = _closing_brace(text, match.end())
            if end is not None:  # a box that never closes is no answer
                return _cut(text, match.end(), end, "boxed")
        end = len(text.rstrip())
        return _cut(text, text.rfind("\n", 0, end) + 1, end, "last line")

    def key(self, value: str) -> str:
        """Answers that read the same up to spaces and case are equal."""
        return normalise(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVerifier:
    """Right if answer and reference read the same up to spaces, case and a final full stop."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        if answer is None:
            return UNANSWERED
        same = normalise(answer) == normalise(reference)
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="text")

    verify = quick


def normalise(text: str) -> str:
    """The spelling by which texts are compared."""
    return " ".join(text.split()).casefold().removesuffix(".")


def _cut(text: str, start: int, end: int, rule: str) -> Extraction:
    piece = text[start:end]
    value = piece.strip()
    if not value:
        return NO_ANSWER
    first = start + len(piece) - len(piece.lstrip())
    return Extraction(value=value, rule=rule, span=(first, first + len(value)))


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for index in range(start, min(len(text), start + _LONGEST_BOX)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return None
