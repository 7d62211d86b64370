"""Weighted vote: draw n solutions and take the answer whose solutions weigh most together.

With ``weighting=softmax`` a solution weighs exp(score / temperature), over the sum of all: CISC (Taubenfeld et al.,
*Confidence Improves Self-Consistency in LLMs*, arXiv 2502.06233, section 3), there with the model's confidence as the
score. With ``score=mean_logprob`` and temperature 1 that is the probability by the token; as the temperature falls the
vote becomes best-of-n, as it rises the majority. With ``weighting=score`` a solution weighs its score itself, as when
the scores of a verifier are added up (Li et al., arXiv 2206.02336; "best-of-n weighted"); it must not be negative.

A solution that comes twice votes twice, and one without an answer does not vote.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import LogProbability, Score, score_by_name
from reasoning.selection import in_proportion, weighted
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw, record_vote, result
from reasoning.trace import Scored
from reasoning.trajectory import Prompt, Result

WEIGHTINGS = ("softmax", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedVote(AllAtOnce):
    """Vote of n samples, weighted by a score."""

    name: ClassVar[str] = "weighted_vote"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS | {Capability.LOGPROBS}

    n: int = 16
    score: str | Score = "mean_logprob"  # a name of reasoning.scores, or a score
    weighting: str = "softmax"  # or "score"
    temperature: float = 1.0  # of the softmax

    def __post_init__(self) -> None:
        # What is wrong is refused when it is typed, not after the sampling.
        if self.weighting not in WEIGHTINGS:
            raise ConfigError(f"unknown weighting {self.weighting!r}: there are {', '.join(WEIGHTINGS)}")
        if isinstance(self._score(), LogProbability) and self.weighting == "score":
            raise ConfigError("log-probabilities are negative and can't be weights: take weighting=softmax")

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, score, vote."""
        score = self._score()
        drawn = await draw(run, prompt, self.n)
        values = await score(run, drawn)
        run.record(Scored(score=score.name, values={c.slot: v for c, v in zip(drawn, values, strict=True)}))
        classes = await run.classes(drawn)
        vote = weighted(classes, self._weights(values, [label is not None for label in classes]))
        await record_vote(run, drawn, vote)
        candidates = [replace(candidate, score=value) for candidate, value in zip(drawn, values, strict=True)]
        return result(run, candidates, vote.index, "done" if len(drawn) == self.n else "budget")

    def _weights(self, values: list[float], voting: list[bool]) -> list[float]:
        if self.weighting == "softmax":
            return in_proportion([value / self.temperature for value in values], voting).weights
        return [value if votes else 0.0 for value, votes in zip(values, voting, strict=True)]

    def _score(self) -> Score:
        return score_by_name(self.score) if isinstance(self.score, str) else self.score
