"""Two runs over the same problems in the same order: how much they differ, and whether that is chance.

Problems differ far more than strategies do, so intervals of two separate means overlap where the paired difference is
plain. The bootstrap says how large the difference is; the sign test says whether there is one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from evals.estimators.intervals import RESAMPLES, Floats, Interval, bootstrap, bootstrap_curves

_TIED = 1e-12  # figures of one problem that differ by less differ by rounding


class SignTest(NamedTuple):
    """How many problems favour which side, and how likely so uneven a split is where neither is better."""

    a_higher: int
    b_higher: int
    p: float  # exact, two-sided
    mid_p: float  # less conservative: the observed split counts half

    @property
    def sign(self) -> int:
        """1 where more problems favour a, -1 where more favour b, else 0."""
        return (self.a_higher > self.b_higher) - (self.a_higher < self.b_higher)


class McNemar(NamedTuple):
    """Two strategies' outcomes on the same problems, and McNemar's test of them."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float  # exact, two-sided
    mid_p: float


def paired_bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of a - b with its interval; `a` and `b` are figures of the same problems in the same order, [P]."""
    return bootstrap(_differences(a, b), level, resamples, seed)


def paired_curves(
    a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """As `paired_bootstrap` for several figures on the same resamples: [P, K] and [P, K] to K intervals."""
    return bootstrap_curves(_differences(a, b), level, resamples, seed)


def sign_test(a: npt.ArrayLike, b: npt.ArrayLike) -> SignTest:
    """The exact sign test (binomial, ties left out) of two figures of the same problems in the same order, [P]."""
    difference = _differences(a, b)
    a_higher, b_higher = int((difference > _TIED).sum()), int((difference < -_TIED).sum())
    return SignTest(a_higher, b_higher, *binomial_p(a_higher, b_higher))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemar:
    """McNemar's exact test (1947) of two strategies' outcomes on the same problems in the same order, [P]."""
    if len(a) != len(b):
        raise ConfigError(f"a paired comparison needs the same problems on both sides: {len(a)}, {len(b)}")
    pairs = list(zip(a, b, strict=True))
    table = [sum(pair == kind for pair in pairs) for kind in ((1, 1), (1, 0), (0, 1), (0, 0))]
    p, mid_p = binomial_p(table[1], table[2])
    return McNemar(table[0], table[1], table[2], table[3], p, mid_p)


def binomial_p(first: int, second: int) -> tuple[float, float]:
    """The two-sided p of a split of first + second tosses of a fair coin, exact and mid-p, in whole numbers.

    The mid-p counts the observed split half (Fagerland, Lydersen and Laake 2013, BMC Med Res Methodol 13:91).
    """
    tosses = first + second
    tail = sum(math.comb(tosses, heads) for heads in range(min(first, second) + 1))
    observed = math.comb(tosses, min(first, second))
    return min(1.0, 2 * tail / 2**tosses), (2 * tail - observed) / 2**tosses


def _differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ConfigError(f"a paired comparison needs the same problems on both sides: {first.shape}, {second.shape}")
    return first - second
