"""The estimators against enumeration of all subsets, and the intervals against what they promise."""

import itertools
import math
import random
import time

import numpy as np
import pytest

from benchmarks.estimators import DEVIATIONS
from decoding.errors import ConfigError
from evals.estimators.intervals import bootstrap, bootstrap_curves, bootstrap_ratio, wilson
from evals.estimators.metrics import best_of_n_at_k, maj_at_k, pass_at_k, pass_hat_k
from evals.estimators.paired import mcnemar, paired_bootstrap, sign_test
from evals.estimators.votes import weighted_vote_at_k


@pytest.mark.parametrize("estimator", DEVIATIONS)
def test_an_estimator_is_the_mean_over_all_subsets_or_orders(estimator):
    deviation = DEVIATIONS[estimator]
    assert max(deviation(random.Random(f"{estimator}/{case}")) for case in range(40)) < 1e-13


def test_votes_of_which_several_may_be_right_add_up():
    counts = [9, 7, 7, 3]
    each = [maj_at_k(counts, i, 5) for i in range(4)]
    assert maj_at_k(counts, {0, 2}, 5) == pytest.approx(each[0] + each[2], abs=1e-15)
    assert maj_at_k(counts, [0, 1, 2, 3], 5) == pytest.approx(1)
    assert maj_at_k(counts, (), 5) == 0


def test_a_weighted_vote_of_equal_weights_is_the_majority():
    classes, k = [0] * 12 + [1] * 10 + [2] * 5 + [None] * 3, 7
    exact = maj_at_k([12, 10, 5], 0, k, abstentions=3)
    drawn = weighted_vote_at_k(classes, [0.1] * 30, [True, False, False], k)
    assert drawn.standard_error > 0
    assert abs(drawn.value - exact) < 4 * drawn.standard_error
    assert drawn == weighted_vote_at_k(classes, [0.1] * 30, [True, False, False], k)
    assert drawn != weighted_vote_at_k(classes, [0.1] * 30, [True, False, False], k, seed=1)
    whole = weighted_vote_at_k(classes, [0.1] * 30, [True, False, False], 30)
    assert whole == (1.0, 0.0)


def test_the_monte_carlo_error_is_what_other_seeds_show():
    rng = np.random.default_rng(0)
    classes, weights = rng.integers(0, 4, 24).tolist(), rng.random(24).tolist()
    found = [weighted_vote_at_k(classes, weights, [True] + [False] * 3, 8, subsets=500, seed=s) for s in range(60)]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    assert spread == pytest.approx(np.mean([estimate.standard_error for estimate in found]), rel=0.3)


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
        lambda: mcnemar([True], [True, False]),
        lambda: weighted_vote_at_k([0, 0], [1.0, -1.0], [True], 1),
        lambda: weighted_vote_at_k([0, 2], [1.0, 1.0], [True], 1),
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
    monkeypatch.setattr("evals.estimators.intervals._CHUNK", 700)
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


def test_the_interval_of_a_ratio_is_that_of_the_mean_where_the_wholes_are_equal():
    parts = np.random.default_rng(6).integers(0, 9, 60)
    ratio = bootstrap_ratio(parts, np.full(60, 8))
    assert ratio == pytest.approx(bootstrap(parts / 8), abs=1e-12)
    assert bootstrap_ratio([0, 0], [0, 0]) is None


# -- paired tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only_a", "only_b", "p", "mid_p"),
    [  # Fagerland, Lydersen and Laake 2013, table 5: bronchial hyperresponsiveness (1 and 7), adenocarcinoma (6 and 16)
        (1, 7, 0.0703, 0.0391),
        (6, 16, 0.0525, 0.0347),
        (0, 0, 1.0, 1.0),
        (5, 5, 1.0, 1.0),
    ],
)
def test_mcnemars_test_is_the_published_one(only_a, only_b, p, mid_p):
    a = [True] * 3 + [True] * only_a + [False] * only_b + [False] * 2
    b = [True] * 3 + [False] * only_a + [True] * only_b + [False] * 2
    found = mcnemar(a, b)
    assert found[:4] == (3, only_a, only_b, 2)
    assert (round(found.p, 4), round(found.mid_p, 4)) == (p, mid_p)
    signs = sign_test(a, b)
    assert (signs.p, signs.mid_p, signs.sign) == (found.p, found.mid_p, np.sign(only_a - only_b))


def test_mcnemars_test_rejects_a_true_hypothesis_no_more_often_than_it_says():
    rng = np.random.default_rng(7)
    ps = [mcnemar(*(rng.random((2, 60)) < 0.5).tolist()).p for _ in range(400)]
    assert np.mean(np.array(ps) < 0.05) < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert mcnemar([True] * 20, [False] * 20).p == 2 / 2**20


# -- as metrics of `evaluate` -----------------------------------------------------------------------------------------


@pytest.mark.engine
def test_metrics_of_evaluate_work_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("evaluate")
    from evals.estimators.hf_metrics import Accuracy, MajAtK, PassAtK, PassHatK

    data = {"predictions": [["3", "4"], ["7", "7"]], "references": ["4", "7"]}
    assert PassAtK().compute(**data, k=[1, 2]) == {"pass@1": 0.75, "pass@2": 1.0}
    assert PassHatK().compute(**data, k=[2]) == {"pass^2": 0.5}
    votes = {"predictions": [["so 3", "it is 4", "4.0", "?"], ["7", "7", "1", "2"]], "references": ["4", "7"]}
    assert MajAtK().compute(**votes, k=[4], grader="number") == {"maj@4": 1.0}
    single = Accuracy().compute(predictions=["3", "4"], references=["4", "4"])
    assert (single["low"], single["accuracy"], single["high"]) == pytest.approx((0.0945, 0.5, 0.9055), abs=1e-4)
    with pytest.raises(ConfigError):
        PassAtK().compute(**data, k=[3])
