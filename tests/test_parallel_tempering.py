"""Parallel tempering: swaps keep detailed balance, and a sweep the product of all targets, exactly."""

import asyncio
import math
from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, EngineError
from reasoning.budget import Budget
from reasoning.search.conditional import Retained, Sweep, averaged, carry_out, start
from reasoning.search.tree import Grown, Selected
from reasoning.steps import Steps
from reasoning.strategies import parallel_tempering
from reasoning.strategies.parallel_tempering import ParallelTempering, Swapped, exchange, swap_probability
from reasoning.strategies.particle_gibbs import ParticleGibbs
from tests.sweeps import LONG, SHORT, Language, distance, kernel, moved, outcomes, rule
from tests.test_particle_gibbs import LETTERS, Failing, Rewards, letters_of, run_of
from tests.worlds import PROMPT

TEMPERATURES = (0.5, 1.0, 3.0)


def rules(*temperatures, weights="product", **settings):
    return [rule(weights, temperature, **settings) for temperature in temperatures]


def joint(language, *temperatures, weights="product"):
    """The product of the chains' targets."""
    targets = [language.target(weights, temperature) for temperature in temperatures]
    return {
        texts: math.prod(target[text] for target, text in zip(targets, texts, strict=True))
        for texts in product(language.solutions(), repeat=len(targets))
    }


# -- swaps ---------------------------------------------------------------------------------------------------------


def imbalance(language, weights):
    """The largest difference of the flows of a swap there and back, over all pairs of solutions."""
    cold, hot = rules(0.5, 3.0, weights=weights)
    law = joint(language, 0.5, 3.0, weights=weights)

    def flow(x, y):
        chance = parallel_tempering.swap_probability(cold.potential, hot.potential, language.node(x), language.node(y))
        assert 0 <= chance <= 1
        return law[x, y] * chance

    return max(abs(flow(x, y) - flow(y, x)) for x, y in law)


@pytest.mark.parametrize("weights", ["twist", "product", "odds"])
@pytest.mark.parametrize("language", [Language({"": {".": 0.3, "a": 0.7}}, 1), Language(LONG, 3)], ids=["two", "many"])
def test_swaps_keep_detailed_balance(language, weights):
    assert imbalance(language, weights) < 1e-15


def test_the_probability_of_a_swap_is_the_formula():
    language = Language(LONG, 3)
    cold, hot = (each.potential for each in rules(0.5, 3.0))
    for x, y in product(language.solutions(), repeat=2):
        w = [sum(math.log(language.score(text[: end + 1])) for end in range(len(text))) for text in (x, y)]
        formula = min(1.0, math.exp((1 / 0.5 - 1 / 3.0) * (w[1] - w[0])))
        assert swap_probability(cold, hot, language.node(x), language.node(y)) == pytest.approx(formula, rel=1e-12)
        assert swap_probability(cold, cold, language.node(x), language.node(y)) == pytest.approx(1)


# -- sweeps --------------------------------------------------------------------------------------------------------


def drift(monkeypatch, language, how, n, *, sweep=True):
    """How far sweeps of all chains (or none) and the swaps behind them move the product of the chains' targets."""
    temperatures = [each.potential.temperature for each in how]
    target = joint(language, *temperatures)

    def play_from(texts):
        async def play():
            sweeps = [
                start(each, language.root, n, number=0, chain=chain, reference=language.node(text))
                for chain, (each, text) in enumerate(zip(how, texts, strict=True))
            ]
            if sweep:
                await carry_out(language, language, sweeps)
            else:
                for each, text in zip(sweeps, texts, strict=True):
                    each.nodes = [language.node(text)]
            states = exchange(language, sweeps)
            return tuple(state.candidate.text for state in states)

        return play

    kernels = {}
    for texts in target:
        with monkeypatch.context() as patch:
            kernels[texts] = outcomes(patch, language, play_from(texts))
    return distance(moved(target, kernels), target)


@pytest.mark.parametrize("settings", [{"resampling": "multinomial", "ess": 0.9}, {"ess": 2.0}], ids=str)
def test_a_sweep_of_two_chains_leaves_the_product_of_their_targets_invariant(monkeypatch, settings):
    assert drift(monkeypatch, Language(SHORT, 2), rules(0.5, 3.0, **settings), 2) < 1e-12


def test_swaps_of_three_chains_leave_the_product_of_their_targets_invariant(monkeypatch):
    assert drift(monkeypatch, Language(SHORT, 3), rules(*TEMPERATURES), 1, sweep=False) < 1e-12


def _sign(cold, hot, x, other):
    return swap_probability(hot, cold, x, other)


def _untempered(cold, hot, x, other):
    return min(1.0, math.exp(cold.log_final(other) - cold.log_final(x)))


def _always(cold, hot, x, other):
    return 1.0


@pytest.mark.parametrize("wrong", [_sign, _untempered, _always])
def test_a_wrong_swap_is_found(monkeypatch, wrong):
    monkeypatch.setattr(parallel_tempering, "swap_probability", wrong)
    assert imbalance(Language(LONG, 3), "product") > 1e-3
    assert drift(monkeypatch, Language(SHORT, 2), rules(0.5, 3.0, ess=2.0), 2) > 1e-3
    assert drift(monkeypatch, Language(SHORT, 3), rules(*TEMPERATURES), 1, sweep=False) > 1e-3


