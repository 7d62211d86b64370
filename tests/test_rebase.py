"""REBASE: widths are whole shares of a budget, the search has the paper's law, and what breaks them is noticed."""

import asyncio
import math
from collections import defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError, EngineError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.search.search import Search
from reasoning.search.tree import Grown, Selected
from reasoning.search.widths import ROUNDINGS, widths
from reasoning.steps import Steps
from reasoning.strategies.rebase import REBASE
from reasoning.trajectory import Prompt
from tests.judges import TextJudge, lines_model
from tests.walk import all_paths
from tests.worlds import PROMPT, RandomModel, settings
from verifiers.judges.types import ScoreKind

LINES = Steps(delimiter="line")
EXACT = ("seq_ceil", "largest_remainder")


def solved(strategy, *, engine=None, steps=LINES, judge=None, problem="p", prompt=PROMPT, **keywords):
    """A result, and the run that it comes from."""

    async def work():
        judges = dict.fromkeys(("prm", "value"), judge or TextJudge())
        chosen = settings(engine or ScriptedEngine(lines_model()), judges=judges, **keywords)
        run = Run(replace(chosen, steps=steps), problem)
        return await execute(strategy, run, prompt), run

    return asyncio.run(work())


# -- widths ------------------------------------------------------------------------------------------------------------


def released(scores, budget, temperature, rounding):
    """The rounding of the released code: running subtraction, and no guard."""
    powers = [math.exp((score - max(scores)) / temperature) for score in scores]
    powers = [power / sum(powers) for power in powers]
    left, mass = budget, sum(powers)
    counts = [0] * len(scores)
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if left > 0:
            counts[index] = math.ceil(left * powers[index] / mass)
            left, mass = left - counts[index], mass - powers[index]
    return counts


def off_budget(rule, rounding, draws):
    """The share of random draws where widths don't sum to the budget, or are not even for equal rewards."""
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(draws):
        n, budget, temperature = int(rng.integers(1, 40)), int(rng.integers(1, 65)), 10 ** rng.uniform(-3, 2)
        counts = rule(rng.beta(0.5, 0.5, n).tolist(), budget, temperature, rounding)
        wrong += sum(counts) != budget or min(counts) < 0
        wrong += rule([0.9] * n, n, 0.1, rounding) != [1] * n
    return wrong / draws


@pytest.mark.parametrize("rounding", EXACT)
def test_widths_sum_to_the_budget_and_equals_share_it_equally(rounding):
    assert off_budget(widths, rounding, 10_000) == 0
    for n in range(1, 257):
        assert widths([0.9] * n, n, 0.1, rounding) == [1] * n


def test_the_rounding_that_was_released_would_be_noticed():
    assert off_budget(released, "", 2000) > 0.01


@pytest.mark.parametrize("rounding", EXACT)
def test_the_fixture_of_ten_equal_nodes_and_sixteen_children(rounding):
    assert widths([0.5] * 10, 16, 0.1, rounding) == [2] * 6 + [1] * 4


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_widths_follow_the_nodes_wherever_they_stand(rounding):
    rng = np.random.default_rng(3)
    for _ in range(300):
        scores = rng.choice([0.1, 0.5, 0.9, *rng.random(4)], int(rng.integers(1, 12)))
        counts = np.array(widths(scores.tolist(), 16, 0.2, rounding))
        order = rng.permutation(len(scores))
        moved = widths(scores[order].tolist(), 16, 0.2, rounding)
        assert sorted(zip(scores[order], moved, strict=True)) == sorted(zip(scores, counts, strict=True))
        for score in set(scores.tolist()):  # of equals, the first come first
            assert sorted(counts[scores == score].tolist(), reverse=True) == counts[scores == score].tolist()


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_widths_at_the_ends_of_the_temperature(rounding):
    scores = [0.3, 0.9, 0.1, 0.8]
    for cold in (1e-3, 1e-300):
        assert widths(scores, 16, cold, rounding) == [0, 16, 0, 0]
    for hot in (1e12, math.inf):
        assert widths(scores, 16, hot, rounding) == [4, 4, 4, 4]
    assert widths([], 3, 1.0, rounding) == []
    assert widths(scores, 0, 1.0, rounding) == widths(scores, -2, 1.0, rounding) == [0, 0, 0, 0]


def test_each_rounding_is_near_its_share():
    rng = np.random.default_rng(5)
    for _ in range(500):
        n, budget = int(rng.integers(1, 20)), int(rng.integers(1, 40))
        scores = rng.random(n)
        shares = np.exp(scores / 0.2)
        shares *= budget / shares.sum()
        remainder, nearest = (np.array(widths(scores.tolist(), budget, 0.2, how)) for how in ROUNDINGS[1:])
        assert (abs(remainder - shares) < 1).all()
        if nearest.sum() != 1:
            assert (abs(nearest - shares) <= 0.5 + 1e-9).all()
        assert 1 <= nearest.sum() <= 2 * budget
        ordered = np.argsort(-scores)
        counts = np.array(widths(scores.tolist(), budget, 0.2, "seq_ceil"))[ordered]
        assert (np.cumsum(counts) >= np.cumsum(shares[ordered]) - 1e-9).all()  # the best never get less than their due


