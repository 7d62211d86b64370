"""Coverage beyond the pool: two laws fitted to (samples, right ones) of each problem.

- `PowerLaw`, c(k) = exp(a k^b) (Brown et al. 2024, arXiv 2407.21787, section 3.1): least squares on the unbiased
  estimates at log-spaced k. The points share samples, so its own standard errors say nothing.
- `BetaBinomial`: a problem's chance p of a right sample is drawn from Beta(alpha, beta), fitted by maximum likelihood;
  then c(k) = 1 - B(alpha, beta + k) / B(alpha, beta). The law's tail at large k is that of p near 0, which the beta
  distribution models and the pool shows (Schaeffer et al. 2025, arXiv 2502.17578).

Intervals are from a bootstrap over problems. What can't be fitted is told by type, never by an exception or a figure.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares, minimize
from scipy.special import gammaln

from decoding.errors import ConfigError
from evals.estimators.intervals import Floats, Interval, resampled_problems
from evals.estimators.metrics import check_counts, subset_ratios

FURTHEST = 16  # times the pool's depth: further than that no figure is shown
RESAMPLES = 200
_POINTS = 40  # log-spaced, before equal ones are dropped
_EDGE = np.array([[-30.0, np.log(1e-6)], [30.0, np.log(1e6)]])  # of logit(mean) and log(alpha + beta)


class FitOutcome(StrEnum):
    """How a fit came out."""

    FITTED = "fitted"
    BOUNDARY = "on the edge of the family"  # figures are those of the limit
    NONE_RIGHT = "no sample is right"
    ALL_RIGHT = "all samples are right"
    TOO_FEW = "too few samples a problem"
    FAILED = "not converged"


class Law(Protocol):
    """A fitted law of coverage."""

    @property
    def outcome(self) -> FitOutcome:
        """How the fit came out."""
        ...

    def coverage(self, k: npt.ArrayLike) -> Floats | None:
        """Coverage at k, of the shape of k; None where nothing could be fitted."""
        ...


class PowerLaw(NamedTuple):
    """c(k) = exp(a k^b)."""

    outcome: FitOutcome
    a: float = np.nan
    b: float = np.nan

    def coverage(self, k: npt.ArrayLike) -> Floats | None:
        """Coverage at k; None where nothing could be fitted."""
        known = _constant(self.outcome, k)
        if known is not None or not np.isfinite(self.a):
            return known
        values: Floats = np.exp(self.a * np.asarray(k, dtype=np.float64) ** self.b)
        return values


class BetaBinomial(NamedTuple):
    """Right samples of a problem: c ~ Binomial(n, p), p ~ Beta(alpha, beta)."""

    outcome: FitOutcome
    alpha: float = np.nan
    beta: float = np.nan

    def coverage(self, k: npt.ArrayLike) -> Floats | None:
        """Coverage at k; None where nothing could be fitted."""
        known = _constant(self.outcome, k)
        if known is not None or not np.isfinite(self.alpha):
            return known
        ks, total = np.asarray(k, dtype=np.float64), self.alpha + self.beta
        missed = gammaln(self.beta + ks) - gammaln(self.beta) - gammaln(total + ks) + gammaln(total)
        values: Floats = -np.expm1(missed)
        return values


class Extrapolation(NamedTuple):
    """A law fitted to a pool, and what it says beyond it."""

    name: str
    law: PowerLaw | BetaBinomial
    ks: tuple[int, ...]
    values: tuple[Interval, ...]  # at ks; empty where nothing could be fitted
    lost: int  # resamples of RESAMPLES that could not be fitted; the intervals are of the others


def extrapolate(n: int, right: Sequence[int]) -> list[Extrapolation]:
    """Both laws fitted to a pool, with figures at 2, 4, 8 and 16 times its depth.

    Args:
        n: Samples of each problem.
        right: Right ones of each problem, [P].
    """
    counts = np.asarray(right, dtype=np.int64)
    for count in {*right}:
        check_counts(n, count, 1)
    histogram = np.bincount(counts, minlength=n + 1).astype(np.float64)
    ks = tuple(n * times for times in (2, 4, 8, 16) if times <= FURTHEST)
    fits: dict[str, Callable[[Floats, Law | None], PowerLaw | BetaBinomial]] = {
        "power law": lambda times, near: power_law_of(n, times, near),
        "beta-binomial": lambda times, near: _beta_binomial_of(n, times, near),
    }
    return [_extrapolation(name, fit, histogram, counts, ks) for name, fit in fits.items()]


def power_law_of(n: int, histogram: Floats, near: Law | None = None) -> PowerLaw:
    """The power law of problems with n samples, `histogram` [n + 1] of which have 0 .. n right ones."""
    if not histogram[1:].any() or not histogram[:-1].any():
        return PowerLaw(FitOutcome.NONE_RIGHT if histogram[0] else FitOutcome.ALL_RIGHT)
    ks = np.unique(np.geomspace(1, n, _POINTS).round().astype(np.int64))
    missed = histogram @ subset_ratios(n)[::-1, ks] / histogram.sum()
    return fit_power_law(ks, 1 - missed, near)


def fit_power_law(ks: npt.ArrayLike, coverage: npt.ArrayLike, near: Law | None = None) -> PowerLaw:
    """Least squares of exp(a k^b), a < 0 and b < 0, to coverage at three k or more, both [K]."""
    at, values = np.asarray(ks, dtype=np.float64), np.asarray(coverage, dtype=np.float64)
    if at.shape != values.shape or at.ndim != 1 or not (at >= 1).all():
        raise ConfigError(f"a power law needs one coverage for each k, k at least 1: {at.shape}, {values.shape}")
    inside = (values > 0) & (values < 1)
    if np.unique(at).size < 3 or inside.sum() < 2:
        return PowerLaw(FitOutcome.TOO_FEW)
    logs = np.log(at)
    start = _power_start(logs[inside], values[inside], near)

    def errors(x: Floats) -> Floats:
        a, b = np.exp(np.clip(x, -30, 30))
        result: Floats = np.exp(-a * np.exp(-b * logs)) - values
        return result

    def slopes(x: Floats) -> Floats:
        a, b = np.exp(np.clip(x, -30, 30))
        exponent = a * np.exp(-b * logs)
        by_a = -np.exp(-exponent) * exponent
        return np.stack([by_a, -by_a * b * logs], axis=1)

    found = least_squares(errors, start, jac=slopes, method="lm", max_nfev=500)
    a, b = -np.exp(np.clip(found.x, -30, 30))
    if not found.success:
        return PowerLaw(FitOutcome.FAILED)
    # Coverage that does not rise, or that is nothing at first: the law's own limits.
    outcome = FitOutcome.BOUNDARY if b > -1e-3 or a < -1e3 else FitOutcome.FITTED
    return PowerLaw(outcome, float(a), float(b))


def fit_beta_binomial(n: Sequence[int], right: Sequence[int]) -> BetaBinomial:
    """Maximum likelihood of problems with n samples of which `right` are right, both [P]; n may differ."""
    for samples, count in zip(n, right, strict=True):
        check_counts(samples, count, 1)
    cells, times = np.unique(np.stack([n, right], axis=1).astype(np.int64), axis=0, return_counts=True)
    return _maximise(cells[:, 0], cells[:, 1], times.astype(np.float64), None)


def _beta_binomial_of(n: int, histogram: Floats, near: Law | None) -> BetaBinomial:
    right = np.flatnonzero(histogram)
    return _maximise(np.full(right.size, n), right, histogram[right], near)


def _maximise(n: npt.NDArray[np.int64], right: npt.NDArray[np.int64], times: Floats, near: Law | None) -> BetaBinomial:
    """The fit to cells (n, right) that occur `times` often, all [U]."""
    if not right.any() or (right == n).all():
        return BetaBinomial(FitOutcome.NONE_RIGHT if not right.any() else FitOutcome.ALL_RIGHT)
    if n.max() < 2:
        return BetaBinomial(FitOutcome.TOO_FEW)  # one sample a problem shows the mean and nothing of the spread
    weights = times / times.sum()
    steps = np.arange(n.max(), dtype=np.float64)

    def loss(x: Floats) -> tuple[float, Floats]:
        mean, total = 1 / (1 + np.exp(-x[0])), np.exp(x[1])
        alpha, beta = total * mean, total / (1 + np.exp(x[0]))
        value, slope = 0.0, {"alpha": 0.0, "beta": 0.0, "total": 0.0}
        # Logarithms of rising factorials as sums: no cancellation, whatever alpha and beta are.
        for name, base, upto, sign in (
            ("alpha", alpha, right, 1),
            ("beta", beta, n - right, 1),
            ("total", total, n, -1),
        ):
            value += sign * float(weights @ _sums(np.log(base + steps))[upto])
            slope[name] = sign * float(weights @ _sums(1 / (base + steps))[upto])
        by_mean = total * mean * (1 - mean) * (slope["alpha"] - slope["beta"])
        by_total = alpha * slope["alpha"] + beta * slope["beta"] + total * slope["total"]
        return -value, np.array([-by_mean, -by_total])

    start = _beta_start(float(weights @ (right / n)), near)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=_EDGE.T, options={"ftol": 1e-14, "gtol": 1e-8})
    if not (found.success or np.abs(found.jac).max() < 1e-5):  # a line search that stalls at the optimum is no failure
        return BetaBinomial(FitOutcome.FAILED)
    at_edge = (np.abs(found.x - _EDGE) < 0.05).any()
    mean, total = 1 / (1 + np.exp(-found.x[0])), np.exp(found.x[1])
    outcome = FitOutcome.BOUNDARY if at_edge else FitOutcome.FITTED
    return BetaBinomial(outcome, float(total * mean), float(total * (1 - mean)))


def _extrapolation(
    name: str,
    fit: Callable[[Floats, Law | None], PowerLaw | BetaBinomial],
    histogram: Floats,
    counts: npt.NDArray[np.int64],
    ks: tuple[int, ...],
) -> Extrapolation:
    law = fit(histogram, None)
    values = law.coverage(ks)
    if values is None or law.outcome not in (FitOutcome.FITTED, FitOutcome.BOUNDARY):
        return Extrapolation(name, law, ks, (), 0)
    cells = np.eye(histogram.size)[counts]  # [P, n + 1]
    drawn = np.concatenate([times @ cells for times in resampled_problems(len(counts), RESAMPLES, 0)])
    different, which = np.unique(drawn, axis=0, return_inverse=True)  # few, where problems are
    again = [fit(resample, law).coverage(ks) for resample in different]
    table = np.array([again[i] for i in which.ravel() if again[i] is not None])
    if not table.size:
        return Extrapolation(name, law, ks, (), RESAMPLES)
    low, high = np.quantile(table, [0.025, 0.975], axis=0)
    intervals = tuple(Interval(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True))
    return Extrapolation(name, law, ks, intervals, RESAMPLES - len(table))


def _constant(outcome: FitOutcome, k: npt.ArrayLike) -> Floats | None:
    known = {FitOutcome.NONE_RIGHT: 0.0, FitOutcome.ALL_RIGHT: 1.0}
    return np.full(np.shape(k), known[outcome]) if outcome in known else None


def _power_start(logs: Floats, values: Floats, near: Law | None) -> Floats:
    """log(-a) and log(-b): those of a fit nearby, or of the straight line through log(-log c)."""
    if isinstance(near, PowerLaw) and np.isfinite(near.a):
        return np.log([-near.a, max(-near.b, 1e-6)])
    slope, height = np.polyfit(logs, np.log(-np.log(values)), 1)
    return np.array([height, np.log(max(-slope, 1e-3))])


def _beta_start(mean: float, near: Law | None) -> Floats:
    """logit(mean) and log(alpha + beta): those of a fit nearby, or of the mean and one pseudo-sample."""
    if isinstance(near, BetaBinomial) and np.isfinite(near.alpha):
        start = np.array([np.log(near.alpha / near.beta), np.log(near.alpha + near.beta)])
    else:
        start = np.array([np.log(mean / (1 - mean)), 0.0])
    return np.clip(start, _EDGE[0] + 0.1, _EDGE[1] - 0.1)


def _sums(terms: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(terms)])
