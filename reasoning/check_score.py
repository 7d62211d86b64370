"""What the run's check says as a score: best-of-n over visible tests takes the first sample that passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.score import record_scores
from reasoning.trajectory import Candidate
from verifiers.judges.types import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckScore:
    """1 for a candidate that the run's check accepts, else 0; a candidate without an answer is not asked about."""

    name: ClassVar[str] = "check"
    role: ClassVar[None] = None
    needs: ClassVar[frozenset[Capability]] = frozenset()

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """It asks no judge."""

    async def __call__(self, run: Run, candidate: Candidate) -> float:
        """0 or 1; raises ``ConfigError`` where the run has no check."""
        return float(await run.accepts(candidate, "the score `check`"))

    def tell(self, run: Run, candidates: Sequence[Candidate]) -> None:
        """Record what the check said, and the scores."""
        for candidate in candidates:
            run.record_check(candidate, candidate.score == 1)
        record_scores(run, self.name, candidates)