def test_hot_chains_that_are_weighed_like_the_cold_one_are_found(monkeypatch):
    def weigh(self, node, old, log_weight):
        cold = replace(self.rule.potential, temperature=0.5)
        return log_weight if node is old else log_weight + cold.log_increment(node)

    monkeypatch.setattr(Sweep, "_weigh", weigh)
    assert drift(monkeypatch, Language(SHORT, 2), rules(0.5, 3.0, ess=2.0), 2) > 1e-3


# -- the strategy --------------------------------------------------------------------------------------------------


def solved(strategy, **keywords):
    run = run_of(**keywords)
    return asyncio.run(strategy(run, PROMPT)), run


def test_temperatures_are_geometric():
    assert ParallelTempering(chains=4, temperature=0.5, hottest=4.0).temperatures == pytest.approx([0.5, 1.0, 2.0, 4.0])
    assert ParallelTempering(chains=1, temperature=0.5).temperatures == [0.5]


def test_one_chain_is_particle_gibbs():
    one, first = solved(ParallelTempering(n=5, chains=1, ess=0.9))
    other, second = solved(ParticleGibbs(n=5, ess=0.9))
    assert one == other
    assert first.trace == second.trace


def test_the_weights_that_answer_are_the_cold_targets(monkeypatch):
    """Many sweeps on the real engine, with few particles: a filter of two is far from the target, as is the hot one."""
    seen = []
    monkeypatch.setattr(parallel_tempering, "averaged", lambda *args: seen.append(averaged(*args)) or seen[0])
    strategy = ParallelTempering(
        n=2, chains=2, sweeps=400, temperature=0.5, hottest=3.0, weights="product", ess=0.9, score=Rewards()
    )
    steps = Steps(delimiter="none", max_tokens=1)
    solved(strategy, engine=ScriptedEngine(LETTERS), steps=steps, max_tokens=2)
    law = defaultdict(float)
    for node, weight in zip(*seen[0], strict=True):
        law[letters_of(node.trajectory)] += weight
    language = Language(SHORT, 2)
    assert sum(law.values()) == pytest.approx(1)
    assert distance(law, language.target("product", 0.5)) < 0.03
    assert distance(law, language.target("product", 3.0)) > 0.15
    assert distance(law, kernel(monkeypatch, language, rule(temperature=0.5, ess=0.9), 2, None)) > 0.15


def test_chains_go_on_from_what_was_exchanged(monkeypatch):
    begun = []
    real = parallel_tempering.start
    monkeypatch.setattr(parallel_tempering, "start", lambda *a, **k: begun.append(k) or real(*a, **k))
    strategy = ParallelTempering(n=4, chains=3, sweeps=4, hottest=3.0)
    result, run = solved(strategy)
    swaps = [event for event in run.trace if isinstance(event, Swapped)]
    assert [(event.sweep, event.chain) for event in swaps] == [(s, k) for s in range(3) for k in range(2)]
    assert {event.accepted for event in swaps} == {True, False}
    retained = {(e.sweep, e.chain): e.node for e in run.trace if isinstance(e, Retained)}
    for sweep in range(3):
        states = [retained[sweep, chain] for chain in range(3)]
        for event in swaps[2 * sweep : 2 * sweep + 2]:
            if event.accepted:
                states[event.chain], states[event.chain + 1] = states[event.chain + 1], states[event.chain]
        assert [k["reference"].id for k in begun[3 * (sweep + 1) : 3 * (sweep + 2)]] == states
    grown = [event for event in run.trace if isinstance(event, Grown)]
    finished = {event.node for event in grown if event.finished}
    assert not finished & {event.parent for event in grown}
    assert sum(event.parent == 0 for event in grown) == run.samples == strategy.most_samples
    for event in run.trace:
        if isinstance(event, Selected):
            assert set(event.kept) <= set(event.among)
            assert not finished & set(event.among)
    assert (result.stop_reason, result.answer is None) == ("done", False)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5, 100, 1000])
@pytest.mark.parametrize("kind", ["generated_tokens", "scored_tokens"])
def test_a_budget_leaves_what_the_cold_chain_ended_with(kind, limit):
    result, run = solved(ParallelTempering(n=4, sweeps=40), budget=Budget(**{kind: limit}))
    assert result.stop_reason == "budget"
    assert getattr(run.usage, kind) <= limit
    if limit == 1000:
        assert any(isinstance(event, Swapped) for event in run.trace)
        assert all(not candidate.trajectory.open for candidate in result.candidates)


def test_a_judge_that_fails_midway_is_an_error_and_the_trace_is_intact():
    run = run_of(Failing())
    with pytest.raises(EngineError, match="is gone"):
        asyncio.run(ParallelTempering(n=4)(run, PROMPT))
    grown = [event.node for event in run.trace if isinstance(event, Grown)]
    assert grown == list(range(1, len(grown) + 1))
    assert grown


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 1}, "n of at least 2"),
        ({"chains": 0}, "chains"),
        ({"hottest": 0.5}, "hottest"),
        ({"hottest": math.inf}, "hottest"),
        ({"weights": "auto"}, "unknown weights"),
        ({"resampling": "stratified"}, "around a reference"),
        ({"keep": "first"}, "unknown keep"),
        ({"choose": "any"}, "unknown choice"),
    ],
)
def test_what_is_wrong_with_it_is_said(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ParallelTempering(**wrong)
