"""What the command line prints: tables for a terminal of 80 columns."""

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.open import available_engines
from decoding.models import EMBEDDED
from evals.estimators.coverage import FitOutcome
from evals.plan import Estimate
from evals.reports.compare import Comparison, PairComparison
from evals.reports.compare_text import FLIP_HEADS, cost_cells, curve_cells, flip_cells, pair_cells
from evals.reports.figures import METRICS
from evals.reports.flaws_output import describe as describe_flaws
from evals.reports.flaws_output import table as flaws_table
from evals.reports.flaws_report import FlawsReport
from evals.reports.markup import p_value, percent, with_bounds
from evals.reports.report import Report, describe
from reasoning.strategies import STRATEGIES
from verifiers.judges.catalogue import JUDGES

out = Console()


def print_report(report: Report, folder: Path) -> None:
    """The strategies, the curves over the pool, and what lies beyond it."""
    strategies = _table(report.title, "strategy")
    for head in ("right, % (95 %)", "samples", "tokens"):
        strategies.add_column(head, justify="right", no_wrap=True)
    for line in report.strategies:
        strategies.add_row(line.strategy, with_bounds(line.accuracy), f"{line.samples:.1f}", f"{line.tokens:.0f}")
    out.print(strategies)
    for name in ("timeouts", "errors"):
        if count := sum(getattr(line, name) for line in report.strategies):
            out.print(f"{name}: {count}; they count as not solved")
    by_k: dict[int, dict[str, str]] = {}
    for point in report.curves:
        # The last column has no room for bounds; report.md has them.
        text = percent(point.value.mean) if point.metric == METRICS[-1] else with_bounds(point.value)
        by_k.setdefault(point.k, {})[point.metric] = text
    if by_k:
        curves = _table(f"{report.pool_problems} problems x {report.pool_samples} samples, %", "k", *by_k[1])
        for k, cells in by_k.items():
            curves.add_row(str(k), *cells.values())
        out.print(curves)
    _print_beyond(report)
    print(f"tables and plots are in {folder}", file=sys.stderr)


def print_comparison(comparison: Comparison, flips: int) -> None:
    """Each pair's differences, its first `flips` problems that only one side solved, and the pools' curves."""
    for side, title in (("A", comparison.title_a), ("B", comparison.title_b)):
        out.print(f"{side}: {title}", markup=False, highlight=False)
    for note in comparison.notes:
        out.print(f"note: {note}", markup=False, highlight=False)
    costs = list(cost_cells(comparison.pairs))
    for pair, (_, _, *accuracy, _, _) in zip(comparison.pairs, pair_cells(comparison.pairs), strict=True):
        problems, right_a, right_b, difference = accuracy
        out.print(f"\nA: {pair.a}\nB: {pair.b}\n{problems} problems", style="bold", markup=False, highlight=False)
        table = Table("mean", "A", "B", "A - B (95 %)", box=box.SIMPLE_HEAD)
        table.add_row("right, %", right_a, right_b, difference)
        for _, _, *cells in [row for row in costs if row[:2] == [pair.a, pair.b]]:
            table.add_row(*cells)
        out.print(table)
        test = pair.test
        out.print(f"both right {test.both}, only A {test.only_a}, only B {test.only_b}, both wrong {test.neither}")
        out.print(f"McNemar's exact test: p = {p_value(test.p)}, mid-p = {p_value(test.mid_p)}")
        _print_flips(pair, flips)
    if comparison.curves:
        heads = ("figure", "k", "A, %", "B, %", "A - B (95 %)", "sign p")
        curves = _table(f"the pools, {comparison.pool_problems} problems", *heads)
        for cells in curve_cells(comparison):
            curves.add_row(*cells[:5], cells[7])
        out.print(curves)


def print_flaws(report: FlawsReport) -> None:
    """The table, the check's rates and the best number of attempts."""
    _, rows = flaws_table(report)
    heads = ("K", "right, %", "wrong, %", "false pos., %", "attempts", "value")
    out.print(f"{report.title}; check: {report.check}", style="bold", markup=False, highlight=False)
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        # Bounds find no room on a terminal; flaws.md has them.
        table.add_row(row[0], *(cell.partition(" ")[0] for cell in row[1:]))
    out.print(table)
    for line in describe_flaws(report):
        out.print(line, markup=False, highlight=False)


def print_estimate(estimate: Estimate, target: Path) -> None:
    """What a plan would cost."""
    likely = "unknown" if estimate.likely_tokens is None else f"{estimate.likely_tokens:,.0f}"
    seconds = "unknown" if estimate.seconds is None else f"{estimate.seconds:,.0f} s, and the engine's start"
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_row("results would go to", str(target))
    table.add_row("problems", f"{estimate.problems:,}")
    table.add_row("samples, at most", f"{estimate.samples:,}")
    table.add_row("prompt tokens, mean", f"{estimate.prompt_tokens:,}")
    table.add_row("generated tokens, at most", f"{estimate.most_tokens:,}")
    table.add_row("generated tokens, likely", likely)
    table.add_row("time, likely", seconds)
    table.add_row("estimated from", estimate.basis)
    out.print(table)


def print_models() -> None:
    """The embedded models, the judges, and which strategy runs on which engine."""
    models = Table(Column("model", no_wrap=True), "what it is", "licence", "size", box=box.SIMPLE_HEAD)
    for name, embedded in EMBEDDED.items():
        models.add_row(name, embedded.description, embedded.licence, embedded.size)
    out.print(models)
    _print_judges()
    usable = {"scripted", *available_engines()}  # the scripted engine needs no package
    heads = [name if name in usable else f"({name})" for name in CAPABILITIES]
    grid = Table(
        Column("strategy", no_wrap=True),
        *(Column(head, no_wrap=True) for head in heads),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name, strategy in STRATEGIES.items():
        grid.add_row(
            name, *("yes" if strategy.needs <= capabilities else "no" for capabilities in CAPABILITIES.values())
        )
    out.print(grid)
    if usable < set(CAPABILITIES):
        out.print("engines in brackets are not installed", markup=False)


def _print_judges() -> None:
    heads = ("judge", "role", "format", "weights", "")
    columns = (Column(head, no_wrap=True) for head in heads)
    judges = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for entry in JUDGES.values():
        weights = "embedded" if entry.embedded else "hub" if entry.model else "any"
        judges.add_row(entry.name, entry.role, entry.format, weights, "verified" if entry.verified else "unverified")
    out.print(judges)
    out.print("unverified: the format could not be checked on the judge's real tokenizer", markup=False)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _print_beyond(report: Report) -> None:
    shown = [fit for fit in report.beyond if fit.values]
    if shown:
        table = _table("coverage beyond the pool, extrapolated, %", "k", *(fit.name for fit in shown))
        for k, *values in zip(shown[0].ks, *(fit.values for fit in shown), strict=True):
            table.add_row(str(k), *map(with_bounds, values))
        out.print(table)
    for fit in report.beyond:
        if fit.law.outcome is not FitOutcome.FITTED:
            out.print(describe(fit), markup=False, highlight=False)


def _print_flips(pair: PairComparison, most: int) -> None:
    if not pair.flips or not most:
        return
    out.print(f"solved by one side only, {min(most, len(pair.flips))} of {len(pair.flips)}:")
    table = Table(*FLIP_HEADS, box=box.SIMPLE_HEAD)
    for cells in flip_cells(pair.flips[:most]):
        table.add_row(*map(escape, cells))
    out.print(table)
