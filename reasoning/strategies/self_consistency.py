"""Self-consistency: draw n solutions and take the answer that most of them give.

Wang et al., *Self-Consistency Improves Chain of Thought Reasoning in Language Models*, arXiv 2203.11171, the unweighted
sum. A solution without an answer does not vote; of tied answers the one given first wins.
"""

from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.selection import majority
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw, record_vote, result
from reasoning.trajectory import Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfConsistency(AllAtOnce):
    """Majority vote over n samples."""

    name: ClassVar[str] = "self_consistency"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    n: int = 16

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, vote."""
        candidates = await draw(run, prompt, self.n)
        vote = majority(await run.classes(candidates))
        await record_vote(run, candidates, vote)
        return result(run, candidates, vote.index, "done" if len(candidates) == self.n else "budget")
