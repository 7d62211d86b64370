"""The estimators against enumeration of all subsets, and the intervals against what they promise."""

import itertools
import math
import random
import time

import numpy as np
import pytest

from decoding.errors import ConfigError
from evals.metrics import (
    best_of_n_at_k,
    bootstrap,
    bootstrap_curves,
    maj_at_k,
    paired_bootstrap,
    pass_at_k,
    pass_hat_k,
    wilson,
)

CASES = 300


def cases(seed):
    """Random (rng, n, k) with k <= n <= 8."""
    rng = random.Random(seed)
    for _ in range(CASES):
        n = rng.randint(1, 8)
        yield rng, n, rng.randint(1, n)


def mean_over_subsets(n, k, worth):
    values = [worth(subset) for subset in itertools.combinations(range(n), k)]
    return math.fsum(values) / len(values)


def test_pass_at_k_is_the_mean_over_all_subsets():
    for rng, n, k in cases(1):
        right = [rng.random() < rng.random() for _ in range(n)]
        one = mean_over_subsets(n, k, lambda subset, right=right: any(right[i] for i in subset))
        every = mean_over_subsets(n, k, lambda subset, right=right: all(right[i] for i in subset))
        assert pass_at_k(n, sum(right), k) == pytest.approx(one, abs=1e-15)
        assert pass_hat_k(n, sum(right), k) == pytest.approx(every, abs=1e-15)


def test_maj_at_k_is_the_mean_over_all_subsets_with_ties_shared():
    correct_class = 0
    for rng, n, k in cases(2):
        answers = [rng.choice([None, 0, 0, 1, 1, 2, 3]) for _ in range(n)]

        def worth(subset, answers=answers):
            votes = [answers[i] for i in subset if answers[i] is not None]
            top = max((votes.count(answer) for answer in votes), default=0)
            winners = {answer for answer in votes if votes.count(answer) == top}
            return (correct_class in winners) / max(1, len(winners))

        counts = [answers.count(answer) for answer in range(4)]
        estimate = maj_at_k(counts, correct_class, k, abstentions=answers.count(None))
        assert estimate == pytest.approx(mean_over_subsets(n, k, worth), abs=1e-13)


def test_best_of_n_at_k_is_the_mean_over_all_subsets_with_ties_shared():
    for rng, n, k in cases(3):
        scores = [rng.choice([-math.inf, math.nan, 0.0, 0.5, 0.5, 1.0]) for _ in range(n)]
        right = [rng.random() < 0.5 for _ in range(n)]
        ranked = [-math.inf if math.isnan(score) else score for score in scores]

        def worth(subset, ranked=ranked, right=right):
            top = max(ranked[i] for i in subset)
            tied = [right[i] for i in subset if ranked[i] == top]
            return sum(tied) / len(tied)

        estimate = best_of_n_at_k(scores, right, k)
        assert estimate == pytest.approx(mean_over_subsets(n, k, worth), abs=1e-14)


def test_pass_at_k_is_unbiased():
    for n, p in itertools.product([1, 2, 5, 16], [0.0, 0.03, 0.5, 0.9, 1.0]):
        for k in range(1, n + 1):
            law = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
            one = math.fsum(chance * pass_at_k(n, c, k) for c, chance in enumerate(law))
            every = math.fsum(chance * pass_hat_k(n, c, k) for c, chance in enumerate(law))
            assert one == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
            assert every == pytest.approx(p**k, abs=1e-12)


def test_the_naive_estimator_is_biased_which_is_why_it_is_not_used():
    n, k, p = 4, 4, 0.3
    naive = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * (1 - (1 - c / n) ** k) for c in range(n + 1))
    assert naive < 1 - (1 - p) ** k - 0.05


def test_figures_move_with_k_as_they_must():
    for c in range(65):
        one = [pass_at_k(64, c, k) for k in range(1, 65)]
        every = [pass_hat_k(64, c, k) for k in range(1, 65)]
        assert one == sorted(one)
        assert every == sorted(every, reverse=True)
        assert one[0] == every[0] == c / 64
    perfect_judge = [best_of_n_at_k([1.0] * 5 + [0.0] * 59, [True] * 5 + [False] * 59, k) for k in range(1, 65)]
    assert perfect_judge == pytest.approx([pass_at_k(64, 5, k) for k in range(1, 65)], abs=1e-14)
    blind_judge = [best_of_n_at_k([0.5] * 64, [True] * 5 + [False] * 59, k) for k in range(1, 65)]
    assert blind_judge == pytest.approx([5 / 64] * 64, abs=1e-14)


