"""Adaptive self-consistency: draw one solution after another and stop when the vote is decided.

Aggarwal et al., *Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and Coding with LLMs*, arXiv
2305.11860: stop when the leading answer beats the next one with probability `threshold` under a uniform Beta prior.
With threshold 1 it stops only when no outcome of the remaining samples can change the winner; then the answer is that
of self-consistency with the same n, sample for sample.

The released code counts samples in the order of their arrival. Here the rule reads the vote of slots 0 .. m in order,
so the answer does not favour short solutions and does not depend on the batch.
"""

from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.selection import decided_beta, decided_surely, majority
from reasoning.strategies.base import SAMPLING_NEEDS, draw_in_order, record_vote, result
from reasoning.trajectory import Candidate, Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSelfConsistency:
    """Majority vote over at most n samples, stopped when it is decided."""

    name: ClassVar[str] = "adaptive_self_consistency"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    n: int = 40
    threshold: float = 0.95  # probability that the leader stays ahead; 1: certainty
    batch: int = 4  # samples drawn ahead

    @property
    def most_requests(self) -> int:
        """The samples drawn ahead."""
        return min(self.n, self.batch)

    @property
    def most_samples(self) -> int:
        """``n``."""
        return self.n

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw until decided, vote."""
        candidates: list[Candidate] = []
        reason = "budget"
        async with aclosing(draw_in_order(run, prompt, self.n, self.batch)) as drawn:
            async for candidate in drawn:
                candidates.append(candidate)
                if self._decided(await run.classes(candidates)):
                    reason = "decided"
                    break
        vote = majority(await run.classes(candidates))
        await record_vote(run, candidates, vote)
        return result(run, candidates, vote.index, "done" if len(candidates) == self.n else reason)

    def _decided(self, classes: list[int | None]) -> bool:
        counts = [classes.count(c) for c in dict.fromkeys(classes) if c is not None]
        if self.threshold < 1:
            return decided_beta(counts, self.threshold)
        return decided_surely(counts, self.n - len(classes))
