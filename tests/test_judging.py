"""How judges are measured: estimators against enumeration, ProcessBench as a task, and the work from end to end."""

import asyncio
import hashlib
import itertools
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import verifiers.judges.open
from benchmarks import judges as benchmark
from benchmarks.machine import RESULTS
from bethink.cli_judge import add_judge
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError, ContextError, DataError, EngineError, StoreError
from decoding.types import Usage
from evals.data import hash_order
from evals.estimators.judging import (
    auc,
    auc_interval,
    calibration,
    ece,
    f1_interval,
    first_error,
    processbench_f1,
    tune_threshold,
)
from evals.judge_cases import processbench_cases, run_cases
from evals.judging import run_judging
from evals.reports.figures import figure, is_right, pool_depth, read_pool
from evals.reports.judge_output import to_csv, to_markdown, write_judge_report
from evals.reports.judge_report import is_for_tuning, make_judge_report
from evals.reports.report import make_report
from evals.reports.report import to_csv as run_csv
from evals.reports.report import to_markdown as run_markdown
from evals.runner import Evaluation, evaluate
from evals.store import Store, read_config, read_rows
from evals.tasks.processbench import IndexFormat, critic_prompt
from evals.tasks.reference import Chain, check_steps
from evals.tasks.registry import load_task
from reasoning.strategies import SelfConsistency
from reasoning.trajectory import Prompt
from tests.worlds import settings
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind

DATA = os.environ.get("BETHINK_DATA")
POOL = RESULTS / "reference-8"
PROBLEMS, SAMPLES = 24, 6


def noise(*parts, size=1):
    """Numbers in [0, 1) that depend on nothing but the parts."""
    digest = hashlib.shake_256(repr(parts).encode()).digest(4 * size)
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "big") / 2**32 for i in range(size)]


# Estimators


def test_the_auc_is_the_share_of_pairs_in_order():
    for case in range(200):
        draws = noise("auc", case, size=16)
        scores = [round(4 * x) / 4 for x in draws[:8]]  # many ties
        labels = [x < 0.5 for x in draws[8:]]
        pairs = list(zip(scores, labels, strict=True))
        if len(set(labels)) == 2:
            worth = [(a > b) + (a == b) / 2 for a, x in pairs if x for b, y in pairs if not y]
            assert auc(scores, labels) == pytest.approx(sum(worth) / len(worth), abs=1e-12)
            assert auc([-x for x in scores], labels) == pytest.approx(1 - sum(worth) / len(worth), abs=1e-12)
    with pytest.raises(ConfigError, match="something wrong"):
        auc([0.1, 0.2], [True, True])


def test_the_interval_of_the_auc_resamples_problems_and_not_steps():
    scores, labels = (
        [[0.2, 0.4, 0.8], [0.3, 0.6], [0.1, 0.9, 0.5]],
        [[False, True, False], [False, True], [True, True, False]],
    )
    found = auc_interval(scores, labels, seed=3, resamples=20_000)
    exact = []
    for drawn in itertools.product(range(3), repeat=3):
        own = [(s, right) for i in drawn for s, right in zip(scores[i], labels[i], strict=True)]
        exact.append(auc(*map(list, zip(*own, strict=True))))
    exact.sort()
    assert found.mean == auc(*(list(itertools.chain.from_iterable(each)) for each in (scores, labels)))
    assert exact[0] <= found.low <= exact[2]
    assert exact[-3] <= found.high <= exact[-1]
    # Problems that are all alike leave nothing to chance, however many steps they have.
    alike = auc_interval([scores[0]] * 5, [labels[0]] * 5, seed=0)
    assert alike.low == pytest.approx(alike.mean) == pytest.approx(alike.high)


