"""Choosing among finished candidates: pure functions of equality classes, scores and counts.

Classes are those of `verifiers.base.AnswerFormat.classes`: equal numbers mean equal answers, None gives no answer and
never votes. Of tied classes the one whose first member has the lowest index wins, so a choice is deterministic; the
estimators of `evals.metrics`, which average over subsets, share ties evenly instead.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import betainc


class Vote(NamedTuple):
    """The outcome of a vote."""

    winner: int | None  # class; None: nobody voted
    index: int | None  # of the winner's first member
    weights: Mapping[int, float]  # by class, in order of first appearance
    tied: bool  # another class has as much


def majority(classes: Sequence[int | None]) -> Vote:
    """One vote a member."""
    return weighted(classes, [1.0] * len(classes))


def weighted(classes: Sequence[int | None], weights: Sequence[float]) -> Vote:
    """Each member votes with its weight, at least 0; raises ``ValueError`` for a negative or missing one."""
    totals: dict[int, float] = {}
    first: dict[int, int] = {}
    for index, (cls, weight) in enumerate(zip(classes, weights, strict=True)):
        if cls is None:
            continue
        if not weight >= 0:
            raise ValueError(f"a vote's weight must be at least 0, got {weight} at index {index}")
        totals[cls] = totals.get(cls, 0.0) + weight
        first.setdefault(cls, index)
    if not totals:
        return Vote(None, None, {}, tied=False)
    most = max(totals.values())
    winner = next(cls for cls, total in totals.items() if total == most)  # dicts keep first appearances in order
    return Vote(winner, first[winner], totals, tied=sum(total == most for total in totals.values()) > 1)


def best(scores: Sequence[float], eligible: Sequence[bool]) -> int | None:
    """The index of the highest score among the eligible, the first of equals; None where nobody is eligible."""
    indices = [index for index, may in enumerate(eligible) if may]
    return max(indices, key=lambda index: scores[index], default=None)


def decided_beta(counts: Sequence[int], threshold: float) -> bool:
    """Whether the leader of a vote beats the runner-up with probability `threshold` or more.

    Aggarwal et al. 2023 (arXiv 2305.11860), equation 3: the share of the leader among the votes for the first two has
    the law Beta(v1 + 1, v2 + 1) under a uniform prior, and the probability is its mass above one half.
    """
    first, second = [*sorted(counts, reverse=True), 0, 0][:2]
    return float(betainc(second + 1, first + 1, 0.5)) >= threshold


def decided_surely(counts: Sequence[int], remaining: int) -> bool:
    """Whether no outcome of the `remaining` votes can change the winner.

    `counts` are in order of first appearance, so the first of the highest wins a tie; an answer that nobody gave yet
    would come last of all.
    """
    if not counts:
        return remaining == 0
    leader = max(range(len(counts)), key=lambda index: (counts[index], -index))
    # A rival gets all remaining votes; one that appeared before the leader wins with as many votes, others need more.
    rivals = [count + remaining - (index > leader) for index, count in enumerate(counts) if index != leader]
    return all(counts[leader] > rival for rival in [*rivals, remaining - 1])
