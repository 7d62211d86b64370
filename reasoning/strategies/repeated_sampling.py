"""Repeated sampling: draw n solutions and let a verifier say whether one is right.

Brown et al., *Large Language Monkeys: Scaling Inference Compute with Repeated Sampling*, arXiv 2407.21787. Coverage,
the share of problems that at least one of k samples solves, is a figure over the candidates
(`evals.estimators.metrics.pass_at_k`); without a verifier nothing is selected, and the answer is that of the first
sample.
"""

from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw, result
from reasoning.trajectory import Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedSampling(AllAtOnce):
    """n independent samples, nothing selected."""

    name: ClassVar[str] = "repeated_sampling"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    n: int = 16

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw."""
        candidates = await draw(run, prompt, self.n)
        first = 0 if candidates and candidates[0].answer is not None else None
        return result(run, candidates, first, "done" if len(candidates) == self.n else "budget")
