"""A mixture of two Weibull laws, fitted by maximum likelihood.

What reasoning pruning (RPC: Zhou et al., arXiv 2502.00511, section 4.2) takes the probabilities of sampled paths for: a
component of likely paths and one of unlikely ones. Start, bounds and optimiser are those of the released code. Unlike
there, everything is computed from logarithms, so that no density underflows, and the gradient is exact.

The likelihood has no maximum in general: a component that shrinks to a single value (or to one that comes many times)
raises it without end. Such a fit says nothing about the values, and counts as not converged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

START = (0.5, 1.0, 1.0, 1.5, 2.0)  # weight, shape, scale of the first component, shape, scale of the second
WEIGHTS = (0.2, 0.8)  # bounds of the first component's weight
LEAST = 0.01  # bound of shapes and scales
PARAMETERS = len(START)
SHARPEST = 1e4  # shape of a component as wide as rounding: its values differ by less than about 0.01 %
_CEILING = 500.0  # of exponents: far above what matters, and products of such powers still fit a float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Weibull:
    """The law with density (k / l) (x / l)^(k - 1) exp(-(x / l)^k) for x > 0, of shape k and scale l."""

    shape: float
    scale: float

    def log_density(self, log_values: npt.ArrayLike) -> Floats:
        """Logarithm of the density of values, given by their logarithms; of the same shape."""
        return _log_density(np.asarray(log_values, dtype=np.float64), self.shape, self.scale)[0]

    @property
    def log_mean(self) -> float:
        """Logarithm of the mean, l Gamma(1 + 1 / k)."""
        return math.log(self.scale) + math.lgamma(1 + 1 / self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Two components, the one of the larger mean first."""

    weight: float  # of `high`
    high: Weibull
    low: Weibull

    def prefers_low(self, log_values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each value comes rather from `low`: its posterior probability is above one half."""
        high = math.log(self.weight) + self.high.log_density(log_values)
        low = math.log1p(-self.weight) + self.low.log_density(log_values)
        return np.asarray(high < low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a fit came out."""

    converged: bool
    reason: str  # "converged", or why not
    mixture: Mixture | None = None  # where the optimiser ended; None: it was not started
    log_likelihood: float | None = None  # of the values themselves, in nats
    evaluations: int = 0  # of likelihood and gradient


def fit_mixture(log_values: Sequence[float] | Floats) -> Fit:
    """Fit a mixture to positive values, given by their logarithms, [N].

    Never raises: a fit that can't be had is returned as not converged, with the reason. At least as many distinct
    values as parameters, five, are asked for.
    """
    from scipy.optimize import minimize  # takes a tenth of a second, and few who import this come here

    logs = np.asarray(log_values, dtype=np.float64)
    if not np.isfinite(logs).all():
        return Fit(converged=False, reason="values that are zero or not finite")
    if np.unique(logs).size < PARAMETERS:
        return Fit(converged=False, reason="too few distinct values")
    bounds = [WEIGHTS, *[(LEAST, None)] * (PARAMETERS - 1)]
    with np.errstate(all="ignore"):  # a search that runs off is told by its result
        found = minimize(negative_log_likelihood, START, (logs,), jac=True, method="L-BFGS-B", bounds=bounds)
    if not (np.isfinite(found.x).all() and math.isfinite(found.fun)):
        return Fit(converged=False, reason="not finite", evaluations=int(found.nfev))
    mixture = _ordered(*map(float, found.x))
    collapsed = max(mixture.high.shape, mixture.low.shape) > SHARPEST
    reason = "converged" if found.success else str(found.message)
    return Fit(
        converged=bool(found.success) and not collapsed,
        reason="a component collapsed onto one value" if collapsed else reason,
        mixture=mixture,
        log_likelihood=-float(found.fun) - float(logs.sum()),
        evaluations=int(found.nfev),
    )


def negative_log_likelihood(parameters: Floats, logs: Floats) -> tuple[float, Floats]:
    """Of values up to a constant (the sum of their logarithms), with its gradient, [5].

    Args:
        parameters: Weight, shape and scale of the first component, shape and scale of the second, [5].
        logs: Logarithms of the values, [N].
    """
    weight, *rest = map(float, parameters)
    first, *first_slopes = _log_density(logs, *rest[:2], of_logarithm=True)
    second, *second_slopes = _log_density(logs, *rest[2:], of_logarithm=True)
    first = first + math.log(weight)
    second = second + math.log1p(-weight)
    total = np.logaddexp(first, second)
    share = np.exp(first - total)  # of the first component in each value
    rest_share = np.exp(second - total)
    slopes = [share / weight - rest_share / (1 - weight)]
    slopes += [share * slope for slope in first_slopes] + [rest_share * slope for slope in second_slopes]
    return -float(total.sum()), -np.array([slope.sum() for slope in slopes])


def _log_density(
    logs: Floats, shape: float, scale: float, *, of_logarithm: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Log-density of values, or of their logarithms, and its derivatives by shape and scale, each [N]."""
    position = logs - math.log(scale)
    power = np.exp(np.minimum(shape * position, _CEILING))
    density = math.log(shape) + shape * position - power
    by_shape = 1 / shape + position * (1 - power)
    by_scale = shape / scale * (power - 1)
    return density if of_logarithm else density - logs, by_shape, by_scale


def _ordered(weight: float, shape: float, scale: float, shape2: float, scale2: float) -> Mixture:
    first, second = Weibull(shape=shape, scale=scale), Weibull(shape=shape2, scale=scale2)
    if first.log_mean < second.log_mean:
        return Mixture(weight=1 - weight, high=second, low=first)
    return Mixture(weight=weight, high=first, low=second)
