"""Votes and their weights, best scores, the two rules that stop a vote early, and estimates at k from a pool."""

import asyncio
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from evals.estimators.metrics import best_of_n_at_k, maj_at_k
from evals.estimators.selectors import (
    SELECTORS,
    Samples,
    by_majority,
    by_perplexity,
    calibration_error,
    monte_carlo,
    subsets_of,
)
from reasoning.api import execute
from reasoning.run import Run
from reasoning.score import record_scores
from reasoning.selection import best, decided_beta, decided_surely, in_proportion, majority, weighted
from reasoning.strategies.best_of_n import BestOfN
from reasoning.strategies.self_consistency import SelfConsistency
from reasoning.strategies.weighted_vote import WeightedVote
from reasoning.trace import Voted
from tests.worlds import PROMPT, RandomModel, settings

CLASSES = st.lists(st.none() | st.integers(0, 4), max_size=12)


def test_the_most_votes_win_and_no_answer_never_votes():
    vote = majority([None, 1, None, 0, 0, None, None])
    assert (vote.winner, vote.weights, vote.tied, vote.index) == (0, {1: 1, 0: 2}, False, 3)


def test_nobody_votes():
    for classes in ([], [None, None]):
        vote = majority(classes)
        assert (vote.winner, dict(vote.weights), vote.tied, vote.index) == (None, {}, False, None)


def test_of_tied_classes_the_one_seen_first_wins():
    vote = majority([7, 3, 3, 7, 5])
    assert (vote.winner, vote.tied, vote.index) == (7, True, 0)


def test_weights_can_turn_a_majority_and_the_heaviest_member_speaks():
    vote = weighted([0, 0, 1, 0, 1], [0.2, 0.2, 0.9, 0.1, 0.9])
    assert (vote.winner, vote.index, vote.tied) == (1, 2, False)


def test_a_vote_of_no_weight_is_still_an_answer():
    assert weighted([None, 4], [1.0, 0.0]).winner == 4


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_that_mean_nothing_are_refused(weight):
    with pytest.raises(ConfigError, match="number 1"):
        weighted([0, 1], [1.0, weight])


