"""Comparing mathematical answers, cheap layers first. Each verdict names the layer that decided."""

import re
from dataclasses import dataclass, field
from math import gcd

from verifiers.base import Outcome, Verdict
from verifiers.exact import UNANSWERED
from verifiers.math import symbolic
from verifiers.math.compare import same
from verifiers.math.form import Absurd, Unreadable
from verifiers.math.latex import letters, normalise, require_readable
from verifiers.math.rules import Rules
from verifiers.math.structure import Answer, Value, Words, read_answer

_FRACTION = re.compile(r"\\frac\{?([0-9]+?)\}?\{?([0-9]+)\}?|(?<![0-9.])([0-9]+)/([0-9]+)(?![0-9.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class MathVerifier:
    """Right if answer and reference are the same by mathematics and `Rules`. Symmetric in the two.

    Layers: spelling; exact numbers and closed forms; structure; a proof by bounds that values differ; Math-Verify.
    """

    rules: Rules = field(default_factory=Rules)

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """What the layers before Math-Verify tell; None if they can't. Never runs long, whatever the texts.

        A reference that can't be read is an ``error``, an answer of absurd size or form is ``wrong``: the rule says so.
        """
        if answer is None:
            return UNANSWERED
        for text, outcome, whose in ((reference, Outcome.ERROR, "reference"), (answer, Outcome.WRONG, "answer")):
            try:
                require_readable(text)
            except Unreadable as error:
                return Verdict(outcome=outcome, rule=f"{whose} has {error}")
        given, truth = normalise(answer), normalise(reference)
        if not truth:
            return Verdict(outcome=Outcome.ERROR, rule="reference is empty")
        if not given:
            return Verdict(outcome=Outcome.WRONG, rule="answer is empty")
        if self.rules.reduced and _could_be_reduced(given):
            return Verdict(outcome=Outcome.WRONG, rule="not reduced")
        if given.replace(", ", ",") == truth.replace(", ", ","):
            return Verdict(outcome=Outcome.CORRECT, rule="spelling")
        return self._by_structure(given, truth)

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """The whole judgement. May take long: it runs in a worker, which is killed when it does."""
        verdict = self.quick(answer, reference)
        if verdict is not None or answer is None:
            return verdict or UNANSWERED
        equal = symbolic.equivalent(normalise(answer), normalise(reference))
        if equal is None:
            return Verdict(outcome=Outcome.ERROR, rule="reference is not understood")
        return Verdict(outcome=Outcome.CORRECT if equal else Outcome.WRONG, rule="math-verify")

    def _by_structure(self, given: str, truth: str) -> Verdict | None:
        try:
            right = read_answer(truth)
        except Absurd as error:
            return Verdict(outcome=Outcome.ERROR, rule=f"reference has {error}")
        except (Unreadable, RecursionError):
            right = None
        try:
            left = read_answer(given)
        except Absurd as error:
            return Verdict(outcome=Outcome.WRONG, rule=f"answer has {error}")
        except (Unreadable, RecursionError):
            left = None
        if left is None or right is None:
            return None
        if (isinstance(left, Words) or isinstance(right, Words)) and self._same_letters(given, truth):
            return Verdict(outcome=Outcome.CORRECT, rule="words")
        equal = same(left, right, self.rules)
        if equal is None:
            return None
        return Verdict(outcome=Outcome.CORRECT if equal else Outcome.WRONG, rule=_rule(left, right))

    def _same_letters(self, given: str, truth: str) -> bool:
        left, right = letters(given), letters(truth)
        return left == right if self.rules.case else left.casefold() == right.casefold()


def _rule(left: Answer, right: Answer) -> str:
    """The layer that compared two answers, by what they are."""
    if type(left) is not type(right):
        return f"{_kind(left)} and {_kind(right)}"
    if isinstance(left, Value) and isinstance(right, Value):
        numbers = left.form.rational is not None and right.form.rational is not None
        return "number" if numbers else "closed form"
    return _kind(left)


def _kind(answer: Answer) -> str:
    return type(answer).__name__.lower()


def _could_be_reduced(text: str) -> bool:
    return any(
        gcd(*(int(group) for group in match.groups() if group is not None)) > 1 for match in _FRACTION.finditer(text)
    )
