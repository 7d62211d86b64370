"""Coverage laws: planted parameters come back, edges are told by type, and nothing is shown further than it may be."""

import math

import numpy as np
import pytest

from benchmarks.estimators import recover
from decoding.errors import ConfigError
from evals.estimators.coverage import (
    BetaBinomial,
    FitOutcome,
    extrapolate,
    fit_beta_binomial,
    fit_power_law,
    power_law_of,
)
from evals.estimators.metrics import pass_at_k


@pytest.mark.parametrize(("a", "b"), [(-1.3, -0.4), (-0.1, -1.5), (-5.0, -0.1)])
def test_a_planted_power_law_comes_back(a, b):
    ks = [1, 2, 3, 5, 9, 17, 40, 64]
    fit = fit_power_law(ks, [math.exp(a * k**b) for k in ks])
    assert fit.outcome is FitOutcome.FITTED
    assert (fit.a, fit.b) == pytest.approx((a, b), rel=1e-5)
    assert fit.coverage(1024) == pytest.approx(math.exp(a * 1024**b))


def test_planted_beta_parameters_come_back_also_where_samples_differ_in_number():
    rng = np.random.default_rng(0)
    n = rng.integers(16, 65, 20_000)
    right = rng.binomial(n, rng.beta(0.6, 1.4, n.size))
    fit = fit_beta_binomial(n.tolist(), right.tolist())
    assert fit.outcome is FitOutcome.FITTED
    assert (fit.alpha, fit.beta) == pytest.approx((0.6, 1.4), rel=0.04)


def test_the_likelihood_is_at_its_peak():
    from scipy.stats import betabinom

    rng = np.random.default_rng(1)
    right = rng.binomial(12, rng.beta(0.8, 2.0, 300))
    fit = fit_beta_binomial([12] * 300, right.tolist())
    peak = betabinom.logpmf(right, 12, fit.alpha, fit.beta).sum()
    for by_alpha, by_beta in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99), (1.01, 1.01), (0.99, 0.99)):
        assert betabinom.logpmf(right, 12, fit.alpha * by_alpha, fit.beta * by_beta).sum() < peak


def test_coverage_of_a_beta_binomial_is_its_chance_of_a_right_sample():
    from scipy.stats import betabinom

    fit = BetaBinomial(FitOutcome.FITTED, 0.6, 1.4)
    for k in (1, 7, 100):
        assert fit.coverage(k) == pytest.approx(1 - betabinom.pmf(0, k, 0.6, 1.4), rel=1e-9)


def test_the_power_law_is_fitted_to_unbiased_estimates():
    right = np.random.default_rng(2).binomial(32, np.random.default_rng(3).beta(0.5, 1.0, 200))
    ks = np.unique(np.geomspace(1, 32, 40).round().astype(int))
    curve = [np.mean([pass_at_k(32, int(c), int(k)) for c in right]) for k in ks]
    fit = power_law_of(32, np.bincount(right, minlength=33).astype(float))
    assert fit[1:] == pytest.approx(fit_power_law(ks, curve)[1:], rel=1e-6)


@pytest.mark.parametrize(
    ("n", "right", "power", "beta"),
    [
        (8, [0] * 9, FitOutcome.NONE_RIGHT, FitOutcome.NONE_RIGHT),
        (8, [8] * 9, FitOutcome.ALL_RIGHT, FitOutcome.ALL_RIGHT),
        (1, [0, 1, 1], FitOutcome.TOO_FEW, FitOutcome.TOO_FEW),
        (2, [0, 1, 2, 2], FitOutcome.TOO_FEW, FitOutcome.FITTED),
        (8, [0, 8, 8, 0], FitOutcome.BOUNDARY, FitOutcome.BOUNDARY),  # p is 0 or 1
        (8, [4] * 9, FitOutcome.FITTED, FitOutcome.BOUNDARY),  # p is the same everywhere
        (8, [0] * 23 + [1], FitOutcome.FITTED, FitOutcome.BOUNDARY),
    ],
)
def test_edges_are_told_by_type_and_give_no_nonsense(n, right, power, beta):
    fits = extrapolate(n, right)
    assert [fit.law.outcome for fit in fits] == [power, beta]
    for fit in fits:
        assert bool(fit.values) == (fit.law.outcome in (FitOutcome.FITTED, FitOutcome.BOUNDARY))
        for value in fit.values:
            assert 0 <= value.low <= value.high <= 1
        assert fit.ks[-1] == 16 * n
    if right == [0, 8, 8, 0]:
        assert [value.mean for fit in fits for value in fit.values] == pytest.approx([0.5] * 8, abs=1e-4)
    if right == [4] * 9:
        assert fits[1].values[0].mean == pytest.approx(1 - 0.5**16, abs=1e-4)


def test_counts_that_can_not_be_are_refused():
    with pytest.raises(ConfigError):
        extrapolate(4, [5])
    with pytest.raises(ConfigError):
        fit_power_law([0, 1, 2], [0.1, 0.2, 0.3])


@pytest.mark.engine  # minutes on a busy machine
def test_each_law_is_right_about_a_world_of_its_own_kind_and_wrong_about_hopeless_problems():
    """A pool of 64 can't tell a problem that is never solved from one that seldom is: no law can then be trusted."""
    found = {(row.world, row.law): row for row in recover(pools=6)}
    own = found["beta(0.3, 1.5)", "beta-binomial"]
    assert abs(own.estimate - own.truth) < 0.02
    hopeless = found["one in five hopeless, else beta(1, 4)", "beta-binomial"]
    assert hopeless.estimate - hopeless.truth > 0.1
