"""Plots of how a judge does. The same figures give the same bytes, with one version of Matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from evals.estimators.intervals import wilson
from evals.estimators.judging import Bin
from evals.reports.plots import panels, save

SIZE = (4.6, 4.8)  # inches
COLOUR = "#1b6ca8"


def write_calibration(bins: Sequence[Bin], path: Path, title: str = "") -> list[Path]:
    """Write a reliability diagram as PNG and SVG: the share that was right against the score, bin by bin.

    Bars are 95 % intervals (Wilson) that take scores to be independent; the numbers are how many scores a bin holds.

    Args:
        bins: Of `evals.estimators.judging.calibration`.
        path: Where; its suffix is replaced by .png and .svg.
        title: Above the plot.
    """
    figure, (axes,) = panels(1, SIZE)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    shares = [wilson(each.right, each.size) for each in bins]
    reach = [[share.mean - share.low for share in shares], [share.high - share.mean for share in shares]]
    style = {"fmt": "o-", "color": COLOUR, "ms": 4, "capsize": 2, "linewidth": 1}
    axes.errorbar([each.score for each in bins], [share.mean for share in shares], yerr=reach, **style)
    for each, share in zip(bins, shares, strict=True):
        axes.annotate(
            f"{each.size:,}", (each.score, share.high), (0, 4), textcoords="offset points", ha="center", fontsize=7
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.08)
    axes.set_aspect("equal")
    axes.set_xlabel("score, mean of a bin")
    axes.set_ylabel("share that was right")
    axes.set_title(title, fontsize=10)
    return save(figure, path.with_suffix(""))
