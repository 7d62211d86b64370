"""What a score is."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.trace import Scored
from reasoning.trajectory import Candidate
from verifiers.judges.types import Judge


class Score(Protocol):
    """Gives a candidate a number; higher is better."""

    @property
    def name(self) -> str:
        """As typed, and as recorded."""
        ...

    @property
    def role(self) -> str | None:
        """Of the judge that it asks, a key of `RunSettings.judges`; None: it asks none."""
        ...

    @property
    def needs(self) -> frozenset[Capability]:
        """What the engine must be able to do."""
        ...

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if it can't work with these judges, before the first token."""
        ...

    async def __call__(self, run: Run, candidate: Candidate) -> float | None:
        """One number; None where the budget has no room for it. Records nothing: candidates are scored side by side."""
        ...

    def tell(self, run: Run, candidates: Sequence[Candidate]) -> None:
        """Record the scores that candidates were given."""
        ...


def record_scores(run: Run, name: str, candidates: Sequence[Candidate]) -> None:
    """Record the scores of those that have one."""
    run.record(Scored(score=name, values={c.slot: c.score for c in candidates if c.score is not None}))


async def score_of(run: Run, score: Score, candidate: Candidate) -> float | None:
    """A candidate's score; a judge is not asked about one without an answer, which can't be chosen."""
    return None if score.role is not None and candidate.answer is None else await score(run, candidate)
