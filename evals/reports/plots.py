"""Plots of a report. The same report gives the same bytes, with one version of Matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evals.estimators.coverage import FitOutcome
from evals.estimators.intervals import Interval
from evals.reports.report import CurvePoint, Report

SIZE = (7.0, 4.4)  # inches
PANEL = (4.3, 4.6)  # of the cost plot
COLOURS = {"coverage": "#1b6ca8", "majority": "#d1495b", "best_of_n": "#66a182", "pass^k": "#8d6a9f"}
LABELS = {
    "coverage": "coverage (pass@k)",
    "majority": "majority vote",
    "best_of_n": "best by mean log-probability",
    "pass^k": "all right (pass^k)",
}
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = {"power law": (0, (5, 2)), "beta-binomial": (0, (1, 1.5))}


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write curves.png and curves.svg (figures against samples), and cost.png and cost.svg (against what they cost)."""
    written: list[Path] = []
    if report.curves:
        written += save(_curves(report), folder / "curves")
    if report.curves or len(report.strategies) > 1:
        written += save(_costs(report), folder / "cost")
    return written


def _curves(report: Report) -> Any:
    figure, (axes,) = panels(1, SIZE)
    for metric, label in LABELS.items():
        points = [point for point in report.curves if point.metric == metric]
        band(axes, [p.k for p in points], [p.value for p in points], COLOURS[metric], label)
    measured = sorted({point.k for point in report.curves})
    ks = measured + _beyond(axes, report, measured[-1])
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks], minor=False)
    axes.set_xlabel("samples a problem, k")
    axes.set_ylabel("problems solved, %")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{report.title}\n{report.pool_problems} problems, bands 95 %", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _beyond(axes: Any, report: Report, depth: int) -> list[int]:
    """Draw what is extrapolated, dashed and paler; return its k. A fit on the edge of its family is not drawn."""
    fits = [fit for fit in report.beyond if fit.law.outcome is FitOutcome.FITTED and fit.values]
    last = next(point.value for point in report.curves if point.metric == "coverage" and point.k == depth)
    for fit in fits:
        mean, low, high = 100 * np.array([last, *fit.values]).T
        label = f"coverage, extrapolated: {fit.name}"
        axes.plot([depth, *fit.ks], mean, color=COLOURS["coverage"], linestyle=DASHES[fit.name], label=label)
        axes.fill_between([depth, *fit.ks], low, high, color=COLOURS["coverage"], alpha=0.06, linewidth=0)
    if fits:
        axes.axvline(depth, color="0.6", linewidth=0.8)
    return list(fits[0].ks) if fits else []


class CostAxis(NamedTuple):
    """One kind of cost to plot against."""

    label: str
    ticks: str
    of_sample: float
    of_strategies: Sequence[float]


def _costs(report: Report) -> Any:
    """Curves over the pool against the mean cost of k samples, strategies as points at what they cost themselves."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes_wanted = cost_axes(report)
    figure, rows = panels(len(axes_wanted), (PANEL[0] * len(axes_wanted), PANEL[1] + 0.5))
    for axes, wanted in zip(rows, axes_wanted, strict=True):
        for metric in ("coverage", "majority", "best_of_n") if report.curves else ():
            points: list[CurvePoint] = [point for point in report.curves if point.metric == metric]
            costs = [point.k * wanted.of_sample for point in points]
            band(axes, costs, [p.value for p in points], COLOURS[metric], LABELS[metric], marker="")
        for index, (line, cost) in enumerate(zip(report.strategies, wanted.of_strategies, strict=True)):
            value = 100 * line.accuracy.mean
            reach = [[value - 100 * line.accuracy.low], [100 * line.accuracy.high - value]]
            style = {"fmt": MARKERS[index % len(MARKERS)], "color": "0.2", "mfc": "white", "capsize": 2, "ms": 5}
            axes.errorbar([cost], [value], yerr=reach, label=line.strategy, linewidth=0.8, **style)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(wanted.ticks)
        axes.set_xlabel(wanted.label)
        axes.set_ylim(bottom=0)
    rows[0].set_ylabel("problems solved, %")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.suptitle(f"{report.title}; bands and bars 95 %", fontsize=10)
    columns = 2 if len(axes_wanted) == 1 else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def cost_axes(report: Report) -> list[CostAxis]:
    """The kinds of cost that a report knows, of a sample of the pool and of each strategy."""
    cost = report.cost
    tokens = [line.tokens for line in report.strategies]
    axes = [CostAxis("tokens decoded a problem", "{x:,.0f}", cost.tokens, tokens)]
    flops = [line.flops / 1e9 for line in report.strategies]
    if cost.flops is not None and all(flops):
        axes.append(CostAxis("GFLOPs a problem", "{x:,g}", cost.flops / 1e9, flops))
    if cost.seconds and cost.tokens:  # a run of less than a twentieth of a second has no pace
        pace = cost.seconds / cost.tokens
        label = "engine-seconds a problem\n(the run's wall time by tokens decoded)"
        axes.append(CostAxis(label, "{x:,g}", cost.seconds, [pace * count for count in tokens]))
    return axes


def band(
    axes: Any,
    x: Sequence[float],
    values: Sequence[Interval],
    colour: str,
    label: str,
    marker: str = "o",
    by: float = 100,
) -> None:
    """A line of means with a band between their bounds; shares times `by`."""
    mean, low, high = by * np.array(values).T
    axes.plot(x, mean, marker=marker, ms=4, color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def panels(count: int, size: tuple[float, float], share_y: bool = True) -> tuple[Any, Sequence[Any]]:
    """A figure with `count` axes side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, count, figsize=size, layout="constrained", sharey=share_y, squeeze=False)
    for axes in grid[0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure, list(grid[0])


def save(figure: Any, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG and close it."""
    import matplotlib
    from matplotlib import pyplot

    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "bethink"}):  # ids in the SVG are random without it
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return paths
