"""Answers that have one canonical spelling: they are equal when they are spelt alike."""

import re
from collections import deque
from dataclasses import dataclass

from verifiers.base import Extraction, Outcome, Verdict

NO_ANSWER = Extraction(value=None, rule="none")
UNANSWERED = Verdict(outcome=Outcome.NO_ANSWER, rule="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactVerifier:
    """Right if answer and reference are the same text."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        if answer is None:
            return UNANSWERED
        return Verdict(outcome=Outcome.CORRECT if answer == reference else Outcome.WRONG, rule="exact")

    verify = quick


class Spelt:
    """A mixin for answer formats with one spelling for each answer: equal means spelt alike."""

    __slots__ = ()
    equality = None

    def key(self, value: str) -> str:
        """The spelling itself."""
        return value


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern, None if there is none."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None
