"""Strategies: their laws on known models, equal results whatever the batch, budgets honoured."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest

from decoding.engine import Capability
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import CapabilityError, ConfigError
from evals.runner import Evaluation, evaluate
from evals.store import Store, read_rows
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.steps import Steps
from reasoning.strategies import (
    DVTS,
    ETS,
    MCTS,
    REBASE,
    RPC,
    STRATEGIES,
    AdaptiveBestOfN,
    AdaptiveSelfConsistency,
    BeamSearch,
    BestOfN,
    ConciseOrganizedPerception,
    EvidenceToGenerate,
    ParallelTempering,
    ParticleFilter,
    ParticleGibbs,
    PerplexityConsistency,
    PrunedBestOfN,
    RepeatedSampling,
    ResampleUntilAccepted,
    SelfConsistency,
    SelfDebug,
    StepBeam,
    WeightedVote,
    parse_strategy,
    require,
    spell,
)
from reasoning.strategies.base import BySteps
from reasoning.trace import Checked, Sampled, Stopped
from tests.judges import TextJudge
from tests.worlds import PROMPT, RandomModel, ShuffledDelivery, answers_table, settings, task
from verifiers.workers import WorkerPool


class Accepts:
    """A check for tests: accepts one answer."""

    name = "accepts"
    oracle: ClassVar[bool] = False

    def __init__(self, text: str) -> None:
        self.text = text

    def accept(self, question: str, text: str) -> bool:
        return text == self.text


WORLD = RandomModel(size=9)  # it writes lines
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
    ParticleFilter(n=8),
    ParticleFilter(n=4, score="value", weights="product", ess=2.0, resampling="residual", islands=2, choose="sample"),
    ParticleFilter(n=8, mode="paper"),
    ParticleFilter(n=8, mode="paper", finished="set_aside", score="value", start_temperature=2.0, anneal_steps=3),
    ParticleGibbs(n=8, sweeps=3),
    ParticleGibbs(n=8, sweeps=2, mode="paper", score="value"),
    ParticleGibbs(
        n=5, weights="product", resampling="multinomial", ess=0.9, temperature=0.5, keep="all", choose="sample"
    ),
    ParallelTempering(n=4, chains=2, sweeps=3, ess=0.9),
    ParallelTempering(n=3, chains=3, sweeps=2, weights="odds", resampling="multinomial", score="value", choose="best"),
    BeamSearch(n=8, width=2),
    BeamSearch(n=8, width=4, score="value", finished="extra", lookahead=1, choose="vote"),
    BeamSearch(n=8, width=2, score="prm_min", finished="compete", duplicates="keep"),
    REBASE(n=8),
    REBASE(n=8, score="value", rounding="largest_remainder", choose="best"),
    REBASE(n=8, rounding="round", temperature=0.5, choose="sample"),
    ETS(n=8),
    ETS(n=8, score="value", node_cost="tokens", lambda_b=3.0, choose="majority"),
    ETS(n=12, lambda_b=4.0, lambda_d=1.0),
    StepBeam(b1=2, b2=4),
    StepBeam(b1=4, b2=2, score="prm", choose="vote", unique="none"),
    MCTS(simulations=8, children=3),
    MCTS(simulations=8, children=2, score="prm", choose="vote", parallel=3, unique="none"),
    DVTS(n=8, width=4),
    DVTS(n=8, width=2, score="value", lookahead=1, choose="sample"),
]


def solve(strategy, engine_of, *, problem="p", workers=None, judge_seed=0, **keywords):
    async def work():
        engine = engine_of()
        judges = dict.fromkeys(("prm", "value", "orm"), TextJudge(seed=judge_seed))
        async with WorkerPool(size=1) as pool:
            chosen = settings(engine, check=Accepts("#3"), workers=pool, judges=judges, **keywords)
            run = Run(replace(chosen, steps=Steps(delimiter="line")), problem)
            return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


def seen(result):
    """What must not depend on the batch."""
    candidates = [(c.slot, c.trajectory.generated_ids, c.answer, c.score) for c in result.candidates]
    return candidates, result.chosen, result.stop_reason, result.trace


@pytest.mark.parametrize("strategy", ALL, ids=spell)
def test_results_and_traces_do_not_depend_on_slots_or_on_the_order_of_arrival(strategy):
    expected = seen(solve(strategy, lambda: ScriptedEngine(WORLD, slots=64)))
    for slots in (1, 3):
        assert seen(solve(strategy, lambda slots=slots: ScriptedEngine(WORLD, slots=slots))) == expected
    for seed in range(3):
        shuffled = solve(strategy, lambda seed=seed: ShuffledDelivery(ScriptedEngine(WORLD), seed), judge_seed=seed + 1)
        assert seen(shuffled) == expected


@pytest.mark.parametrize("strategy", ALL, ids=spell)
@pytest.mark.parametrize("limit", [1, 5, 40, 100])
def test_every_strategy_honours_a_budget_in_tokens_and_returns_its_best_so_far(strategy, limit):
    result = solve(strategy, lambda: ScriptedEngine(WORLD), budget=Budget(generated_tokens=limit))
    assert result.usage.decoded_tokens <= limit
    if limit <= 5:
        assert result.stop_reason == "budget"


@pytest.mark.parametrize("strategy", ALL, ids=spell)
def test_every_strategy_honours_a_budget_in_samples(strategy):
    result = solve(strategy, lambda: ScriptedEngine(WORLD), budget=Budget(samples=2))
    # Searches may fork what they have started.
    assert isinstance(strategy, BySteps) or len(result.candidates) <= 2
    assert result.trace[-1].samples <= 2
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
    engine = ScriptedEngine(WORLD)
    engine._info = replace(engine.info, capabilities=engine.info.capabilities - {Capability.LOGPROBS})
    require(SelfConsistency(), engine)
    with pytest.raises(CapabilityError, match="logprobs"):
        require(BestOfN(), engine)


def test_every_strategy_is_registered_under_its_name():
    # Self-debug needs a check that runs programs, and has tests of its own.
    assert {type(strategy) for strategy in ALL} == set(STRATEGIES.values()) - {SelfDebug}


def test_results_do_not_depend_on_the_order_of_the_problems(tmp_path):
    """Every strategy, through the runner: the same rows whether problems are worked on forwards or backwards."""

    def rows(folder, problems):
        async def work():
            judges = dict.fromkeys(("prm", "value", "orm"), TextJudge())
            async with WorkerPool(size=1) as pool:
                chosen = settings(ScriptedEngine(WORLD), check=Accepts("#3"), workers=pool, judges=judges)
                evaluation = Evaluation(
                    task=replace(whole, problems=problems),
                    strategies=ALL,
                    prompts={problem.id: PROMPT for problem in problems},
                    settings=replace(chosen, steps=Steps(delimiter="line")),
                )
                with Store(folder, {}, {}) as store:
                    await evaluate(evaluation, store)

        asyncio.run(work())
        found = {(row["problem"], row["strategy"]): row for row in read_rows(folder, "results")}
        return {key: {name: value for name, value in row.items() if name != "seconds"} for key, row in found.items()}

    whole = task(3)
    forwards = rows(tmp_path / "forwards", whole.problems)
    assert len(forwards) == 3 * len(ALL)
    assert forwards == rows(tmp_path / "backwards", whole.problems[::-1])
