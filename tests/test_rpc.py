"""Choosing by probability: the Weibull mixture, perplexity consistency on a language that can be enumerated, RPC."""

import asyncio
import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm, weibull_min

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from evals.tasks.reference_task import ReferenceFormat
from reasoning.api import execute
from reasoning.run import Run
from reasoning.selection import perplexity_consistency, prune_unlikely
from reasoning.strategies.perplexity_consistency import PerplexityConsistency, Weighed
from reasoning.strategies.rpc import RPC, Pruned
from reasoning.trace import Voted, to_json
from reasoning.weibull import Weibull, fit_mixture, negative_log_likelihood
from tests.worlds import PROMPT, QUESTION, answers_table, settings


@dataclass(frozen=True)
class Language:
    """All texts of up to `depth` tokens over "#", "1" and "2", each prefix with a law of its own."""

    depth: int = 3
    vocabulary: tuple[str, ...] = ("<end>", "#", "1", "2")
    eos_token_ids: frozenset[int] = frozenset({0})

    def law(self, prefix):
        if len(prefix) > self.depth:  # the prompt is one token
            return np.array([1.0, 0.0, 0.0, 0.0])
        return np.random.default_rng([7, *prefix]).dirichlet([8.0] * 4)

    def paths(self):
        """Every path with its probability, a product of the laws' entries."""
        for length in range(self.depth + 1):
            for tokens in itertools.product((1, 2, 3), repeat=length):
                path, probability = (*tokens, 0), 1.0
                for position, token in enumerate(path):
                    probability *= self.law((QUESTION, *path[:position]))[token]
                yield path, probability

    def answer(self, path):
        return ReferenceFormat().extract("".join(self.vocabulary[t] for t in path if t)).value


@dataclass(frozen=True)
class Wordy:
    """Writes letters and then an answer, in many different ways."""

    vocabulary: tuple[str, ...] = ("<end>", "q", "x", "y", "z", "\n#1", "\n#2")
    eos_token_ids: frozenset[int] = frozenset({0})

    def law(self, prefix):
        if prefix[-1] > 4:
            return np.array([1.0] + [0.0] * 6)
        rng = np.random.default_rng([3, *prefix])
        if len(prefix) < 2:
            law = [0.4, 0.2, 0.4, 0.0, 0.0]
        else:  # who begins with "z" is never sure of how to go on
            law = rng.dirichlet([3.0, 3.0, 3.0, 1.5, 1.5] if prefix[1] == 4 else [1.0, 0.1, 0.1, 0.3, 0.3])
        return np.array([0.0, 0.0, *law])


def solve(strategy, model, *, problem="p", **keywords):
    async def work():
        run = Run(settings(ScriptedEngine(model), **keywords), problem)
        return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


def event(result, kind):
    return next(event for event in result.trace if isinstance(event, kind))


def naive_mixture(parameters, x):
    """The mixture's density as it is written in the paper."""
    w, k1, l1, k2, l2 = parameters
    parts = [(k / s) * (x / s) ** (k - 1) * np.exp(-((x / s) ** k)) for k, s in ((k1, l1), (k2, l2))]
    return w * parts[0] + (1 - w) * parts[1]


def planted(n, seed=0, weight=0.4, high=(6.0, 0.9), low=(2.0, 0.35)):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < weight, high[1] * rng.weibull(high[0], n), low[1] * rng.weibull(low[0], n))


# -- the mixture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "scale"), [(0.3, 2.0), (1.0, 0.5), (7.0, 0.9)])
def test_the_density_and_the_mean_are_scipys(shape, scale):
    x, law = np.linspace(0.01, 3, 200), Weibull(shape=shape, scale=scale)
    np.testing.assert_allclose(law.log_density(np.log(x)), weibull_min.logpdf(x, shape, scale=scale), rtol=1e-12)
    assert math.exp(law.log_mean) == pytest.approx(weibull_min.mean(shape, scale=scale), rel=1e-12)


def test_probabilities_far_below_the_smallest_float_have_a_density():
    density = Weibull(shape=0.5, scale=1.0).log_density([-9000.0, 800.0])
    assert density[0] == pytest.approx(math.log(0.5) + 4500)
    assert np.isfinite(density).all()


