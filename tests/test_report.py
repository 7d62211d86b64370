"""What a report says of votes over classes, timeouts, costs and the commands that print it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from bethink.cli_results import register
from evals.reports.figures import read_pool
from evals.reports.plots import cost_axes, write_plots
from evals.reports.report import make_report, to_csv, to_markdown
from tests.test_compare import BEST, RIGHT, VOTE, WRONG, A, B, run

POOL = [[RIGHT, WRONG, RIGHT, RIGHT], [WRONG] * 4, [WRONG, RIGHT, WRONG, WRONG]] * 2


@pytest.fixture
def folder(tmp_path):
    run(tmp_path / "run", {VOTE: A[-6:], BEST: B[:6]}, pool=POOL)
    return tmp_path / "run"


def value(report, metric, k):
    return next(point.value.mean for point in report.curves if (point.metric, point.k) == (metric, k))


def regrade(folder, grades):
    """Grades of one problem's samples: (answer, class or None, outcome)."""
    rows = []
    for slot, (answer, label, outcome) in enumerate(grades):
        row = {"problem": "p000", "slot": slot, "answer": answer, "outcome": outcome, "text": ""}
        rows.append(row if label is None else {**row, "class": label})
    (folder / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_votes_go_to_classes_and_a_class_is_right_if_its_first_member_is(folder):
    # Equality need not be transitive: "0.5" equals 1/2, and was judged wrong; the class has the first one's verdict.
    regrade(folder, [("1/2", None, RIGHT), ("0.5", "1/2", WRONG), ("3", None, WRONG), (None, None, "no_answer")])
    report = make_report(folder)
    assert value(report, "majority", 4) == 1
    assert value(report, "coverage", 1) == 0.25
    regrade(folder, [("0.5", None, WRONG), ("1/2", "0.5", RIGHT), ("3", None, WRONG), (None, None, "no_answer")])
    assert value(make_report(folder), "majority", 4) == 0


def test_several_classes_may_be_right(folder):
    regrade(folder, [("x", None, RIGHT), ("y", None, RIGHT), ("z", None, WRONG), ("z2", "z", WRONG)])
    report = make_report(folder)
    assert value(report, "majority", 4) == 0
    assert value(report, "majority", 2) == pytest.approx((1 + 4 * 0.5 + 0) / 6)


def test_without_classes_answers_are_the_classes(folder):
    regrade(folder, [("x", None, RIGHT), ("x", None, RIGHT), ("y", None, WRONG), ("y", None, WRONG)])
    assert value(make_report(folder), "majority", 4) == 0.5
    assert [row["class"] for row in read_pool(folder)["p000"]] == ["x", "x", "y", "y"]


def test_timeouts_stand_beside_what_gave_no_answer(folder):
    report = make_report(folder)
    assert [(line.no_answer, line.timeouts, line.errors) for line in report.strategies] == [(1, 1, 0), (0, 0, 0)]
    assert "| no answer | timeouts | errors |" in to_markdown(report)
    assert f"timeouts {VOTE},,1,," in to_csv(report)


def test_a_samples_cost_is_in_tokens_flops_and_where_it_is_known_in_seconds(folder):
    cost = make_report(folder).cost
    assert cost.tokens == 10
    assert cost.flops == pytest.approx(12 * (12 * 24) / (6 * 12 + 6 * 32))  # 12 tokens, at the run's FLOPs a token
    assert cost.seconds is None
    (folder / "speed.json").write_text(json.dumps({"tokens": 240, "seconds": 12.0}))
    report = make_report(folder)
    assert report.cost.seconds == pytest.approx(0.5)
    assert {path.name for path in write_plots(report, folder)} == {"curves.png", "curves.svg", "cost.png", "cost.svg"}
    assert [axis.label.split()[0] for axis in cost_axes(report)] == ["tokens", "GFLOPs", "engine-seconds"]


def test_what_is_extrapolated_says_so_in_text_table_and_plot(folder):
    report = make_report(folder)
    assert [fit.ks for fit in report.beyond] == [(8, 16, 32, 64)] * 2
    assert "## Coverage beyond the pool, extrapolated" in to_markdown(report)
    assert "extrapolated by beta-binomial" in to_csv(report)
    assert not [point for point in report.curves if point.k > 4]


def test_a_run_without_a_pool_still_has_a_report(tmp_path):
    run(tmp_path / "run", {VOTE: A})
    report = make_report(tmp_path / "run")
    assert (report.curves, report.beyond, report.pool_samples) == ([], (), 0)
    assert "## " not in to_markdown(report)


def test_the_commands_work_from_end_to_end(folder, tmp_path):
    app = typer.Typer()
    register(app)

    def call(*arguments):
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
        return done.output

    assert "coverage beyond the pool, extrapolated" in call("report", folder)
    assert "McNemar" in call("compare", folder, "--out", tmp_path / "out")
    assert {"compare.md", "compare.csv"} == {path.name for path in (tmp_path / "out").iterdir()}
    assert "Best number of attempts" in call("flaws", folder, "--check", "oracle", "--cost", "0.1")
    assert (folder / "flaws.png").exists()