# -- the law -----------------------------------------------------------------------------------------------------------

LAW = {  # a token a step: <end>, q, a, b
    (1,): [0.2, 0, 0.5, 0.3],
    (2,): [0.1, 0, 0.3, 0.6],
    (): [0.5, 0, 0.1, 0.4],
}


def plain(steps):
    """What plain sampling writes, with probabilities."""
    law, open_ = defaultdict(float), {(1,): 1.0}
    for step in range(steps):
        longer = defaultdict(float)
        for ids, probability in open_.items():
            for token, share in enumerate(LAW.get(ids[-1:], LAW[()])):
                ends = token == 0 or step == steps - 1
                (law if ends else longer)[(*ids, token)] += probability * share
        open_ = longer
    return {ids[1:]: probability for ids, probability in law.items() if probability > 0}


def apart_from_sampling(monkeypatch, n, steps, rule=widths):
    """Total variation between a search whose rewards are all equal and n plain samples."""
    table = Table(vocabulary=("<end>", "q", "a", "b"), eos_token_ids=frozenset({0}), laws=LAW)
    monkeypatch.setattr("reasoning.strategies.rebase.widths", rule)

    def play(_):
        result, _ = solved(
            REBASE(n=n),
            engine=ScriptedEngine(table),
            steps=Steps(delimiter="none", max_tokens=1),
            judge=TextJudge(lambda text: 0.5, turns=1),
            max_tokens=steps,
        )
        return tuple(sorted(candidate.trajectory.generated_ids for candidate in result.candidates))

    outcomes = all_paths(monkeypatch, play)
    expected = defaultdict(float)
    for paths in product(plain(steps).items(), repeat=n):
        expected[tuple(sorted(ids for ids, _ in paths))] += math.prod(probability for _, probability in paths)
    return sum(abs(outcomes.get(key, 0.0) - expected[key]) for key in {*outcomes, *expected}) / 2


@pytest.mark.parametrize(("n", "steps"), [(1, 3), (2, 2), (2, 3), (3, 2)])
def test_with_equal_rewards_it_is_plain_sampling(monkeypatch, n, steps):
    assert apart_from_sampling(monkeypatch, n, steps) < 1e-9