def test_calibration_bins_add_up_to_the_calibration_error():
    scores, labels = noise("scores", size=400), [x < 0.6 for x in noise("labels", size=400)]
    bins = calibration(scores, labels)
    assert sum(each.size for each in bins) == 400
    assert all(each.low < each.score <= each.high for each in bins)
    by_hand = sum(each.size * abs(each.score - each.right / each.size) for each in bins) / 400
    assert ece(scores, labels) == pytest.approx(by_hand, abs=1e-12)
    assert [(each.low, each.size) for each in calibration([0.0, 0.1, 0.1000001], [True] * 3)] == [(0.0, 2), (0.1, 1)]
    with pytest.raises(ConfigError, match="no probabilities"):
        ece([1.5], [True])


def test_first_errors_and_their_f1():
    assert [first_error([0.9, 0.4, 0.1], threshold) for threshold in (0.05, 0.4, 0.41, 1.0)] == [-1, 2, 1, 0]
    # 3 of 4 with an error, 1 of 2 without one: the harmonic mean of 0.75 and 0.5.
    found = processbench_f1([0, 1, 2, 5, -1, 0], [0, 1, 2, 3, -1, -1])
    assert found == pytest.approx((0.75, 0.5, 0.6))
    assert processbench_f1([-1, 0], [0, -1]).f1 == 0
    with pytest.raises(ConfigError, match="with an error and without"):
        processbench_f1([0], [0])
    hits, clean = [True, False, True, True], [False, False, True, True]
    twice = f1_interval(hits * 2, clean * 2, [str(i % 4) for i in range(8)])
    assert twice == f1_interval(hits, clean)  # samples of one problem are drawn together


def test_a_tuned_threshold_is_the_best_of_all_and_the_lowest_of_the_best():
    for case in range(300):
        draws = noise("tune", case, size=64)
        scores = [[round(6 * x) / 6 for x in draws[8 * i : 8 * i + 1 + int(7 * draws[i])]] for i in range(7)]
        truth = [-1 if draws[i + 8] < 0.4 else int(draws[i + 20] * len(row)) for i, row in enumerate(scores)]
        if -1 not in truth or set(truth) == {-1}:
            continue

        def f1(threshold, scores=scores, truth=truth):
            return processbench_f1([first_error(row, threshold) for row in scores], truth).f1

        tuned = tune_threshold(scores, truth)
        grid = [i / 12 - 0.01 for i in range(16)]  # every stretch between two scores
        best = max(map(f1, grid))
        assert f1(tuned) == best
        lowest = next(threshold for threshold in grid if f1(threshold) == best)
        between = [t for t in grid if min(lowest, tuned) <= t <= max(lowest, tuned)]
        assert {f1(t) for t in between} == {best}


# ProcessBench as a task


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"The first error is \boxed{3}.", "3"),
        (r"\boxed{1} no, \boxed{ -1 }", "-1"),
        (r"\boxed{+02}", "2"),
        (r"\boxed{2} and then \boxed{paragraph 4}", None),
        (r"\boxed{\text{-1}}", None),
        ("3", None),
    ],
)
def test_the_last_box_holds_the_index(text, value):
    assert IndexFormat().extract(text).value == value


