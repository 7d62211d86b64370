"""Adaptive best-of-n: draw one solution after another until a judge finds one good enough.

Manvi et al. 2024, *Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation*, arXiv
2410.02725: there the judge is the policy itself, which says how probable it is that starting over would not do better
(`verifiers.judges.written.self_eval`), and the first samples are colder than the later ones. Here it can be any score.

Only the paper's abstract was to be had, and it gives no schedule of temperatures. ``annealing=halving`` is ours: the
sample in slot s has the temperature T (1 - 2^-s), T being the run's, so the first is greedy. A judge is not asked about
a solution without an answer.
"""

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.score import score_of
from reasoning.scores import Score, Scoring
from reasoning.selection import best
from reasoning.strategies.base import SAMPLING_NEEDS, draw_in_order, how_it_ended, ranks, result
from reasoning.trajectory import Candidate, Prompt, Result

ANNEALINGS = ("halving", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveBestOfN(Scoring):
    """The best of at most n samples by a score; no more are drawn when one reaches gamma."""

    name: ClassVar[str] = "adaptive_best_of_n"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS  # and the score's

    n: int = 16
    gamma: float = 0.9  # the score that is good enough; above all that the score can be: best-of-n
    score: str | Score = "self"  # a name of reasoning.scores, or a score
    annealing: str = "halving"  # none: all at the run's temperature, samples of the pool
    batch: int = 1  # samples drawn ahead

    def __post_init__(self) -> None:
        _ = self.scoring
        if self.annealing not in ANNEALINGS:
            raise ConfigError(f"unknown annealing {self.annealing!r}: there are {', '.join(ANNEALINGS)}")

    @property
    def most_requests(self) -> int:
        """The samples drawn ahead."""
        return min(self.n, self.batch)

    @property
    def most_samples(self) -> int:
        """``n``."""
        return self.n

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, score, stop when one is good enough; take the best."""
        score, top = self.scoring, run.settings.sampling.temperature
        temperature = (lambda slot: top * (1 - 0.5**slot)) if self.annealing == "halving" else None
        candidates: list[Candidate] = []
        reached = False
        async with aclosing(draw_in_order(run, prompt, self.n, self.batch, temperature)) as drawn:
            async for candidate in drawn:
                value = await score_of(run, score, candidate)
                candidates.append(replace(candidate, score=value))
                reached = value is not None and value >= self.gamma
                if reached or (value is None and candidate.answer is not None):  # no room is left to judge
                    break
        score.tell(run, candidates)
        chosen = best(ranks(candidates), [candidate.answer is not None for candidate in candidates])
        return result(run, candidates, chosen, "accepted" if reached else how_it_ended(candidates, self.n))
