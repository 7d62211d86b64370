"""Weighted vote: draw n solutions and take the answer whose solutions weigh most together.

With ``weighting=softmax`` a solution weighs exp(score / temperature), over the sum of all: CISC (Taubenfeld et al.,
*Confidence Improves Self-Consistency in LLMs*, arXiv 2502.06233, section 3), there with the model's confidence as the
score. With ``score=mean_logprob`` and temperature 1 that is the probability by the token; as the temperature falls the
vote becomes best-of-n, as it rises the majority. With ``weighting=score`` a solution weighs its score itself, as when
the scores of a verifier are added up (Li et al., arXiv 2206.02336; "best-of-n weighted"); it must not be negative.

A solution that comes twice votes twice, and one without an answer does not vote.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.judging import judge_of
from reasoning.run import Run
from reasoning.scores import LogProbability, Score, Scoring
from reasoning.selection import in_proportion, weighted
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw_scored, how_it_ended, ranks, record_vote, result
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge, ScoreKind

WEIGHTINGS = ("softmax", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedVote(AllAtOnce, Scoring):
    """Vote of n samples, weighted by a score."""

    name: ClassVar[str] = "weighted_vote"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS  # and the score's

    n: int = 16
    score: str | Score = "mean_logprob"  # a name of reasoning.scores, or a score
    weighting: str = "softmax"  # or "score"
    temperature: float = 1.0  # of the softmax

    def __post_init__(self) -> None:
        # What is wrong is refused when it is typed, not after the sampling.
        if self.weighting not in WEIGHTINGS:
            raise ConfigError(f"unknown weighting {self.weighting!r}: there are {', '.join(WEIGHTINGS)}")
        if isinstance(self.scoring, LogProbability) and self.weighting == "score":
            raise ConfigError("log-probabilities are negative and can't be weights: take weighting=softmax")

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or can't be a weight."""
        score = self.scoring
        score.refuse(judges)
        kind = None if score.role is None else judge_of(judges, score.role).info.kind
        if self.weighting == "score" and kind not in (None, ScoreKind.PROBABILITY):
            raise ConfigError(f"the score {score.name} is a {kind} and may be negative: take weighting=softmax")

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, score, vote."""
        candidates = await draw_scored(run, prompt, self.n, self.scoring)
        classes = await run.classes(candidates)
        weights = self._weights(ranks(candidates), [label is not None for label in classes])
        vote = weighted(classes, weights)
        await record_vote(run, candidates, vote)
        return result(run, candidates, vote.index, how_it_ended(candidates, self.n))

    def _weights(self, values: list[float], voting: list[bool]) -> list[float]:
        if self.weighting == "softmax":
            return in_proportion([value / self.temperature for value in values], voting).weights
        unjudged = -math.inf
        return [value if votes and value != unjudged else 0.0 for value, votes in zip(values, voting, strict=True)]
