"""The figures of resampling as Markdown, CSV and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decoding.errors import StoreError
from evals.estimators.intervals import Interval
from evals.reports.figures import powers
from evals.reports.flaws_report import NAMES, FlawsReport
from evals.reports.markup import csv_table, exact, markdown_table, with_bounds
from evals.reports.plots import band, panels, save


def to_markdown(report: FlawsReport) -> str:
    """The figures as Markdown."""
    lines = [
        f"# Resampling until accepted: {report.title}",
        "",
        f"{report.problems} problems x {report.samples} samples; check: {report.check}.",
        *describe(report),
    ]
    lines += ["", *markdown_table(*table(report)), ""]
    lines += ["Exact means over all orders of the pool; intervals, 95 %, are from a bootstrap over problems.", ""]
    return "\n".join(lines)


def describe(report: FlawsReport) -> list[str]:
    """The check's measured rates, the payoff and the best number of attempts, a sentence each."""
    right, wrong, cost = report.payoff
    best = report.best
    lines = [
        f"Payoff: {right:g} for an accepted right answer, {wrong:g} for an accepted wrong one, {cost:g} an attempt.",
        f"Best number of attempts, K*: {best.attempts} (95 % of resamples: {best.low} to {best.high}), "
        f"value {best.value.mean:.3f} ({best.value.low:.3f} to {best.value.high:.3f}).",
    ]
    if report.measured:
        completeness = f"Completeness, P(accept | right): {_rate(report.completeness)} %."
        lines.insert(0, f"{completeness} Soundness, P(refuse | wrong): {_rate(report.soundness)} %.")
    if best.edge > 0:
        lines.append(f"In {100 * best.edge:.0f} % of resamples the whole pool is best: more attempts may be better.")
    if report.failures:
        lines.append(f"{report.failures} samples stopped the check or ran past its time; they count as refused.")
    return lines


def table(report: FlawsReport) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table, at powers of two and at the best number of attempts."""
    heads = ["K", "accepted and right, %", "accepted and wrong, %", "false positives, %", "attempts", "value"]
    rows = []
    best = report.best.attempts
    for k in sorted({*powers(report.samples), *([best] if best else [])}):
        shares = [_rate(report.curves[name][k]) for name in NAMES[:3]]
        numbers = [_number(report.curves[name][k]) for name in NAMES[3:]]
        rows.append([f"{k} (best)" if k == best else str(k), *shares, *numbers])
    return heads, rows


def to_csv(report: FlawsReport) -> str:
    """All figures at all K in one long table."""
    rows: list[Sequence[object]] = []
    for name, rate in (("completeness", report.completeness), ("soundness", report.soundness)):
        rows.append([name, "", *(map(exact, rate) if rate else ("", "", ""))])
    rows.append(["best attempts", "", report.best.attempts, report.best.low, report.best.high])
    for name in NAMES:
        rows += [[name, k, *map(exact, value)] for k, value in enumerate(report.curves[name]) if value is not None]
    return csv_table(["figure", "k", "value", "low", "high"], rows)


def write_flaws(report: FlawsReport, folder: Path) -> None:
    """Write flaws.md, flaws.csv, flaws.png and flaws.svg; raises ``StoreError`` where that can't be."""
    try:
        (folder / "flaws.md").write_text(to_markdown(report))
        (folder / "flaws.csv").write_text(to_csv(report))
        save(_plot(report), folder / "flaws")
    except OSError as error:
        raise StoreError(f"the report can't be written to {folder}: {error.strerror or error}") from error


def _plot(report: FlawsReport) -> Any:
    figure, (shares, value) = panels(2, (9.0, 4.2), share_y=False)
    ks = list(range(1, report.samples + 1))
    styles = (("right", "#1b6ca8", "accepted and right"), ("wrong", "#d1495b", "accepted and wrong"))
    for name, colour, label in styles:
        band(shares, ks, [v for v in report.curves[name][1:] if v], colour, label, marker="")
    shares.set_ylabel("problems, %")
    shares.set_ylim(bottom=0)
    band(value, ks, [v for v in report.curves["value"][1:] if v], "#66a182", "", marker="", by=1)
    value.set_ylabel(f"value (right {report.payoff.right:g}, wrong {report.payoff.wrong:g})")
    if report.best.attempts:
        value.axvline(report.best.attempts, color="0.4", linestyle="--", label=f"K* = {report.best.attempts}")
        value.legend(frameon=False, fontsize=8)
    for axes in (shares, value):
        axes.set_xscale("log", base=2)
        axes.set_xticks(powers(report.samples), [str(k) for k in powers(report.samples)])
        axes.set_xlabel("attempts at most, K")
    shares.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{report.title}; check: {report.check}; bands 95 %", fontsize=10)
    return figure


def _rate(value: Interval | None) -> str:
    return "-" if value is None else with_bounds(value)


def _number(value: Interval | None) -> str:
    return "-" if value is None else f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"
