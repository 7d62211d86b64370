"""Resampling: which particles go on, and how often. Functions of weights and randomness, nothing else.

All four schemes are unbiased: particle i is taken count * W_i times on average, with W the normalised weights. They
differ in variance: multinomial draws are independent; residual resampling takes the whole part of count * W_i and draws
the rest; stratified and systematic resampling take one point from each of `count` strata, with a uniform for each or
one for all, so systematic resampling takes each particle floor or ceil(count * W_i) times (Douc, Cappé and Moulines
2005, *Comparison of resampling schemes for particle filtering*).
"""

import math
from collections.abc import Sequence

import numpy as np

from decoding.errors import ConfigError
from decoding.seeds import Rng, invert_cdf

RESAMPLERS = ("systematic", "stratified", "residual", "multinomial")


def check_resampler(how: str) -> None:
    """Raises ``ConfigError`` for a scheme that there is not."""
    if how not in RESAMPLERS:
        raise ConfigError(f"unknown resampling {how!r}: there are {', '.join(RESAMPLERS)}")


def resample(how: str, weights: Sequence[float], rng: Rng, count: int | None = None) -> list[int]:
    """Indices of those that go on, [count]; one of zero weight never does.

    Args:
        how: One of `RESAMPLERS`.
        weights: At least 0, of a positive sum, [N].
        rng: Randomness: one uniform, or `count`, or as many categorical draws as are left.
        count: How many to take; by default as many as there are.
    """
    n = len(weights) if count is None else count
    match how:
        case "systematic":
            offset = rng.uniform()
            return _at(weights, [(k + offset) / n for k in range(n)])
        case "stratified":
            return _at(weights, [(k + rng.uniform()) / n for k in range(n)])
        case "residual":
            return _residual(weights, rng, n)
        case "multinomial":
            return [rng.categorical(weights) for _ in range(n)]
    raise AssertionError(f"unknown resampling {how!r}")


def effective_sample_size(weights: Sequence[float]) -> float:
    """1 / sum of squared normalised weights: N for equal ones, 1 where one has all. `weights`: [N]."""
    total = math.fsum(weights)
    return total * total / math.fsum(weight * weight for weight in weights)


def _at(weights: Sequence[float], points: Sequence[float]) -> list[int]:
    """The index where the running sum of the weights passes each point of [0, 1)."""
    row = np.asarray(weights, dtype=np.float64)
    return [invert_cdf(row, point) for point in points]


def _residual(weights: Sequence[float], rng: Rng, n: int) -> list[int]:
    total = math.fsum(weights)
    expected = [n * weight / total for weight in weights]
    # A share that is whole but for rounding is whole.
    whole = [math.floor(share + 1e-9) for share in expected]
    taken = [index for index, copies in enumerate(whole) for _ in range(copies)]
    left = [max(0.0, share - copies) for share, copies in zip(expected, whole, strict=True)]
    return taken + [rng.categorical(left) for _ in range(n - len(taken))]
