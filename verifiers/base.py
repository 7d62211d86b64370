"""Judging answers: three kinds of truth, told apart by type.

- `Verifier` compares an answer with a reference. Only ``evals`` has references; none ever enters ``reasoning``.
- `Check` accepts or refuses a candidate without a reference (visible tests, a proof checker): it may steer a search.
- `OracleCheck` is built from the reference by ``evals`` for experiments, and results say so.

Extraction is apart from comparison, and "no answer" is apart from "wrong". An `AnswerFormat` has one notion of
equality, and voting and grading both use it (`verifiers.grading.Grading`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """The answer that a text gives."""

    value: str | None  # canonical spelling where the format has one; None: the text gives no answer
    rule: str  # the rule that found it, or "none"
    span: tuple[int, int] | None = None  # where in the text


class Outcome(StrEnum):
    """How a candidate was judged."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgement and the rule that decided it."""

    outcome: Outcome
    rule: str

    @property
    def correct(self) -> bool:
        """Whether the answer counts; everything but ``correct`` does not."""
        return self.outcome is Outcome.CORRECT


class AnswerFormat(Protocol):
    """How answers of one kind are found in a text and when two of them are the same."""

    @property
    def name(self) -> str:
        """As recorded."""
        ...

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text. Never raises, whatever the text."""
        ...

    def key(self, value: str) -> str:
        """A spelling by which extracted values are compared first: equal keys mean equal answers."""
        ...

    @property
    def equality(self) -> "Verifier | None":
        """Tells whether values of different keys are equal all the same; None: they never are."""
        ...


class Verifier(Protocol):
    """Compares an answer with the truth. Hashable, picklable, deterministic."""

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """What can be told at once, whatever the answer; None if only `verify` can tell."""
        ...

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``. Where `quick` can't tell, this runs in a worker program."""
        ...


@runtime_checkable
class Check(Protocol):
    """Accepts or refuses a finished candidate's text, without a reference."""

    oracle: ClassVar[bool]  # whether the reference went into it

    @property
    def name(self) -> str:
        """As recorded."""
        ...

    def accept(self, question: str, text: str) -> bool:
        """Whether the candidate passes. Runs in a worker program: picklable, no shared state."""
        ...
