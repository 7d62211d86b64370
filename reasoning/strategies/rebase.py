"""REBASE: reward-balanced search; all open prefixes of a level share the solutions that are left, by their rewards.

Wu et al. 2024, *Inference Scaling Laws: An Empirical Analysis of Compute-Optimal Inference for LLM Problem-Solving*,
arXiv 2408.00724, section 3.2. With B the solutions still to come and R the judge's probability of a prefix:

    B = n; grow n first steps from the prompt
    at each level: B -= prefixes that have finished here
                   W_j = Round(B exp(R_j / T_b) / sum_k exp(R_k / T_b)) over the open ones
                   prefix j gets W_j next steps; one that gets none is left behind

How W is rounded is told in `reasoning.search.widths`; with sums that are exact, n solutions come to their end. The
answer is a vote weighted by the last rewards. T_b is 0.1 in the paper and 0.2 in the released configuration. Steps and
their limits are the run's; where the paper stops at depth 25 and 1,024 tokens, a prefix that reaches a limit is
finished.

What the released code does otherwise: it counts only the tokens of the last step towards the limit of a solution, looks
for the finish marker in the question too, loses the width of prefixes that could not be scored, and its rounding in
floats hands out one child too many now and then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.search.conclude import check_choice, conclude
from reasoning.search.rewards import probability, score_kind
from reasoning.search.search import Search
from reasoning.search.tree import Node, selected
from reasoning.search.widths import check_rounding, widths
from reasoning.strategies.base import SEARCH_NEEDS, AllAtOnce, BySteps
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class REBASE(AllAtOnce, BySteps, Scoring):
    """n solutions, shared out among prefixes by their rewards at every step."""

    name: ClassVar[str] = "rebase"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 16
    temperature: float = 0.1  # T_b: the lower, the more the best get
    rounding: str = "seq_ceil"  # or largest_remainder, or round, whose sums are not exact
    score: str | Score = "prm"  # a judge's, which is read as a probability
    choose: str = "vote"  # vote | best | majority | sample: by the last reward

    def __post_init__(self) -> None:
        _ = self.scoring
        check_rounding(self.rounding)
        check_choice(self.choose)
        if self.n < 1:
            raise ConfigError(f"n must be at least 1, got {self.n}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")

    @property
    def most_requests(self) -> int:
        """``n``; where widths needn't sum to the budget, up to twice as many."""
        return 2 * self.n if self.rounding == "round" else self.n

    def most_steps(self, max_steps: int) -> int:
        """A level after another."""
        return self.most_requests * max_steps

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or is no judge's."""
        score_kind(self.scoring, judges)
        Scoring.refuse(self, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Grow level by level, until all that could go on has finished."""
        search, done = Search(run, prompt, self.scoring), list[Node]()
        going = [search.root] * self.n
        while going:
            grown = await search.grow(going)
            done += [node for node in grown if node.finished]
            level = [node for node in grown if not node.finished]
            if search.exhausted:
                return await self._conclude(run, done + level + _left_without_child(going, grown), "budget")
            children = await self._children(run, level, self.n - len(done))
            if level:
                run.record(selected(level, children))
            going = [node for node, count in children.items() for _ in range(count)]
        return await self._conclude(run, done, "done")

    async def _children(self, run: Run, level: Sequence[Node], budget: int) -> dict[Node, int]:
        """How many next steps each open node of a level gets."""
        return dict(zip(level, self._widths(run, level, budget), strict=True))

    def _widths(self, run: Run, nodes: Sequence[Node], budget: int) -> list[int]:
        return widths(self._rewards(run, nodes), budget, self.temperature, self.rounding)

    def _rewards(self, run: Run, nodes: Sequence[Node]) -> list[float]:
        kind = score_kind(self.scoring, run.settings.judges)
        return [probability(node.score, kind) for node in nodes]

    async def _conclude(self, run: Run, nodes: Sequence[Node], reason: str) -> Result:
        ordered = sorted(nodes, key=lambda node: node.id)
        rng = run.rng("choose") if self.choose == "sample" else None
        return await conclude(run, ordered, self._rewards(run, ordered), self.choose, reason, rng)


def _left_without_child(parents: Sequence[Node], grown: Sequence[Node]) -> list[Node]:
    """Nodes that were to go on when the budget ended."""
    began = {node.parent for node in grown}
    return [node for node in dict.fromkeys(parents) if node.depth and node not in began]
