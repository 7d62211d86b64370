"""Answers that have one canonical spelling: they are equal when they are spelt alike."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from verifiers.base import Extraction, Outcome, Verdict

NO_ANSWER = Extraction(value=None, rule="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactVerifier:
    """Right if answer and reference are the same text."""

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        if answer is None:
            return Verdict(outcome=Outcome.NO_ANSWER, rule="none")
        return Verdict(outcome=Outcome.CORRECT if answer == reference else Outcome.WRONG, rule="exact")


def number_classes(values: Sequence[str | None]) -> list[int | None]:
    """Equality classes of spellings, [N], numbered by first appearance; None stays None."""
    numbers: dict[str, int] = {}
    return [None if value is None else numbers.setdefault(value, len(numbers)) for value in values]


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern, None if there is none."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None
