"""Two runs over the same problems, or two strategies of one run: what differs, by how much, and at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from decoding.errors import ConfigError
from evals.estimators.intervals import Interval
from evals.estimators.paired import McNemar, SignTest, mcnemar, paired_bootstrap, paired_curves, sign_test
from evals.reports.costs import decoded
from evals.reports.figures import figure_table, is_right, pool_depth, powers, read_pool
from evals.reports.report import short_name, title
from evals.reports.sides import Side, open_side, pairs_of
from evals.store import Row

POOL_METRICS = ("coverage", "majority")


class Flip(NamedTuple):
    """A problem that one side solved and the other did not."""

    problem: str
    answer_a: str | None
    outcome_a: str
    answer_b: str | None
    outcome_b: str


class Cost(NamedTuple):
    """Means a problem."""

    what: str
    a: float
    b: float
    difference: Interval  # a - b, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class PairComparison:
    """Two strategies on the same problems."""

    a: str
    b: str
    problems: int
    accuracy_a: float
    accuracy_b: float
    difference: Interval  # a - b, paired bootstrap
    test: McNemar
    costs: Sequence[Cost]
    flips: Sequence[Flip]


class CurveComparison(NamedTuple):
    """A figure of two pools at the same k, on the same problems."""

    metric: str
    k: int
    a: float
    b: float
    difference: Interval  # a - b, paired bootstrap
    test: SignTest


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All differences between two sides."""

    title_a: str
    title_b: str
    notes: Sequence[str]  # what the reader has to know
    pairs: Sequence[PairComparison]
    curves: Sequence[CurveComparison]  # of two folders' pools; none where both sides are one folder
    pool_problems: int


def compare(sides: Sequence[str], strategies: Sequence[str] = (), *, common: bool = False) -> Comparison:
    """Compare two folders, or strategies of one.

    Args:
        sides: One or two of ``folder`` or ``folder:strategy``.
        strategies: Those to compare, where the sides name none: of two folders the same in both, of one folder each
            with each other. None: all that can be compared.
        common: Take the problems that both sides have, where they differ.

    Raises:
        ConfigError: The sides can't be compared: no such strategy, other problems, nothing named twice.
        StoreError: A folder can't be read or holds no results.
    """
    if not 1 <= len(sides) <= 2:
        raise ConfigError(f"compare takes two results folders, or one with several strategies; got {len(sides)}")
    first, *rest = [open_side(text) for text in sides]
    second = rest[0] if rest else first
    same = first.folder.resolve() == second.folder.resolve()
    notes = [] if same else _require_same_task(first, second, common)
    chosen = pairs_of(first, second, strategies, same=same, alone=not rest)
    pairs = []
    for name_a, name_b in chosen:
        a, b = first.results[name_a], second.results[name_b]
        problems, note = _problems(a, b, common)
        notes += [note] if note and note not in notes else []
        pairs.append(_compare_pair(name_a, name_b, [a[p] for p in problems], [b[p] for p in problems]))
    curves, pool_problems = ([], 0) if same else _compare_pools(first.folder, second.folder)
    return Comparison(
        title_a=f"{first.folder.name} ({title(first.config)})",
        title_b=f"{second.folder.name} ({title(second.config)})",
        notes=notes,
        pairs=pairs,
        curves=curves,
        pool_problems=pool_problems,
    )


def _require_same_task(a: Side, b: Side, common: bool) -> list[str]:
    """Refuse folders over different problems; a note where they are taken as far as they are the same."""
    settings_a, settings_b = a.config, b.config
    if settings_a["task"] != settings_b["task"]:
        raise ConfigError(f"{a.folder} is over {settings_a['task']} and {b.folder} over {settings_b['task']}")
    if settings_a.get("data") == settings_b.get("data"):
        return []
    sources = settings_a.get("source"), settings_b.get("source")
    if sources[0] != sources[1] and all(str(source).startswith("generated") for source in sources):
        raise ConfigError(f"the problems were generated otherwise and have only their ids in common: {sources}")
    if not common:
        raise ConfigError(
            f"{a.folder} and {b.folder} are over different problems of {settings_a['task']}: --common compares those "
            "that both have"
        )
    return ["The folders' data differ; problems with equal ids are taken to be the same."]


def _problems(a: Mapping[str, Row], b: Mapping[str, Row], common: bool) -> tuple[list[str], str | None]:
    """The problems to compare on, in the first side's order of ids, and what to say of them."""
    shared = sorted(a.keys() & b.keys())
    counts = f"{len(a)} problems on the first side, {len(b)} on the second, {len(shared)} on both"
    if not shared:
        raise ConfigError(f"no problem is on both sides: {counts}")
    if len(shared) == len(a) == len(b):
        return shared, None
    if not common:
        raise ConfigError(f"{counts}: finish the runs, or compare the common ones with --common")
    return shared, f"Compared on {len(shared)} common problems: {counts}."


def _compare_pair(name_a: str, name_b: str, a: Sequence[Row], b: Sequence[Row]) -> PairComparison:
    right_a, right_b = [is_right(row) for row in a], [is_right(row) for row in b]
    flips = [
        Flip(x["problem"], x["answer"], x["outcome"], y["answer"], y["outcome"])
        for x, y in zip(a, b, strict=True)
        if is_right(x) != is_right(y)
    ]
    return PairComparison(
        a=short_name(name_a),
        b=short_name(name_b),
        problems=len(a),
        accuracy_a=sum(right_a) / len(a),
        accuracy_b=sum(right_b) / len(b),
        difference=paired_bootstrap(right_a, right_b),
        test=mcnemar(right_a, right_b),
        costs=[_cost(what, a, b) for what in ("samples", "tokens", "flops")],
        flips=sorted(flips, key=lambda flip: (flip.outcome_a != "correct", flip.problem)),
    )


def _cost(what: str, a: Sequence[Row], b: Sequence[Row]) -> Cost:
    def spent(row: Row) -> float:
        if what == "samples":
            return float(row["samples"])
        return float(decoded(row["usage"]) if what == "tokens" else row["usage"].get("flops", 0.0))

    spent_a, spent_b = [spent(row) for row in a], [spent(row) for row in b]
    return Cost(what, sum(spent_a) / len(a), sum(spent_b) / len(b), paired_bootstrap(spent_a, spent_b))


def _compare_pools(a: Path, b: Path) -> tuple[list[CurveComparison], int]:
    """Curves over two pools at the k that both have, on the problems that both have."""
    pool_a, pool_b = read_pool(a), read_pool(b)
    problems = sorted(pool_a.keys() & pool_b.keys())
    pools = [{problem: pool[problem] for problem in problems} for pool in (pool_a, pool_b)]
    # Both are cut to one depth: a deeper pool gives smoother figures, and the sign test would see that.
    depth = min(map(pool_depth, pools))
    ks = powers(depth)
    found: list[CurveComparison] = []
    for metric in POOL_METRICS if ks else ():
        tables = [figure_table(metric, pool, depth, ks) for pool in pools]
        for i, (k, difference) in enumerate(zip(ks, paired_curves(tables[0], tables[1]), strict=True)):
            x, y = (table[:, i] for table in tables)
            found.append(CurveComparison(metric, k, float(x.mean()), float(y.mean()), difference, sign_test(x, y)))
    return found, len(problems)
