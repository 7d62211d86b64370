"""Adaptive and pruned best-of-n: their laws on known models, and where they are plain best-of-n."""

import asyncio
import math

import numpy as np
import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import CapabilityError, ConfigError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.strategies import AdaptiveBestOfN, BestOfN, PrunedBestOfN, parse_strategy, require
from reasoning.strategies.pruned_best_of_n import GivenUp
from tests.judges import TextJudge, lines_model
from tests.walk import all_paths
from tests.worlds import PROMPT, RandomModel, ShuffledDelivery, answers_table, settings

WRITER = answers_table({"1": 0.5, "2": 0.5}, babble=0.5)


def solve(strategy, model=None, *, problem="p", judge=None, engine=None, **keywords):
    engine = engine or ScriptedEngine(model or RandomModel())
    judges = dict.fromkeys(("prm", "value", "orm", "self"), judge or TextJudge())
    run = Run(settings(engine, judges=judges, **keywords), problem)
    return asyncio.run(execute(strategy, run, PROMPT))


def drawn(result):
    return [(c.trajectory, c.text, c.answer, c.score) for c in result.candidates], result.chosen


def events(result, kind):
    return [event for event in result.trace if isinstance(event, kind)]


def test_gamma_0_is_one_sample():
    result = solve(AdaptiveBestOfN(n=9, gamma=0.0), answers_table({"1": 1.0}))
    assert (len(result.candidates), result.stop_reason) == (1, "accepted")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_gamma_that_no_score_reaches_is_best_of_n(batch):
    adaptive = AdaptiveBestOfN(n=9, gamma=1.1, score="value", annealing="none", batch=batch)
    result = solve(adaptive, lines_model())
    assert drawn(result) == drawn(solve(BestOfN(n=9, score="value"), lines_model()))
    assert (result.stop_reason, result.answer is None) == ("done", False)


def test_it_stops_at_the_first_that_is_good_enough_and_draws_what_the_bernoulli_model_says():
    """E[samples] = (1 - (1 - q)^N) / q."""
    q, most, problems = 0.3, 6, 150
    model, judge = answers_table({"1": q, "2": 1 - q}), TextJudge(lambda text: float(text == "#1"), turns=1)
    counts = []
    for problem in range(problems):
        strategy = AdaptiveBestOfN(n=most, gamma=0.5, annealing="none")
        result = solve(strategy, model, problem=f"p{problem}", judge=judge)
        pool = solve(BestOfN(n=most, score="value"), model, problem=f"p{problem}", judge=judge)
        good = [candidate.text == "#1" for candidate in pool.candidates]
        assert len(result.candidates) == (good.index(True) + 1 if True in good else most)
        assert result.candidates == pool.candidates[: len(result.candidates)]
        counts.append(len(result.candidates))
    expected = (1 - (1 - q) ** most) / q
    assert abs(np.mean(counts) - expected) < 4 * np.std(counts) / math.sqrt(problems)


def test_samples_grow_warmer_the_first_is_greedy_and_none_of_them_is_the_pools():
    class Heard(ScriptedEngine):
        temperatures = ()

        async def generate(self, request):
            self.temperatures += (request.sampling.temperature,)
            return await super().generate(request)

    engine = Heard(RandomModel())
    solve(AdaptiveBestOfN(n=5, gamma=2.0), engine=engine, temperature=0.8)
    assert engine.temperatures == pytest.approx((0.0, 0.4, 0.6, 0.7, 0.75))


def test_a_judge_is_not_asked_about_what_gives_no_answer():
    judge = TextJudge()
    result = solve(AdaptiveBestOfN(n=4, gamma=0.0), answers_table({"1": 1.0}, babble=1.0), judge=judge, max_tokens=5)
    assert (judge.asked, len(result.candidates), result.answer) == ([], 4, None)


def test_rho_0_is_best_of_n_token_for_token():
    model = lines_model()
    pruned, plain = solve(PrunedBestOfN(n=9, rho=0.0, mark=4), model), solve(BestOfN(n=9, score="self"), model)
    assert drawn(pruned) == drawn(plain)
    assert pruned.trace == plain.trace
    assert pruned.usage == plain.usage


def test_up_to_the_first_mark_samples_are_those_of_best_of_n():
    pruned, plain = solve(PrunedBestOfN(n=20, mark=6)), solve(BestOfN(n=20, score="self"))
    differ = 0
    for one, other in zip(pruned.candidates, plain.candidates, strict=True):
        assert one.trajectory.generated_ids[:6] == other.trajectory.generated_ids[:6]
        differ += one.trajectory.generated_ids != other.trajectory.generated_ids
    assert differ  # behind it, draws are new


