"""How figures are written: percent, intervals, Markdown and CSV tables. The same figures give the same bytes."""

import csv
import io
from collections.abc import Iterable, Sequence

from evals.estimators.intervals import Interval


def percent(share: float) -> str:
    """A share in percent, with one decimal; never "-0.0", which rounding errors would give."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def between(interval: Interval) -> str:
    """Where a share lies, in percent."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def with_bounds(interval: Interval) -> str:
    """A share and where it lies, in percent."""
    return f"{percent(interval.mean)} ({between(interval)})"


def exact(number: float) -> str:
    """A number with six decimals, for CSV."""
    return f"{round(number, 6) + 0.0:.6f}"


def p_value(p: float) -> str:
    """A p-value with three digits."""
    return f"{p:.3g}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines. Bars within cells are escaped."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def csv_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()
