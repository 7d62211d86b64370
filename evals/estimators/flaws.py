"""Resampling until a check accepts, where the check errs: what more attempts are worth, and how many are best.

Stroebl, Kapoor and Narayanan 2024, *Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers*,
arXiv 2411.17501. Two views:

- `ResamplingModel`: task types with a prior and a single-attempt accuracy, and a check with a completeness
  P(accept | right) and a soundness P(refuse | wrong), all in closed form.
- `pool_curves`: a pool of n samples, attempts drawn from it without replacement: the exact mean over all orders.

Attempts that are never accepted give no answer and no payoff; a cost is paid for each attempt made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from decoding.errors import ConfigError
from evals.estimators.intervals import Floats, Interval, bootstrap, resampled_problems
from evals.estimators.metrics import check_counts, subset_ratios

RESAMPLES = 2_000


class Payoff(NamedTuple):
    """What an outcome is worth."""

    right: float = 1.0  # an accepted right answer
    wrong: float = -1.0  # an accepted wrong one
    cost: float = 0.0  # of each attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class ResamplingModel:
    """Tasks of several types and a check whose errors depend on nothing but whether the answer is right."""

    priors: Sequence[float]  # of each type, [J], adding up to 1
    accuracies: Sequence[float]  # of a single attempt at a task of each type, [J]
    completeness: float  # P(accept | right)
    soundness: float  # P(refuse | wrong)

    def __post_init__(self) -> None:
        shares = [*self.priors, *self.accuracies, self.completeness, self.soundness]
        if not all(0 <= share <= 1 for share in shares):
            raise ConfigError(f"priors, accuracies, completeness and soundness lie between 0 and 1, got {shares}")
        if len(self.priors) != len(self.accuracies) or not math.isclose(math.fsum(self.priors), 1):
            raise ConfigError("a model needs one prior for each accuracy, adding up to 1")

    def accuracy(self, attempts: float) -> float:
        """The chance that a right answer is accepted within so many attempts; `math.inf` is allowed."""
        return self._total(self._right, attempts)

    def wrong(self, attempts: float) -> float:
        """The chance that a wrong answer is accepted within so many attempts; `math.inf` is allowed."""
        return self._total(self._wrong, attempts)

    def false_positive_rate(self, attempts: float) -> float:
        """The share of wrong ones among accepted answers; not a number where none is ever accepted."""
        right, wrong = self.accuracy(attempts), self.wrong(attempts)
        return wrong / (right + wrong) if right + wrong else math.nan

    def value(self, attempts: float, payoff: Payoff) -> float:
        """The mean payoff: the sum over k and j of p_j beta_j^(k-1) (V_right a_j + V_wrong f_j - C)."""
        return self._total(self._gains(payoff), attempts)

    def best_attempts(self, payoff: Payoff) -> float:
        """The number of attempts of highest value, K*; 0 if none is worth making, `math.inf` if more is never worse.

        The gains are monotone in beta_j, so the gain of attempt k changes its sign once at most.
        """
        gains, refused = self._gains(payoff), self._refused
        gains, refused = gains[gains != 0], refused[gains != 0]
        if not gains.size:
            return 0
        longest = refused.max()
        if gains[refused == longest].sum() > 0 and longest > 0:
            return math.inf if self.value(math.inf, payoff) > 0 else 0

        def pays(attempt: int) -> bool:  # whether the gain of this attempt is positive; scaled, lest it underflow
            ratios = refused / longest if longest > 0 else np.zeros_like(refused)
            return bool(gains @ ratios ** (attempt - 1) > 0)

        low, high = 0, 1
        while pays(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if pays(middle) else (low, middle)
        return low

    @property
    def _right(self) -> Floats:
        right: Floats = np.asarray(self.priors) * self.completeness * np.asarray(self.accuracies)
        return right

    @property
    def _wrong(self) -> Floats:
        wrong: Floats = np.asarray(self.priors) * (1 - self.soundness) * (1 - np.asarray(self.accuracies))
        return wrong

    @property
    def _refused(self) -> Floats:
        """beta_j: the chance that an attempt at a task of each type is refused."""
        accuracies = np.asarray(self.accuracies, dtype=np.float64)
        return (1 - self.completeness) * accuracies + self.soundness * (1 - accuracies)

    def _gains(self, payoff: Payoff) -> Floats:
        """Of the first attempt, [J]: p_j (V_right a_j + V_wrong f_j - C)."""
        gains: Floats = payoff.right * self._right + payoff.wrong * self._wrong - payoff.cost * np.asarray(self.priors)
        return gains

    def _total(self, first: Floats, attempts: float) -> float:
        """A sum over attempts, given its part of the first one, [J]: times (1 - beta^K) / (1 - beta)."""
        if attempts < 0:
            raise ConfigError(f"attempts must be at least 0, got {attempts}")
        counted = first != 0  # a type that is never accepted may be tried for ever, where that costs nothing
        refused = self._refused[counted]
        sure = refused == 1
        made = (1 - np.where(sure, 0.0, refused) ** attempts) / np.where(sure, 1.0, 1 - refused)
        return float(first[counted] @ np.where(sure, attempts, made))


class PoolCurves(NamedTuple):
    """What up to K = 0 .. n attempts at one problem come to, each [n + 1]: means over all orders of its samples."""

    right: Floats  # a right answer is accepted
    wrong: Floats  # a wrong answer is accepted
    attempts: Floats  # made

    def value(self, payoff: Payoff) -> Floats:
        """The mean payoff, [n + 1]."""
        worth: Floats = payoff.right * self.right + payoff.wrong * self.wrong - payoff.cost * self.attempts
        return worth


@lru_cache(maxsize=100_000)
def pool_curves(n: int, accepted_right: int, accepted_wrong: int) -> PoolCurves:
    """Resampling from a pool of n samples, `accepted_right` and `accepted_wrong` of which the check accepts.

    With R = n - A - F refused ones, K attempts are all refused with the hypergeometric chance C(R, K) / C(n, K), and
    the first accepted one is equally likely to be any of the A + F.
    """
    accepted = accepted_right + accepted_wrong
    check_counts(n, accepted, 1)
    refused = subset_ratios(n)[n - accepted]  # the chance that the first K are all refused
    share = accepted_right / accepted if accepted else 0.0
    made = np.concatenate([[0.0], np.cumsum(refused[:-1])])
    answered = 1 - refused
    return PoolCurves(share * answered, (1 - share) * answered if accepted else 0 * answered, made)


@lru_cache(maxsize=100_000)
def supposed_curves(n: int, right: int, completeness: float, soundness: float) -> PoolCurves:
    """As `pool_curves` for a check that is only supposed: the exact mean over what it would accept.

    Each of the `right` samples is accepted with chance `completeness`, each other one with 1 - `soundness`.
    """
    check_counts(n, right, 1)
    if not (0 <= completeness <= 1 and 0 <= soundness <= 1):
        raise ConfigError(f"completeness and soundness lie between 0 and 1, got {completeness} and {soundness}")
    total = np.zeros((3, n + 1))
    for accepted_right, a_chance in enumerate(_binomial(right, completeness)):
        for accepted_wrong, f_chance in enumerate(_binomial(n - right, 1 - soundness)):
            if a_chance * f_chance > 0:
                total += a_chance * f_chance * np.array(pool_curves(n, accepted_right, accepted_wrong))
    return PoolCurves(*total)


class BestAttempts(NamedTuple):
    """The number of attempts of highest mean value over a pool."""

    attempts: int  # 0 .. n
    low: int
    high: int
    value: Interval  # at `attempts`; chosen on the same problems, so on the high side
    edge: float  # share of resamples whose best is n itself: more samples may be better still


def best_attempts(values: Floats, level: float = 0.95, seed: int = 0) -> BestAttempts:
    """K* of problems with mean payoffs `values`, [P, n + 1], with a bootstrap over problems; the least of equals."""
    depth = values.shape[1] - 1
    best = _best(values.mean(axis=0))
    drawn = np.concatenate([times @ values for times in resampled_problems(len(values), RESAMPLES, seed)])
    found = np.array([_best(row / len(values)) for row in drawn])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    value = bootstrap(values[:, best], level, seed=seed)
    return BestAttempts(best, int(low), int(high), value, float((found == depth).mean()))


def _best(values: Floats) -> int:
    """The first place that is highest, up to rounding."""
    return int(np.argmax(values >= values.max() - 1e-12))


def _binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]
