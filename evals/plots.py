"""Plots of a report. The same report gives the same bytes, with one version of Matplotlib."""

from pathlib import Path
from typing import Any

from evals.report import METRICS, Report

SIZE = (7.0, 4.4)  # inches
COLOURS = {"coverage": "#1b6ca8", "majority": "#d1495b", "best_of_n": "#66a182"}
LABELS = {"coverage": "coverage (pass@k)", "majority": "majority vote", "best_of_n": "best by mean log-probability"}
MARKERS = ("o", "s", "^", "D", "v", "P")


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write curves.png, curves.svg (accuracy against samples) and, with two strategies or more, cost.png, cost.svg."""
    written: list[Path] = []
    if report.curves:
        written += _write(_curves(report), folder / "curves")
    if len(report.strategies) > 1:
        written += _write(_cost(report), folder / "cost")
    return written


def _curves(report: Report) -> Any:
    figure, axes = _axes()
    for metric in METRICS:
        points = [point for point in report.curves if point.metric == metric]
        ks = [point.k for point in points]
        axes.plot(ks, [100 * p.value.mean for p in points], "o-", ms=4, color=COLOURS[metric], label=LABELS[metric])
        axes.fill_between(
            ks,
            [100 * p.value.low for p in points],
            [100 * p.value.high for p in points],
            color=COLOURS[metric],
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_xlabel("samples a problem, k")
    axes.set_ylabel("problems solved, %")
    axes.set_title(f"{report.title}\n{report.pool_problems} problems, bands 95 %", fontsize=10)
    axes.legend(frameon=False)
    return figure


def _cost(report: Report) -> Any:
    figure, axes = _axes()
    for index, line in enumerate(report.strategies):
        value = 100 * line.accuracy.mean
        reach = [[value - 100 * line.accuracy.low], [100 * line.accuracy.high - value]]
        marker = MARKERS[index % len(MARKERS)]
        axes.errorbar([line.tokens], [value], yerr=reach, fmt=marker, capsize=3, label=line.strategy)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.set_xlabel("tokens decoded a problem")
    axes.set_ylabel("problems solved, %")
    axes.set_title(f"{report.title}\nbars 95 %", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _axes() -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _write(figure: Any, stem: Path) -> list[Path]:
    import matplotlib
    from matplotlib import pyplot

    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "bethink"}):  # ids in the SVG are random without it
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return paths
