"""ETS: REBASE that first decides which prefixes are worth the cache they hold.

Hooper et al. 2025, *ETS: Efficient Tree Search for Inference-Time Scaling*, arXiv 2502.13575, after its released code.
At each level, with B the solutions still to come (as in REBASE):

    1  O_i = REBASE's width of open prefix i / sum of widths
    2  clusters of the open prefixes by what their last steps say
    3  keep those that maximise sum O_i - lambda_b (share of the tree's nodes that they need)
       + lambda_d (share of clusters that they cover), one at least (`reasoning.search.ets_program`)
    4  share B among them by REBASE's widths, with rewards as they are

Defaults are the released ones at width 16: T_b = 0.2, lambda_b = 1, lambda_d = 1.5 (1.4 at width 64, 1.45 at 256).
There clusters are always those of embeddings, by a model of mathematical abstracts; ``text`` needs no model and tells
apart whatever is spelt differently.

What the released code does otherwise: with lambda_b = 0 it pays 1e-4 for every node; it compares a solver's float with
1, and where no node passes the search ends without a word; its solver is another program, which is called anew each
time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.search.clusters import by_equality, by_likeness, check_clustering, last_step
from reasoning.search.ets_program import (
    Program,
    check_node_cost,
    program,
    solve_by_branching,
    solve_by_tree,
)
from reasoning.search.tree import Node
from reasoning.strategies.rebase import REBASE


@dataclass(frozen=True, slots=True, kw_only=True)
class ETS(REBASE):
    """REBASE over those prefixes that an integer program keeps."""

    name: ClassVar[str] = "ets"

    temperature: float = 0.2  # T_b
    lambda_b: float = 1.0  # what it costs to hold the whole tree
    lambda_d: float = 1.5  # what it is worth to keep all clusters
    node_cost: str = "unit"  # as released, or tokens: by the length of the step
    clusters: str = "text"  # of last steps: equal ones; embedding, those that mean the same; none: lambda_d is not used
    embedder: str = "all-minilm-l6-v2"  # a sentence-transformers model: this one, a folder, or an id on the hub

    def __post_init__(self) -> None:
        REBASE.__post_init__(self)
        check_node_cost(self.node_cost)
        check_clustering(self.clusters)
        for name in ("lambda_b", "lambda_d"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")

    async def _children(self, run: Run, level: Sequence[Node], budget: int) -> dict[Node, int]:
        kept = await self._survivors(run, level, budget) if len(level) > 1 else level
        return dict(zip(kept, self._widths(run, kept, budget), strict=True))

    async def _survivors(self, run: Run, level: Sequence[Node], budget: int) -> list[Node]:
        """Those of a level's open nodes that are worth their cache."""
        counts = self._widths(run, level, budget)
        problem = program(
            level,
            [count / max(1, sum(counts)) for count in counts],
            await self._clusters(run, level),
            lambda_b=self.lambda_b,
            lambda_d=0.0 if self.clusters == "none" else self.lambda_d,
            node_cost=self.node_cost,
        )
        kept = await _solve(run, problem)
        return [node for node, stays in zip(level, kept, strict=True) if stays]

    async def _clusters(self, run: Run, level: Sequence[Node]) -> list[int]:
        texts = [last_step(node) for node in level]
        if self.clusters == "embedding" and self.lambda_d > 0 and len(set(texts)) > 1:
            return by_likeness(await run.embed(texts, self.embedder))
        return by_equality(texts)


async def _solve(run: Run, problem: Program) -> list[bool]:
    """As `reasoning.search.ets_program.solve`; what takes milliseconds is done where nobody waits for it."""
    kept = solve_by_tree(problem)
    if kept is None and run.settings.workers is not None:
        return await run.call(solve_by_branching, problem)
    return solve_by_branching(problem) if kept is None else kept
