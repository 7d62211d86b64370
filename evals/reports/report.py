"""What a results folder shows: a table of strategies, curves over the pool of samples, what lies beyond the pool.

Everything is computed from the rows, with intervals by bootstrap over problems, and the same rows give the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import BethinkError, StoreError
from evals.estimators.coverage import RESAMPLES, Extrapolation, FitOutcome, extrapolate
from evals.estimators.intervals import Interval, bootstrap_curves, wilson
from evals.estimators.judging import FirstErrors, f1_interval, f1_of_hits
from evals.reports.costs import SampleCost, SearchCost, decoded, sample_cost, search_cost
from evals.reports.figures import METRICS, Pool, figure_table, is_right, pool_depth, powers, read_pool, right_counts
from evals.reports.markup import between, csv_table, exact, markdown_table, percent, with_bounds
from evals.store import Row, read_config, read_rows
from evals.tasks.processbench import HAS_ERROR, NO_ERROR
from reasoning.strategies import spell_short

LEVEL = 0.95


class StrategyLine(NamedTuple):
    """One strategy's row of the table."""

    strategy: str
    problems: int
    accuracy: Interval  # Wilson
    no_answer: int  # problems
    timeouts: int  # problems whose answer could not be judged in time; they count as not solved
    errors: int  # problems; they count as not solved
    samples: float  # a problem
    tokens: float  # decoded, a problem
    flops: float  # a problem
    first_errors: tuple[FirstErrors, Interval] | None = None  # of ProcessBench, and F1's interval (bootstrap)
    scored: float = 0.0  # tokens that judges read, a problem
    search: SearchCost | None = None  # of strategies that search by steps


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
    beyond: Sequence[Extrapolation]  # coverage at more samples than were drawn
    pool_problems: int
    pool_samples: int  # a problem
    cost: SampleCost
    tokens_a_sample: float
    truncated: float  # share of samples that ran into max_tokens
    unanswered: float  # share of samples that give no answer


def make_report(folder: Path) -> Report:
    """Compute a folder's figures. Raises ``StoreError`` if there is nothing in it yet."""
    config = read_config(folder)["config"]
    results = read_results(folder)
    pool = read_pool(folder)
    if not results and not pool:
        raise StoreError(f"{folder} holds no results yet: run `bethink eval` on it first")
    depth = pool_depth(pool)
    rows = [row for samples in pool.values() for row in samples]
    return Report(
        title=title(config),
        strategies=_strategy_lines(results.values()),
        curves=_curves(pool, depth),
        beyond=extrapolate(depth, right_counts(pool, depth)) if depth else (),
        pool_problems=len(pool),
        pool_samples=depth,
        cost=sample_cost(folder, pool, depth, results.values()),
        tokens_a_sample=_mean(len(row["token_ids"]) for row in rows),
        truncated=_mean(row["finish_reason"] == "length" for row in rows),
        unanswered=_mean(row["answer"] is None for row in rows),
    )


def read_results(folder: Path) -> dict[tuple[str, str], Row]:
    """The latest result of each (strategy, problem)."""
    return {(row["strategy"], row["problem"]): row for row in read_rows(folder, "results")}


def title(config: Row) -> str:
    """A run in a few words."""
    judges = [f"{role} {judge['name']}" for role, judge in config.get("judges", {}).items() if judge.get("oracle")]
    knows = f"; the judge knows the truth ({', '.join(judges)})" if judges else ""
    return f"{config['task']}, {config['model']}, temperature {config['sampling']['temperature']:g}{knows}"


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    heads = [
        "strategy",
        "problems",
        "right, %",
        "95 %",
        "no answer",
        "timeouts",
        "errors",
        "samples",
        "tokens",
        "GFLOPs",
    ]
    lines = [f"# {report.title}", "", *markdown_table(heads, _strategy_cells(report.strategies))]
    lines += ["", "Samples, tokens and FLOPs are means a problem; intervals are Wilson's.", ""]
    lines += _first_error_lines(report.strategies)
    lines += _search_lines(report.strategies)
    if report.curves:
        lines += [f"## The pool: {report.pool_problems} problems x {report.pool_samples} samples", ""]
        heads = ["k", *(head for metric in METRICS for head in (f"{metric}, %", "95 %"))]
        lines += markdown_table(heads, _curve_cells(report.curves))
        lines += [
            "",
            "Coverage is unbiased pass@k; majority and best-of-n (by mean log-probability) are exact means over all "
            "k-subsets of the pool, ties shared evenly; pass^k is the chance that all k are right; intervals are from "
            "a bootstrap over problems.",
            f"A sample has {report.tokens_a_sample:.1f} tokens; {percent(report.truncated)} % ran into the limit, "
            f"{percent(report.unanswered)} % give no answer.",
            "",
        ]
    if report.beyond:
        lines += _beyond_markdown(report.beyond)
    return "\n".join(lines)


