r"""Answers that are numbers: found by an ordered list of rules, read as exact fractions, compared exactly.

`NumberFormat` looks, in this order, for the last ``\boxed{...}``, the last ``#### N``, the last "the answer is N", the
last number of the last sentence, the last number. It first cuts away what is not the answer: reasoning up to its end
mark, and turns that a base model goes on to write by itself ("Question: ...").

A percent sign is read (`Number.percent`) and does not change the value: benchmarks write 50 for 50 %.
"""

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED, Spelt, last_match

MAX_LENGTH = 1000  # characters of a number; a longer one is not read
MAX_EXPONENT = 400  # of ten
_WINDOW = 5000  # characters before the last digit in which the last number is looked for
_REGION = 300  # characters after a mark such as #### in which its number is looked for
_TRIES = 32  # marks looked at, from the last one backwards

# One character for one, so that positions stay: dashes to minus, fixed-width and non-breaking spaces to spaces.
_PLAIN = str.maketrans("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d\xa0\u2007\u2009\u202f", "-------    ")
_INTEGER = r"(?:[0-9]{1,3}(?:(?:,|\{,\}|,?\\[,!]|\x20)[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+)"
_NUMBER = re.compile(
    rf"""(?<![0-9]) (?<![0-9]\.) (?<!\^) (?<!\^\{{) (?<!\^-) (?<!\^\{{-) (?<![A-Za-z]_) (?<![A-Za-z]_\{{)
    (?P<sign>(?<![0-9A-Za-z)\]}}%])[-+])? (?:\\?[$£€])?
    (?: (?:(?P<whole>[0-9]+)\x20?)? \\[dt]?frac
        (?: \s?\{{\s?(?P<top>-?{_DECIMAL})\s?\}} \s?\{{\s?(?P<bottom>{_DECIMAL})\s?\}} | (?P<t>[0-9])(?P<b>[0-9]) )
      | (?: (?P<mixed>[0-9]+)\x20(?=[1-9][0-9]?/[1-9]) )? (?P<over>{_DECIMAL}) \x20?/\x20? (?P<under>{_DECIMAL})
      | (?P<plain>{_DECIMAL})
        (?: [eE](?P<e>[-+]?[0-9]+) | \s?(?:\\times|\\cdot|×|\*|x)\s?10\s?\^\s?\{{?(?P<power>-?[0-9]+)\}}? )?
    )
    (?P<percent>\s?(?:\\?%|percent\b))?""",
    re.VERBOSE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_HASHES = re.compile(r"####")
_DECLARED = re.compile(
    r"(?i:\banswer\b[*_\s]{0,3}(?:(?:to|for)\s(?:the|this|that)\s\w{1,20}\s)?(?:(?P<says>is\b)|:|=))|^[ \t*]*A:", re.M
)
_LEAD = re.compile(r"(?:[\s*_:]|\\[\[(]|\$(?![0-9]))*")  # between a mark and what it marks
_WORKING = re.compile(r"[-+*/×÷()\s$0-9.,%x]*=")  # "16 - 3 - 4 =" before the answer
_SENTENCE_END = re.compile(r"[.!?](?=\s|\*|\Z)|\n")
_TURN = re.compile(
    r"^[ \t>*#]*(?:(?:question|problem|exercise|q)\s?#?[0-9]*\s?\**:|(?:question|problem|exercise)\s[0-9]+[.)]?[ \t]*$"
    r"|(?:user|human|instruction)\s?:)",
    re.I | re.M,
)
_LAST_DIGIT = re.compile(r"[0-9][^0-9]*\Z")
# What makes more of a number than a number: an operator or a letter beside it, a root or a relation anywhere.
_OPERATOR_BEFORE = re.compile(r"[-+*^√]\s*\Z")
_OPERATOR_AFTER = re.compile(r"\s*[-+*^√π]|[abinkxyz](?![A-Za-z])")
_FORMULA = re.compile(r"[<>≤≥√π]|\\(?:sqrt|pi|times|cdot|pm|le|ge|leq|geq|lt|gt|d?frac)(?![A-Za-z])")


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction  # 50 for 50 %
    percent: bool  # a percent sign, or the word, stood behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat(Spelt):
    """The number that a text answers with. Values are spelt canonically (``18``, ``-1/2``), so equal means equal."""

    reasoning_end: str = "</think>"  # what comes before the last of it is not the answer; empty: off
    name = "number"

    def extract(self, text: str) -> Extraction:
        r"""The answer and the rule that found it: boxed, ####, answer is, last sentence, last number.

        The last box with a digit decides, so one that holds more than a number (``3\sqrt{2}``) gives no answer.
        """
        marked = bool(self.reasoning_end) and self.reasoning_end in text
        start = text.rindex(self.reasoning_end) + len(self.reasoning_end) if marked else 0
        body = first_turn(text[start:].translate(_PLAIN))
        for rule in (_boxed, _hashes, _declared, _last):
            found = rule(body)
            if found is not None:
                span = (start + found.start, start + found.end)
                return Extraction(value=_spell(found.number), rule=found.rule, span=span)
        return NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberVerifier:
    """Right if answer and reference are the same number, exactly. Percent signs don't count."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``, a reference that is no number an ``error``."""
        if answer is None:
            return UNANSWERED
        truth, given = read_number(reference), read_number(answer)
        if truth is None:
            return Verdict(outcome=Outcome.ERROR, rule="the reference is no number")
        same = given is not None and given.value == truth.value
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="number")

    verify = quick


