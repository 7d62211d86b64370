"""Scores that rank finished candidates. Judges (reward models, values) are scores too."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from decoding.errors import CapabilityError, ConfigError
from reasoning.check_score import CheckScore
from reasoning.run import Run
from reasoning.trajectory import Candidate


class Score(Protocol):
    """Gives each candidate a number; higher is better."""

    @property
    def name(self) -> str:
        """As typed, and as recorded."""
        ...

    async def __call__(self, run: Run, candidates: Sequence[Candidate]) -> list[float]:
        """One number a candidate, [N]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProbability:
    """The model's own log-probability of what it wrote, at temperature 1.

    In full, it is the likelihood of the whole solution and favours short ones; by the token, it is what its length
    leaves unsaid.
    """

    per_token: bool

    @property
    def name(self) -> str:
        """``mean_logprob`` or ``logprob``."""
        return "mean_logprob" if self.per_token else "logprob"

    async def __call__(self, run: Run, candidates: Sequence[Candidate]) -> list[float]:
        """Nats, or nats a token, [N]."""
        return [self._one(candidate) for candidate in candidates]

    def _one(self, candidate: Candidate) -> float:
        total = candidate.trajectory.logprob
        if total is None:
            raise CapabilityError("this score needs log-probabilities: sample with `logprobs` on")
        return total / max(1, len(candidate.trajectory.generated_ids)) if self.per_token else total


SCORES: Mapping[str, Score] = {
    score.name: score for score in (LogProbability(per_token=False), LogProbability(per_token=True), CheckScore())
}


def score_by_name(name: str) -> Score:
    """A score by its name; raises ``ConfigError`` for an unknown one."""
    if name not in SCORES:
        close = difflib.get_close_matches(name, SCORES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown score {name!r}: {hint}there are {', '.join(sorted(SCORES))}")
    return SCORES[name]