def test_the_likelihood_is_the_papers_and_its_gradient_is_that_of_finite_differences():
    x, rng = planted(60), np.random.default_rng(1)
    for _ in range(20):
        at = np.array([rng.uniform(0.2, 0.8), *rng.uniform(0.3, 5.0, size=4)])
        value, gradient = negative_log_likelihood(at, np.log(x))
        assert value == pytest.approx(-np.log(naive_mixture(at, x)).sum() - np.log(x).sum(), rel=1e-10)
        for i, step in enumerate(1e-6 * np.eye(5)):
            slope = (
                negative_log_likelihood(at + step, np.log(x))[0] - negative_log_likelihood(at - step, np.log(x))[0]
            ) / 2e-6
            assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_planted_parameters_are_found_again():
    fit = fit_mixture(np.log(planted(20_000)))
    assert fit.converged
    found = fit.mixture
    assert found.weight == pytest.approx(0.4, rel=0.05)
    assert (found.high.shape, found.high.scale) == pytest.approx((6.0, 0.9), rel=0.05)
    assert (found.low.shape, found.low.scale) == pytest.approx((2.0, 0.35), rel=0.05)


def test_the_fit_is_that_of_the_released_code_with_its_start_and_bounds():
    for seed in range(3):
        x = planted(64, seed)
        bounds = [(0.2, 0.8)] + [(0.01, None)] * 4
        with np.errstate(all="ignore"):
            theirs = minimize(
                lambda p, x=x: -np.log(naive_mixture(p, x)).sum(), [0.5, 1.0, 1.0, 1.5, 2.0], bounds=bounds
            )
        ours = fit_mixture(np.log(x))
        assert ours.converged
        assert theirs.success
        assert ours.log_likelihood == pytest.approx(-theirs.fun, abs=1e-4)


@pytest.mark.parametrize("scales", [(0.9, 0.35), (3.0, 0.5)])  # the optimiser ends with either one first
def test_the_component_of_the_larger_mean_is_called_high(scales):
    for weight in (0.3, 0.7):
        mixture = fit_mixture(np.log(planted(500, 0, weight, (6.0, scales[0]), (2.0, scales[1])))).mixture
        assert mixture.high.log_mean > mixture.low.log_mean
        assert mixture.weight == pytest.approx(weight, abs=0.1)


@pytest.mark.parametrize(
    ("logs", "reason"),
    [
        ([], "too few"),
        ([-1.0], "too few"),
        ([-1.0, -2.0], "too few"),
        ([-1.0] * 50, "too few"),
        ([-1.0, -2.0, -3.0, -4.0] * 10, "too few"),
        ([-1.0, math.nan, -2.0, -3.0, -4.0, -5.0], "zero or not finite"),
        ([-1.0, -math.inf, -2.0, -3.0, -4.0, -5.0], "zero or not finite"),
        ([-0.5] * 40 + [-1.0, -2.0, -3.0, -4.0, -5.0], "collapsed"),  # half the values are one: a spike on it
    ],
)
def test_what_can_not_be_fitted_is_said_and_prunes_nothing(logs, reason):
    assert not fit_mixture(logs).converged
    assert reason in fit_mixture(logs).reason
    assert prune_unlikely([0] * len(logs), range(len(logs)), logs, whole=False).indices == ()


# -- perplexity consistency --------------------------------------------------------------------------------------------


def test_with_every_path_in_the_pool_the_weights_are_the_answers_probabilities():
    language, marginals = Language(depth=5), defaultdict(float)
    paths, probabilities = zip(*language.paths(), strict=True)
    assert math.fsum(probabilities) == pytest.approx(1, abs=1e-12)
    answers = [language.answer(path) for path in paths]
    for answer, probability in zip(answers, probabilities, strict=True):
        marginals[answer] += probability
    assert len(marginals) > 10
    weights, log_total = perplexity_consistency(numbered(answers), paths, np.log(probabilities))
    for answer, probability in marginals.items():
        mass = math.fsum(w for w, a in zip(weights, answers, strict=True) if a == answer) * math.exp(log_total)
        assert mass == pytest.approx(probability if answer is not None else 0.0, abs=1e-12)


def numbered(answers):
    numbers = {a: i for i, a in enumerate(dict.fromkeys(a for a in answers if a is not None))}
    return [None if a is None else numbers[a] for a in answers]


