"""A search by steps of your own: each step, the better half goes on, with two children each.

python examples/own_search.py
"""

from dataclasses import dataclass
from typing import ClassVar

from bethink import Prompt, Result, SamplingParams, open_engine, solve
from decoding.engine import Capability
from evals.tasks.reference_task import ReferenceFormat
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.search.conclude import conclude
from reasoning.search.search import Search
from reasoning.search.tree import selected
from reasoning.strategies.base import SEARCH_NEEDS, AllAtOnce, BySteps


@dataclass(frozen=True, slots=True, kw_only=True)
class HalveAndDouble(AllAtOnce, BySteps, Scoring):
    """The better half of n prefixes goes on, each with two children."""

    name: ClassVar[str] = "halve_and_double"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS

    n: int = 8
    score: str | Score = "prm"

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Grow, judge, halve, until nothing can go on."""
        search = Search(run, prompt, self.scoring)
        going, ended = [search.root] * self.n, []
        while going and not search.exhausted:
            children = await search.grow(going)
            ended += [child for child in children if child.finished]
            best = sorted((c for c in children if not c.finished), key=lambda c: (-c.score, c.id))[: self.n // 2]
            run.record(selected(children, dict.fromkeys(best, 2)))
            going = [node for node in best for _ in range(2)]
        reason = "budget" if search.exhausted else "done"
        return await conclude(run, ended, [node.score for node in ended], "best", reason)


if __name__ == "__main__":
    with open_engine("reference-base") as engine:
        result = solve(
            "83,+56,+3,*7,-10,+55\n",
            engine=engine,
            strategy=HalveAndDouble(n=8),
            sampling=SamplingParams(seed=0, max_tokens=96),
            answers=ReferenceFormat(),
            prm="reference-prm",
        )
    print(result.text, f"{len(result.candidates)} solutions, {result.usage.generated_tokens} tokens", sep="\n")
