"""What the run's check says as a score: best-of-n over visible tests takes the first sample that passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.trace import Checked
from reasoning.trajectory import Candidate
from verifiers.base import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckScore:
    """1 for a candidate that the run's check accepts, else 0; a candidate without an answer is not asked about."""

    name: ClassVar[str] = "check"

    async def __call__(self, run: Run, candidates: Sequence[Candidate]) -> list[float]:
        """One number a candidate, [N]; raises ``ConfigError`` where the run has no check."""
        check = run.settings.check
        if check is None:
            raise ConfigError("the score `check` needs a check: take a task that has one, or pass `check`")
        values = []
        for candidate in candidates:
            question = candidate.trajectory.prompt.question
            accepted = candidate.answer is not None and await run.call(_accept, check, question, candidate.text)
            run.record(Checked(slot=candidate.slot, check=check.name, oracle=check.oracle, accepted=accepted))
            values.append(float(accepted))
        return values


def _accept(check: Check, question: str, text: str) -> bool:
    return check.accept(question, text)
