"""A plain search for tests: grow all, judge, keep the better half, each twice, until nothing is open."""

from dataclasses import dataclass
from typing import Any, ClassVar

from reasoning.search.conclude import conclude
from reasoning.search.search import Search
from reasoning.search.tree import selected
from reasoning.strategies.base import SEARCH_NEEDS, AllAtOnce, BySteps


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving(AllAtOnce, BySteps):
    name: ClassVar[str] = "halving"
    needs: ClassVar = SEARCH_NEEDS

    n: int = 4
    score: Any = "mean_logprob"

    @property
    def scoring(self):
        from reasoning.scores import score_by_name

        return score_by_name(self.score)

    async def __call__(self, run, prompt):
        search, ended = Search(run, prompt, self.scoring), []
        going = [search.root] * self.n
        while going and not search.exhausted:
            children = await search.grow(going)
            ended += [child for child in children if child.finished]
            left = sorted((child for child in children if not child.finished), key=lambda node: -node.score)
            kept = dict.fromkeys(left[: (len(left) + 1) // 2], 2)
            run.record(selected(children, {**kept, **{child: 1 for child in children if child.finished}}))
            going = [node for node in kept for _ in range(2)]
        return await conclude(run, ended, [1.0] * len(ended), "vote", "budget" if search.exhausted else "done")
