"""What the command line prints: tables for a terminal of 80 columns."""

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table

from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.open import available_engines
from decoding.models import EMBEDDED
from evals.metrics import Interval
from evals.plan import Estimate
from evals.report import Report, percent
from reasoning.strategies import STRATEGIES

out = Console()


def print_report(report: Report, folder: Path) -> None:
    """The strategies, and the curves over the pool."""
    strategies = _table(report.title, "strategy")
    for head in ("right, % (95 %)", "samples", "tokens"):
        strategies.add_column(head, justify="right", no_wrap=True)
    for line in report.strategies:
        strategies.add_row(line.strategy, _interval(line.accuracy), f"{line.samples:.1f}", f"{line.tokens:.0f}")
    out.print(strategies)
    by_k: dict[int, dict[str, str]] = {}
    for point in report.curves:
        by_k.setdefault(point.k, {})[point.metric] = _interval(point.value)
    if by_k:
        curves = _table(f"{report.pool_problems} problems x {report.pool_samples} samples, %", "k", *by_k[1])
        for k, cells in by_k.items():
            curves.add_row(str(k), *cells.values())
        out.print(curves)
    print(f"tables and plots are in {folder}", file=sys.stderr)


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
    """The embedded models, and which strategy runs on which engine."""
    models = Table(Column("model", no_wrap=True), "what it is", "licence", "size", box=box.SIMPLE_HEAD)
    for name, embedded in EMBEDDED.items():
        models.add_row(name, embedded.description, embedded.licence, embedded.size)
    out.print(models)
    usable = {"scripted", *available_engines()}  # the scripted engine needs no package
    heads = [name if name in usable else f"{name} (not installed)" for name in CAPABILITIES]
    grid = Table(Column("strategy", no_wrap=True), "needs", *heads, box=box.SIMPLE_HEAD)
    for name, strategy in STRATEGIES.items():
        runs = ["yes" if strategy.needs <= capabilities else "no" for capabilities in CAPABILITIES.values()]
        grid.add_row(name, ", ".join(sorted(strategy.needs)), *runs)
    out.print(grid)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _interval(value: Interval) -> str:
    mean, low, high = map(percent, value)
    return f"{mean} ({low} to {high})"
