"""Strategies: their laws on known models, equal results whatever the batch, budgets honoured."""

import asyncio
from collections import Counter
from typing import ClassVar

import pytest

from decoding.engine import Capability
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import CapabilityError, ConfigError
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.strategies import (
    RPC,
    STRATEGIES,
    AdaptiveBestOfN,
    AdaptiveSelfConsistency,
    BestOfN,
    ConciseOrganizedPerception,
    EvidenceToGenerate,
    PerplexityConsistency,
    PrunedBestOfN,
    RepeatedSampling,
    ResampleUntilAccepted,
    SelfConsistency,
    SelfDebug,
    WeightedVote,
    parse_strategy,
    require,
    spell,
)
from reasoning.trace import Checked, Sampled, Stopped
from tests.judges import TextJudge
from tests.worlds import PROMPT, RandomModel, ShuffledDelivery, answers_table, settings
from verifiers.workers import WorkerPool


class Accepts:
    """A check for tests: accepts one answer."""

    name = "accepts"
    oracle: ClassVar[bool] = False

    def __init__(self, text: str) -> None:
        self.text = text

    def accept(self, question: str, text: str) -> bool:
        return text == self.text


ALL = [
    RepeatedSampling(n=12),
    SelfConsistency(n=12),
    BestOfN(n=12),
    BestOfN(n=12, score="logprob"),
    AdaptiveSelfConsistency(n=12, batch=3),
    AdaptiveSelfConsistency(n=12, batch=5, threshold=1.0),
    ResampleUntilAccepted(k=12, batch=3),
    EvidenceToGenerate(n=12),
    ConciseOrganizedPerception(n=12),
    PerplexityConsistency(n=12),
    PerplexityConsistency(n=12, probability="token"),
    RPC(n=12),
    RPC(n=12, probability="token"),
    WeightedVote(n=12),
    WeightedVote(n=12, score="logprob", temperature=0.5),
    BestOfN(n=12, score="prm"),
    WeightedVote(n=12, score="prm_min", weighting="score"),
    AdaptiveBestOfN(n=12, score="value"),
    AdaptiveBestOfN(n=12, score="orm", annealing="none", batch=3),
    PrunedBestOfN(n=12, score="value", mark=4),
]


def solve(strategy, engine_of, *, problem="p", workers=None, judge_seed=0, **keywords):
    async def work():
        engine = engine_of()
        judges = dict.fromkeys(("prm", "value", "orm"), TextJudge(seed=judge_seed))
        async with WorkerPool(size=1) as pool:
            run = Run(settings(engine, check=Accepts("#3"), workers=pool, judges=judges, **keywords), problem)
            return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


def seen(result):
    """What must not depend on the batch."""
    candidates = [(c.slot, c.trajectory.generated_ids, c.answer, c.score) for c in result.candidates]
    return candidates, result.chosen, result.stop_reason, result.trace


@pytest.mark.parametrize("strategy", ALL, ids=spell)
def test_results_and_traces_do_not_depend_on_slots_or_on_the_order_of_arrival(strategy):
    expected = seen(solve(strategy, lambda: ScriptedEngine(RandomModel(), slots=64)))
    for slots in (1, 3):
        assert seen(solve(strategy, lambda slots=slots: ScriptedEngine(RandomModel(), slots=slots))) == expected
    for seed in range(3):
        shuffled = solve(
            strategy, lambda seed=seed: ShuffledDelivery(ScriptedEngine(RandomModel()), seed), judge_seed=seed + 1
        )
        assert seen(shuffled) == expected


@pytest.mark.parametrize("strategy", ALL, ids=spell)
@pytest.mark.parametrize("limit", [1, 5, 40, 100])
def test_every_strategy_honours_a_budget_in_tokens_and_returns_its_best_so_far(strategy, limit):
    result = solve(strategy, lambda: ScriptedEngine(RandomModel()), budget=Budget(generated_tokens=limit))
    assert result.usage.decoded_tokens <= limit
    if limit <= 5:
        assert result.stop_reason == "budget"


@pytest.mark.parametrize("strategy", ALL, ids=spell)
def test_every_strategy_honours_a_budget_in_samples(strategy):
    result = solve(strategy, lambda: ScriptedEngine(RandomModel()), budget=Budget(samples=2))
    assert len(result.candidates) <= 2
    assert sum(isinstance(event, Sampled) for event in result.trace) == len(result.candidates)
    assert isinstance(result.trace[-1], Stopped)


def test_slots_are_independent_draws():
    """Copies of one prompt must diverge: seeds come from the slot, not from the content."""
    model = answers_table({"1": 0.5, "2": 0.3, "3": 0.2})
    result = solve(RepeatedSampling(n=2000), lambda: ScriptedEngine(model))
    counts = Counter(candidate.answer for candidate in result.candidates)
    for answer, share in {"1": 0.5, "2": 0.3, "3": 0.2}.items():
        assert abs(counts[answer] / 2000 - share) < 4 * (share * (1 - share) / 2000) ** 0.5