def test_pausing_changes_no_law(monkeypatch):
    """No engine can take up a stream of draws in the middle, so a sample goes on with a new seed: equal in law."""

    def texts(strategy):
        return tuple(c.trajectory.generated_ids for c in solve(strategy, WRITER, max_tokens=3).candidates)

    plain = all_paths(monkeypatch, lambda _: texts(BestOfN(n=2, score="self")))
    paused = all_paths(monkeypatch, lambda _: texts(PrunedBestOfN(n=2, rho=0.1, mark=1)))  # a tenth of two is nobody
    assert len(plain) == 36
    assert paused.keys() == plain.keys()
    for outcome, probability in plain.items():
        assert paused[outcome] == pytest.approx(probability, rel=1e-12)
    assert sum(plain.values()) == pytest.approx(1)


def test_the_worst_are_given_up_at_each_mark_and_what_they_would_have_cost_is_saved():
    model = RandomModel(end=0.01)
    pruned, plain = (solve(s, model) for s in (PrunedBestOfN(n=16, mark=4), BestOfN(n=16, score="self")))
    marks = events(pruned, GivenUp)
    assert [event.mark for event in marks] == [4, 8, 16, 32]
    alive = set(range(16))
    for event in marks:
        assert set(event.scores) <= alive
        assert len(event.slots) == len(event.scores) // 2
        kept = event.scores.keys() - set(event.slots)
        assert max((event.scores[slot] for slot in event.slots), default=0) <= min(event.scores[s] for s in kept)
        alive -= set(event.slots)
    for candidate in pruned.candidates:
        reason = candidate.trajectory.finish_reason
        assert (reason is FinishReason.CANCELLED) == (candidate.slot not in alive)
    assert pruned.usage.decoded_tokens < 0.6 * plain.usage.decoded_tokens
    assert pruned.chosen is None or pruned.candidates[pruned.chosen].slot in alive


@pytest.mark.parametrize(("rho", "n", "given_up"), [(0.29, 100, 29), (0.99, 3, 2), (0.5, 1, 0), (0.3, 3, 0)])
def test_how_many_are_given_up(rho, n, given_up):
    result = solve(PrunedBestOfN(n=n, rho=rho, mark=2), answers_table({"1": 1.0}, babble=1.0), max_tokens=4)
    (event,) = events(result, GivenUp)
    assert len(event.slots) == given_up


def test_a_stop_string_that_a_mark_goes_through_is_found():
    """The engine looks for stop strings in what one request wrote, and would have gone on to the limit."""
    model = Table(
        vocabulary=("<end>", "q", "a", "b"),
        eos_token_ids=frozenset({0}),
        laws={(2,): [0, 0, 0, 1]} | {(): [0, 0, 1, 0]},
    )
    for mark in (1, 2, 3):
        (candidate,) = solve(PrunedBestOfN(n=1, mark=mark), model, stop=("bab",), max_tokens=9).candidates
        assert candidate.text == "abab"
        assert candidate.trajectory.finish_reason is FinishReason.STOP
        assert candidate.trajectory.logprob == pytest.approx(0)


@pytest.mark.parametrize("budget", [{"generated_tokens": 50}, {"scored_tokens": 30}, {"flops": 2000.0}])
@pytest.mark.parametrize("strategy", [PrunedBestOfN(n=12, mark=4), AdaptiveBestOfN(n=12, gamma=2.0, batch=3)])
def test_budgets_hold_and_what_they_cut_does_not_depend_on_the_batch(strategy, budget):
    def seen(slots, seed):
        engine = ShuffledDelivery(ScriptedEngine(lines_model(), slots=slots, parameters=10), seed)
        result = solve(strategy, engine=engine, judge=TextJudge(seed=seed), budget=Budget(**budget))
        assert result.usage.decoded_tokens <= budget.get("generated_tokens", math.inf)
        assert result.usage.scored_tokens <= budget.get("scored_tokens", math.inf)
        assert result.usage.flops <= budget.get("flops", math.inf)
        assert result.stop_reason == "budget"
        return drawn(result), result.trace

    assert seen(64, 0) == seen(1, 1) == seen(3, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pruned_best_of_n:rho=1", "below 1"),
        ("pruned_best_of_n:mark=0", "above 0"),
        ("adaptive_best_of_n:annealing=warm", "halving"),
        ("adaptive_best_of_n:score=slef", "did you mean 'self'"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_typed(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_strategy(text)


def test_zero_is_a_gamma_and_a_rho():
    assert parse_strategy("adaptive_best_of_n:gamma=0") == AdaptiveBestOfN(gamma=0.0)
    assert parse_strategy("pruned_best_of_n:rho=0") == PrunedBestOfN(rho=0.0)


def test_the_judge_and_the_engine_are_asked_for_before_the_first_token():
    from dataclasses import replace

    engine = ScriptedEngine(RandomModel())
    with pytest.raises(ConfigError, match="--self"):
        require(AdaptiveBestOfN(), engine)
    engine._info = replace(engine.info, capabilities=frozenset())
    with pytest.raises(CapabilityError, match="prefill"):
        require(PrunedBestOfN(), engine, {"self": TextJudge()})
