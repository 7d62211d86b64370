"""Perplexity consistency: draw n solutions; each distinct one votes for its answer with the model's probability of it.

PC of Zhou et al., *A Theoretical Study on Bridging Internal Probability and Self-Consistency for LLM Reasoning*, arXiv
2502.00511, section 4.1. Self-consistency estimates the probability of an answer by how often it comes; here the
probabilities of its solutions are added up, and a solution that comes twice counts once.

Two readings of "probability of a solution":

- ``path``, the proper mode, what the paper's theory writes: exp of the sum of the log-probabilities. The weights are
  then the probability mass seen of each answer.
- ``token``, the paper mode, what the released code computes: exp of their mean. Long and short solutions then count
  alike, and the weights are no probabilities.

Both are of the model at temperature 1, whatever the solutions were sampled with. Solutions are told apart by their
token ids (the released code compares texts). One without an answer does not vote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import LogProbability
from reasoning.selection import perplexity_consistency, weighted
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw, record_vote, result
from reasoning.trace import Event
from reasoning.trajectory import Candidate, Prompt, Result

PROBABILITIES = ("path", "token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed(Event):
    """Candidates were given weights for a vote."""

    probability: str  # what the weights are in proportion to: "path" or "token"
    weights: Mapping[int, float]  # by slot, summing to 1; 0 for duplicates, for who has no answer or was pruned
    log_mass: float | None  # logarithm of the sum of the probabilities that were weighed; None: nobody votes


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityConsistency(AllAtOnce):
    """Vote of the distinct among n samples, weighted by their probabilities."""

    name: ClassVar[str] = "perplexity_consistency"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS | {Capability.LOGPROBS}

    n: int = 16
    probability: str = "path"  # or "token"

    def __post_init__(self) -> None:
        check_probability(self.probability)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, weigh, vote."""
        candidates = await draw(run, prompt, self.n)
        logs = log_probabilities(candidates, self.probability)
        return await vote(run, candidates, logs, (), self.probability, self.n)


def check_probability(probability: str) -> None:
    """Raises ``ConfigError`` for a probability that there is not."""
    if probability not in PROBABILITIES:
        raise ConfigError(f"unknown probability {probability!r}: there are {', '.join(PROBABILITIES)}")


def log_probabilities(candidates: Sequence[Candidate], probability: str) -> list[float]:
    """Of each candidate, [N] nats: of the whole path, or by the token."""
    score = LogProbability(per_token=probability == "token")
    return [score.of(candidate) for candidate in candidates]


async def vote(
    run: Run,
    candidates: Sequence[Candidate],
    logs: Sequence[float],
    pruned: Sequence[int],
    probability: str,
    n: int,
) -> Result:
    """Perplexity consistency over the candidates whose indices are not in `pruned`; records weights and vote."""
    classes = await run.classes(candidates)
    out = set(pruned)
    left = [None if index in out else label for index, label in enumerate(classes)]
    weights, mass = perplexity_consistency(left, [c.trajectory.generated_ids for c in candidates], logs)
    pairs = list(zip(candidates, weights, strict=True))
    run.record(Weighed(probability=probability, weights={c.slot: w for c, w in pairs}, log_mass=mass))
    counted = weighted(classes, weights)
    await record_vote(run, candidates, counted)
    scored = [replace(candidate, score=weight) for candidate, weight in pairs]
    return result(run, scored, counted.index, "done" if len(candidates) == n else "budget")
