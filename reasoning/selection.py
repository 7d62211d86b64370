"""Which candidate is the answer: votes over equality classes, best scores, and when a vote is decided.

Pure functions. A class is a number that stands for one answer (see `AnswerFormat.classes`); None stands for no answer
and never votes.

The tie rule: of tied classes the one whose first member has the lowest index wins, of tied scores the lowest index. A
strategy has to give one answer, and this one does not depend on the batch. The estimators in `evals.metrics` share ties
evenly instead, since they speak of the mean over all orders.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from decoding.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """How a vote came out."""

    winner: int | None  # the class; None: nobody voted
    weights: Mapping[int, float]  # of each class that was voted for, in order of its first member
    tied: bool  # whether another class has the winner's weight
    index: int | None  # of the candidate that speaks for the winner: its heaviest member, the first of equals


def majority(classes: Sequence[int | None]) -> Vote:
    """One vote a candidate. `classes`: [N]."""
    return weighted(classes, [1.0] * len(classes))


def weighted(classes: Sequence[int | None], weights: Sequence[float]) -> Vote:
    """Each candidate votes with its weight. `classes`, `weights`: [N].

    Sums are rounded once (``math.fsum``), so they don't depend on the order of the candidates. Raises ``ConfigError``
    for a weight that is negative or not finite.
    """
    members: dict[int, list[int]] = {}
    for index, (label, weight) in enumerate(zip(classes, weights, strict=True)):
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"weights of votes must be finite and at least 0, number {index} is {weight}")
        if label is not None:
            members.setdefault(label, []).append(index)
    if not members:
        return Vote(winner=None, weights={}, tied=False, index=None)
    totals = {label: math.fsum(weights[i] for i in indices) for label, indices in members.items()}
    # dicts keep the order of first members and max takes the first of equals: together they are the tie rule.
    winner = max(totals, key=totals.__getitem__)
    tied = list(totals.values()).count(totals[winner]) > 1
    heaviest = max(members[winner], key=weights.__getitem__)
    return Vote(winner=winner, weights=totals, tied=tied, index=heaviest)


def best(scores: Sequence[float], eligible: Sequence[bool]) -> int | None:
    """The index of the highest score among those eligible; None if none is. `scores`, `eligible`: [N].

    A score that is not a number counts as the lowest.
    """
    indices = [index for index, allowed in enumerate(eligible) if allowed]
    ranked = [-math.inf if math.isnan(score) else score for score in scores]
    if len(ranked) != len(eligible):
        raise ConfigError(f"there are {len(ranked)} scores for {len(eligible)} candidates: give one for each")
    return max(indices, key=ranked.__getitem__, default=None)


def decided_beta(counts: Sequence[int], threshold: float) -> bool:
    """Whether the leader stays ahead of the second with probability `threshold`, by the votes so far.

    The Beta rule of adaptive consistency (Aggarwal et al. 2023, arXiv 2305.11860, section 3): with v1 and v2 votes for
    the two leading answers, P(p1 > p2) = P(X > 1/2) for X ~ Beta(v1 + 1, v2 + 1). For whole numbers that is the
    probability of at most v1 heads in v1 + v2 + 1 tosses of a fair coin, so it is computed without rounding.

    Args:
        counts: Votes of each class, in any order.
        threshold: A probability. Without a vote nothing is decided.
    """
    first, second = sorted([*counts, 0, 0], reverse=True)[:2]
    tosses = first + second + 1
    outcomes = sum(math.comb(tosses, heads) for heads in range(first + 1))
    return first > 0 and outcomes / 2**tosses >= threshold


def decided_surely(counts: Sequence[int], remaining: int) -> bool:
    """Whether no outcome of the remaining votes can change the winner of the majority vote.

    Args:
        counts: Votes of each class in order of its first member, which decides ties.
        remaining: Candidates still to come; each may vote for any class, a new one included, or abstain.
    """
    voted = [count for count in counts if count > 0]
    if remaining == 0 or not voted:
        return remaining == 0
    leader = voted.index(max(voted))
    # A class before the leader needs only to draw level, one behind it or a new one has to get past.
    before = max(voted[:leader], default=-1) + remaining < voted[leader]
    behind = max(voted[leader + 1 :], default=0) + remaining <= voted[leader]
    return before and behind
