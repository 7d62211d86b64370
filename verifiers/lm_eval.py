"""The graders of EleutherAI's lm-evaluation-harness for GSM8K, for reproducing published figures.

They compare spellings: 18.00 is not 18, and the punctuation of "18 dollars, etc..." is an answer.
"""

import re
from dataclasses import dataclass

from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED, Spelt, last_match


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalFormat(Spelt):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalVerifier:
    """lm-eval's exact match: equal spellings. The reference may be the whole answer field."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an answer as `LmEvalFormat` extracted it; None is ``no_answer``."""
        if answer is None:
            return UNANSWERED
        same = answer == _lm_eval_spelling(reference)
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="lm_eval")

    verify = quick


def _lm_eval_spelling(text: str) -> str:
    r"""What the tasks' ``regexes_to_ignore`` (``,``, ``\$``, ``(?s).*#### ``, ``\.$``) and ``ignore_case`` leave."""
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]  # as a pattern it would be quadratic
    return re.sub(r"\.$", "", text).lower()
