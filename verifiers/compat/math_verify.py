"""Math-Verify over the whole text, as its documentation shows: ``verify(parse(reference), parse(text))``.

Source: huggingface/Math-Verify 0.9.0. Faults kept: several boxes are joined into a set, so a corrected answer is wrong;
bases are dropped; decimals are rounded to 6 places; a text without an answer gives its last expression.

What differs: its timeouts are alarms and are off, the worker's CPU limit stands for them, and a long comparison is a
``timeout``, not wrong. It hands numerals, and expressions of digits and operators, to ``parse_expr``, which is
``eval``: while it reads here, `verifiers.math.safe_sympy` stands for that.
"""

import logging
from dataclasses import dataclass

from decoding.errors import ConfigError
from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED
from verifiers.math.safe_sympy import no_eval


@dataclass(frozen=True, slots=True, kw_only=True)
class MathVerifyFormat:
    """The whole text: Math-Verify finds the answer itself, when it grades."""

    name = "math_verify"

    def extract(self, text: str) -> Extraction:
        """All of the text; none if it is empty."""
        return Extraction(value=text, rule="text", span=(0, len(text))) if text.strip() else NO_ANSWER

    def key(self, value: str) -> str:
        """The text itself."""
        return value

    @property
    def equality(self) -> "MathVerifyVerifier":
        """The same that grades; of two texts the later one is the answer."""
        return MathVerifyVerifier()


@dataclass(frozen=True, slots=True, kw_only=True)
class MathVerifyVerifier:
    """Right if Math-Verify says so. The reference is put between dollar signs if it has none and no box."""

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """Only that there is no answer."""
        return UNANSWERED if answer is None else None

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge a text, with sympy: in a worker."""
        if answer is None:
            return UNANSWERED
        try:
            from math_verify import parse, verify
        except ImportError as error:
            raise ConfigError(f"math_verify is not installed ({error}): pip install 'bethink[math]'") from error
        for name in ("math_verify.parser", "math_verify.grader"):
            logging.getLogger(name).setLevel(logging.ERROR)  # they warn that their timeouts are off
        truth = reference if "$" in reference.replace(r"\$", "") or r"\boxed" in reference else f"${reference}$"
        with no_eval():
            gold, given = (parse(text, parsing_timeout=None) for text in (truth, answer))
        same = verify(gold, given, timeout_seconds=None)
        if not gold:
            return Verdict(outcome=Outcome.ERROR, rule="math_verify: reference is not understood")
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="math_verify")
