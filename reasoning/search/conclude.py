"""From the nodes that a search ended with to its result."""

from collections.abc import Sequence
from dataclasses import replace

from decoding.errors import ConfigError
from decoding.seeds import Rng
from reasoning.run import Run
from reasoning.search.tree import Concluded, Node
from reasoning.selection import best, majority, weighted
from reasoning.strategies.base import record_sampled, record_vote, result
from reasoning.trajectory import Result

CHOICES = ("vote", "best", "majority", "sample")


def check_choice(how: str) -> None:
    """Raises ``ConfigError`` for a way to choose that there is not."""
    if how not in CHOICES:
        raise ConfigError(f"unknown choice {how!r}: there are {', '.join(CHOICES)}")


async def conclude(
    run: Run, nodes: Sequence[Node], weights: Sequence[float], how: str, reason: str, rng: Rng | None = None
) -> Result:
    """The result of a search: its nodes as candidates in this order, and one of them chosen.

    Args:
        run: The run.
        nodes: What the search ended with, [N]; a node that comes twice is two candidates.
        weights: Of the nodes, [N]; finite and at least 0 for a vote or a draw, any numbers for the best.
        how: ``vote``: the answer with the most weight. ``best``: the heaviest that answers. ``majority``: the answer of
            most candidates. ``sample``: one that answers, in proportion to its weight (takes an `rng`).
        reason: Why the search stopped.
        rng: Randomness for ``sample``.
    """
    run.record(Concluded(nodes=tuple(node.id for node in nodes)))
    candidates = [replace(node.candidate, slot=slot) for slot, node in enumerate(nodes)]
    for candidate in candidates:
        record_sampled(run, candidate)
    answers = [candidate.answer is not None for candidate in candidates]
    if how in ("vote", "majority"):
        classes = await run.classes(candidates)
        vote = weighted(classes, weights) if how == "vote" else majority(classes)
        await record_vote(run, candidates, vote)
        return result(run, candidates, vote.index, reason)
    if how == "best":
        return result(run, candidates, best(weights, answers), reason)
    shares = [weight if eligible else 0.0 for weight, eligible in zip(weights, answers, strict=True)]
    assert rng is not None, "a draw needs randomness"
    return result(run, candidates, rng.categorical(shares) if sum(shares) > 0 else None, reason)
