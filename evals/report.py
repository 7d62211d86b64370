"""What a results folder shows: a table of strategies, curves over the pool of samples, plots.

Everything is computed from the rows, with intervals by bootstrap over problems, and the same rows give the same bytes.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import BethinkError, StoreError
from evals.metrics import Interval, best_of_n_at_k, bootstrap_curves, maj_at_k, pass_at_k, wilson
from evals.store import Row, read_config, read_rows
from reasoning.strategies import spell_short

LEVEL = 0.95
METRICS = ("coverage", "majority", "best_of_n")


class StrategyLine(NamedTuple):
    """One strategy's row of the table."""

    strategy: str
    problems: int
    accuracy: Interval  # Wilson
    no_answer: int  # problems
    errors: int  # problems; they count as not solved
    samples: float  # a problem
    tokens: float  # decoded, a problem
    flops: float  # a problem


class CurvePoint(NamedTuple):
    """A figure of the pool at k samples a problem."""

    metric: str
    k: int
    value: Interval  # bootstrap over problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All figures of a run."""

    title: str
    strategies: Sequence[StrategyLine]
    curves: Sequence[CurvePoint]
    pool_problems: int
    pool_samples: int  # a problem
    tokens_a_sample: float
    truncated: float  # share of samples that ran into max_tokens
    unanswered: float  # share of samples that give no answer


def make_report(folder: Path) -> Report:
    """Compute a folder's figures. Raises ``StoreError`` if there is nothing in it yet."""
    config = read_config(folder)["config"]
    results = {(row["strategy"], row["problem"]): row for row in read_rows(folder, "results")}
    pool = _pool(folder)
    if not results and not pool:
        raise StoreError(f"{folder} holds no results yet: run `bethink eval` on it first")
    depth = min((len(samples) for samples in pool.values()), default=0)
    rows = [row for samples in pool.values() for row in samples]
    return Report(
        title=f"{config['task']}, {config['model']}, temperature {config['sampling']['temperature']:g}",
        strategies=_strategy_lines(results.values()),
        curves=_curves([samples[:depth] for samples in pool.values()], depth),
        pool_problems=len(pool),
        pool_samples=depth,
        tokens_a_sample=_mean(len(row["token_ids"]) for row in rows),
        truncated=_mean(row["finish_reason"] == "length" for row in rows),
        unanswered=_mean(row["answer"] is None for row in rows),
    )


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"# {report.title}", ""]
    lines += [
        "| strategy | problems | right, % | 95 % | no answer | errors | samples | tokens | GFLOPs |",
        "|" + "---|" * 9,
    ]
    for line in report.strategies:
        lines.append(
            f"| {line.strategy} | {line.problems} | {percent(line.accuracy.mean)} | {_range(line.accuracy)} "
            f"| {line.no_answer} | {line.errors} | {line.samples:.1f} | {line.tokens:.0f} | {line.flops / 1e9:.3g} |"
        )
    lines += ["", "Samples, tokens and FLOPs are means a problem; intervals are Wilson's.", ""]
    if report.curves:
        lines += [f"## The pool: {report.pool_problems} problems x {report.pool_samples} samples", ""]
        lines += ["| k | " + " | ".join(f"{metric}, % | 95 %" for metric in METRICS) + " |", "|" + "---|" * 7]
        for k in sorted({point.k for point in report.curves}):
            points = {point.metric: point.value for point in report.curves if point.k == k}
            cells = " | ".join(f"{percent(points[m].mean)} | {_range(points[m])}" for m in METRICS)
            lines.append(f"| {k} | {cells} |")
        lines += [
            "",
            "Coverage is unbiased pass@k; majority and best-of-n (by mean log-probability) are exact means over all "
            "k-subsets of the pool, ties shared evenly; intervals are from a bootstrap over problems.",
            f"A sample has {report.tokens_a_sample:.1f} tokens; {percent(report.truncated)} % ran into the limit, "
            f"{percent(report.unanswered)} % give no answer.",
            "",
        ]
    return "\n".join(lines)


