"""Answers that are text: found on an "Answer:" line or by a task's own pattern, and equal when they read the same."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from decoding.errors import ConfigError
from verifiers.base import Extraction, Outcome, Verdict

NO_ANSWER = Extraction(value=None, rule="none")
_ANSWER_LINE = re.compile(
    r"^[ \t>*_#-]*(?:the[ \t])?(?:final[ \t]|correct[ \t])?answer[*_ \t]*(?:is\b|:|=)[*_: \t]*(\S.*)$", re.I | re.M
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """What the last line that begins like ``Answer: ...`` or ``The answer is ...`` says; no such line, no answer."""

    name = "text"

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text, normalised (see `normalise`)."""
        return _read(last_match(_ANSWER_LINE, text), 1, "answer")

    def classes(self, values: Sequence[str | None]) -> list[int | None]:
        """Equal spellings share a class."""
        return number_classes(values)


@dataclass(slots=True, kw_only=True)
class PatternFormat:
    r"""What a task's own pattern finds last, for example ``^#(\d+)$``; ``^`` and ``$`` match at each line.

    How long a search may take is up to the pattern. Raises ``ConfigError`` for one that can't be read.
    """

    name: str
    pattern: str
    group: int | str = 1  # of the pattern, which is the answer; 0 is all of it
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            self._compiled = re.compile(self.pattern, re.MULTILINE)
        except re.error as error:
            raise ConfigError(f"the answer pattern {self.pattern!r} is no regular expression: {error}") from error
        known = {*range(self._compiled.groups + 1), *self._compiled.groupindex}
        if self.group not in known:
            raise ConfigError(f"the answer pattern {self.pattern!r} has no group {self.group!r}: put ( ) around it")

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text, normalised (see `normalise`)."""
        return _read(last_match(self._compiled, text), self.group, self.name)

    def classes(self, values: Sequence[str | None]) -> list[int | None]:
        """Equal spellings share a class."""
        return number_classes(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactVerifier:
    """Right if answer and reference are the same text once both are normalised. Case counts."""

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        if answer is None:
            return Verdict(outcome=Outcome.NO_ANSWER, rule="none")
        same = normalise(answer) == normalise(reference)
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="exact")


@dataclass(slots=True, kw_only=True)
class LmEvalFormat:
    """An answer as a filter of lm-evaluation-harness's GSM8K tasks finds it, spelt as its exact match compares it."""

    name: str
    pattern: re.Pattern[str]
    last: bool  # take the last match, not the first

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text."""
        match = last_match(self.pattern, text) if self.last else self.pattern.search(text)
        if match is None or match.lastindex is None:
            return NO_ANSWER
        return Extraction(
            value=_lm_eval_spelling(match[match.lastindex]), rule=self.name, span=match.span(match.lastindex)
        )

    def classes(self, values: Sequence[str | None]) -> list[int | None]:
        """Equal spellings share a class."""
        return number_classes(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalVerifier:
    """lm-eval's exact match: equal spellings. The reference may be the whole answer field."""

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer as `LmEvalFormat` extracted it; None is ``no_answer``."""
        if answer is None:
            return Verdict(outcome=Outcome.NO_ANSWER, rule="none")
        same = answer == _lm_eval_spelling(reference)
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="lm_eval")


def normalise(text: str) -> str:
    """One space for any run of white space, no emphasis marks round the text, no final full stop."""
    return " ".join(text.split()).strip("*_` ").removesuffix(".").rstrip("*_` ")


def number_classes(values: Sequence[str | None]) -> list[int | None]:
    """Equality classes of spellings, [N], numbered by first appearance; None stays None."""
    numbers: dict[str, int] = {}
    return [None if value is None else numbers.setdefault(value, len(numbers)) for value in values]


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern, None if there is none."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None


def _lm_eval_spelling(text: str) -> str:
    r"""What the tasks' ``regexes_to_ignore`` (``,``, ``\$``, ``(?s).*#### ``, ``\.$``) and ``ignore_case`` leave."""
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]  # as a pattern it would be quadratic
    return re.sub(r"\.$", "", text).lower()


def _read(match: re.Match[str] | None, group: int | str, rule: str) -> Extraction:
    value = normalise(match[group] or "") if match is not None else ""
    return Extraction(value=value, rule=rule, span=match.span(group)) if match is not None and value else NO_ANSWER