@given(CLASSES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_decides_nothing_but_ties(classes, rng):
    # 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in floating point; the votes must not.
    votes = [(label, rng.choice([0.1, 0.2, 0.3, 0.7])) for label in classes]
    before = weighted(*zip(*votes, strict=True)) if votes else majority([])
    rng.shuffle(votes)
    after = weighted(*zip(*votes, strict=True)) if votes else majority([])
    assert dict(before.weights) == dict(after.weights)
    assert before.tied == after.tied
    assert before.tied or before.winner == after.winner


@given(CLASSES)
def test_renaming_the_answers_changes_nothing(classes):
    renamed = [None if label is None else 100 - label for label in classes]
    assert majority(renamed).index == majority(classes).index


def test_best_is_the_first_of_the_highest_that_are_eligible():
    assert best([0.1, 0.9, 0.5, 0.5], [True, False, True, True]) == 2
    assert best([0.1, 0.9], [False, False]) is None
    assert best([], []) is None
    assert best([math.nan, -5.0], [True, True]) == 1
    assert best([math.nan, math.nan], [False, True]) == 1
    with pytest.raises(ConfigError):
        best([0.1], [True, True])


def test_the_beta_rule_is_the_papers_integral():
    for first, second in itertools.product(range(60), repeat=2):
        if first >= max(second, 1):
            # P(X > 1/2) for X ~ Beta(first + 1, second + 1), by symmetry the lower tail of the mirrored law.
            probability = betainc(second + 1, first + 1, 0.5)
            for threshold in (probability - 1e-9, probability + 1e-9):
                assert decided_beta([second, first, 0], threshold) == (threshold < probability)


def test_the_beta_rule_at_known_points():
    assert decided_beta([1], 0.75)  # exactly: 3 of 4 outcomes of two tosses
    assert not decided_beta([1], 0.7500001)
    assert not decided_beta([1, 1], 0.5000001)
    assert decided_beta([4], 0.95)
    assert not decided_beta([3], 0.95)
    assert not decided_beta([], 0.1)
    assert decided_beta([3000, 10], 0.999)  # no overflow


def test_a_vote_is_surely_decided_exactly_when_no_continuation_changes_its_winner():
    cases = decided = 0
    for length, remaining in [(0, 0), (0, 1), *itertools.product(range(1, 6), range(4))]:
        for classes in itertools.product([None, 0, 1, 2], repeat=length):
            seen = [label for label in dict.fromkeys(classes) if label is not None]
            counts = [classes.count(label) for label in seen]
            winner = majority(classes).winner
            # 3 and 4 are answers that nobody gave before; two new ones are as many as can matter.
            rest = itertools.product([None, 0, 1, 2, 3, 4], repeat=remaining)
            surely = all(majority([*classes, *more]).winner == winner for more in rest)
            assert decided_surely(counts, remaining) == surely, (classes, remaining)
            cases, decided = cases + 1, decided + surely
    assert 500 < decided < cases - 500  # both answers were put to the test


def test_ties_make_the_difference_of_one_vote():
    assert decided_surely([2, 1], 1)  # level at best, and the leader came first
    assert not decided_surely([1, 2], 1)  # level is enough for the one that came first
    assert decided_surely([1], 1)
    assert not decided_surely([], 1)
    assert decided_surely([], 0)


def test_stopping_surely_gives_the_answer_of_all_votes():
    rng = random.Random(0)
    saved = 0
    for _ in range(300):
        classes = [rng.choice([None, 0, 0, 0, 1, 2]) for _ in range(12)]
        for seen in range(len(classes) + 1):
            given_so_far = [label for label in classes[:seen] if label is not None]
            counts = [given_so_far.count(label) for label in dict.fromkeys(given_so_far)]
            if decided_surely(counts, len(classes) - seen):
                break
        assert majority(classes[:seen]).winner == majority(classes).winner
        saved += len(classes) - seen
    assert saved > 0


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_winners_share_is_the_confidence():
    assert weighted([0, 1, None, 0], [0.5, 1.5, 9.0, 0.5]).share == 0.6
    assert majority([]).share == majority([None]).share == 0.0
    assert weighted([0], [0.0]).share == 0.0


def test_weights_in_proportion_to_exponentials():
    weights, log_total = in_proportion([math.log(3), math.log(1), 5.0], [True, True, False])
    assert weights == pytest.approx([0.75, 0.25, 0.0])
    assert log_total == pytest.approx(math.log(4))
    assert in_proportion([1.0, 2.0], [False, False]) == ([0.0, 0.0], None)
    # One that is not eligible may be higher by more than a float's exponential can hold.
    assert in_proportion([0.0, -900.0], [False, True]).weights == [0.0, 1.0]
    assert in_proportion([-math.inf, math.nan], [True, True]).weights == [0.5, 0.5]
    assert in_proportion([math.inf, 0.0, math.inf], [True] * 3).weights == [0.5, 0.0, 0.5]


def vote(strategy, problem="p"):
    async def work():
        run = Run(settings(ScriptedEngine(RandomModel(end=0.2)), max_tokens=8), problem)
        return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


class Length:
    """A score for tests, such as a judge's: never negative."""

    name, role, needs = "length", None, frozenset()

    def refuse(self, judges):
        """Any judges will do."""

    async def __call__(self, run, candidate):
        return float(len(candidate.text))

    def tell(self, run, candidates):
        record_scores(run, self.name, candidates)


def test_a_weighted_vote_is_the_majority_at_high_temperature_and_best_of_n_at_low():
    turned = 0
    for problem in ("p0", "p1", "p2", "p3", "p4", "p5"):
        most, likeliest = vote(SelfConsistency(n=30), problem), vote(BestOfN(n=30), problem)
        assert vote(WeightedVote(n=30, temperature=1e-6), problem).answer == likeliest.answer
        # The weights are equal but for a trace, which breaks a tie.
        if not next(e for e in most.trace if isinstance(e, Voted)).tied:
            assert vote(WeightedVote(n=30, temperature=1e9), problem).answer == most.answer
        turned += most.answer != likeliest.answer
    assert turned


def test_a_vote_by_the_score_itself_adds_it_up_by_answer():
    result = vote(WeightedVote(n=30, score=Length(), weighting="score"))
    voted = next(event for event in result.trace if isinstance(event, Voted))
    sums = {}
    for candidate in result.candidates:
        assert candidate.score == len(candidate.text)
        if candidate.answer is not None:
            sums[candidate.answer] = sums.get(candidate.answer, 0) + len(candidate.text)
    assert voted.weights == sums
    assert len(sums) > 1
    assert result.answer == max(sums, key=sums.get)


def test_a_softmax_vote_weighs_by_the_score_over_the_temperature():
    result = vote(WeightedVote(n=30, score=Length(), temperature=0.5))
    voted = next(event for event in result.trace if isinstance(event, Voted))
    powers = {c.slot: math.exp(len(c.text) / 0.5) for c in result.candidates if c.answer is not None}
    for answer, share in voted.weights.items():
        mine = sum(powers[c.slot] for c in result.candidates if c.answer == answer)
        assert share == pytest.approx(mine / sum(powers.values()))
    assert len(voted.weights) > 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"weighting": "score"}, "negative"), ({"weighting": "sum"}, "softmax"), ({"score": "lenght"}, "mean_logprob")],
)
def test_what_can_not_weigh_is_refused_when_it_is_typed(settings, said):
    with pytest.raises(ConfigError, match=said):
        WeightedVote(**settings)


