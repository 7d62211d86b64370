"""Estimators over a pool of samples, exact over all its k-subsets.

A problem has n samples. A figure at k is its mean over all k-subsets of the n, which is unbiased for k fresh samples
(a U-statistic). Ties are shared evenly among the tied, so no figure depends on the order of the samples.
"""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from decoding.errors import ConfigError
from evals.estimators.intervals import Floats
from evals.estimators.votes import majority_curve

MAX_SAMPLES = 1000  # of a problem in the curves: C(n, n/2) has to fit a float64


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k samples is right, given c right ones among n: 1 - C(n-c, k) / C(n, k).

    Chen et al. 2021, arXiv 2107.03374, equation 1. In whole numbers, rounded once.
    """
    check_counts(n, c, k)
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all of k samples are right: C(c, k) / C(n, k) (Yao et al. 2024, arXiv 2406.12045)."""
    check_counts(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def maj_at_k(
    class_counts: Sequence[int], correct_class: int | Collection[int] | None, k: int, abstentions: int = 0
) -> float:
    """The chance that the majority vote of k samples is right.

    Args:
        class_counts: Samples of each answer.
        correct_class: The index in `class_counts` of the right answer, or the indices where several are right: the
            chances that each of them wins add up. None if no sample gave a right one.
        k: Samples in a vote.
        abstentions: Samples without an answer. They take places in a vote and don't vote.
    """
    right = {correct_class} if isinstance(correct_class, int) else set(correct_class or ())
    n = sum(class_counts) + abstentions
    check_counts(n, sum(class_counts[index] for index in right), k)
    check_size(n)
    chances = []
    for winner in right:
        others = sorted(count for index, count in enumerate(class_counts) if index != winner and count)
        chances.append(majority_curve(class_counts[winner], tuple(others), abstentions)[k - 1])
    return math.fsum(chances)


def best_of_n_at_k(scores: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """The chance that the best of k samples is right.

    Args:
        scores: Of each sample, [n]. What is not a number counts as the lowest; so should samples without an answer.
        correct: Whether each is right, [n].
        k: Samples to choose from.
    """
    values = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    right = np.asarray(correct, dtype=np.float64)
    if values.shape != right.shape or values.ndim != 1:
        raise ConfigError(f"best of n needs one score and one verdict a sample, got {values.shape} and {right.shape}")
    check_counts(values.size, int(right.sum()), k)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=right) / sizes  # of the right ones among those of equal score, lowest first
    highest = np.diff(subset_ratios(values.size)[np.concatenate([[0], np.cumsum(sizes)]), k])
    return float(highest @ shares)


@lru_cache(maxsize=64)
def subset_ratios(n: int) -> Floats:
    """C(m, k) / C(n, k) for m and k from 0 to n, [n + 1, n + 1]: the share of k-subsets that lie within m of the n."""
    check_size(n)
    totals = [math.comb(n, k) for k in range(n + 1)]
    ratios = np.array([[math.comb(m, k) / totals[k] for k in range(n + 1)] for m in range(n + 1)])
    ratios.flags.writeable = False
    return ratios


def check_counts(n: int, c: int, k: int) -> None:
    """Raise ``ConfigError`` unless k samples can be taken from n, c of which are right."""
    if not (1 <= k <= n and 0 <= c <= n):
        raise ConfigError(f"need 1 <= k <= n and 0 <= right <= n, got k={k}, n={n}, right={c}: draw at least k samples")


def check_size(n: int) -> None:
    """Raise ``ConfigError`` if there are more samples than the curves can count."""
    if n > MAX_SAMPLES:
        raise ConfigError(f"{n} samples a problem are more than {MAX_SAMPLES}: take a part of them")
