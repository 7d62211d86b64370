"""Resamplers: unbiased whatever the weights, by enumerating every outcome."""

import numpy as np
import pytest

from decoding.seeds import SeededRng
from reasoning import resampling
from reasoning.resampling import RESAMPLERS, effective_sample_size, resample
from tests.walk import Walk, WalkingRng, _resample

WEIGHTS = [
    [1.0, 1.0, 1.0],
    [0.2, 0.5, 0.3],
    [0.0, 0.7, 0.3],
    [0.25, 0.5, 0.25],
    [3.0, 0.0, 0.0],
    [0.1, 0.2, 0.3],
    [1e-9, 1.0, 1e-9],
]


def law(how, weights, count):
    """Each outcome's exact probability."""
    walk, outcomes = Walk(), {}
    while True:
        walk.begin()
        drawn = tuple(_resample(how, weights, WalkingRng(walk), count))
        outcomes[drawn] = outcomes.get(drawn, 0.0) + walk.probability
        if not walk.advance():
            return outcomes


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("how", RESAMPLERS)
def test_each_is_taken_as_often_as_its_weight_says(how, weights, count):
    outcomes = law(how, weights, count)
    assert sum(outcomes.values()) == pytest.approx(1, abs=1e-12)
    for index, weight in enumerate(weights):
        expected = sum(p * drawn.count(index) for drawn, p in outcomes.items())
        assert expected == pytest.approx(count * weight / sum(weights), abs=1e-7)
        if weight == 0:
            assert all(index not in drawn for drawn in outcomes)


@pytest.mark.parametrize("how", ["systematic", "stratified", "residual"])
def test_equal_weights_keep_everybody(how):
    for n in (2, 3, 16, 49, 64):
        assert sorted(resample(how, [0.1] * n, SeededRng(n))) == list(range(n))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_systematic_copies_are_the_expected_number_rounded_down_or_up(weights):
    for drawn in law("systematic", weights, 5):
        for index, weight in enumerate(weights):
            assert abs(drawn.count(index) - 5 * weight / sum(weights)) < 1


def test_their_variances_stand_in_the_known_order():
    """Stratified and residual resampling never vary more than multinomial (Douc, Cappé, Moulines 2005)."""
    weights, values = [0.1, 0.2, 0.3, 0.4], np.array([1.0, -2.0, 0.5, 3.0])
    spread = {}
    for how in RESAMPLERS:
        outcomes = law(how, weights, 4)
        means = {drawn: values[list(drawn)].mean() for drawn in outcomes}
        mean = sum(p * means[drawn] for drawn, p in outcomes.items())
        spread[how] = sum(p * (means[drawn] - mean) ** 2 for drawn, p in outcomes.items())
    assert max(spread["stratified"], spread["residual"]) <= spread["multinomial"]


def test_the_effective_sample_size():
    assert effective_sample_size([0.2] * 5) == pytest.approx(5)
    assert effective_sample_size([0.0, 3.0, 0.0]) == pytest.approx(1)


def test_the_walk_would_notice_a_biased_resampler(monkeypatch):
    """The harness itself: systematic resampling with its points shifted by half a stratum is caught."""

    def shifted(weights, points, real=resampling._at):
        return real(weights, [min(point + 0.45 / len(points), 1 - 1e-12) for point in points])

    monkeypatch.setattr(resampling, "_at", shifted)
    outcomes = law("systematic", [0.2, 0.5, 0.3], 3)
    expected = sum(p * drawn.count(0) for drawn, p in outcomes.items())
    assert abs(expected - 0.6) > 0.01