def test_a_vote_of_all_samples_is_the_majority_and_of_one_is_a_sample():
    counts = [20, 19, 10, 5]
    assert maj_at_k(counts, 0, 54 + 10, abstentions=10) == pytest.approx(1.0)
    assert maj_at_k(counts, 1, 54 + 10, abstentions=10) == pytest.approx(0.0, abs=1e-15)
    assert maj_at_k(counts, 1, 1, abstentions=10) == pytest.approx(19 / 64)
    assert maj_at_k([8, 8, 8], 2, 24) == pytest.approx(1 / 3)
    assert maj_at_k([8, 8], None, 5) == 0
    assert maj_at_k([], None, 5, abstentions=7) == 0


def test_all_shares_of_a_large_vote_add_up_to_the_chance_that_somebody_votes():
    counts, abstentions, k = [9, 1, 1, 7, 7, 3, 2, 12, 1, 5, 4, 4, 2], 6, 16
    n = sum(counts) + abstentions
    total = math.fsum(maj_at_k(counts, i, k, abstentions) for i in range(len(counts)))
    assert n == 64
    assert total == pytest.approx(1 - math.comb(abstentions, k) / math.comb(n, k), abs=1e-12)
    one_each = [1] * 900  # the highest degree in the number of tied classes
    assert maj_at_k(one_each, 0, 300) == pytest.approx(1 / 900, abs=1e-13)


def test_500_problems_of_64_samples_take_seconds_at_all_k():
    rng = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(500):
        counts = rng.multinomial(60, rng.dirichlet(np.ones(13))).tolist()
        for k in range(1, 65):
            maj_at_k(counts, 0, k, abstentions=4)
    values = rng.random((500, 64))
    assert len(bootstrap_curves(values)) == 64
    assert time.process_time() - began < 15


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: pass_at_k(4, 1, 5),
        lambda: pass_at_k(4, 5, 1),
        lambda: pass_hat_k(4, 1, 0),
        lambda: maj_at_k([2], 0, 3),
        lambda: maj_at_k([1001], 0, 1),
        lambda: best_of_n_at_k([0.1], [True, False], 1),
        lambda: wilson(0, 0),
        lambda: wilson(1, 2, level=1.0),
        lambda: bootstrap([]),
        lambda: bootstrap([0.0, math.nan]),
        lambda: bootstrap([0.0], resamples=0),
        lambda: paired_bootstrap([0.0], [0.0, 1.0]),
    ],
)
def test_what_can_not_be_estimated_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(successes, n, low, high):
    interval = wilson(successes, n)
    assert interval.mean == successes / n
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    mirrored = wilson(n - successes, n)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((interval.low, interval.high), abs=1e-15)


def test_wilsons_bounds_solve_the_score_equation():
    interval = wilson(7, 31, level=0.9)
    for bound in interval[1:]:
        score = (7 / 31 - bound) / math.sqrt(bound * (1 - bound) / 31)
        assert abs(score) == pytest.approx(1.6448536269514722)


def test_the_bootstrap_covers_as_often_as_it_says():
    rng = np.random.default_rng(5)
    truth, trials = 0.25, 400  # the mean of Beta(1, 3)
    hits = 0
    for trial in range(trials):
        interval = bootstrap(rng.beta(1, 3, size=80), level=0.9, resamples=400, seed=trial)
        hits += interval.low <= truth <= interval.high
    assert 0.85 < hits / trials < 0.94  # 0.9 less what the percentile method loses at 80, three standard errors


def test_the_bootstrap_has_the_width_of_the_normal_interval_where_that_holds():
    values = np.random.default_rng(1).random(1000)
    interval = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.03)


def test_resamples_are_seeded_and_shared_by_the_curves():
    values = np.random.default_rng(2).random((40, 3))
    curves = bootstrap_curves(values, resamples=500, seed=7)
    for column, interval in enumerate(curves):
        assert interval == pytest.approx(bootstrap(values[:, column], resamples=500, seed=7), abs=1e-14)
    assert curves[0] != bootstrap_curves(values, resamples=500, seed=8)[0]
    assert bootstrap([0.3] * 9) == (pytest.approx(0.3),) * 3


def test_resamples_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch):
    values = np.random.default_rng(3).random(50)
    whole = bootstrap(values, resamples=100)
    monkeypatch.setattr("evals.metrics._CHUNK", 700)
    assert bootstrap(values, resamples=100) == pytest.approx(whole, abs=1e-14)


def test_pairing_finds_a_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(4)
    difficulty = rng.random(200)
    a, b = difficulty + 0.02 + 0.01 * rng.normal(size=200), difficulty
    paired = paired_bootstrap(a, b, resamples=2000)
    assert paired.low > 0
    assert bootstrap(b, resamples=2000).high > bootstrap(a, resamples=2000).low  # they overlap
    back = paired_bootstrap(b, a, resamples=2000)
    assert (-back.high, -back.low) == pytest.approx(paired[1:], abs=1e-12)
