"""Votes, best scores, and the two rules that stop a vote early."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from decoding.errors import ConfigError
from reasoning.selection import best, decided_beta, decided_surely, majority, weighted

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
