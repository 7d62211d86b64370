"""A strategy of your own, tried on a model whose law you know.

It draws pairs of solutions until both of a pair agree. The scripted engine needs no GPU and no weights.

python examples/own_strategy.py
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from bethink import Prompt, Result, SamplingParams
from decoding.engine import Capability
from decoding.engines.scripted import ScriptedEngine, Table
from evals.tasks.reference_task import ReferenceFormat
from reasoning.run import Run, RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreeingPair:
    """Draw pairs until the two agree."""

    name: ClassVar[str] = "agreeing_pair"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.SEEDS})

    pairs: int = 8

    @property
    def most_requests(self) -> int:
        """A pair at a time."""
        return 2

    @property
    def most_samples(self) -> int:
        """All pairs."""
        return 2 * self.pairs

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, compare, repeat."""
        candidates = []
        for pair in range(self.pairs):
            requests = [run.request(prompt, "sample", 2 * pair + i) for i in range(2)]
            if None in requests:  # the budget is used up
                break
            for completion in await run.gather([request for request in requests if request is not None]):
                candidates.append(run.candidate(len(candidates), prompt, completion))
            first, second = (await run.classes(candidates))[-2:]
            if first is not None and first == second:
                return Result(candidates=tuple(candidates), chosen=len(candidates) - 2, stop_reason="decided")
        return Result(candidates=tuple(candidates), chosen=None, stop_reason="exhausted")


# Writes "#", then 1, 2 or 3 with probabilities 0.6, 0.3 and 0.1, then the end.
MODEL = Table(
    vocabulary=("<end>", "q", "#", "1", "2", "3"),
    eos_token_ids=frozenset({0}),
    laws={(): [0, 0, 1, 0, 0, 0], (2,): [0, 0, 0, 0.6, 0.3, 0.1], **{(i,): [1, 0, 0, 0, 0, 0] for i in (3, 4, 5)}},
)


async def share_right(problems: int) -> float:
    """How often the answer is 1."""
    settings = RunSettings(
        engines={"policy": ScriptedEngine(MODEL)}, sampling=SamplingParams(seed=0), answers=ReferenceFormat()
    )
    prompt = Prompt(question="q", token_ids=(1,))
    results = await asyncio.gather(
        *(AgreeingPair()(Run(settings, f"problem {i}", name=str(i)), prompt) for i in range(problems))
    )
    return sum(result.answer == "1" for result in results) / problems


if __name__ == "__main__":
    exact = 0.6**2 / (0.6**2 + 0.3**2 + 0.1**2)
    print(f"right {asyncio.run(share_right(2000)):.3f}, exactly {exact:.3f} with pairs without end")