@pytest.mark.parametrize(("depth", "n", "all_seen"), [(3, 1500, True), (5, 40, False)])
def test_drawn_from_an_engine_they_are_the_sums_over_the_distinct_paths_drawn(depth, n, all_seen):
    language = Language(depth=depth)
    exact = dict(language.paths())
    result = solve(PerplexityConsistency(n=n), language)
    drawn = {candidate.trajectory.generated_ids for candidate in result.candidates}
    assert (drawn == set(exact)) == all_seen
    sums = defaultdict(float)
    for path in drawn:
        if language.answer(path) is not None:
            sums[language.answer(path)] += exact[path]
    weighed, voted = event(result, Weighed), event(result, Voted)
    masses = {answer: share * math.exp(weighed.log_mass) for answer, share in voted.weights.items()}
    assert masses == pytest.approx(dict(sums), abs=1e-12)
    assert result.answer == max(sums, key=sums.get)
    if all_seen:  # then the sums are the marginals
        assert math.exp(weighed.log_mass) == pytest.approx(
            sum(p for path, p in exact.items() if language.answer(path) is not None), abs=1e-12
        )


SAMPLES = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.integers(0, 2)), min_size=1, max_size=25
)  # path, and the class that all samples of this path have is that of its first


def world(samples):
    classes, logs = {}, [-0.1, -0.4, -1.5, -3.0, -8.0, -900.0]
    for path, label in samples:
        classes.setdefault(path, label)
    paths = [path for path, _ in samples]
    return [classes[path] for path in paths], paths, [logs[path] for path in paths]


@given(SAMPLES, st.data())
def test_duplicates_change_no_answers_weight(samples, data):
    classes, paths, logs = world(samples)
    more = data.draw(st.lists(st.integers(0, len(paths) - 1), max_size=10))
    before, after = (
        mass(*([column[i] for i in [*range(len(paths)), *extra]] for column in (classes, paths, logs)))
        for extra in ([], more)
    )
    assert before == after


def mass(classes, paths, logs):
    weights, log_total = perplexity_consistency(classes, paths, logs)
    totals = defaultdict(list)
    for label, weight in zip(classes, weights, strict=True):
        totals[label].append(weight)
    return log_total, {label: math.fsum(shares) for label, shares in totals.items()}


@hypothesis.settings(deadline=None)
@given(SAMPLES)
def test_relabelling_the_answers_changes_nothing_else(samples):
    classes, paths, logs = world(samples)
    renamed = [None if label is None else 9 - label for label in classes]
    assert perplexity_consistency(renamed, paths, logs) == perplexity_consistency(classes, paths, logs)
    for whole in (True, False):
        assert prune_unlikely(renamed, paths, logs, whole=whole) == prune_unlikely(classes, paths, logs, whole=whole)


def test_a_path_votes_once_even_if_its_first_draw_gave_no_answer():
    """One that the budget cut off may be the same tokens as one that ended there."""
    assert perplexity_consistency([None, 0, 0], ["a", "a", "a"], [-1.0] * 3).weights == [0.0, 1.0, 0.0]


def test_long_solutions_do_not_underflow():
    weights, log_total = perplexity_consistency([0, 1, 1], "abc", [-9000.0, -9000.4, -9001.0])
    assert weights[0] < weights[1] + weights[2]
    assert log_total == pytest.approx(-9000 + math.log(1 + math.exp(-0.4) + math.exp(-1)))


# -- reasoning pruning -------------------------------------------------------------------------------------------------


@hypothesis.settings(deadline=None)  # the first fit imports scipy's optimisers
@given(st.lists(st.floats(-50.0, 0.0), min_size=5, max_size=40), st.booleans())
def test_the_most_probable_is_never_pruned(logs, whole):
    pruned = prune_unlikely([0] * len(logs), range(len(logs)), logs, whole=whole).indices
    assert all(logs[index] < max(logs) for index in pruned)
    assert len(pruned) < len(logs)


def test_two_clear_groups_are_told_apart_and_who_has_no_answer_is_out_of_it():
    x = np.concatenate([np.linspace(0.85, 0.95, 20), np.linspace(0.25, 0.45, 20), [0.001] * 30])
    classes = [0] * 40 + [None] * 30
    pruned, fit = prune_unlikely(classes, range(70), np.log(x), whole=False)
    assert fit.converged
    assert pruned == tuple(range(20, 40))


