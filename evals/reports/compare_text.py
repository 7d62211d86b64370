"""A comparison as Markdown and as CSV."""

from collections.abc import Iterator, Sequence

from evals.estimators.intervals import Interval
from evals.reports.compare import Comparison, Flip, PairComparison
from evals.reports.markup import csv_table, exact, markdown_table, p_value, percent

PAIR_HEADS = ["A", "B", "problems", "A right, %", "B right, %", "A - B, points (95 %)", "McNemar p", "mid-p"]
SPLIT_HEADS = ["A", "B", "both right", "only A", "only B", "both wrong"]
COST_HEADS = ["A", "B", "mean a problem", "of A", "of B", "A - B (95 %)"]
CURVE_HEADS = ["figure", "k", "A, %", "B, %", "A - B, points (95 %)", "A better on", "B better on", "sign test p"]
FLIP_HEADS = ["problem", "right is", "answer of A", "outcome", "answer of B", "outcome"]


def to_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [
        f"# A: {comparison.title_a}",
        f"# B: {comparison.title_b}",
        "",
        *comparison.notes,
        *([""] if comparison.notes else []),
    ]
    lines += [*markdown_table(PAIR_HEADS, pair_cells(comparison.pairs))]
    lines += ["", *markdown_table(SPLIT_HEADS, split_cells(comparison.pairs))]
    lines += ["", *markdown_table(COST_HEADS, cost_cells(comparison.pairs)), ""]
    lines += ["Intervals are from a paired bootstrap over problems; p-values are exact and two-sided.", ""]
    if comparison.curves:
        lines += [f"## The pools, {comparison.pool_problems} problems", ""]
        lines += [*markdown_table(CURVE_HEADS, curve_cells(comparison)), ""]
    for pair in comparison.pairs:
        if pair.flips:
            lines += [f"## Solved by one of {pair.a} (A) and {pair.b} (B): {len(pair.flips)} problems", ""]
            lines += [*markdown_table(FLIP_HEADS, flip_cells(pair.flips)), ""]
    return "\n".join(lines)


def to_csv(comparison: Comparison) -> str:
    """All figures and all flips in one long table."""
    rows: list[Sequence[object]] = []
    for pair in comparison.pairs:
        names, test = (pair.a, pair.b), pair.test
        difference = tuple(map(exact, pair.difference))
        rows.append(("accuracy", *names, "", exact(pair.accuracy_a), exact(pair.accuracy_b), *difference))
        rows += [
            ("mcnemar p", *names, "", "", "", f"{test.p:.6g}"),
            ("mcnemar mid-p", *names, "", "", "", f"{test.mid_p:.6g}"),
        ]
        counts = (("both right", test.both), ("only A right", test.only_a), ("only B right", test.only_b))
        rows += [(what, *names, "", "", "", count) for what, count in (*counts, ("both wrong", test.neither))]
        rows += [
            (c.what, *names, "", f"{c.a:.6g}", f"{c.b:.6g}", *(f"{v:.6g}" for v in c.difference)) for c in pair.costs
        ]
        rows += [
            ("flip", *names, f.problem, f"{f.outcome_a}: {f.answer_a}", f"{f.outcome_b}: {f.answer_b}")
            for f in pair.flips
        ]
    for curve in comparison.curves:
        values = (exact(curve.a), exact(curve.b), *map(exact, curve.difference))
        rows.append((f"pool {curve.metric}", "", "", curve.k, *values))
        rows.append((f"pool {curve.metric}, sign test p", "", "", curve.k, "", "", f"{curve.test.p:.6g}"))
    heads = ["figure", "A", "B", "k or problem", "of A", "of B", "A - B", "low", "high"]
    return csv_table(heads, ([*row, *[""] * (len(heads) - len(row))] for row in rows))


def pair_cells(pairs: Sequence[PairComparison]) -> Iterator[list[str]]:
    """Of `PAIR_HEADS`."""
    for pair in pairs:
        accuracies = (percent(pair.accuracy_a), percent(pair.accuracy_b))
        ps = (p_value(pair.test.p), p_value(pair.test.mid_p))
        yield [pair.a, pair.b, str(pair.problems), *accuracies, _points(pair.difference), *ps]


def split_cells(pairs: Sequence[PairComparison]) -> Iterator[list[str]]:
    """Of `SPLIT_HEADS`."""
    for pair in pairs:
        test = pair.test
        yield [pair.a, pair.b, *map(str, (test.both, test.only_a, test.only_b, test.neither))]


def cost_cells(pairs: Sequence[PairComparison]) -> Iterator[list[str]]:
    """Of `COST_HEADS`."""
    for pair in pairs:
        for cost in pair.costs:
            scale, what = (1e9, "GFLOPs") if cost.what == "flops" else (1.0, cost.what)
            a, b, mean, low, high = (f"{value / scale:,.4g}" for value in (cost.a, cost.b, *cost.difference))
            yield [pair.a, pair.b, what, a, b, f"{mean} ({low} to {high})"]


def curve_cells(comparison: Comparison) -> Iterator[list[str]]:
    """Of `CURVE_HEADS`."""
    for curve in comparison.curves:
        sides = (percent(curve.a), percent(curve.b), _points(curve.difference))
        test = curve.test
        yield [curve.metric, str(curve.k), *sides, str(test.a_higher), str(test.b_higher), p_value(test.p)]


def flip_cells(flips: Sequence[Flip]) -> Iterator[list[str]]:
    """Of `FLIP_HEADS`."""
    for flip in flips:
        side = "A" if flip.outcome_a == "correct" else "B"
        answers = [_answer(answer) for answer in (flip.answer_a, flip.answer_b)]
        yield [flip.problem, side, answers[0], flip.outcome_a, answers[1], flip.outcome_b]


def _points(difference: Interval) -> str:
    mean, low, high = (f"{round(100 * value, 1) + 0.0:+.1f}" for value in difference)
    return f"{mean} ({low} to {high})"


def _answer(answer: str | None) -> str:
    """One line of at most 60 characters."""
    if answer is None:
        return "none"
    line = " ".join(answer.split())
    return line if len(line) <= 60 else line[:57] + "..."
