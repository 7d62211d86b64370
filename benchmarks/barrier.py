"""How searches are run elsewhere: one problem after another, with a barrier a step.

The same strategy code over the same requests, so that what differs is when they are sent. its_hub's benchmark and
search-and-learn's beam search work like this: a step's children are judged, as one batch, when all of them have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from decoding.types import Completion, GenerationRequest
from evals.tasks.base import Problem
from reasoning.api import execute
from reasoning.run import Run, RunSettings
from reasoning.strategies import Strategy, spell
from reasoning.trajectory import Prompt, Result

T = TypeVar("T")


class BarrierRun(Run):
    """A run in which nothing is judged before all of a round's requests have ended."""

    async def each(
        self, requests: Sequence[GenerationRequest], work: Callable[[int, Completion], Awaitable[T]]
    ) -> list[T]:
        """As `Run.each`, with a barrier between the two."""
        done = await self.gather(requests)
        return await asyncio.gather(*(work(index, completion) for index, completion in enumerate(done)))


async def one_by_one(
    settings: RunSettings, strategy: Strategy, problems: Sequence[Problem], prompts: Mapping[str, Prompt]
) -> dict[str, Result]:
    """Results by problem; nothing is graded or stored."""
    results = {}
    for problem in problems:
        run = BarrierRun(settings, problem.id, name=spell(strategy))
        results[problem.id] = await execute(strategy, run, prompts[problem.id])
    return results
