r"""The grader of the MATH benchmark: equal spellings after a list of replacements.

Source: hendrycks/math, ``modeling/math_equivalence.py`` and ``modeling/dataset/util.py``. Faults kept: ``2,1`` is not
``1,2``, ``x = 5`` is 5 but ``xyz = 5`` is not, .5 is a half but .25 is no quarter.
"""

import re
from dataclasses import dataclass

from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED, Spelt

_REPLACED = (
    *(("\n", ""), (r"\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), (r"\left", ""), (r"\right", "")),
    *((r"^{\circ}", ""), (r"^\circ", ""), (r"\$", "")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedFormat(Spelt):
    r"""The last ``\boxed{...}`` as ``last_boxed_only_string`` and ``remove_boxed`` cut it out; a ``\fbox`` is none."""

    name: str = "hendrycks"

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text."""
        start = text.rfind(r"\boxed")
        if start < 0 or not text.startswith("{", start + 6):
            return NO_ANSWER
        depth = 0
        for brace in re.finditer("[{}]", text[start:]):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                span = (start + 7, start + brace.start())
                return Extraction(value=text[slice(*span)], rule="boxed", span=span)
        return NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class HendrycksVerifier:
    """``is_equiv``: right if the spellings that the replacements leave are the same."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        if answer is None:
            return UNANSWERED
        try:
            same = spelling(answer) == spelling(reference)
        except Unspellable:
            same = answer == reference
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="hendrycks")

    verify = quick


class Unspellable(ValueError):
    """Where the original raises, and is caught by its caller."""


def spelling(text: str) -> str:
    """What ``_strip_string`` makes of a text."""
    for old, new in _REPLACED:
        text = text.replace(old, new)
    if r"\text{ " in text:  # it knows units only so
        text, *others = text.split(r"\text{ ")
        if len(others) != 1:
            raise Unspellable
    text = text.replace(r"\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return ""
    text = "0" + text if text.startswith(".") else text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = _fractions(_roots(text).replace(" ", ""))
    return _ratio(r"\frac{1}{2}" if text == "0.5" else text)


def _roots(text: str) -> str:
    r"""``\sqrt3`` with braces."""
    first, *others = text.split(r"\sqrt")
    if "" in others:
        raise Unspellable
    return first + "".join(r"\sqrt" + (part if part.startswith("{") else f"{{{part[0]}}}{part[1:]}") for part in others)


def _fractions(text: str) -> str:
    r"""``\frac12`` and ``\frac1{2}`` with braces; ``\frac{1}2`` stays as it is."""
    first, *others = text.split(r"\frac")
    for part in others:
        if not part:
            raise Unspellable
        if part.startswith("{"):
            first += r"\frac" + part
        elif len(part) < 2:
            return text
        else:
            under = part[1] if part[1] == "{" else f"{{{part[1]}}}"
            first += rf"\frac{{{part[0]}}}{under}{part[2:]}"
    return first


def _ratio(text: str) -> str:
    """``a/b`` of two whole numbers as a frac."""
    parts = text.split("/")
    try:
        over, under = (int(part) for part in parts)
    except ValueError:
        return text
    return rf"\frac{{{over}}}{{{under}}}" if text == f"{over}/{under}" else text
