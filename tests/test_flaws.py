"""Resampling until accepted: the closed form, simulation, pools, and a check that is run over a store."""

import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from decoding.errors import ConfigError, DataError, StoreError
from evals.estimators.flaws import Payoff, ResamplingModel, best_attempts, pool_curves, supposed_curves
from evals.reports.flaws_output import to_csv, to_markdown, write_flaws
from evals.reports.flaws_report import flaws_of_check, flaws_of_supposed

PAPER = ResamplingModel(priors=(0.58, 0.42), accuracies=(0.87, 0.13), completeness=1.0, soundness=0.75)
REFERENCE = Path(__file__).parents[1] / "benchmarks" / "results" / "reference-8"


def test_the_papers_example():
    assert PAPER.accuracy(1) == pytest.approx(0.5592)
    assert PAPER.accuracy(math.inf) == pytest.approx(0.716, abs=5e-4)
    best = {wrong: PAPER.best_attempts(Payoff(wrong=wrong)) for wrong in (-0.6, -0.7, -1, -2)}
    assert best == {-0.6: 5, -0.7: 3, -1: 2, -2: 1}


def test_the_notebooks_value_has_the_posterior_where_the_prior_belongs():
    """The paper's notebook weights the chance of reaching attempt k by what is known only if it is reached."""
    prior, accuracy = np.array(PAPER.priors), np.array(PAPER.accuracies)
    refused = PAPER.soundness * (1 - accuracy)
    gain = accuracy - (1 - accuracy) * (1 - PAPER.soundness)  # right 1, wrong -1

    def value(attempts, exact):
        total = 0.0
        for k in range(attempts):
            posterior = prior * refused**k / (prior @ refused**k)
            total += ((prior if exact else posterior) @ refused**k) * (posterior @ gain)
        return total

    assert value(2, exact=False) == pytest.approx(0.488, abs=5e-4)
    assert value(2, exact=True) == pytest.approx(0.472, abs=5e-4)
    assert PAPER.value(2, Payoff()) == pytest.approx(value(2, exact=True))


@pytest.mark.parametrize("attempts", [1, 3, 10])
def test_simulation_agrees(attempts):
    model = ResamplingModel(priors=(0.3, 0.5, 0.2), accuracies=(0.9, 0.3, 0.0), completeness=0.8, soundness=0.7)
    payoff, draws = Payoff(right=1, wrong=-2, cost=0.05), 200_000
    rng = np.random.default_rng(attempts)
    chance = np.array(model.accuracies)[rng.choice(3, draws, p=model.priors)]
    right = rng.random((attempts, draws)) < chance
    accepted = rng.random((attempts, draws)) < np.where(right, 0.8, 0.3)
    first = np.where(accepted.any(axis=0), accepted.argmax(axis=0), attempts - 1)
    taken = accepted.any(axis=0)
    good = taken & right[first, np.arange(draws)]
    worth = good - 2.0 * (taken & ~good) - 0.05 * (first + 1)
    error = 4 / math.sqrt(draws)
    assert model.accuracy(attempts) == pytest.approx(good.mean(), abs=error)
    assert model.false_positive_rate(attempts) == pytest.approx((taken & ~good).sum() / taken.sum(), abs=error)
    assert model.value(attempts, payoff) == pytest.approx(worth.mean(), abs=3 * error)


def test_the_best_number_of_attempts_is_where_the_value_is_highest():
    rng = np.random.default_rng(0)
    for _ in range(300):
        prior = rng.dirichlet(np.ones(3))
        shares = rng.choice([0.0, 0.1, 0.3, 0.6, 0.9, 1.0], 5)
        model = ResamplingModel(priors=prior, accuracies=shares[:3], completeness=shares[3], soundness=shares[4])
        payoff = Payoff(wrong=-rng.choice([0.0, 0.5, 2.0]), cost=rng.choice([0.0, 0.01, 0.2]))
        best = model.best_attempts(payoff)
        values = [model.value(k, payoff) for k in range(400)]
        if best == math.inf:
            assert model.value(1e9, payoff) >= max(values) - 1e-9
        elif best < 400:
            assert values[int(best)] == pytest.approx(max(values), abs=1e-12)


def test_a_sound_check_makes_every_attempt_pay_and_a_flawed_one_does_not():
    sound = ResamplingModel(priors=(0.5, 0.5), accuracies=(0.9, 0.01), completeness=0.5, soundness=1.0)
    assert sound.best_attempts(Payoff(wrong=-100)) == math.inf
    assert sound.accuracy(math.inf) == pytest.approx(1)
    assert sound.false_positive_rate(50) == 0
    flawed = ResamplingModel(priors=(0.5, 0.5), accuracies=(0.9, 0.01), completeness=1.0, soundness=0.9)
    values = [flawed.value(k, Payoff()) for k in range(60)]
    assert 1 < np.argmax(values) == flawed.best_attempts(Payoff()) < 10
    rights = [flawed.accuracy(k) for k in range(60)]
    assert rights == sorted(rights)  # the share of right ones never falls, though their value does
    hopeless = ResamplingModel(priors=(1.0,), accuracies=(0.0,), completeness=1.0, soundness=1.0)
    assert hopeless.value(math.inf, Payoff(cost=0.1)) == -math.inf
    assert hopeless.best_attempts(Payoff(cost=0.1)) == 0
    assert hopeless.value(math.inf, Payoff()) == 0