def to_csv(report: Report) -> str:
    """All figures in one long table: what, at which k, value, low, high."""
    rows: list[tuple[object, ...]] = []
    for line in report.strategies:
        rows.append((f"accuracy {line.strategy}", "", *map(exact, line.accuracy)))
        rows.append((f"samples {line.strategy}", "", exact(line.samples), "", ""))
        rows.append((f"tokens {line.strategy}", "", exact(line.tokens), "", ""))
        rows.append((f"flops {line.strategy}", "", f"{line.flops:.6g}", "", ""))
        for what, count in (("no_answer", line.no_answer), ("timeouts", line.timeouts), ("errors", line.errors)):
            rows.append((f"{what} {line.strategy}", "", count, "", ""))
        if line.search is not None:
            costs = {"scored tokens": line.scored, **line.search._asdict()}
            known = {what: cost for what, cost in costs.items() if cost is not None}
            rows += [(f"{what} {line.strategy}", "", exact(cost), "", "") for what, cost in known.items()]
        if line.first_errors is not None:
            shares, f1 = line.first_errors
            rows.append((f"F1 {line.strategy}", "", *map(exact, f1)))
            rows.append((f"accuracy with an error {line.strategy}", "", exact(shares.wrong), "", ""))
            rows.append((f"accuracy without an error {line.strategy}", "", exact(shares.right), "", ""))
    rows += [(point.metric, point.k, *map(exact, point.value)) for point in report.curves]
    for fit in report.beyond:
        name = f"coverage, extrapolated by {fit.name}"
        # Four decimals: optimisers of other versions stop elsewhere, further down.
        rows += [
            (name, k, *(f"{number:.4f}" for number in value)) for k, value in zip(fit.ks, fit.values, strict=False)
        ]
    return csv_table(["figure", "k", "value", "low", "high"], rows)


def describe(fit: Extrapolation) -> str:
    """A fit's outcome and parameters in words."""
    lost = f"; {fit.lost} of {RESAMPLES} resamples could not be fitted" if fit.lost else ""
    law = fit.law
    if not fit.values:
        return f"{fit.name}: not fitted, {law.outcome}"
    names = zip(law._fields[1:], law[1:], strict=True)
    parameters = ", ".join(f"{name} = {value:.4g}" for name, value in names)
    edge = f" ({law.outcome}: the data don't determine it)" if law.outcome is FitOutcome.BOUNDARY else ""
    return f"{fit.name}: {parameters}{edge}{lost}"


def _strategy_cells(lines: Iterable[StrategyLine]) -> Iterator[list[str]]:
    for line in lines:
        counts = map(str, (line.no_answer, line.timeouts, line.errors))
        costs = (f"{line.samples:.1f}", f"{line.tokens:.0f}", f"{line.flops / 1e9:.3g}")
        accuracy = (percent(line.accuracy.mean), between(line.accuracy))
        yield [line.strategy, str(line.problems), *accuracy, *counts, *costs]


def _first_error_lines(lines: Sequence[StrategyLine]) -> list[str]:
    """ProcessBench's figures, where a line has them."""
    known = [(line.strategy, *line.first_errors) for line in lines if line.first_errors is not None]
    if not known:
        return []
    heads = ["strategy", "F1, %", "95 %", "with an error, %", "without, %"]
    rows = [[name, percent(f1.mean), between(f1), percent(s.wrong), percent(s.right)] for name, s, f1 in known]
    what = (
        "F1 is the harmonic mean of the accuracies on solutions with an error and without one, as ProcessBench has it"
    )
    return ["## First wrong step", "", *markdown_table(heads, rows), "", f"{what}; its intervals are bootstrapped.", ""]