def write_processbench(folder, rows=12):
    """Solutions of two steps; every third is right, the others go wrong at the first or at the second."""
    lines = [
        {
            "id": f"gsm8k-{i}",
            "generator": "nobody",
            "problem": f"Problem {i // 2}? {{problem}} {{tagged}}",
            "steps": [f"first of {i}", "second\nof two lines"],
            "final_answer_correct": i % 3 == 2,
            "label": (0, 1, -1)[i % 3],
        }
        for i in range(rows)
    ]
    (folder / "processbench_gsm8k.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_critic_sees_problem_and_tagged_steps_and_nothing_of_the_truth(tmp_path):
    task = load_task("processbench", data_dir=write_processbench(tmp_path))
    problem = next(p for p in task.problems if p.id == "processbench-gsm8k-1")
    # What a problem holds is not taken for a place to fill.
    head = (
        "[Math Problem]\n\nProblem 0? {problem} {tagged}\n\n[Solution]\n\n<paragraph_0>\nfirst of 1\n</paragraph_0>\n\n"
    )
    assert head + "<paragraph_1>\nsecond\nof two lines\n</paragraph_1>\n\nYour task is" in problem.question
    assert problem.question == critic_prompt(problem.metadata["problem"], problem.metadata["steps"])
    assert problem.reference == "1"
    assert "not the known data" in task.source
    with pytest.raises(ConfigError, match="olympiadbench"):
        load_task("processbench:aime", data_dir=tmp_path)


def test_a_label_outside_of_the_steps_is_refused(tmp_path):
    path = write_processbench(tmp_path, 2) / "processbench_gsm8k.jsonl"
    path.write_text(path.read_text().replace('"label": 1', '"label": 2'))
    with pytest.raises(DataError, match="row 2: the label"):
        load_task("processbench", data_dir=tmp_path)


@pytest.mark.skipif(DATA is None, reason="needs BETHINK_DATA")
def test_processbench_is_what_the_paper_counts():
    task = load_task("processbench", data_dir=Path(DATA))
    assert "not the known data" not in task.source
    labels = [problem.metadata["label"] for problem in task.problems]
    assert (len(labels), sum(label != -1 for label in labels)) == (400, 207)  # table 2 and the paper's own code


def test_the_report_of_a_critic_has_f1_beside_accuracy(tmp_path):
    """A critic that always says -1 is right on what has no error and on nothing else: accuracy 1/3, F1 0."""
    task = load_task("processbench", data_dir=write_processbench(tmp_path))
    for name, laws, f1 in (("always", (0.0, 1.0), 0.0), ("coin", (0.5, 0.5), None)):
        model = Table(
            vocabulary=("?", r"\boxed{0}", r"\boxed{-1}", "."),
            eos_token_ids=frozenset({3}),
            laws={(): (0.0, *laws, 0.0), (1,): (0, 0, 0, 1.0), (2,): (0, 0, 0, 1.0)},
        )
        run_critic(tmp_path / name, task, model)
        report = make_report(tmp_path / name)
        (line,) = report.strategies
        shares, interval = line.first_errors
        rows = list(read_rows(tmp_path / name, "results"))
        truth = {problem.id: int(problem.reference) for problem in task.problems}
        predicted = [int(row["answer"]) for row in rows]
        assert shares == processbench_f1(predicted, [truth[row["problem"]] for row in rows])
        assert f1 is None or shares == (0.0, 1.0, f1)
        assert interval.low <= shares.f1 <= interval.high
        assert "## First wrong step" in run_markdown(report)
        assert f"F1 {line.strategy}" in run_csv(report)


def run_critic(folder, task, model):
    async def work():
        prompts = {problem.id: Prompt(question=problem.question, token_ids=(0,)) for problem in task.problems}
        chosen = replace(settings(ScriptedEngine(model)), answers=task.answers)
        evaluation = Evaluation(task=task, strategies=[SelfConsistency(n=1)], prompts=prompts, settings=chosen)
        config = {"task": "processbench", "model": "table", "sampling": {"temperature": 1.0}}
        with Store(folder, config, {}) as store:
            await evaluate(evaluation, store)

    asyncio.run(work())


# Judging


class TestJudge:
    """A judge of any role: its scores are a function of question and steps; it can break, or find things too long."""

    __test__ = False

    def __init__(self, score, *, fail_after=None, longest=10**9, kind=ScoreKind.PROBABILITY):
        self.score, self.fail_after, self.longest = score, fail_after, longest
        self.asked, self.running, self.most, self.closed = [], 0, 0, False
        self.info = JudgeInfo(
            name="test", kind=kind, format="none", backend="test", revision=None, parameters=0, context_length=1
        )

    def split(self, text):
        return tuple(text.split("\n"))

    def tokens(self, solution):
        return 1

    async def aclose(self):
        self.closed = True

    async def _judged(self, solution):
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise EngineError("broken")
        if sum(map(len, solution.steps)) > self.longest:
            raise ContextError("too long")
        self.asked.append(solution)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return self.score(solution.question, solution.steps)

    async def score_steps(self, solution):
        return Judgement(scores=await self._judged(solution), usage=Usage(scored_tokens=7))

    async def value(self, solution):
        return Judgement(scores=(await self._judged(solution))[-1:], usage=Usage(scored_tokens=1))

    reward = value


def exact(question, steps):
    """1 as long as no line is wrong."""
    labels = check_steps(Chain.parse(question), "\n".join(steps))
    return tuple(float(all(labels[: end + 1])) for end in range(len(labels)))


def chance(question, steps):
    return tuple(noise(question, steps[: end + 1])[0] for end in range(len(steps)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A part of the stored pool, as a results folder."""
    folder = tmp_path_factory.mktemp("pool")
    shutil.copy(POOL / "run.json", folder)
    for table in ("samples", "grades"):
        rows = [row for row in read_rows(POOL, table) if int(row["problem"][-5:]) < PROBLEMS and row["slot"] < 10]
        (folder / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def judge_pool(stored):
    def judge_into(folder, judge, role="prm", samples=SAMPLES):
        run_judging(judge, role, "reference:8", lambda split: run_cases(stored, split, samples=samples), folder)
        return make_judge_report(folder)

    return judge_into


def test_an_exact_judge_finds_every_first_error_and_one_of_chance_none(tmp_path, judge_pool):
    best = judge_pool(tmp_path / "exact", TestJudge(exact))
    assert [line.auc for line in best.rankings[:2]] == [(1, 1, 1), (1, 1, 1)]
    assert [line.shares for line in best.first_errors] == [(1, 1, 1)] * 3
    assert best.ece == 0
    assert best.solutions == PROBLEMS * SAMPLES - best.left_out
    worst = judge_pool(tmp_path / "chance", TestJudge(chance))
    assert worst.rankings[0].auc.low < 0.5 < worst.rankings[0].auc.high
    assert max(line.f1.mean for line in worst.first_errors) < 0.3
    measured = next(line for line in best.first_errors if "other half" in line.how)
    pool = list(read_rows(tmp_path / "exact", "scores"))
    assert measured.solutions == sum(not is_for_tuning(row["problem"]) for row in pool)


def test_a_part_of_a_data_set_has_problems_to_tune_on_and_others():
    """Both had gone by the same hash: all of the first 60 of ProcessBench were there to tune on, none to measure."""
    ids = [f"processbench-gsm8k-{i}" for i in range(400)]
    first = sorted(ids, key=hash_order)[:60]
    assert 20 < sum(map(is_for_tuning, first)) < 40
    assert 170 < sum(map(is_for_tuning, ids)) < 230


def test_first_wrong_lines_are_those_of_the_check(stored):
    found = run_cases(stored, str.split, limit=PROBLEMS, samples=SAMPLES)
    texts = {f"{row['problem']}/{row['slot']}": row for rows in read_pool(stored).values() for row in rows}
    for case in found.cases:
        labels = check_steps(Chain.parse(case.solution.question), texts[case.id]["text"])
        assert "\n".join(case.solution.steps) == texts[case.id]["text"]
        assert case.first_error == (-1 if all(labels) else labels.index(False))
        assert case.right == is_right(texts[case.id])
    assert {case.first_error == -1 for case in found.cases} == {True, False}


@pytest.mark.parametrize("after", [0, 40])
def test_judging_that_broke_off_goes_on_and_equals_one_that_did_not(tmp_path, judge_pool, after):
    whole = TestJudge(chance)
    judge_pool(tmp_path / "whole", whole)
    assert whole.closed
    assert len(whole.asked) == len({(s.question, s.steps) for s in whole.asked})  # equal solutions are judged once
    assert len(whole.asked) < PROBLEMS * SAMPLES
    assert whole.most > 10  # side by side
    broken = TestJudge(chance, fail_after=after)
    with pytest.raises(EngineError, match="broken"):
        judge_pool(tmp_path / "cut", broken)
    assert broken.closed
    again = TestJudge(chance)
    report = judge_pool(tmp_path / "cut", again)
    assert len(again.asked) == len(whole.asked) - after
    assert to_csv(report) == to_csv(make_judge_report(tmp_path / "whole"))
    assert report.pace.read == 7 * len(whole.asked)
    assert judge_pool(tmp_path / "cut", TestJudge(chance, fail_after=0)) == report  # nothing is left to do
    with pytest.raises(StoreError, match="other settings"):
        judge_pool(tmp_path / "cut", TestJudge(chance), samples=1)


def test_what_is_too_long_is_counted_and_tried_again(tmp_path, judge_pool):
    report = judge_pool(tmp_path, TestJudge(exact, longest=60))
    assert report.too_long > 0
    assert f"{report.too_long} solutions do not fit" in to_markdown(report)
    again = judge_pool(tmp_path, TestJudge(exact))
    assert again.too_long == 0
    assert again.solutions == report.solutions + report.too_long


def test_a_judge_that_gives_too_few_scores_is_refused(tmp_path, judge_pool):
    with pytest.raises(EngineError, match="its format does not fit"):
        judge_pool(tmp_path, TestJudge(lambda question, steps: exact(question, steps)[1:]))


def test_values_are_ranked_by_how_much_of_the_solution_was_read(tmp_path, judge_pool):
    """What is known of the end grows with what was read: whether all lines are right so far."""
    judge = TestJudge(exact)
    report = judge_pool(tmp_path, judge, "value")
    every, *parts, whole = report.rankings
    assert [line.auc.mean for line in parts] == sorted(line.auc.mean for line in parts)
    assert whole.auc.mean > every.auc.mean > 0.5
    assert (
        every.scores == sum(line.scores for line in parts) == sum(row["steps"] for row in read_rows(tmp_path, "scores"))
    )
    assert not report.first_errors
    assert {solution.finished for solution in judge.asked} == {True, False}
    reward = judge_pool(tmp_path / "orm", TestJudge(exact), "orm")
    assert reward.rankings[0].auc == pytest.approx(whole.auc)


def test_scores_that_are_no_probabilities_have_no_calibration(tmp_path, judge_pool):
    logit = TestJudge(lambda *said: tuple(9 * x - 4 for x in exact(*said)), kind=ScoreKind.LOGIT)
    write_folder = tmp_path / "logit"
    judge_pool(write_folder, logit)
    report = write_judge_report(write_folder)
    assert (report.ece, report.bins) == (None, ())
    assert not (write_folder / "calibration.png").exists()
    assert [line.how.partition(" ")[0] for line in report.first_errors] == ["tuned", "tuned"]
    assert not any("product" in line.what for line in report.rankings)


def test_processbench_judges_steps_as_labelled(tmp_path):
    """Steps after the first wrong one are wrong by rule; solutions of one problem are drawn together."""
    data = write_processbench(tmp_path)
    cases = processbench_cases("processbench", data_dir=data)
    assert len({case.problem for case in cases.cases}) == 6
    scores = {"first of 0": (0.1, 0.9), "first of 1": (0.8, 0.3)}
    judge = TestJudge(lambda _, steps: scores.get(steps[0], (0.9, 0.8)))
    run_judging(judge, "prm", "processbench", lambda _: cases, tmp_path / "out")
    steps, begun, *_ = make_judge_report(tmp_path / "out").rankings
    assert (steps.scores, steps.right) == (24, 4 * 0 + 4 * 1 + 4 * 2)
    assert (begun.scores, begun.right) == (4 * 1 + 4 * 2 + 4 * 2, 12)


def test_the_command_judges_reports_and_goes_on(tmp_path, stored, monkeypatch):
    opened = []

    def open_judge(name, **options):
        opened.append((name, options))
        return TestJudge(exact)

    monkeypatch.setattr(verifiers.judges.open, "open_judge", open_judge)
    app = typer.Typer()
    add_judge(app)
    line = ["reference:8", "--prm", "mine", "--run", str(stored), "--limit", "12", "--samples", "3"]
    line += ["--judge-option", "slots=4", "--out", str(tmp_path / "out")]
    for _ in range(2):
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.output
        assert "AUC (95 %)" in done.output
    assert opened == [("mine", {"role": "prm", "backend": "auto", "format": None, "slots": 4})] * 2
    assert len(list(read_rows(tmp_path / "out", "sessions"))) == 1
    figures = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert figures["first_errors"][0]["f1"]["mean"] == 1
    assert {"report.md", "report.csv", "calibration.png", "calibration.svg", "run.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    for wrong, said in (
        (["reference:8", "--prm", "a", "--value", "b"], "name one judge"),
        (["reference:8", "--prm", "a"], "give --run"),
        (["reference:6", "--prm", "a", "--run", str(stored)], "samples of reference:8"),
        (["processbench", "--prm", "a", "--run", str(stored)], "its own solutions"),
    ):
        failed = CliRunner().invoke(app, wrong)
        assert isinstance(failed.exception, ConfigError)
        assert said in str(failed.exception)


# Choosing by judges


@pytest.fixture(scope="module")
def small_pool(stored):
    return dict(itertools.islice(read_pool(stored).items(), 16))


def chosen(pool, judged, ks=(4,)):
    lines = benchmark.choose(pool, judged, ks, subsets=50)
    return {(line.way, line.by): line for line in lines}


def test_choosing_by_nothing_is_the_majority_or_any_sample(small_pool):
    """Equal weights vote as a majority, equal scores choose blindly; to say nothing is to lose the sample."""
    ids = [benchmark.sample_id(row) for rows in small_pool.values() for row in rows]
    blind = dict.fromkeys(ids, 0.5)
    lines = chosen(small_pool, {benchmark.EXACT: blind})
    vote, best = lines["weighted vote", benchmark.EXACT], lines["best of n", benchmark.EXACT]
    assert vote.accuracy == pytest.approx(lines["majority", ""].accuracy)
    assert vote.over_majority == pytest.approx((0, 0, 0), abs=1e-12)
    answered = [[row for row in rows if row["answer"] is not None] for rows in small_pool.values()]
    if all(len(rows) == 10 for rows in answered):
        share = sum(is_right(row) for rows in answered for row in rows) / len(ids)
        assert best.accuracy.mean == pytest.approx(share)


def test_the_exact_judge_wins_whenever_a_sample_is_right_throughout(small_pool):
    task = load_task("reference:8")
    scores = benchmark.exact_scores(small_pool, {problem.id: problem.question for problem in task.problems})
    lines = chosen(small_pool, {benchmark.EXACT: scores, "blind": dict.fromkeys(scores, 1.0)})
    right = {problem: [scores[benchmark.sample_id(row)] for row in rows] for problem, rows in small_pool.items()}
    by_hand = []
    for problem, rows in small_pool.items():
        subsets = list(itertools.combinations(range(10), 4))
        plain = [is_right(row) for row in rows]
        worth = [1.0 if any(right[problem][i] for i in s) else sum(plain[i] for i in s) / 4 for s in subsets]
        by_hand.append(sum(worth) / len(subsets))
    assert lines["best of n", benchmark.EXACT].accuracy.mean == pytest.approx(math.fsum(by_hand) / len(by_hand))
    gap = lines["best of n", "blind"].over_exact
    assert gap.high < 0
    assert lines["any right one", ""].accuracy.mean == pytest.approx(
        sum(figure("coverage", rows, 4) for rows in small_pool.values()) / 16
    )


def test_the_protocol_is_about_the_stored_pool():
    config = read_config(RESULTS / benchmark.POOL)["config"]
    pool = read_pool(RESULTS / benchmark.POOL)
    assert (config["task"], len(pool), pool_depth(pool)) == ("reference:8", 500, max(benchmark.KS))
    by, way, k = benchmark.HEADLINE
    assert by.removeprefix("PRM, ") in benchmark.AGGREGATED
    assert way == "best of n"
    assert k in benchmark.KS