def to_csv(report: Report) -> str:
    """All figures in one long table: what, at which k, value, low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "k", "value", "low", "high"])
    for line in report.strategies:
        writer.writerow([f"accuracy {line.strategy}", "", *map(_short, line.accuracy)])
        writer.writerow([f"samples {line.strategy}", "", _short(line.samples), "", ""])
        writer.writerow([f"tokens {line.strategy}", "", _short(line.tokens), "", ""])
        writer.writerow([f"flops {line.strategy}", "", f"{line.flops:.6g}", "", ""])
    for point in report.curves:
        writer.writerow([point.metric, point.k, *map(_short, point.value)])
    return out.getvalue()


def powers(depth: int) -> list[int]:
    """1, 2, 4, ... and the depth itself."""
    ks = [2**i for i in range(depth.bit_length()) if 2**i <= depth]
    return ks if not ks or ks[-1] == depth else [*ks, depth]


def _pool(folder: Path) -> dict[str, list[Row]]:
    """Judged samples by problem, in slot order: sample rows with the answer and outcome of their grades."""
    grades = {(row["problem"], row["slot"]): row for row in read_rows(folder, "grades")}
    pool: dict[str, dict[int, Row]] = {}
    for row in read_rows(folder, "samples"):
        grade = grades.get((row["problem"], row["slot"]))
        if grade is not None:
            joined = {**row, "answer": grade["answer"], "outcome": grade["outcome"]}
            pool.setdefault(row["problem"], {}).setdefault(row["slot"], joined)
    # Curves need slots 0, 1, 2, ... without a gap: a strategy that stops early leaves the others to chance.
    return {problem: _without_gap(slots) for problem, slots in sorted(pool.items()) if 0 in slots}


def _without_gap(slots: dict[int, Row]) -> list[Row]:
    return [slots[slot] for slot in range(next(i for i in range(len(slots) + 1) if i not in slots))]


def _strategy_lines(rows: Iterable[Row]) -> list[StrategyLine]:
    by_strategy: dict[str, list[Row]] = {}
    for row in rows:
        by_strategy.setdefault(row["strategy"], []).append(row)
    return [
        StrategyLine(
            strategy=_short_name(strategy),
            problems=len(rows),
            accuracy=wilson(sum(row["outcome"] == "correct" for row in rows), len(rows), level=LEVEL),
            no_answer=sum(row["outcome"] == "no_answer" for row in rows),
            errors=sum(row["outcome"] == "error" for row in rows),
            samples=_mean(row["samples"] for row in rows),
            tokens=_mean(_decoded(row["usage"]) for row in rows),
            flops=_mean(row["usage"].get("flops", 0.0) for row in rows),
        )
        for strategy, rows in by_strategy.items()
    ]


def _curves(pool: Sequence[Sequence[Row]], depth: int) -> list[CurvePoint]:
    ks = powers(depth)
    if not ks:
        return []
    points: list[CurvePoint] = []
    for metric in METRICS:
        values = np.array([[_figure(metric, samples, k) for k in ks] for samples in pool])
        intervals = bootstrap_curves(values, level=LEVEL, seed=0)
        points += [CurvePoint(metric, k, interval) for k, interval in zip(ks, intervals, strict=True)]
    return points


def _figure(metric: str, samples: Sequence[Row], k: int) -> float:
    """One problem's figure at k samples."""
    correct = [row["outcome"] == "correct" for row in samples]
    if metric == "coverage":
        return pass_at_k(len(samples), sum(correct), k)
    if metric == "majority":
        counts = Counter(row["answer"] for row in samples if row["answer"] is not None)
        answers = list(counts)
        right = next((row["answer"] for row, good in zip(samples, correct, strict=True) if good), None)
        abstentions = len(samples) - counts.total()
        index = None if right is None else answers.index(right)
        return maj_at_k([counts[a] for a in answers], index, k, abstentions=abstentions)
    # A sample without an answer is not eligible; it is given the lowest of all scores.
    scores = [_score(row) if row["answer"] is not None else -np.inf for row in samples]
    return best_of_n_at_k(scores, correct, k)


def _score(row: Row) -> float:
    return -np.inf if row["logprob"] is None else row["logprob"] / max(1, len(row["token_ids"]))


def _decoded(usage: Row) -> int:
    return sum(usage.get(column, 0) for column in ("generated_tokens", "overrun_tokens", "aborted_tokens"))


def _mean(values: Iterable[float]) -> float:
    array: npt.NDArray[np.float64] = np.fromiter(values, dtype=np.float64)
    return float(array.mean()) if array.size else 0.0


def _short_name(strategy: str) -> str:
    """The short spelling, or the text itself where this bethink knows no such strategy."""
    try:
        return spell_short(strategy)
    except BethinkError:
        return strategy


def percent(share: float) -> str:
    """A share in percent, with one decimal; never "-0.0", which rounding errors would give."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _range(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _short(number: float) -> str:
    return f"{number:.6f}"
