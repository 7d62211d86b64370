"""Estimators over a pool of samples, exact over all its k-subsets, and their intervals.

A problem has n samples. A figure at k is its mean over all k-subsets of the n, which is unbiased for k fresh samples
(a U-statistic). Ties are shared evenly among the tied, so no figure depends on the order of the samples.

The curves give all of k = 1 .. n at once, [n]; they depend on counts alone and are computed once for each set of them.
Intervals are over problems: the problem is the unit, its samples are not independent of each other.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from decoding.seeds import counter_uniforms, derive_seed

Floats = npt.NDArray[np.float64]

MAX_SAMPLES = 1000  # of a problem in the curves: C(n, n/2) has to fit a float64
_CHUNK = 2_000_000  # draws of the bootstrap held at once


class Interval(NamedTuple):
    """A figure and where it lies."""

    mean: float
    low: float
    high: float


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k samples is right, given c right ones among n: 1 - C(n-c, k) / C(n, k).

    Chen et al. 2021, arXiv 2107.03374, equation 1. In whole numbers, rounded once.
    """
    _check_counts(n, c, k)
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all of k samples are right: C(c, k) / C(n, k) (Yao et al. 2024, arXiv 2406.12045)."""
    _check_counts(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def maj_at_k(class_counts: Sequence[int], correct_class: int | None, k: int, abstentions: int = 0) -> float:
    """The chance that the majority vote of k samples is right.

    Args:
        class_counts: Samples of each answer.
        correct_class: The index in `class_counts` of the right answer; None if no sample gave it.
        k: Samples in a vote.
        abstentions: Samples without an answer. They take places in a vote and don't vote.
    """
    n = sum(class_counts) + abstentions
    correct = 0 if correct_class is None else class_counts[correct_class]
    _check_counts(n, correct, k)
    wrong = (count for index, count in enumerate(class_counts) if index != correct_class and count)
    return float(_majority_curve(correct, tuple(sorted(wrong)), abstentions)[k - 1])


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
    _check_counts(values.size, int(right.sum()), k)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=right) / sizes  # of the right ones among those of equal score, lowest first
    highest = np.diff(_subset_ratios(values.size)[np.concatenate([[0], np.cumsum(sizes)]), k])
    return float(highest @ shares)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); for one outcome a problem."""
    _check_counts(n, successes, 1)
    z = NormalDist().inv_cdf((1 + _checked_level(level)) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    # At the ends the bound is exactly 0 or 1; only rounding says otherwise.
    low = 0.0 if successes == 0 else centre - half
    return Interval(p, low, 1.0 if successes == n else centre + half)


def bootstrap(values: npt.ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean over problems with a percentile interval from resampled problems.

    Args:
        values: A figure of each problem, [P].
        level: Coverage of the interval.
        resamples: How often the problems are drawn anew, with replacement.
        seed: Of the draws; the same seed gives problems of the same number the same draws.
    """
    return bootstrap_curves(np.asarray(values, dtype=np.float64)[:, None], level, resamples, seed)[0]


def bootstrap_curves(
    values: npt.ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """As `bootstrap` for several figures on the same resamples: [P, K] to K intervals."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.shape[0] or not np.isfinite(table).all():
        raise ConfigError(f"the bootstrap needs finite figures, [problems, K], of at least one problem: {table.shape}")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}")
    tail = (1 - _checked_level(level)) / 2
    # Figures of the mean's deviations: a constant column then has an interval of exactly no width.
    means = table.mean(axis=0)
    deviations = _resampled_means(table - means, resamples, seed)
    low, high = np.quantile(deviations, [tail, 1 - tail], axis=0)
    return [Interval(float(m), float(m + a), float(m + b)) for m, a, b in zip(means, low, high, strict=True)]


def paired_bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of a - b with its interval; `a` and `b` are figures of the same problems in the same order, [P]."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ConfigError(f"a paired comparison needs the same problems on both sides: {first.shape}, {second.shape}")
    return bootstrap(first - second, level, resamples, seed)


def _resampled_means(table: Floats, resamples: int, seed: int) -> Floats:
    """Means of `table`, [P, K], over problems drawn with replacement, [resamples, K]."""
    problems = table.shape[0]
    rows = max(1, _CHUNK // problems)
    key = np.array([derive_seed(seed, "bootstrap")], np.uint64)
    means: list[Floats] = []
    for first in range(0, resamples, rows):
        shape = (min(rows, resamples - first), problems)
        counters = np.arange(shape[0] * problems, dtype=np.uint64) + np.uint64(first * problems)
        drawn = (counter_uniforms(key, counters) * problems).astype(np.int64).reshape(shape)
        drawn += np.arange(shape[0])[:, None] * problems
        times = np.bincount(drawn.ravel(), minlength=shape[0] * problems).reshape(shape)
        means.append(times.astype(np.float64) @ table / problems)
    return np.concatenate(means)


@lru_cache(maxsize=64)
def _subset_ratios(n: int) -> Floats:
    """C(m, k) / C(n, k) for m and k from 0 to n, [n + 1, n + 1]: the share of k-subsets that lie within m of the n."""
    _check_size(n)
    totals = [math.comb(n, k) for k in range(n + 1)]
    ratios = np.array([[math.comb(m, k) / totals[k] for k in range(n + 1)] for m in range(n + 1)])
    ratios.flags.writeable = False
    return ratios


@lru_cache(maxsize=100_000)
def _majority_curve(correct: int, wrong: tuple[int, ...], abstentions: int) -> Floats:
    """The chance that a vote of k is right, for k = 1 .. n, [n].

    A k-subset in which the right answer has j votes, t others as many and the rest fewer is worth 1 / (1 + t). The
    subsets are counted by a polynomial in x (samples taken) and y (classes tied), multiplied up class by class, and
    since 1 / (1 + t) is the integral of y^t from 0 to 1, the shares come from Gauss-Legendre nodes in y, exactly.
    """
    n = correct + sum(wrong) + abstentions
    _check_size(n)
    worth = np.zeros(n + 1)
    for votes in range(1, correct + 1):
        rivals = [size for size in wrong if size >= votes]
        harmless = n - correct - sum(rivals)  # abstentions, and classes too small to draw level
        nodes, node_weights = np.polynomial.legendre.leggauss(len(rivals) // 2 + 1)
        product = np.tile(_binomials(harmless, n), (nodes.size, 1))  # [nodes, samples taken]
        for size in rivals:
            factor = np.tile(_binomials(size, votes), (nodes.size, 1))
            factor[:, votes] *= (nodes + 1) / 2
            product = _times(product, factor)
        worth[votes:] += math.comb(correct, votes) * (node_weights / 2 @ product)[: n + 1 - votes]
    return worth[1:] / _binomials(n, n)[1:]


def _binomials(n: int, length: int) -> Floats:
    """C(n, 0) .. C(n, length), [length + 1]."""
    return np.array([math.comb(n, k) for k in range(length + 1)], dtype=np.float64)


def _times(product: Floats, factor: Floats) -> Floats:
    """Rows of polynomials multiplied, cut at the length of `product`."""
    result = product * factor[:, :1]
    for degree in range(1, factor.shape[1]):
        result[:, degree:] += product[:, :-degree] * factor[:, degree : degree + 1]
    return result


def _check_counts(n: int, c: int, k: int) -> None:
    if not (1 <= k <= n and 0 <= c <= n):
        raise ConfigError(f"need 1 <= k <= n and 0 <= right <= n, got k={k}, n={n}, right={c}: draw at least k samples")


def _check_size(n: int) -> None:
    if n > MAX_SAMPLES:
        raise ConfigError(f"{n} samples a problem are more than {MAX_SAMPLES}: take a part of them")


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    return level