def _search_lines(lines: Sequence[StrategyLine]) -> list[str]:
    """What the strategies cost in tokens and in cache, where one of them is a search."""
    if all(line.search is None for line in lines):
        return []
    heads = ["strategy", "tokens generated", "tokens scored", "steps", "cache before selections", "after"]
    rows = []
    for line in lines:
        cells = ["-" if cost is None else f"{cost:.0f}" for cost in line.search or (None, None, None)]
        rows.append([line.strategy, f"{line.tokens:.0f}", f"{line.scored:.0f}", *cells])
    what = (
        "Means a problem. Cache: tokens of all prefixes that a search holds, equal beginnings and the prompt once, "
        "summed over its selections"
    )
    return ["## Searches", "", *markdown_table(heads, rows), "", f"{what}.", ""]


def _curve_cells(curves: Iterable[CurvePoint]) -> Iterator[list[str]]:
    values = {(point.k, point.metric): point.value for point in curves}
    for k in sorted({k for k, _ in values}):
        row = [values[k, metric] for metric in METRICS]
        yield [str(k), *(cell for value in row for cell in (percent(value.mean), between(value)))]


def _beyond_markdown(fits: Sequence[Extrapolation]) -> list[str]:
    lines = ["## Coverage beyond the pool, extrapolated", ""]
    shown = [fit for fit in fits if fit.values]
    if shown:
        heads = ["k", *(f"{fit.name}, %" for fit in shown)]
        rows = zip(shown[0].ks, *(fit.values for fit in shown), strict=True)
        lines += markdown_table(heads, ([str(k), *map(with_bounds, values)] for k, *values in rows))
        lines += [
            "",
            "Not measured: laws fitted to the pool. The intervals, from a bootstrap over problems, hold only if the "
            "law does.",
            "",
        ]
    return [*lines, *(f"- {describe(fit)}" for fit in fits), ""]


def _strategy_lines(rows: Iterable[Row]) -> list[StrategyLine]:
    by_strategy: dict[str, list[Row]] = {}
    for row in rows:
        by_strategy.setdefault(row["strategy"], []).append(row)
    return [
        StrategyLine(
            strategy=short_name(strategy),
            problems=len(rows),
            accuracy=wilson(sum(map(is_right, rows)), len(rows), level=LEVEL),
            no_answer=sum(row["outcome"] == "no_answer" for row in rows),
            timeouts=sum(row["outcome"] == "timeout" for row in rows),
            errors=sum(row["outcome"] == "error" for row in rows),
            samples=_mean(row["samples"] for row in rows),
            tokens=_mean(decoded(row["usage"]) for row in rows),
            flops=_mean(row["usage"].get("flops", 0.0) for row in rows),
            first_errors=_first_errors(rows),
            scored=_mean(row["usage"].get("scored_tokens", 0) for row in rows),
            search=search_cost(rows),
        )
        for strategy, rows in by_strategy.items()
    ]


def _first_errors(rows: Sequence[Row]) -> tuple[FirstErrors, Interval] | None:
    """ProcessBench's figures; None of other tasks, and where errors hide of which kind a solution is."""
    rules = {row.get("rule") for row in rows}
    if rules != {HAS_ERROR, NO_ERROR}:
        return None
    hits, clean = [is_right(row) for row in rows], [row["rule"] == NO_ERROR for row in rows]
    return f1_of_hits(hits, clean), f1_interval(hits, clean)


def _curves(pool: Pool, depth: int) -> list[CurvePoint]:
    ks = powers(depth)
    points: list[CurvePoint] = []
    for metric in METRICS if ks else ():
        intervals = bootstrap_curves(figure_table(metric, pool, depth, ks), level=LEVEL, seed=0)
        points += [CurvePoint(metric, k, interval) for k, interval in zip(ks, intervals, strict=True)]
    return points


def _mean(values: Iterable[float]) -> float:
    array: npt.NDArray[np.float64] = np.fromiter(values, dtype=np.float64)
    return float(array.mean()) if array.size else 0.0


def short_name(strategy: str) -> str:
    """The short spelling, or the text itself where this bethink knows no such strategy."""
    try:
        return spell_short(strategy)
    except BethinkError:
        return strategy
