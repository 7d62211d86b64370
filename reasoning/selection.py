"""Which candidate is the answer: votes over equality classes, their weights, best scores, and when a vote is decided.

Pure functions. A class is a number that stands for one answer (see `AnswerFormat.classes`); None stands for no answer
and never votes.

The tie rule: of tied classes the one whose first member has the lowest index wins, of tied scores the lowest index. A
strategy has to give one answer, and this one does not depend on the batch. The estimators of `evals` share ties evenly
instead, since they speak of the mean over all orders.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decoding.errors import ConfigError
from reasoning.weibull import Fit, fit_mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """How a vote came out."""

    winner: int | None  # the class; None: nobody voted
    weights: Mapping[int, float]  # of each class that was voted for, in order of its first member
    tied: bool  # whether another class has the winner's weight
    index: int | None  # of the candidate that speaks for the winner: its heaviest member, the first of equals

    @property
    def share(self) -> float:
        """The winner's share of all weight, the confidence of the vote; 0 where nobody voted."""
        total = math.fsum(self.weights.values())
        return self.weights[self.winner] / total if self.winner is not None and total > 0 else 0.0


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


class Proportions(NamedTuple):
    """Weights in proportion to exponentials."""

    weights: list[float]  # [N], summing to 1; 0 for who has none
    log_total: float | None  # logarithm of the exponentials' sum; None: nobody has a weight


def in_proportion(logs: Sequence[float], eligible: Sequence[bool]) -> Proportions:
    """Weights in proportion to exp(log) among the eligible: a softmax. `logs`, `eligible`: [N].

    Of log-probabilities these are the probabilities up to a common factor, and no product of any length underflows. A
    number that is none counts as the lowest.
    """
    pairs = zip(logs, eligible, strict=True)
    ranked = {i: -math.inf if math.isnan(log) else log for i, (log, allowed) in enumerate(pairs) if allowed}
    if not ranked:
        return Proportions([0.0] * len(logs), None)
    top = max(ranked.values())
    # Infinity less infinity is no number: there the highest share all weight.
    powers = {i: math.exp(log - top) if math.isfinite(top) else float(log == top) for i, log in ranked.items()}
    total = math.fsum(powers.values())
    return Proportions([powers.get(i, 0.0) / total for i in range(len(logs))], top + math.log(total))


def perplexity_consistency(
    classes: Sequence[int | None], paths: Sequence[Hashable], log_probabilities: Sequence[float]
) -> Proportions:
    """Each distinct path that gives an answer votes once, with its probability (RPC, arXiv 2502.00511, section 4.1).

    An answer's weight times exp(`log_total`) is C(a), the sum of its paths' probabilities: a lower bound of the
    model's probability of the answer, and that probability itself once all its paths have been drawn.

    Args:
        classes: Of the answers, [N]; None does not vote.
        paths: What tells paths apart, such as their token ids, [N]; of equal ones the first votes.
        log_probabilities: Of the paths, or by the token, [N] nats.
    """
    return in_proportion(log_probabilities, _first_of_each(paths, classes))


class Pruning(NamedTuple):
    """Which candidates were taken out."""

    indices: tuple[int, ...]  # of those taken out
    fit: Fit  # if it has not converged, nothing is


def prune_unlikely(
    classes: Sequence[int | None], paths: Sequence[Hashable], log_probabilities: Sequence[float], *, whole: bool
) -> Pruning:
    """Reasoning pruning (RPC, arXiv 2502.00511, section 4.2 and Algorithm 1): takes out the unlikely paths.

    A mixture of two Weibull laws is fitted to the probabilities of the candidates that give an answer. Taken out is who
    comes rather from the component of the lower mean and is also less probable than the mean ("truncated mean"). The
    most probable one always stays.

    Args:
        classes: As in `perplexity_consistency`.
        paths: Likewise.
        log_probabilities: Likewise.
        whole: Whether the probabilities are those of whole paths. These are fitted relative to the largest, since they
            may be far below the bounds of the fit, and each path once, since one that was drawn often would be a
            component of its own. Otherwise they are fitted as they are and as often as they were drawn, as in the
            released code.
    """
    voters = [index for index, label in enumerate(classes) if label is not None]
    firsts = _first_of_each(paths, classes)
    sample = np.array([log_probabilities[i] for i in voters if firsts[i] or not whole], dtype=np.float64)
    usable = sample.size > 0 and bool(np.isfinite(sample).all())
    unit = float(sample.max()) if whole and usable else 0.0
    fit = fit_mixture(sample - unit)
    if fit.mixture is None or not fit.converged:
        return Pruning((), fit)
    logs = np.array([log_probabilities[i] for i in voters], dtype=np.float64)
    top = float(logs.max())
    mean = math.fsum(np.exp(sample - top)) / sample.size  # relative to the largest, which is exactly 1: it stays
    low = fit.mixture.prefers_low(logs - unit) & (np.exp(logs - top) < mean)
    return Pruning(tuple(i for i, out in zip(voters, low, strict=True) if out), fit)


def _first_of_each(paths: Sequence[Hashable], classes: Sequence[int | None]) -> list[bool]:
    """Whether a candidate is the first with its path among those that give an answer, [N]."""
    seen: set[Hashable] = set()
    firsts: list[bool] = []
    for path, label in zip(paths, classes, strict=True):
        firsts.append(label is not None and path not in seen)
        if label is not None:
            seen.add(path)
    return firsts


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
