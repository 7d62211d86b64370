"""RPC: reasoning pruning, then perplexity consistency over what is left.

Zhou et al., *A Theoretical Study on Bridging Internal Probability and Self-Consistency for LLM Reasoning*, arXiv
2502.00511 (NeurIPS 2025), Algorithm 1. A mixture of two Weibull laws is fitted to the probabilities of the solutions;
those that belong to the unlikely component and are below the mean are taken out, the others vote as in perplexity
consistency.

The paper's experiments are ``probability=token`` (see `perplexity_consistency`). Where the fit does not converge or has
fewer than five distinct probabilities to go by, nothing is pruned, and the trace says why; the released code prunes by
whatever the optimiser returned.
"""

from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.selection import prune_unlikely
from reasoning.strategies.base import SAMPLING_NEEDS, AllAtOnce, draw
from reasoning.strategies.perplexity_consistency import check_probability, log_probabilities, vote
from reasoning.trace import Event
from reasoning.trajectory import Prompt, Result
from reasoning.weibull import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(Event):
    """Unlikely candidates were taken out before a vote."""

    slots: tuple[int, ...]
    fit: Fit  # why nothing was pruned, if it has not converged


@dataclass(frozen=True, slots=True, kw_only=True)
class RPC(AllAtOnce):
    """Perplexity consistency over the likely ones among n samples."""

    name: ClassVar[str] = "rpc"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS | {Capability.LOGPROBS}

    n: int = 64
    probability: str = "path"  # or "token"

    def __post_init__(self) -> None:
        check_probability(self.probability)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, prune, weigh, vote."""
        candidates = await draw(run, prompt, self.n)
        logs = log_probabilities(candidates, self.probability)
        paths = [candidate.trajectory.generated_ids for candidate in candidates]
        classes = await run.classes(candidates)
        pruned, fit = prune_unlikely(classes, paths, logs, whole=self.probability == "path")
        run.record(Pruned(slots=tuple(candidates[i].slot for i in pruned), fit=fit))
        return await vote(run, candidates, logs, pruned, self.probability, self.n)
