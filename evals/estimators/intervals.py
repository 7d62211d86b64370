"""Where a figure lies: intervals over problems. The problem is the unit; its samples are not independent of each other.

One seed gives problems of the same number the same resamples, so figures that are computed apart can be compared.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from decoding.seeds import counter_uniforms, derive_seed

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
_CHUNK = 2_000_000  # draws of the bootstrap held at once


class Interval(NamedTuple):
    """A figure and where it lies."""

    mean: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); for one outcome a problem."""
    if not 0 <= successes <= n or n < 1:
        raise ConfigError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + checked_level(level)) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    # At the ends the bound is exactly 0 or 1; only rounding says otherwise.
    low = 0.0 if successes == 0 else centre - half
    return Interval(p, low, 1.0 if successes == n else centre + half)


def bootstrap(values: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean over problems with a percentile interval from resampled problems.

    Args:
        values: A figure of each problem, [P].
        level: Coverage of the interval.
        resamples: How often the problems are drawn anew, with replacement.
        seed: Of the draws; the same seed gives problems of the same number the same draws.
    """
    return bootstrap_curves(np.asarray(values, dtype=np.float64)[:, None], level, resamples, seed)[0]


def bootstrap_curves(
    values: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """As `bootstrap` for several figures on the same resamples: [P, K] to K intervals."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.shape[0] or not np.isfinite(table).all():
        raise ConfigError(f"the bootstrap needs finite figures, [problems, K], of at least one problem: {table.shape}")
    # Figures of the mean's deviations: a constant column then has an interval of exactly no width.
    means = table.mean(axis=0)
    problems = table.shape[0]
    deviations = np.concatenate(
        [times @ (table - means) / problems for times in resampled_problems(problems, resamples, seed)]
    )
    tail = (1 - checked_level(level)) / 2
    low, high = np.quantile(deviations, [tail, 1 - tail], axis=0)
    return [Interval(float(m), float(m + a), float(m + b)) for m, a, b in zip(means, low, high, strict=True)]


def bootstrap_ratio(
    parts: npt.ArrayLike, wholes: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """The sum of `parts` over the sum of `wholes` with its interval; None where the wholes add up to nothing.

    For rates whose denominator differs between problems, such as the share of wrong samples that a check refuses.

    Args:
        parts: Of each problem, [P].
        wholes: Of each problem, [P].
        level: Coverage of the interval.
        resamples: How often the problems are drawn anew; draws without a whole say nothing and are left out.
        seed: Of the draws.
    """
    pairs = np.stack([np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)], axis=1)
    part, whole = pairs.sum(axis=0)
    if not whole > 0:
        return None
    sums = np.concatenate([times @ pairs for times in resampled_problems(len(pairs), resamples, seed)])
    sums = sums[sums[:, 1] > 0]
    tail = (1 - checked_level(level)) / 2
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [tail, 1 - tail])
    return Interval(float(part / whole), float(low), float(high))


def resampled_problems(problems: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each problem is drawn in each resample, in chunks of [rows, problems] that add up to `resamples`."""
    if problems < 1 or resamples < 1:
        raise ConfigError(f"problems and resamples must be at least 1, got {problems} and {resamples}")
    rows = max(1, _CHUNK // problems)
    key = np.array([derive_seed(seed, "bootstrap")], np.uint64)
    for first in range(0, resamples, rows):
        shape = (min(rows, resamples - first), problems)
        counters = np.arange(shape[0] * problems, dtype=np.uint64) + np.uint64(first * problems)
        drawn = (counter_uniforms(key, counters) * problems).astype(np.int64).reshape(shape)
        drawn += np.arange(shape[0])[:, None] * problems
        yield np.bincount(drawn.ravel(), minlength=shape[0] * problems).reshape(shape).astype(np.float64)


def checked_level(level: float) -> float:
    """`level`, if it is a probability that an interval can have; else raises ``ConfigError``."""
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    return level
