"""The figures of a judge as Markdown, CSV, JSON and a plot."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from decoding.errors import StoreError
from evals.estimators.intervals import Interval
from evals.reports.judge_plots import write_calibration
from evals.reports.judge_report import JudgeReport, make_judge_report
from evals.reports.markup import csv_table, exact, markdown_table, percent, with_bounds


def write_judge_report(folder: Path) -> JudgeReport:
    """Compute a folder's figures and write report.md, report.csv, judge.json and, of probabilities, calibration.png."""
    report = make_judge_report(folder)
    try:
        (folder / "report.md").write_text(to_markdown(report))
        (folder / "report.csv").write_text(to_csv(report))
        (folder / "judge.json").write_text(json.dumps(_plain(asdict(report)), indent=2, allow_nan=False) + "\n")
        if report.bins:
            write_calibration(report.bins, folder / "calibration", report.title)
    except OSError as error:
        raise StoreError(f"the report can't be written to {folder}: {error.strerror or error}") from error
    return report


def to_markdown(report: JudgeReport) -> str:
    """The report as Markdown."""
    lines = [f"# {report.title}", "", *describe(report), "", "## Ranking", ""]
    lines += [*markdown_table(*ranking_table(report)), ""]
    lines += ["AUC: the chance that what is right has the higher score; ties count half.", ""]
    if report.first_errors:
        lines += ["## First wrong step", "", *markdown_table(*first_error_table(report)), ""]
        lines += [
            "The first step below the threshold is called wrong. F1 is the harmonic mean of the accuracies on "
            "solutions with an error and without one, as ProcessBench has it (arXiv 2412.06559).",
            "",
        ]
    if report.bins:
        lines += ["## Calibration", "", f"Expected calibration error: {percent(report.ece or 0.0)} %.", ""]
        rows = [[_range(b.low, b.high), f"{b.size}", f"{b.score:.3f}", f"{b.right / b.size:.3f}"] for b in report.bins]
        lines += [*markdown_table(["scores", "number", "mean score", "share that was right"], rows), ""]
    return "\n".join([*lines, "Intervals, 95 %, are from a bootstrap over problems.", ""])


def describe(report: JudgeReport) -> list[str]:
    """What was judged and at what pace, a sentence each."""
    judge = report.judge
    kind = f"{judge['role']}, {judge['kind']}, format {judge['format']}, through {judge['backend']}"
    lines = [f"{report.solutions} solutions of {report.problems} problems; judge: {kind}."]
    if judge["oracle"]:
        lines.append("This judge knows the truth.")
    if not judge["verified"]:
        lines.append("Its format was never checked against the model's real tokenizer.")
    if report.too_long:
        lines.append(f"{report.too_long} solutions do not fit the judge's context and are in no figure.")
    if report.left_out:
        lines.append(f"{report.left_out} samples that were cut off or empty are left out.")
    if (pace := report.pace) is not None:
        written = f", {pace.written:,} written" if pace.written else ""
        lines.append(
            f"{pace.scores:,} scores in {pace.seconds:.1f} s ({pace.scores / max(1e-9, pace.seconds):.1f} a second); "
            f"tokens: {pace.read:,} read, {pace.kept:,} kept from before{written}."
        )
    return lines


def ranking_table(report: JudgeReport) -> tuple[list[str], list[list[str]]]:
    """Heads and cells."""
    rows = [
        [line.what, f"{line.scores}", percent(line.right / max(1, line.scores)), _bounds(line.auc)]
        for line in report.rankings
    ]
    return ["of", "scores", "right, %", "AUC (95 %)"], rows


def first_error_table(report: JudgeReport) -> tuple[list[str], list[list[str]]]:
    """Heads and cells."""
    heads = ["threshold", "how it was chosen", "solutions", "with an error, %", "without, %", "F1, % (95 %)"]
    rows = [
        [
            f"{line.threshold:.3f}",
            line.how,
            f"{line.solutions}",
            percent(line.shares.wrong),
            percent(line.shares.right),
            with_bounds(line.f1),
        ]
        for line in report.first_errors
    ]
    return heads, rows


def to_csv(report: JudgeReport) -> str:
    """All figures in one long table."""
    rows: list[tuple[object, ...]] = [
        (f"AUC {line.what}", line.scores, *(map(exact, line.auc) if line.auc else ("", "", "")))
        for line in report.rankings
    ]
    for found in report.first_errors:
        rows.append((f"F1 {found.how}", found.solutions, *map(exact, found.f1)))
        rows.append((f"accuracy with an error {found.how}", found.solutions, exact(found.shares.wrong), "", ""))
        rows.append((f"accuracy without an error {found.how}", found.solutions, exact(found.shares.right), "", ""))
        rows.append((f"threshold {found.how}", found.solutions, exact(found.threshold), "", ""))
    if report.ece is not None:
        rows.append(("ECE", sum(each.size for each in report.bins), exact(report.ece), "", ""))
    rows += [
        (f"share right, scores {_range(each.low, each.high)}", each.size, exact(each.right / each.size), "", "")
        for each in report.bins
    ]
    return csv_table(["figure", "number", "value", "low", "high"], rows)


def _bounds(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _range(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}"


def _plain(value: Any) -> Any:
    """Named tuples as objects with their fields' names."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
