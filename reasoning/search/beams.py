"""What beam search and verifier tree search have in common: ranks, children by rank, lookahead, what is chosen from."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import Scoring
from reasoning.search.conclude import check_choice, conclude
from reasoning.search.rewards import probability, score_kind
from reasoning.search.search import Search
from reasoning.search.tree import Node
from reasoning.strategies.base import AllAtOnce, BySteps
from reasoning.trajectory import Result
from verifiers.judges.types import Judge

WEIGHTED = frozenset({"vote", "sample"})  # choices whose weights are a judge's probabilities


def ranked(scores: Mapping[Node, float]) -> list[Node]:
    """Nodes by their scores, the highest first, of equal ones the lower id."""
    return sorted(scores, key=lambda node: (-scores[node], node.id))


def spread(nodes: Sequence[Node], children: int) -> dict[Node, int]:
    """Children shared out as evenly as they can be; what is left over goes to the first, one each."""
    each, over = divmod(children, max(1, len(nodes)))
    return {node: each + (rank < over) for rank, node in enumerate(nodes)}


def distinct(nodes: Iterable[Node]) -> list[Node]:
    """The first node of each row of token ids."""
    rows: dict[tuple[int, ...], Node] = {}
    for node in nodes:
        rows.setdefault(node.trajectory.token_ids, node)
    return list(rows.values())


def tips(parents: Collection[Node], children: Sequence[Node]) -> list[Node]:
    """Open nodes where a search was interrupted: children, and parents that have none; the root is no solution."""
    grown = {child.parent for child in children}
    return [node for node in (*parents, *children) if not node.finished and node.depth and node not in grown]


async def look_ahead(search: Search, nodes: Sequence[Node], steps: int) -> dict[Node, float]:
    """Scores to select by: of where each node gets to, greedily, within so many steps; with 0, the nodes' own.

    Every step on the way is judged, so that one that the budget cuts short has the score of what there is; a judge with
    a cache reads each token once either way. What was written is in the trace and is not used again. Equal prefixes go
    on alike, so they do it once.
    """
    ends = {node.trajectory.token_ids: node for node in nodes}
    for _ in range(steps):
        going = {ids: end for ids, end in ends.items() if not end.finished}
        if search.exhausted or not going:
            break
        grown = await search.grow(list(going.values()), temperature=0.0)
        ends.update(zip(going, grown, strict=False))  # fewer where the budget ended
    return {node: ends[node.trajectory.token_ids].score for node in nodes}


class Beams(AllAtOnce, BySteps, Scoring):
    """A mixin for strategies that keep ``n / width`` nodes a step, each with `width` children."""

    __slots__ = ()
    width: int
    lookahead: int
    choose: str

    def __post_init__(self) -> None:
        if self.n < 1 or self.width < 1 or self.n % self.width:
            raise ConfigError(
                f"n must be a multiple of width, and both at least 1, got n={self.n} and width={self.width}: "
                "n / width are kept, with width children each"
            )
        if self.lookahead < 0:
            raise ConfigError(f"lookahead is a number of steps, at least 0, got {self.lookahead}")
        check_choice(self.choose)
        _ = self.scoring  # a wrong name is refused when it is typed

    def most_steps(self, max_steps: int) -> int:
        """The most steps that it has written, those of lookahead included."""
        return self.n * max_steps * (1 + self.lookahead)

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or its numbers can't be weights."""
        Scoring.refuse(self, judges)
        if self.choose in WEIGHTED:
            score_kind(self.scoring, judges)

    async def _conclude(self, run: Run, search: Search, nodes: Sequence[Node]) -> Result:
        """The result, chosen from these nodes by their own scores."""
        weights = [node.score for node in nodes]
        if self.choose in WEIGHTED:
            kind = score_kind(self.scoring, run.settings.judges)
            weights = [probability(score, kind) for score in weights]
        reason = "budget" if search.exhausted else "done"
        return await conclude(run, nodes, weights, self.choose, reason, run.rng("choice"))