# -- estimates at k from a pool ----------------------------------------------------------------------------------------


def pool(rng, n):
    """Samples of a problem: nine paths, some of them the same answer, one answer right, some give none."""
    drawn = [rng.choice([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]) for _ in range(n)]
    classes = [[0, 0, 1, 1, 2, 3, 4, 5, None][path] for path in drawn]
    return Samples(
        paths=drawn,
        logprobs=[[-1.0, -3.0, -2.0, -2.0, -9.0, -4.0, -5.0, -6.0, -0.5][path] for path in drawn],
        lengths=[[10, 12, 9, 30, 40, 10, 11, 12, 3][path] for path in drawn],
        classes=classes,
        correct=[label == 1 for label in classes],
    )


@pytest.mark.parametrize("k", [1, 3, 8])
def test_estimates_from_drawn_subsets_are_the_exact_figures_within_their_error(k):
    problems = [pool(random.Random(seed), 16) for seed in range(40)]
    drawn = [[p.take(s) for s in subsets_of(16, k, 100, seed)] for seed, p in enumerate(problems)]
    exact = {by_majority: 0.0, by_perplexity: 0.0}
    for p in problems:
        labels = [label for label in dict.fromkeys(p.classes) if label is not None]
        counts, right = [p.classes.count(label) for label in labels], labels.index(1) if 1 in labels else None
        exact[by_majority] += maj_at_k(counts, right, k, abstentions=p.classes.count(None)) / 40
        means = [-math.inf if c is None else m for c, m in zip(p.classes, p.mean_logprobs, strict=True)]
        exact[by_perplexity] += best_of_n_at_k(means, p.correct, k) / 40
    for select, expected in exact.items():
        estimate = monte_carlo([[select(some).credit for some in row] for row in drawn])
        assert 0 < estimate.standard_error < 0.02
        assert abs(estimate.value - expected) < 4 * estimate.standard_error


def test_all_of_a_pool_is_one_subset_and_has_no_error_of_drawing():
    assert subsets_of(5, 5, 100, 0) == [[0, 1, 2, 3, 4]]
    assert monte_carlo([[1.0], [0.0]]) == (0.5, 0.0)
    assert subsets_of(9, 4, 7, 1) == subsets_of(9, 4, 7, 1) != subsets_of(9, 4, 7, 2)
    for k in (0, 6):
        with pytest.raises(ConfigError):
            subsets_of(5, k, 1, 0)


def test_subsets_are_uniform():
    drawn = subsets_of(6, 3, 20_000, 0)
    assert all(subset == sorted(set(subset)) and len(subset) == 3 for subset in drawn)
    counts = [drawn.count(list(subset)) for subset in itertools.combinations(range(6), 3)]
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 43.8  # chi-square, 19 degrees, p = 0.001


@pytest.mark.parametrize("way", SELECTORS)
def test_ties_share_the_credit_and_no_answer_has_none(way):
    tied = Samples(
        paths=["a", "b", "c"],
        logprobs=[-1.0, -1.0, -0.1],
        lengths=[5, 5, 5],
        classes=[0, 1, None],
        correct=[False, True, False],
    )
    assert SELECTORS[way](tied).credit == 0.5
    if way != "PPL":
        assert SELECTORS[way](tied).confidence == 0.5
    assert SELECTORS[way](tied.take([2])) == (0.0, 0.0)


def test_the_calibration_error_by_hand():
    assert calibration_error([0.95, 0.95, 0.95, 0.95], [1, 1, 1, 0]) == pytest.approx(0.2)
    assert calibration_error([0.3, 0.30001], [0, 1]) == pytest.approx(0.5 * 0.3 + 0.5 * 0.69999)  # 0.3 ends its bin
    assert calibration_error([0.0, 1.0], [0, 1]) == 0.0
    assert calibration_error([0.5] * 4, [1, 0, 1, 0]) == 0.0
    with pytest.raises(ConfigError):
        calibration_error([1.2], [1.0])
