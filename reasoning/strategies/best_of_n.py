"""Best-of-n: draw n solutions and take the one with the highest score.

Cobbe et al., *Training Verifiers to Solve Math Word Problems*, arXiv 2110.14168, for any score: an outcome reward
model, an aggregated process reward, or the model's own probability. Solutions without an answer are not eligible.
"""

from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.selection import best
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw_scored, how_it_ended, ranks, result
from reasoning.trajectory import Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN(AllAtOnce, Scoring):
    """The best of n samples by a score."""

    name: ClassVar[str] = "best_of_n"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS  # and the score's

    n: int = 16
    score: str | Score = "mean_logprob"  # a name of reasoning.scores, or a score

    def __post_init__(self) -> None:
        _ = self.scoring  # a wrong name is refused when it is typed, not after the sampling

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, score, take the best."""
        candidates = await draw_scored(run, prompt, self.n, self.scoring)
        chosen = best(ranks(candidates), [candidate.answer is not None for candidate in candidates])
        return result(run, candidates, chosen, how_it_ended(candidates, self.n))
