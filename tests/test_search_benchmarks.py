"""The searches' benchmarks: what is computed from rows, and the worlds that they are measured in."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import search_curves, search_kv
from benchmarks.barrier import one_by_one
from benchmarks.search_rows import Measured, keep, measured, node_tokens, tokens_after_end
from benchmarks.search_schedule import LIMIT, LINE, SIGMA, ClockedEngine, LognormalLines, measure
from decoding.engines.scripted import ScriptedEngine
from evals.runner import Evaluation, evaluate
from evals.store import Store
from reasoning.api import execute
from reasoning.run import Run
from reasoning.steps import Steps
from reasoning.strategies import parse_strategy
from reasoning.strategies.base import BySteps
from tests.judges import TextJudge, lines_model
from tests.worlds import PROMPT, settings, task

NEWLINE = 3


def line_of(right, tokens, **columns):
    zeros = np.zeros(len(right))
    known = {"scored": zeros, "held": zeros, "kept": zeros, "held_nodes": zeros, "kept_nodes": zeros, **columns}
    names = [f"p{i}" for i in range(len(right))]
    right = np.array(right, dtype=float)
    return Measured(strategy="s", problems=names, right=right, tokens=tokens + zeros, after_end=0, cut=0, **known)


def point(right, tokens):
    return search_curves.Point("f", 1, line_of(right, tokens))


def lines(judge=None, engine=None):
    chosen = settings(engine or ScriptedEngine(lines_model()), judges={"prm": judge or TextJudge()})
    return replace(chosen, steps=Steps(delimiter="line"))


def test_a_baseline_at_equal_tokens_is_its_own_points_and_log_linear_between_them():
    points = [point([0, 0, 1], 100), point([0, 1, 1], 400)]
    for tokens, wanted, outside in (
        (100, [0, 0, 1], False),
        (200, [0, 0.5, 1], False),
        (400, [0, 1, 1], False),
        (99, [0, 0, 1], True),
        (401, [0, 1, 1], True),
    ):
        outcomes, found = search_curves.at_tokens(points, tokens)
        assert outcomes == pytest.approx(wanted)
        assert found is outside


def test_a_gain_is_paired_and_refuses_other_problems():
    search, points = point([1, 1, 1], 200), [point([0, 0, 1], 100), point([0, 1, 1], 400)]
    assert search_curves.gain(search, points).difference.mean == pytest.approx((1 + 0.5 + 0) / 3)
    other = search._replace(found=search.found._replace(problems=["p0", "p1", "q"]))
    with pytest.raises(ValueError, match="other problems"):
        search_curves.gain(other, points)


def test_sizes_say_what_is_spent():
    for n in search_curves.SIZES:
        for family in search_curves.FAMILIES:
            (strategy,) = map(parse_strategy, search_curves.spellings(family, [n]))
            assert isinstance(strategy, BySteps)
            if family == "step_beam":
                assert strategy.b1 * strategy.b2 == n
            elif family == "mcts":
                assert strategy.simulations * strategy.children == n * search_curves.STEPS
            else:
                assert strategy.most_samples == n
    for text in search_curves.spellings(search_curves.SAMPLING, ()):
        parse_strategy(text)


def test_savings_are_sums_through_sums_and_the_margin_is_one_sided():
    rebase = line_of([1, 0, 1, 1], 10.0, held=np.array([30.0, 10, 20, 40]), kept=np.ones(4), held_nodes=np.ones(4))
    ets = line_of([1, 1, 1, 1], 10.0, held=np.array([10.0, 10, 10, 20]), kept=np.ones(4), held_nodes=np.ones(4))
    found = search_kv.saving(ets, rebase)
    assert found.held_ratio.mean == 2.0
    assert found.held_ratio.low < 2.0 < found.held_ratio.high
    assert (found.difference.mean, found.not_inferior) == (0.25, True)
    assert not search_kv.saving(rebase, ets).not_inferior
    assert list(search_kv.first(ets, 2).right) == [1, 1]


def grown(node, parent, tokens, finished=False):
    return {"event": "Grown", "node": node, "parent": parent, "tokens": tokens, "finished": finished}


def test_traces_tell_what_was_held_and_what_came_after_an_end():
    trace = [
        *(grown(1, 0, 5), grown(2, 0, 7, finished=True), {"event": "Selected", "among": [1, 2], "kept": {"1": 2}}),
        *(grown(3, 1, 2), grown(4, 1, 3), {"event": "Selected", "among": [3, 4], "kept": {"4": 1}}),
    ]
    assert node_tokens(trace) == (12 + 10, 5 + 8)
    assert tokens_after_end(trace) == 0
    assert tokens_after_end([*trace, grown(5, 2, 4), grown(6, 4, 9)]) == 4


def test_what_is_kept_says_the_same_and_is_written_the_same(tmp_path):
    strategies = [parse_strategy(text) for text in ("particle:n=4", "self_consistency:n=4")]
    evaluation = Evaluation(
        task=task(3), strategies=strategies, prompts={f"p{i:03d}": PROMPT for i in range(3)}, settings=lines()
    )
    with Store(tmp_path / "run", {"task": "digits"}, {"python": "3"}) as store:
        asyncio.run(evaluate(evaluation, store))
    keep(tmp_path / "run", tmp_path / "kept")
    before, after = measured(tmp_path / "run"), measured(tmp_path / "kept")
    assert list(before) == list(after)
    for one, other in zip(before.values(), after.values(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert one.tokens.min() > 0
    bytes_of = [path.read_bytes() for path in sorted((tmp_path / "kept").iterdir())]
    keep(tmp_path / "run", tmp_path / "again")
    assert bytes_of == [path.read_bytes() for path in sorted((tmp_path / "again").iterdir())]


class Watching(TextJudge):
    """Notes how many requests were in flight whenever it was asked."""

    def __init__(self, engine):
        super().__init__()
        self.engine, self.in_flight = engine, []

    async def score_steps(self, solution):
        self.in_flight.append(len(self.engine._rows))
        return await super().score_steps(solution)


@pytest.mark.parametrize("text", ["particle:n=6", "beam:n=6,width=3", "rebase:n=6"])
def test_the_barrier_changes_when_things_happen_and_nothing_else(text):
    strategy, problems = parse_strategy(text), task(3).problems
    prompts = {problem.id: PROMPT for problem in problems}

    async def shipped(chosen):
        return {p.id: await execute(strategy, Run(chosen, p.id), PROMPT) for p in problems}

    def both(way):
        engine = ScriptedEngine(lines_model())
        judge = Watching(engine)
        return asyncio.run(way(lines(judge, engine))), judge.in_flight

    free, overlapping = both(shipped)
    barrier, after = both(lambda chosen: one_by_one(chosen, strategy, problems, prompts))
    assert max(overlapping) > 0
    assert max(after) == 0
    for problem, result in free.items():
        assert (result.answer, result.trace) == (barrier[problem].answer, barrier[problem].trace)


def test_lines_have_the_law_that_is_told():
    model = LognormalLines()
    alive, mean = 1.0, 0.0
    for length in range(1, LIMIT):
        law = model.law((1, *[2] * length))
        assert law.sum() == pytest.approx(1.0)
        mean += alive
        alive *= law[2]
    assert mean == pytest.approx(LINE * math.exp(SIGMA**2 / 2), rel=0.03)  # whole numbers: half a token more
    assert model.law((1, 2, 2, NEWLINE))[2] == 1.0  # a line has a letter


def test_the_clock_goes_on_while_everybody_waits():
    async def work():
        engine = ClockedEngine()
        await asyncio.gather(engine.sleep(7), engine.sleep(3))
        return engine.now, engine.busy_slot_steps

    assert asyncio.run(work()) == (7, 0)


def test_a_delay_of_the_judge_costs_its_steps():
    at_once, delayed = (measure("particle:n=2", delay, "one by one", problems=2) for delay in (0, 50))
    assert at_once.tokens == delayed.tokens
    rounds, rest = divmod(delayed.makespan - at_once.makespan, 50)
    assert rounds >= 2  # of two problems
    assert rest == 0
    overlapped = measure("particle:n=2", 50, "shipped", problems=2)
    assert overlapped.makespan < delayed.makespan
