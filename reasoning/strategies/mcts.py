"""Monte-Carlo tree search over steps, with a value model in place of playouts.

Chen et al. 2024, *AlphaMath Almost Zero: Process Supervision without Process*, arXiv 2405.03553, section 3.2. A
simulation goes down from the root by PUCT to a leaf, draws the leaf's next steps, and backs the leaf's value up along
its path: Q is the mean of what was backed up, N counts it, and P is the geometric mean of the probabilities of a step's
tokens. A child that ends its solution is a value of its own, backed up when it is drawn, and never expanded. The paper
runs 40 simulations of 5 children with c = 1.25 at inference and c = 1.5 for labels.

``choose=best`` is the paper's answer: down by the highest Q, through branches that hold an answer. ``vote`` weighs all
finished solutions by their values.

Unlike the released code (MARIO-Math-Reasoning/Super_MARIO): of equal branches the older is taken, where theirs draws
one without a seed; and a solution that ends without an answer is -1 for its ancestors too, where theirs keeps that to
the node. Children of one node that read the same are one (``unique=none``: each counts), since visits that are shared
out among copies lead nowhere. Where the simulations are spent before any has come to an end, the solution that is
valued most is written to its end, one step at a time; theirs has no answer then. The root, where nothing is written,
has the value 0, on which no choice depends.

With ``parallel`` above 1 so many leaves are expanded at a time, each simulation under way counting as a visit of value
-1 (virtual loss): faster, and another search than one by one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from decoding.types import FINAL
from reasoning.run import Run
from reasoning.scores import LogProbability, Score, Scoring
from reasoning.search.conclude import conclude
from reasoning.search.puct import Branch, back_up, begin, branches, expand, most_valued, select, value_of, walk
from reasoning.search.rewards import score_kind
from reasoning.search.search import Search
from reasoning.search.siblings import check_unique, unique_siblings
from reasoning.search.tree import Node, selected
from reasoning.strategies.base import SEARCH_NEEDS, BySteps
from reasoning.trace import Event
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge

CHOICES = ("best", "vote")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp(Event):
    """A value counts for a node and all its ancestors: with these N and Q can be computed again."""

    node: int
    value: float  # in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MCTS(BySteps, Scoring):
    """The solution that the search values most after so many simulations."""

    name: ClassVar[str] = "mcts"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS | {Capability.LOGPROBS}

    simulations: int = 40
    children: int = 5  # of a node that is expanded
    c_puct: float = 1.25
    score: str | Score = "value"  # a name of reasoning.scores, or a score; see `value_of`
    unique: str = "steps"  # of a node's children that read the same, the first counts; none: all do
    choose: str = "best"
    parallel: int = 1  # leaves expanded at a time

    def __post_init__(self) -> None:
        _ = self.scoring
        check_unique(self.unique)
        if self.choose not in CHOICES:
            raise ConfigError(f"choose must be one of {', '.join(CHOICES)}, got {self.choose!r}")
        if not (math.isfinite(self.c_puct) and self.c_puct >= 0):
            raise ConfigError(f"c_puct must be at least 0 and finite, got {self.c_puct}")
        for name in ("simulations", "children", "parallel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def most_requests(self) -> int:
        """``children * parallel``."""
        return self.children * self.parallel

    @property
    def most_samples(self) -> int:
        """``children``: the root is expanded once."""
        return self.children

    def most_steps(self, max_steps: int) -> int:
        """``simulations * children``, however long solutions are."""
        return self.simulations * self.children

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score is no value, or can't work with these judges."""
        self.scoring.refuse(judges)
        if isinstance(self.scoring, LogProbability):
            raise ConfigError(
                f"values lie in [-1, 1], and {self.scoring.name} does not: take a judge, as in score=value"
            )
        if self.scoring.role is not None:
            score_kind(self.scoring, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Search, then choose among the solutions that were found."""
        search = Search(run, prompt, self.scoring, logprobs=True)  # of priors
        root = await self.explore(run, search)
        await self._complete(run, search, root)
        return await self._conclude(run, search, root)

    async def explore(self, run: Run, search: Search) -> Branch:
        """Simulate as often as the parameters and the budget allow; the root of the tree."""
        root, done = Branch(node=search.root), 0
        while done < self.simulations and not search.exhausted:
            leaves = self._leaves(root, min(self.parallel, self.simulations - done))
            if not leaves:
                break
            parents = [leaf.node for leaf in leaves for _ in range(self.children)]
            waiting = [branch.node for branch in branches(root) if not branch.children and not branch.node.finished]
            run.record(selected(waiting, {leaf.node: self.children for leaf in leaves}))
            grown = await search.grow(parents)
            for leaf in leaves:
                self._simulated(run, leaf, [node for node in grown if node.parent is leaf.node])
            done += len(leaves)
        return root

    async def _complete(self, run: Run, search: Search, root: Branch) -> None:
        """Where no simulation came to an end, write the solution that is valued most to its end, step by step."""
        branch = None if any(each.node.finished for each in branches(root)) else most_valued(root)
        while branch is not None and not branch.node.finished and not search.exhausted:
            begin(branch)
            run.record(selected([branch.node], {branch.node: 1}))
            self._simulated(run, branch, await search.grow([branch.node]))
            branch = branch.children[0] if branch.children else None

    def _leaves(self, root: Branch, count: int) -> list[Branch]:
        leaves: list[Branch] = []
        while len(leaves) < count and (leaf := select(root, self.c_puct)) is not None:
            begin(leaf)
            leaves.append(leaf)
        return leaves

    def _simulated(self, run: Run, leaf: Branch, nodes: list[Node]) -> None:
        """Put a leaf's children into the tree, and back up its value and those of children that have ended."""
        children = expand(leaf, unique_siblings(nodes, self.unique))
        for branch in (leaf, *(child for child in children if child.node.finished)):
            value = self._value(run, branch.node)
            if value is not None:
                back_up(branch, value)
                run.record(BackedUp(node=branch.node.id, value=value))

    def _value(self, run: Run, node: Node) -> float | None:
        """A node's value; None where the budget left it unknown."""
        if node.parent is None:
            return 0.0
        if node.candidate.score is None or node.step.finish_reason not in FINAL:
            return None
        if node.finished and node.candidate.answer is None:
            return -1.0
        return value_of(node.candidate.score, self.scoring, run.settings.judges)

    async def _conclude(self, run: Run, search: Search, root: Branch) -> Result:
        """Candidates are what was finished; where the budget ended, or nothing was, all that was not expanded."""
        found = branches(root)
        ended = [branch for branch in found if branch.node.finished]
        if search.exhausted or not ended:
            ended = [branch for branch in found if not branch.children and branch is not root]
        if self.choose == "vote":
            weights = [(branch.q + 1) / 2 for branch in ended]
        else:
            chosen = walk(root, {branch.node for branch in ended if branch.node.candidate.answer is not None})
            weights = [float(branch.node is chosen) for branch in ended]
        reason = "budget" if search.exhausted else "done"
        return await conclude(run, [branch.node for branch in ended], weights, self.choose, reason)
