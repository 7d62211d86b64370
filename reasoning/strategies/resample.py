"""Resample until accepted: draw one solution after another until a check accepts one.

The protocol of Stroebl et al., *Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers*, arXiv
2411.17501: at most k attempts, the first accepted one is the answer, and none is given where none was accepted. Which
one that is goes by the number of the attempt, not by arrival, or short solutions would be favoured.
"""

from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.strategies.base import SAMPLING_NEEDS, draw_in_order, result
from reasoning.trajectory import Candidate, Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampleUntilAccepted:
    """Up to k attempts, until the run's check accepts one."""

    name: ClassVar[str] = "resample"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    k: int = 16
    batch: int = 4  # attempts drawn ahead

    @property
    def most_requests(self) -> int:
        """The attempts drawn ahead."""
        return min(self.k, self.batch)

    @property
    def most_samples(self) -> int:
        """``k``."""
        return self.k

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, check, stop at the first accepted."""
        if run.settings.check is None:  # before the first token
            raise ConfigError("resample needs a check: take a task that has one, or pass `check`")
        candidates: list[Candidate] = []
        async with aclosing(draw_in_order(run, prompt, self.k, self.batch)) as drawn:
            async for candidate in drawn:
                candidates.append(candidate)
                accepted = await run.accepts(candidate, self.name)
                run.record_check(candidate, accepted)
                if accepted:
                    return result(run, candidates, len(candidates) - 1, "accepted")
        return result(run, candidates, None, "exhausted" if len(candidates) == self.k else "budget")
