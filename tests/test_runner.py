"""The runner: one pool for all strategies, nothing done twice, errors apart from wrong answers."""

import asyncio

import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ContextError, EngineError
from evals.admission import Admission
from evals.reports.report import make_report, to_csv, to_markdown
from evals.runner import Evaluation, Silence, evaluate
from evals.store import Store, read_rows
from reasoning.strategies import AdaptiveSelfConsistency, BestOfN, RepeatedSampling, SelfConsistency, spell
from tests.worlds import PROMPT, answers_table, settings, task

MODEL = answers_table({"1": 0.45, "2": 0.35, "3": 0.2}, babble=0.5)


class Counting(ScriptedEngine):
    """Counts requests; can be told to fail."""

    def __init__(self, *arguments, fail_after=None, error=None, **keywords):
        super().__init__(*arguments, **keywords)
        self.generated, self.fail_after, self.error = 0, fail_after, error

    async def generate(self, request):
        self.generated += 1
        if self.fail_after is not None and self.generated > self.fail_after:
            raise self.error
        return await super().generate(request)


def run(folder, engine, strategies, problems=10, listener=None, **keywords):
    async def work():
        chosen = task(problems)
        prompts = {problem.id: PROMPT for problem in chosen.problems}
        evaluation = Evaluation(
            task=chosen, strategies=strategies, prompts=prompts, settings=settings(engine, **keywords)
        )
        with Store(folder, {"task": "digits", "model": "table", "sampling": {"temperature": 1.0}}, {}) as store:
            await evaluate(evaluation, store, listener or Silence())

    asyncio.run(work())


def table(folder, name, *columns):
    return sorted(tuple(row[column] for column in columns) for row in read_rows(folder, name))


SAMPLE = ("problem", "slot", "seed", "token_ids", "finish_reason")
RESULT = ("problem", "strategy", "slot", "answer", "outcome", "samples")


def test_strategies_share_one_pool(tmp_path):
    engine = Counting(MODEL)
    run(tmp_path, engine, [SelfConsistency(n=8), BestOfN(n=8), RepeatedSampling(n=16)])
    assert engine.generated == 10 * 16
    assert len(table(tmp_path, "samples", *SAMPLE)) == 160
    assert len(table(tmp_path, "grades", "problem", "slot")) == 160
    costs = {(row["strategy"], row["samples"]) for row in read_rows(tmp_path, "results")}
    assert costs == {(spell(SelfConsistency(n=8)), 8), (spell(BestOfN(n=8)), 8), (spell(RepeatedSampling(n=16)), 16)}


@pytest.mark.parametrize("after", [1, 17, 79, 159])
def test_a_run_that_broke_off_goes_on_and_equals_one_that_did_not(tmp_path, after):
    strategies = [SelfConsistency(n=8), RepeatedSampling(n=16)]
    run(tmp_path / "whole", Counting(MODEL), strategies)
    with pytest.raises(EngineError, match="broken"):
        run(tmp_path / "cut", Counting(MODEL, fail_after=after, error=EngineError("broken")), strategies)
    stored = len(list(read_rows(tmp_path / "cut", "samples")))
    again = Counting(MODEL)
    run(tmp_path / "cut", again, strategies)
    assert again.generated == 160 - stored
    for name, columns in (("samples", SAMPLE), ("results", RESULT), ("grades", ("problem", "slot", "outcome"))):
        assert table(tmp_path / "cut", name, *columns) == table(tmp_path / "whole", name, *columns)


def test_a_finished_run_generates_nothing(tmp_path):
    run(tmp_path, Counting(MODEL), [SelfConsistency(n=4)])
    engine = Counting(MODEL)
    run(tmp_path, engine, [SelfConsistency(n=4)])
    assert engine.generated == 0
    run(tmp_path, engine, [AdaptiveSelfConsistency(n=4, threshold=1.0)])
    assert engine.generated == 0


def test_results_do_not_depend_on_slots_or_on_the_order_of_problems(tmp_path):
    for slots in (1, 3, 64):
        run(tmp_path / str(slots), Counting(MODEL, slots=slots), [SelfConsistency(n=6), AdaptiveSelfConsistency(n=9)])
    for name, columns in (("samples", SAMPLE), ("results", RESULT)):
        many = table(tmp_path / "64", name, *columns)
        if name == "results":
            assert table(tmp_path / "1", name, *columns) == table(tmp_path / "3", name, *columns) == many


def test_an_error_on_one_problem_counts_as_not_solved_and_stops_nobody(tmp_path):
    run(tmp_path, Counting(MODEL, fail_after=20, error=ContextError("too long")), [SelfConsistency(n=4)])
    outcomes = [row["outcome"] for row in read_rows(tmp_path, "results")]
    assert len(outcomes) == 10
    assert outcomes.count("error") >= 4
    report = make_report(tmp_path)
    assert report.strategies[0].problems == 10
    assert report.strategies[0].errors == outcomes.count("error")
    run(tmp_path, Counting(MODEL), [SelfConsistency(n=4)])  # the same line again, with whatever it was mended
    assert make_report(tmp_path).strategies[0].errors == 0


def test_admission_counts_open_requests_and_not_problems():
    """32 admitted problems with one straggler each are 32 requests, not 512: others must be let in."""

    async def work():
        admission = Admission(8)
        seats = [await admission.enter(4), await admission.enter(4)]
        third = asyncio.ensure_future(admission.enter(4))
        await asyncio.sleep(0)
        assert not third.done()
        seats[0].changed(+4)
        await asyncio.sleep(0)
        assert not third.done()  # its requests are open now, as was expected of it
        seats[0].changed(-3)
        await asyncio.sleep(0)
        assert third.done()
        fourth = asyncio.ensure_future(admission.enter(4))
        seats[0].changed(-1)  # between two steps: its next requests are on their way
        await asyncio.sleep(0)
        assert not fourth.done()
        seats[0].leave()
        seats[1].leave()
        await asyncio.sleep(0)
        assert fourth.done()

    asyncio.run(work())


def test_the_same_rows_give_the_same_report(tmp_path):
    run(tmp_path, Counting(MODEL), [SelfConsistency(n=8), BestOfN(n=8)])
    first, second = make_report(tmp_path), make_report(tmp_path)
    assert to_markdown(first) == to_markdown(second)
    assert to_csv(first) == to_csv(second)
    values = {(point.metric, point.k): point.value.mean for point in first.curves}
    assert values[("coverage", 1)] == pytest.approx(values[("majority", 1)]) == pytest.approx(values[("best_of_n", 1)])
    assert values[("coverage", 8)] >= values[("majority", 8)]