MUTANTS = {
    "finished ones keep their width": lambda scores, budget, *rest: widths(scores, 2, *rest),
    "the first gets all": lambda scores, budget, *rest: [budget, *[0] * (len(scores) - 1)] if scores else [],
    "one too many": lambda scores, budget, *rest: [w + (i == 0) for i, w in enumerate(widths(scores, budget, *rest))],
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_law_notices(monkeypatch, mutant):
    assert apart_from_sampling(monkeypatch, 2, 2, MUTANTS[mutant]) > 1e-3


# -- the search --------------------------------------------------------------------------------------------------------


def replayed(trace, n):
    """From the trace: by selection, whether widths are what is left of n; how many solutions came to their end."""
    finished, sums = 0, []
    for event in trace:
        finished += isinstance(event, Grown) and event.finished
        if isinstance(event, Selected):
            sums.append(sum(event.kept.values()) == n - finished)
    return sums, finished


@pytest.mark.parametrize("rounding", EXACT)
def test_all_solutions_come_to_their_end_and_each_level_shares_what_is_left(rounding):
    selections = 0
    for problem in range(30):
        n = problem % 10 + 1
        result, run = solved(REBASE(n=n, rounding=rounding), problem=f"p{problem}")
        sums, finished = replayed(run.trace, n)
        assert (all(sums), finished, len(result.candidates), result.stop_reason) == (True, n, n, "done")
        assert run.samples == n
        grown = [event for event in run.trace if isinstance(event, Grown)]
        assert not {event.parent for event in grown} & {event.node for event in grown if event.finished}
        assert sum(event.tokens for event in grown) == run.usage.generated_tokens
        selections += len(sums)
    assert selections > 100


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_no_level_has_more_requests_than_announced(rounding):
    strategy = REBASE(n=8, rounding=rounding, temperature=1e6)
    for problem in range(10):
        result, run = solved(strategy, problem=f"p{problem}")
        for event in run.trace:
            assert not isinstance(event, Selected) or sum(event.kept.values()) <= strategy.most_requests
        assert sum(isinstance(event, Grown) for event in run.trace) <= strategy.most_steps(LINES.max_steps)
        assert result.stop_reason == "done"


def test_a_cold_balance_goes_on_with_the_best_alone():
    scores = {}
    result, run = solved(REBASE(n=8, temperature=1e-6))
    for event in run.trace:
        if isinstance(event, Grown):
            scores[event.node] = event.score
        if isinstance(event, Selected):
            assert {scores[node] for node in event.kept} == {max(scores[node] for node in event.among)}
    assert len(result.candidates) == 8


def test_rewards_in_other_units_are_read_as_probabilities():
    """A value v in [-1, 1] is the probability (v + 1) / 2: the same search by either."""
    one, _ = solved(REBASE(n=8))

    class Values(TextJudge):
        async def value(self, solution):
            answer = await self.score_steps(solution)
            return replace(answer, scores=(2 * answer.scores[-1] - 1,))

    other, _ = solved(REBASE(n=8, score="value"), judge=Values(kind=ScoreKind.VALUE))
    assert [c.trajectory for c in one.candidates] == [c.trajectory for c in other.candidates]
    assert one.chosen == other.chosen


@pytest.mark.parametrize("choose", ["vote", "best", "majority", "sample"])
def test_certain_and_equal_rewards_do_no_harm(choose):
    for score in (0.0, 1.0):
        result, _ = solved(REBASE(n=6, choose=choose), judge=TextJudge(lambda text, score=score: score))
        assert len(result.candidates) == 6
        assert result.answer is not None


def longest(limit):
    model = RandomModel(size=9, end=0.01)  # with line ends
    result, _ = solved(REBASE(n=8), max_tokens=limit, engine=ScriptedEngine(model))
    return max(len(candidate.trajectory.generated_ids) for candidate in result.candidates)


def test_the_limit_of_tokens_is_that_of_the_whole_path(monkeypatch):
    assert longest(20) == 20

    def last_step_only(self, trajectory):
        return 20 - (len(trajectory.steps[-1].token_ids) if trajectory.steps else 0)

    monkeypatch.setattr(Search, "_left", last_step_only)  # as released: what the ancestors wrote is not counted
    assert longest(20) > 20


def unanswered():
    """Solutions that ended for an answer and have none."""
    steps = replace(LINES, until_answer=True)
    prompt = Prompt(question="#3", token_ids=PROMPT.token_ids)
    result, _ = solved(REBASE(n=8), steps=steps, prompt=prompt)
    return sum(c.trajectory.finish_reason is FinishReason.STOP and "#" not in c.text for c in result.candidates)


def test_the_end_is_not_looked_for_in_the_question(monkeypatch):
    assert unanswered() == 0
    read = Run.read

    def with_question(self, slot, trajectory):
        found = read(self, slot, trajectory)
        answer = self.settings.answers.extract(trajectory.prompt.question + "\n" + found.text).value
        return replace(found, answer=answer)

    monkeypatch.setattr(Run, "read", with_question)
    assert unanswered() > 0


@pytest.mark.parametrize("limit", [1, 3, 10, 30])
def test_where_the_budget_ends_it_gives_what_it_has(limit):
    result, run = solved(REBASE(n=8), budget=Budget(generated_tokens=limit))
    assert (result.stop_reason, run.usage.decoded_tokens) == ("budget", limit)
    grown = {event.node: event for event in run.trace if isinstance(event, Grown)}
    ids = [candidate.trajectory.token_ids for candidate in result.candidates]
    assert len(ids) <= 8
    assert sum(event.finished for event in grown.values()) <= len(ids)
    assert [candidate.slot for candidate in result.candidates] == list(range(len(ids)))


def test_a_judge_that_fails_midway_is_an_error_and_the_trace_is_intact():
    class Failing(TextJudge):
        async def score_steps(self, solution):
            if len(solution.steps) == 2:
                raise EngineError("the judge is gone")
            return await super().score_steps(solution)

    async def work():
        chosen = settings(ScriptedEngine(lines_model()), judges={"prm": Failing()})
        run = Run(replace(chosen, steps=LINES), "p")
        with pytest.raises(EngineError, match="is gone"):
            await REBASE(n=6)(run, PROMPT)
        return run

    trace = asyncio.run(work()).trace
    assert [type(event) for event in trace] == [Grown] * 6 + [Selected]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"rounding": "floor"}, "seq_ceil, largest_remainder, round"),
        ({"choose": "first"}, "unknown choice"),
        ({"score": "prn"}, "did you mean 'prm'"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_typed(wrong, said):
    with pytest.raises(ConfigError, match=said):
        REBASE(**wrong)


def test_a_score_that_is_no_reward_is_refused():
    with pytest.raises(ConfigError, match="asks no judge"):
        REBASE(score="logprob").refuse({})