def test_a_supposed_check_that_never_errs_is_the_real_one():
    for right in range(7):
        assert np.array(supposed_curves(6, right, 1.0, 1.0)) == pytest.approx(np.array(pool_curves(6, right, 0)))


def test_a_large_pool_is_the_model_of_its_problems():
    """Without replacement from ever more samples is with replacement."""
    model = ResamplingModel(priors=(0.5, 0.5), accuracies=(0.75, 0.25), completeness=0.9, soundness=0.8)
    pools = [supposed_curves(60, right, 0.9, 0.8) for right in (45, 15)]
    for k in (1, 2, 4):
        assert np.mean([pool.right[k] for pool in pools]) == pytest.approx(model.accuracy(k), abs=2e-2)


def test_the_best_number_of_attempts_over_a_pool_has_bounds():
    curves = [pool_curves(8, *counts) for counts in [(6, 0), (5, 1), (0, 2), (1, 3)] * 10]
    values = np.array([curve.value(Payoff(wrong=-1)) for curve in curves])
    best = best_attempts(values)
    assert best.attempts == np.argmax(values.mean(axis=0))
    assert best.low <= best.attempts <= best.high
    assert best.value.mean == pytest.approx(values.mean(axis=0).max())
    nothing = best_attempts(np.array([pool_curves(8, 0, 3).value(Payoff())] * 5))
    assert (nothing.attempts, nothing.low, nothing.high, nothing.edge) == (0, 0, 0, 0.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twenty problems of the committed store, of which only ten samples are kept."""
    folder = tmp_path_factory.mktemp("run")
    record = json.loads((REFERENCE / "run.json").read_text())
    from evals.tasks.registry import load_task

    record["config"] |= {"problems": 20, "data": load_task("reference:8", limit=20).checksum}
    (folder / "run.json").write_text(json.dumps(record))
    for table in ("samples", "grades", "results"):
        with gzip.open(REFERENCE / f"{table}.jsonl.gz", "rt") as lines:
            rows = [row for row in map(json.loads, lines) if int(row["problem"][-5:]) < 20]
        kept = [row for row in rows if table == "results" or row["slot"] < 10]
        (folder / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return folder


def test_the_tasks_check_is_run_over_the_pool(store):
    from evals.reports.figures import read_pool
    from evals.tasks.reference_task import StepsCheck
    from evals.tasks.registry import load_task

    report = flaws_of_check(store, "steps", Payoff(cost=0.01))
    questions = {problem.id: problem.question for problem in load_task("reference:8", limit=20).problems}
    rows = [
        (row, StepsCheck().accept(questions[p], row["text"])) for p, some in read_pool(store).items() for row in some
    ]
    right = [accepted for row, accepted in rows if row["outcome"] == "correct"]
    assert report.completeness.mean == pytest.approx(sum(right) / len(right))
    assert 0.5 < report.completeness.mean < 1  # right answers by wrong steps are refused
    assert report.soundness.mean == 1
    assert all(value.mean == 0 for value in report.curves["wrong"])
    assert report.curves["false positives"][0] is None  # nothing is accepted before the first attempt
    write_flaws(report, store)
    assert {"flaws.md", "flaws.csv", "flaws.png"} <= {path.name for path in store.iterdir()}
    assert (store / "flaws.csv").read_text() == to_csv(flaws_of_check(store, None, Payoff(cost=0.01)))


def test_an_oracle_gives_coverage_and_a_supposed_check_says_that_it_is(store):
    from evals.reports.report import make_report

    coverage = {p.k: p.value.mean for p in make_report(store).curves if p.metric == "coverage"}
    report = flaws_of_check(store, "oracle", Payoff())
    assert {k: report.curves["right"][k].mean for k in coverage} == pytest.approx(coverage)
    supposed = flaws_of_supposed(store, 0.9, 0.5, Payoff(wrong=-3))
    assert "supposed, completeness 0.9, soundness 0.5" in to_markdown(supposed)
    assert supposed.best.attempts < report.best.attempts


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda store: flaws_of_check(store, "tests", Payoff()), ConfigError),
        (lambda store: flaws_of_check(REFERENCE.parent / "gsm8k-smollm2", None, Payoff()), ConfigError),
        (lambda store: flaws_of_supposed(store, 1.5, 0.5, Payoff()), ConfigError),
        (lambda store: flaws_of_check(store / "none", None, Payoff()), StoreError),
        (lambda store: ResamplingModel(priors=(0.5,), accuracies=(1.0,), completeness=1, soundness=1), ConfigError),
    ],
)
def test_what_can_not_be_said_is_refused(store, call, error):
    with pytest.raises(error):
        call(store)


def test_a_check_is_not_run_on_other_problems_than_were_solved(store, tmp_path):
    for path in itertools.chain(store.glob("*.jsonl"), store.glob("run.json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((tmp_path / "run.json").read_text())
    record["config"]["data"] = "other"
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="no longer has the problems"):
        flaws_of_check(tmp_path, "steps", Payoff())