def test_self_consistency_takes_the_mode_and_unparsed_answers_never_vote():
    # 60 % of the samples babble to the limit without an answer; among those that answer, 1 leads.
    model = answers_table({"1": 0.7, "2": 0.3}, babble=0.8)
    result = solve(SelfConsistency(n=200), lambda: ScriptedEngine(model), max_tokens=4)
    assert sum(candidate.answer is None for candidate in result.candidates) > 80
    assert result.answer == "1"


def test_no_answer_at_all_is_no_answer():
    model = answers_table({"1": 1.0}, babble=1.0)
    for strategy in (SelfConsistency(n=4), BestOfN(n=4), RepeatedSampling(n=4), AdaptiveSelfConsistency(n=4)):
        assert solve(strategy, lambda: ScriptedEngine(model), max_tokens=8).answer is None


def test_best_of_n_takes_the_likeliest():
    model = answers_table({"1": 0.2, "2": 0.8})
    result = solve(BestOfN(n=20, score="logprob"), lambda: ScriptedEngine(model))
    assert {"1", "2"} == {candidate.answer for candidate in result.candidates}
    assert result.answer == "2"
    assert result.candidates[result.chosen].score == max(candidate.score for candidate in result.candidates)


def test_adaptive_with_threshold_1_gives_the_answer_of_the_full_vote():
    """It stops only when nothing can change any more, so it may be cheaper and never different."""
    model = answers_table({"1": 0.4, "2": 0.35, "3": 0.25})
    saved = 0
    for problem in range(60):
        full = solve(SelfConsistency(n=9), lambda: ScriptedEngine(model), problem=f"p{problem}")
        sure = solve(
            AdaptiveSelfConsistency(n=9, threshold=1.0, batch=2), lambda: ScriptedEngine(model), problem=f"p{problem}"
        )
        assert sure.answer == full.answer
        saved += len(full.candidates) - len(sure.candidates)
    assert saved > 30


def test_adaptive_stops_early_on_easy_problems():
    model = answers_table({"1": 0.95, "2": 0.05})
    result = solve(AdaptiveSelfConsistency(n=40), lambda: ScriptedEngine(model))
    assert result.stop_reason == "decided"
    assert len(result.candidates) < 12
    assert result.answer == "1"


def test_resample_takes_the_first_accepted_attempt_by_number():
    model = answers_table({"1": 0.5, "3": 0.2, "5": 0.3})
    samples = solve(RepeatedSampling(n=40), lambda: ScriptedEngine(model)).candidates
    first = next(candidate.slot for candidate in samples if candidate.text == "#3")
    for batch in (1, 3, 40):
        result = solve(ResampleUntilAccepted(k=40, batch=batch), lambda: ScriptedEngine(model))
        assert result.chosen == first
        assert result.answer == "3"
        assert [event.accepted for event in result.trace if isinstance(event, Checked)] == [False] * first + [True]


def test_resample_gives_no_answer_where_none_was_accepted():
    result = solve(ResampleUntilAccepted(k=5), lambda: ScriptedEngine(answers_table({"1": 1.0})))
    assert (result.answer, result.stop_reason, len(result.candidates)) == (None, "exhausted", 5)


@pytest.mark.parametrize("strategy", ALL, ids=spell)
def test_a_strategy_is_read_from_how_it_is_spelt(strategy):
    assert parse_strategy(spell(strategy)) == strategy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("self_consistancy:n=4", "did you mean 'self_consistency'"),
        ("best_of_n:m=4", "has no parameter 'm'"),
        ("best_of_n:n=four", "must be of type int"),
        ("best_of_n:n=0", "must be above 0"),
        ("resample:k=-1", "must be above 0"),
    ],
)
def test_what_is_wrong_with_a_strategy_is_said(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_strategy(text)


def test_an_unknown_score_is_refused_when_it_is_typed():
    with pytest.raises(ConfigError, match="mean_logprob"):
        parse_strategy("best_of_n:score=mean_logprop")


def test_a_pair_that_cannot_work_is_refused_before_the_first_token():
    from dataclasses import replace

    engine = ScriptedEngine(RandomModel())
    engine._info = replace(engine.info, capabilities=engine.info.capabilities - {Capability.LOGPROBS})
    require(SelfConsistency(), engine)
    with pytest.raises(CapabilityError, match="logprobs"):
        require(BestOfN(), engine)


def test_every_strategy_is_registered_under_its_name():
    # Self-debug needs a check that runs programs, and has tests of its own.
    assert {type(strategy) for strategy in ALL} == set(STRATEGIES.values()) - {SelfDebug}
