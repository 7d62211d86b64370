"""Step-level beam search with a value model, SBS(B1, B2).

Chen et al. 2024, *AlphaMath Almost Zero: Process Supervision without Process*, arXiv 2405.03553, section 3.3. B1
prefixes are kept, and each gets B2 next steps. Of all steps of a round, those with the B1 highest values go on. One
among them that ends its solution goes to the pool of answers and takes its place in the beam with it: the width only
shrinks, and no finished path competes again. The best of the pool is the answer.

As the released code (MARIO-Math-Reasoning/Super_MARIO) means it, less its bugs: a step that can't be read is one
solution without an answer, where theirs throws away the whole round of the problem; equal steps of one parent are told
apart by number, where theirs go through a set, in an order that changes from run to run; and no problem waits for
another. With ``choose=best`` it is the paper's search; ``majority`` is its "vote in the pool", ``vote`` the same with
values as weights. SBS(1, 1) at temperature 0 is greedy decoding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.search.conclude import conclude
from reasoning.search.rewards import probability, score_kind
from reasoning.search.search import Search
from reasoning.search.siblings import check_unique, unique_siblings
from reasoning.search.tree import Node, selected
from reasoning.strategies.base import SEARCH_NEEDS, BySteps
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge

CHOICES = ("best", "vote", "majority")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBeam(BySteps, Scoring):
    """The solution with the highest value among up to `b1` that survive a beam."""

    name: ClassVar[str] = "step_beam"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS

    b1: int = 3  # prefixes kept
    b2: int = 5  # next steps of each
    score: str | Score = "value"  # a name of reasoning.scores, or a score
    unique: str = "steps"  # of one prefix's next steps that read the same, the first competes; none: all do
    choose: str = "best"

    def __post_init__(self) -> None:
        _ = self.scoring
        check_unique(self.unique)
        if self.choose not in CHOICES:
            raise ConfigError(f"choose must be one of {', '.join(CHOICES)}, got {self.choose!r}")
        if self.b1 < 1 or self.b2 < 1:
            raise ConfigError(f"a beam has at least one prefix and one next step, got b1={self.b1} and b2={self.b2}")

    @property
    def most_requests(self) -> int:
        """``b1 * b2``."""
        return self.b1 * self.b2

    @property
    def most_samples(self) -> int:
        """``b1 * b2``, the first steps."""
        return self.b1 * self.b2

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges; votes are weighted by a judge's alone."""
        self.scoring.refuse(judges)
        if self.choose == "vote":
            score_kind(self.scoring, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Grow, keep the best, until all of them have ended."""
        search = Search(run, prompt, self.scoring)
        pool: list[Node] = []
        beam, frontier, children = self.b1, [search.root], self.b1 * self.b2
        while frontier:
            parents = [node for node in frontier for _ in range(children)]
            grown = await search.grow(parents)
            if search.exhausted:
                reached = {node.parent for node in grown}
                left = [node for node in frontier if node not in reached and node is not search.root]
                return await self._conclude(run, [*pool, *left, *grown], "budget")
            competing = unique_siblings(grown, self.unique)
            top = sorted(competing, key=lambda node: (-node.score, node.id))[:beam]
            frontier, children = [node for node in top if not node.finished], self.b2
            run.record(selected(grown, dict.fromkeys(frontier, children)))
            pool += [node for node in top if node.finished]
            beam = self.b1 - len(pool)
        return await self._conclude(run, pool, "done")

    async def _conclude(self, run: Run, nodes: Sequence[Node], reason: str) -> Result:
        scores = [node.score for node in nodes]
        if self.choose == "vote":
            kind = score_kind(self.scoring, run.settings.judges)
            weights = [probability(score, kind) for score in scores]
        else:  # places: values may be negative
            weights = [float(sum(other < score for other in scores)) for score in scores]
        return await conclude(run, nodes, weights, self.choose, reason)
