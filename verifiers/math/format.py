"""Mathematical answers in texts."""

from dataclasses import dataclass, field

from verifiers.base import Extraction
from verifiers.math.compare import spell
from verifiers.math.extract import find_answer
from verifiers.math.form import Unreadable
from verifiers.math.latex import normalise, require_readable
from verifiers.math.rules import Rules
from verifiers.math.structure import read_answer
from verifiers.math.verifier import MathVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class MathFormat:
    """The mathematical answer of a text, as it is written there; see `verifiers.math.extract` for the rules."""

    rules: Rules = field(default_factory=Rules)
    reasoning_end: str = "</think>"  # what comes before the last of it is not the answer; empty: off
    name = "math"

    def extract(self, text: str) -> Extraction:
        """The answer and the rule that found it. Never raises, linear in the text's length."""
        return find_answer(text, self.reasoning_end)

    def key(self, value: str) -> str:
        r"""A canonical spelling where there is one: 1/2, 0.5 and ``\frac12`` share it."""
        try:
            require_readable(value)
        except Unreadable:
            return f"? {value}"
        text = normalise(value)
        if self.rules.reduced:  # 1/2 and 2/4 are two answers then
            return f"text {text}"
        try:
            return spell(read_answer(text), self.rules)
        except (Unreadable, RecursionError):
            return f"text {text}"

    @property
    def equality(self) -> MathVerifier:
        """Tells whether answers of different keys are equal all the same."""
        return MathVerifier(rules=self.rules)
