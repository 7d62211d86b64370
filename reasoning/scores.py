"""Scores that rank candidates, by name: the model's own probability, the run's check, what judges say."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import CapabilityError, ConfigError
from reasoning.check_score import CheckScore
from reasoning.judge_score import JudgeScore
from reasoning.judging import ROLES
from reasoning.run import Run
from reasoning.score import Score, record_scores
from reasoning.trajectory import Candidate
from verifiers.judges.types import AGGREGATIONS, Judge

__all__ = ["SCORES", "LogProbability", "Score", "Scoring", "score_by_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProbability:
    """The model's own log-probability of what it wrote, at temperature 1.

    In full, it is the likelihood of the whole solution and favours short ones; by the token, it is what its length
    leaves unsaid.
    """

    role: ClassVar[None] = None
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LOGPROBS})

    per_token: bool

    @property
    def name(self) -> str:
        """``mean_logprob`` or ``logprob``."""
        return "mean_logprob" if self.per_token else "logprob"

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """It asks no judge."""

    async def __call__(self, run: Run, candidate: Candidate) -> float:
        """As `of`."""
        return self.of(candidate)

    def of(self, candidate: Candidate) -> float:
        """Nats, or nats a token."""
        total = candidate.trajectory.logprob
        if total is None:
            raise CapabilityError("this score needs log-probabilities: sample with `logprobs` on")
        return total / max(1, len(candidate.trajectory.generated_ids)) if self.per_token else total

    def tell(self, run: Run, candidates: Sequence[Candidate]) -> None:
        """Record the scores."""
        record_scores(run, self.name, candidates)


_ALL: Sequence[Score] = (
    LogProbability(per_token=False),
    LogProbability(per_token=True),
    CheckScore(),
    *(JudgeScore(role=role) for role in ROLES),
    *(JudgeScore(role="prm", how=how) for how in AGGREGATIONS),
)
SCORES: Mapping[str, Score] = {score.name: score for score in _ALL}


def score_by_name(name: str) -> Score:
    """A score by its name; raises ``ConfigError`` for an unknown one."""
    if name not in SCORES:
        close = difflib.get_close_matches(name, SCORES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown score {name!r}: {hint}there are {', '.join(sorted(SCORES))}")
    return SCORES[name]


class Scoring:
    """A mixin for strategies with a score."""

    __slots__ = ()
    score: str | Score  # a name of `SCORES`, or a score

    @property
    def scoring(self) -> Score:
        """The score; raises ``ConfigError`` for an unknown name."""
        return score_by_name(self.score) if isinstance(self.score, str) else self.score

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges."""
        self.scoring.refuse(judges)