def test_pruning_is_the_papers_rule():
    x = planted(64)
    pruned, fit = prune_unlikely([0] * 64, range(64), np.log(x), whole=False)
    high, low = fit.mixture.high, fit.mixture.low
    p_high = fit.mixture.weight * weibull_min.pdf(x, high.shape, scale=high.scale)
    p_low = (1 - fit.mixture.weight) * weibull_min.pdf(x, low.shape, scale=low.scale)
    expected = np.flatnonzero((p_high < p_low) & (x < x.mean()))
    assert fit.converged
    assert 0 < len(pruned) < 64
    assert list(pruned) == list(expected)


def test_the_truncated_mean_keeps_what_the_mixture_alone_would_not():
    """A narrow likely component claims neither what lies far below it nor what lies above it; above, all is kept."""
    x = np.concatenate([norm.ppf(np.linspace(0.02, 0.98, 60), 0.5, 0.03), np.linspace(0.01, 0.3, 30), [0.95]])
    pruned, fit = prune_unlikely([0] * 91, range(91), np.log(x), whole=False)
    assert fit.converged
    assert fit.mixture.prefers_low(np.log(x)).tolist() == [False] * 60 + [True] * 31
    assert pruned == tuple(range(60, 90))


def test_pruning_by_whole_paths_does_not_depend_on_how_often_a_path_came_or_on_its_length():
    """Duplicates, and a factor common to all paths, change nothing: the fit is relative to the likeliest path."""
    logs = list(np.log(planted(40)))
    pruned, fit = prune_unlikely([0] * 40, range(40), logs, whole=True)
    assert fit.converged
    assert pruned
    often = logs.index(sorted(logs)[25])  # one path comes thirty times more
    more = prune_unlikely([0] * 70, [*range(40), *[often] * 30], logs + [logs[often]] * 30, whole=True)
    assert tuple(i for i in more.indices if i < 40) == pruned
    assert more.fit == fit
    longer = prune_unlikely([0] * 40, range(40), [log - 4000 for log in logs], whole=True)
    assert longer.indices == pruned


@pytest.mark.parametrize("probability", ["path", "token"])
def test_rpc_that_prunes_nothing_is_perplexity_consistency(probability):
    model = answers_table({"1": 0.5, "2": 0.3, "3": 0.2})  # three paths: too few to fit
    rpc = solve(RPC(n=30, probability=probability), model)
    pc = solve(PerplexityConsistency(n=30, probability=probability), model)
    assert event(rpc, Pruned).slots == ()
    assert "too few" in event(rpc, Pruned).fit.reason
    assert (rpc.candidates, rpc.chosen) == (pc.candidates, pc.chosen)
    assert [e for e in rpc.trace if not isinstance(e, Pruned)] == list(pc.trace)


@pytest.mark.parametrize("probability", ["path", "token"])
def test_rpc_votes_with_what_it_did_not_prune(probability):
    strategy, told = RPC(n=60, probability=probability), 0
    for problem in ("p0", "p1", "p2"):
        result = solve(strategy, Wordy(), problem=problem)
        pruned, weights = set(event(result, Pruned).slots), event(result, Weighed).weights
        told += len(pruned)
        answered = {c.slot for c in result.candidates if c.answer is not None}
        assert pruned < answered
        assert all(weights[slot] == 0 for slot in {*pruned, *(set(weights) - answered)})
        assert math.fsum(weights.values()) == pytest.approx(1)
        kept = {c.trajectory.generated_ids for c in result.candidates if c.slot in answered - pruned}
        assert sum(weight > 0 for weight in weights.values()) == len(kept)
        assert result.chosen not in pruned
        assert json.loads(json.dumps([to_json(e) for e in result.trace]))
    assert told


def test_the_two_probabilities_weigh_length_differently():
    """A short solution beats two long ones by their paths, and loses to them by the token."""
    logs, lengths = [-2.0, -6.0, -6.0], [4, 20, 20]
    by_path = perplexity_consistency([0, 1, 1], "abc", logs).weights
    by_token = perplexity_consistency([0, 1, 1], "abc", [log / n for log, n in zip(logs, lengths, strict=True)]).weights
    assert by_path[0] > by_path[1] + by_path[2]
    assert by_token[0] < by_token[1] + by_token[2]


@pytest.mark.parametrize("cls", [PerplexityConsistency, RPC])
def test_an_unknown_probability_is_refused_and_no_answer_is_none(cls):
    with pytest.raises(ConfigError, match="path, token"):
        cls(probability="word")
    result = solve(cls(n=4), answers_table({"1": 1.0}, babble=1.0), max_tokens=8)
    assert result.answer is None
    assert event(result, Weighed).log_mass is None
