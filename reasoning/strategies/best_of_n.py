"""Best-of-n: draw n solutions and take the one with the highest score.

Cobbe et al., *Training Verifiers to Solve Math Word Problems*, arXiv 2110.14168, for any score: an outcome reward
model, an aggregated process reward, or the model's own probability. Solutions without an answer are not eligible.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.scores import Score, score_by_name
from reasoning.selection import best
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw, result
from reasoning.trace import Scored
from reasoning.trajectory import Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN(AllAtOnce):
    """The best of n samples by a score."""

    name: ClassVar[str] = "best_of_n"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS | {Capability.LOGPROBS}

    n: int = 16
    score: str | Score = "mean_logprob"  # a name of reasoning.scores, or a score

    def __post_init__(self) -> None:
        if isinstance(self.score, str):
            score_by_name(self.score)  # a wrong name is refused when it is typed, not after the sampling

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, score, take the best."""
        score = score_by_name(self.score) if isinstance(self.score, str) else self.score
        drawn = await draw(run, prompt, self.n)
        values = await score(run, drawn)
        run.record(Scored(score=score.name, values={c.slot: v for c, v in zip(drawn, values, strict=True)}))
        candidates = [replace(candidate, score=value) for candidate, value in zip(drawn, values, strict=True)]
        chosen = best(values, [candidate.answer is not None for candidate in candidates])
        return result(run, candidates, chosen, "done" if len(candidates) == self.n else "budget")