def read_number(text: str) -> Number | None:
    """The number that a short text holds, words and units beside it allowed; None if it holds none, or more than one.

    Of an equation it is what stands behind the last ``=``.
    """
    tail = text.translate(_PLAIN).rpartition("=")[2] if len(text) <= MAX_LENGTH else ""
    matches = list(_NUMBER.finditer(tail))
    if len(matches) != 1:
        return None
    before, after = tail[: matches[0].start()], tail[matches[0].end() :]
    if _OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(after) or _FORMULA.search(before + " " + after):
        return None
    return _number(matches[0])


def gold(answer_field: str) -> str:
    """The number behind the last ``####`` of a GSM8K answer, spelt canonically; raises ``ValueError`` without one."""
    _, mark, behind = answer_field.rpartition("####")
    number = read_number(behind) if mark else None
    if number is None:
        raise ValueError(f"an answer of GSM8K ends in '#### N', this one in {answer_field[-40:]!r}")
    return str(number.value)


class _Found(NamedTuple):
    number: Number | None  # None: here the text answers, with something that is no number
    rule: str
    start: int
    end: int


def first_turn(text: str) -> str:
    """The text up to where the model begins another problem; what it restates before its first number is kept."""
    digit = re.search("[0-9]", text)
    turn = _TURN.search(text, digit.end()) if digit is not None else None
    return text if turn is None else text[: turn.start()]


def _boxed(body: str) -> _Found | None:
    for mark in _marks(_BOX, body):
        inside = body[mark.end() : mark.end() + MAX_LENGTH]
        if inside.startswith("{"):
            start, end = mark.end() + 1, mark.end() + _closing_brace(inside)
            number = read_number(body[start:end])
        else:  # \\boxed 5
            match = _NUMBER.match(inside)
            start, end = mark.end(), mark.end() + (match.end() if match else 0)
            number = _number(match) if match else None
        if re.search("[0-9]", body[start:end]):
            return _Found(number, "boxed", start, end)
    return None


def _hashes(body: str) -> _Found | None:
    return next((found for mark in _marks(_HASHES, body) if (found := _leading(body, mark.end(), "####"))), None)


def _declared(body: str) -> _Found | None:
    for mark in _marks(_DECLARED, body):
        found = _leading(body, mark.end(), "answer is")
        if found is None and mark["says"]:
            found = _said(body, mark.end())
        if found is not None:
            return found
    return None


def _leading(body: str, start: int, rule: str) -> _Found | None:
    """The number right behind a mark, with at most three words after it on its line.

    More words make it the beginning of a worked solution ("Answer: 16 eggs are laid every day"), and a full stop with
    words after it makes it the number of a heading ("#### 1. Count the eggs").
    """
    start = _skip_lead(body, start)
    line = body[start : start + _REGION].partition("\n")[0]
    match = _NUMBER.match(line)
    after = line[match.end() :] if match else ""
    more = re.match(r"[.):]\s+\S", after) or re.search("[0-9=]", after) or _OPERATOR_AFTER.match(after)
    if match is None or more or len(re.findall("[A-Za-z]+", after)) > 3:
        return None
    return _found(match, rule, start)


def _said(body: str, start: int) -> _Found | None:
    """The first number of what "the answer is" says, behind its working if it begins with that."""
    start = _skip_lead(body, start)
    region = body[start : start + _REGION]
    stop = _SENTENCE_END.search(region)
    sentence = region[: stop.start()] if stop else region
    working = _WORKING.match(sentence)
    match = _NUMBER.search(sentence, working.end() if working else 0)
    return _found(match, "answer is", start) if match else None


def _last(body: str) -> _Found | None:
    digit = _LAST_DIGIT.search(body)
    first = max(0, digit.start() - _WINDOW) if digit else 0
    match = last_match(_NUMBER, body[first : digit.end()]) if digit else None
    if match is None:
        return None
    more = re.search(r"[.!?]\s+\S|\n", body[first + match.end() :].rstrip())
    return _found(match, "last number" if more else "last sentence", first)


def _marks(pattern: re.Pattern[str], body: str) -> list[re.Match[str]]:
    """The last marks, from the last one backwards."""
    return list(deque(pattern.finditer(body), maxlen=_TRIES))[::-1]


def _skip_lead(body: str, start: int) -> int:
    lead = _LEAD.match(body[start : start + _REGION])
    return start + (lead.end() if lead else 0)


def _closing_brace(inside: str) -> int:
    """Where the brace that opens a text closes; the text's end where it doesn't."""
    depth = 0
    for index, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return index
    return len(inside)


def _found(match: re.Match[str], rule: str, offset: int) -> _Found:
    return _Found(_number(match), rule, offset + match.start(), offset + match.end())


def _number(match: re.Match[str]) -> Number | None:
    """The value of what `_NUMBER` matched; None if it is too long, too large or divided by zero."""
    if len(match[0]) > MAX_LENGTH:
        return None
    exponent = int(match["e"] or match["power"] or 0)
    over, under = (
        match["plain"] or match["over"] or match["top"] or match["t"],
        match["under"] or match["bottom"] or match["b"],
    )
    denominator = _fraction(under or "1")
    if abs(exponent) > MAX_EXPONENT or denominator == 0:
        return None
    value = _fraction(over) * Fraction(10) ** exponent / denominator
    if 0 <= value < 1:  # 2 1/2; of 5 4/3 the 5 is no part
        value += int(match["mixed"] or match["whole"] or 0)
    return Number(-value if match["sign"] == "-" else value, match["percent"] is not None)


def _fraction(decimal: str) -> Fraction:
    """A decimal, thousands separators and all."""
    return Fraction(re.sub(r"[^-0-9.]", "", decimal))


def _spell(number: Number | None) -> str | None:
    return None if number is None else str(number.value)
