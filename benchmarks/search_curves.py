"""What searches by steps are worth at equal cost: accuracy against generated tokens, on the reference world.

The protocol, fixed before the first run:

- Problems: the first `LIMIT` of ``reference:8``, seed 0. Policy: `reference-base` at temperature 1 on vLLM, lines as
  steps. The judges were trained on problems of another stream (`benchmarks.judges`).
- Judges: shipped (`reference-prm` for process rewards, `reference-value` for values, on transformers) and exact (it
  knows the truth, so it says what a search is worth where the judge is no limit).
- Searches (`FAMILIES`), each at n = 2, 4, 8 and 16, all other settings at their defaults. Beam search and DVTS have
  width min(4, n), so from 8 on n / 4 prefixes are kept. Step beams have b1 x b2 = n (`BEAMS`). MCTS has 2 or 4
  children (`CHILDREN`; at n = 4 chosen after a trial on 6 problems) and as many simulations as write n solutions' worth
  of steps (`STEPS` lines each).
- Beside them, from one pool of 64 samples: one sample, and majority, best-of-n and the vote weighted by the same
  process reward at n = 1, 2, 4, ... 64, on the first n samples. Both judges judge the same pool.
- Cost: tokens decoded by the policy, a mean over problems. In the table are also the tokens that the judge read, and
  those of the cache: summed over selections, equal beginnings and the prompt once, before and after each. A folder's
  strategies share what was judged, so the judge's tokens are those that a strategy added to the ones above it.
- Figures: accuracy with a 95 % interval from resampled problems. The difference of a search to majority and to
  best-of-n is paired by problem and taken at equal tokens: of each problem, the baseline's outcomes at the two n whose
  mean tokens lie around the search's are weighted linearly in the logarithm of tokens; the interval is that of the mean
  difference over resampled problems, with the weights as they are. Where a search costs less than the baseline's first
  point, or more than its last, that point is taken and the difference marked.

One folder a judge and family, so that a family can be measured again alone; what is finished is not run again. What the
table needs is kept under ``results/search`` and gives table and plot again (``--only-report``).
"""

import argparse
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import RESULTS, write
from benchmarks.search_rows import Measured, keep, measured, run_plans
from bethink.judge_options import literal
from evals.estimators.intervals import Floats, Interval, bootstrap
from evals.estimators.paired import paired_bootstrap
from evals.plan import Plan, Request, make_plan
from evals.reports.markup import between, markdown_table, percent
from evals.reports.plots import MARKERS, band, panels, save
from reasoning.open_judges import JudgeChoice
from reasoning.strategies import parse_strategy, spell

TASK, MODEL, LIMIT = "reference:8", "reference-base", 300
STEPS = 9  # lines of a solution: one an operation, and the answer's
SIZES = (2, 4, 8, 16)
SAMPLES = (1, 2, 4, 8, 16, 32, 64)
JUDGES: Mapping[str, Mapping[str, str]] = {
    "shipped": {"prm": "reference-prm", "value": "reference-value"},
    "exact": {"prm": "exact", "value": "exact"},
}
BEAMS = {2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4)}  # b1, b2 of a step beam
CHILDREN = {2: 2, 4: 2, 8: 4, 16: 4}  # of a node that MCTS expands: a tree must get to its leaves
FAMILIES: Mapping[str, Callable[[int], str]] = {
    "particle": lambda n: f"particle:n={n}",
    "particle_paper": lambda n: f"particle:n={n},mode=paper",
    "beam": lambda n: f"beam:n={n},width={min(4, n)}",
    "dvts": lambda n: f"dvts:n={n},width={min(4, n)}",
    "rebase": lambda n: f"rebase:n={n}",
    "ets": lambda n: f"ets:n={n},lambda_b=1.0,lambda_d=1.5,clusters=text",
    "step_beam": lambda n: f"step_beam:b1={BEAMS[n][0]},b2={BEAMS[n][1]}",
    "mcts": lambda n: f"mcts:simulations={n * STEPS // CHILDREN[n]},children={CHILDREN[n]}",
}
SAMPLING = "sampling"
BASELINES: Mapping[str, Callable[[int], str]] = {
    "majority": lambda n: f"self_consistency:n={n}",
    "best of n": lambda n: f"best_of_n:n={n},score=prm",
    "weighted vote": lambda n: f"weighted_vote:n={n},score=prm,weighting=score",
}
COLOURS = ("#1b6ca8", "#6fa8dc", "#d1495b", "#e08e45", "#66a182", "#2f6b4f", "#8d6a9f", "#b0892e")
GREYS = {"majority": "0.5", "best of n": "0.0"}  # of baselines; the weighted vote is in the table alone


class Point(NamedTuple):
    """A strategy at one size."""

    family: str
    size: int
    found: Measured

    @property
    def tokens(self) -> float:
        """Mean, a problem."""
        return float(self.found.tokens.mean())


class Gain(NamedTuple):
    """A search over a baseline at equal tokens."""

    difference: Interval  # paired
    outside: bool  # of what the baseline's points span


def at_tokens(points: Sequence[Point], tokens: float) -> tuple[Floats, bool]:
    """A baseline's outcomes at a mean cost, [P], and whether that lies outside of what its points span.

    `points` are in the order of their cost.
    """
    costs = [point.tokens for point in points]
    if not costs[0] <= tokens <= costs[-1]:
        return points[0 if tokens < costs[0] else -1].found.right, True
    above = next(index for index, cost in enumerate(costs) if tokens <= cost)
    if above == 0:
        return points[0].found.right, False
    low, high = math.log(costs[above - 1]), math.log(costs[above])
    share = (math.log(tokens) - low) / (high - low)
    return (1 - share) * points[above - 1].found.right + share * points[above].found.right, False


def gain(search: Point, baseline: Sequence[Point]) -> Gain:
    """How much better a search is than a baseline that costs as much."""
    if any(list(point.found.problems) != list(search.found.problems) for point in baseline):
        raise ValueError(f"{search.found.strategy} was run on other problems than the baseline")
    outcomes, outside = at_tokens(baseline, search.tokens)
    return Gain(paired_bootstrap(search.found.right, outcomes), outside)


def spellings(family: str, sizes: Sequence[int]) -> list[str]:
    """The strategies of a folder."""
    if family == SAMPLING:
        return ["repeated_sampling:n=1", *(of(n) for of in BASELINES.values() for n in SAMPLES)]
    return [FAMILIES[family](n) for n in sizes]


def plan_of(judge: str, family: str, *, sizes: Sequence[int], limit: int, engine: str) -> Plan:
    """What is run into one folder."""
    choice = JudgeChoice(named=dict(JUDGES[judge]))
    strategies = spellings(family, sizes)
    return make_plan(Request(task=TASK, model=MODEL, strategies=strategies, engine=engine, limit=limit, judges=choice))


def run(out: Path, kept: Path, keys: Sequence[tuple[str, str]], options: Mapping[str, Any], **settings: Any) -> None:
    """Run what is missing of (judge, family), and keep what the report needs."""
    plans = {out / f"{judge}-{family}": plan_of(judge, family, **settings) for judge, family in keys}
    shipped, exact = out / f"shipped-{SAMPLING}", out / f"exact-{SAMPLING}"
    if shipped in plans and exact in plans and not exact.exists():
        run_plans({shipped: plans[shipped]}, options)  # what was drawn does not depend on who judges it
        exact.mkdir(parents=True)
        shutil.copy(shipped / "samples.jsonl", exact)
    run_plans(plans, options)
    for folder in plans:
        keep(folder, kept / folder.name)


def points_of(kept: Path, judge: str) -> dict[str, list[Point]]:
    """What is kept of a judge's runs, by family; baselines by their names, and "one sample"."""
    found: dict[str, list[Point]] = {}
    for family in (*FAMILIES, SAMPLING):
        folder = kept / f"{judge}-{family}"
        rows = measured(folder) if folder.exists() else {}
        ways = FAMILIES if family != SAMPLING else {"one sample": lambda _: "repeated_sampling:n=1", **BASELINES}
        for name in ways if family == SAMPLING else [family]:
            sizes = SIZES if family != SAMPLING else SAMPLES if name != "one sample" else (1,)
            spelt = {n: spell(parse_strategy(ways[name](n))) for n in sizes}
            points = [Point(name, n, rows[text]) for n, text in spelt.items() if text in rows]
            found |= {name: sorted(points, key=lambda point: point.tokens)} if points else {}
    return found


def table(points: Mapping[str, Sequence[Point]]) -> list[str]:
    """One judge's figures as Markdown."""
    heads = ["strategy", "n", "right, %", "95 %", "tokens", "judged", "cache before", "after"]
    heads += ["over majority", "95 %", "over best of n", "95 %"]
    rows = []
    for family, line in points.items():
        for point in line:
            cells = [family, str(point.size), *_figures(point)]
            for name in ("majority", "best of n"):
                searched = family in FAMILIES and name in points
                cells += _difference(gain(point, points[name])) if searched else ["", ""]
            rows.append(cells)
    return markdown_table(heads, rows)


def _figures(point: Point) -> list[str]:
    found, accuracy = point.found, bootstrap(point.found.right)
    held = [f"{column.mean():.0f}" if found.held.any() else "" for column in (found.held, found.kept)]
    return [percent(accuracy.mean), between(accuracy), f"{point.tokens:.0f}", f"{found.scored.mean():.0f}", *held]


def _difference(gained: Gain) -> list[str]:
    mean, low, high = (100 * bound for bound in gained.difference)
    return [f"{mean:+.1f}{' *' if gained.outside else ''}", f"{low:+.1f} to {high:+.1f}"]


def plot(points: Mapping[str, Mapping[str, Sequence[Point]]], stem: Path) -> None:
    """Accuracy against generated tokens, a panel a judge."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, rows = panels(len(points), (5.6 * len(points), 5.4))
    for axes, (judge, lines) in zip(rows, points.items(), strict=True):
        for name, grey in GREYS.items():
            _draw(axes, lines.get(name, ()), grey, f"{name}, of samples", "")
        for index, family in enumerate(FAMILIES):
            label = family.replace("_", " ")
            _draw(axes, lines.get(family, ()), COLOURS[index], label, MARKERS[index % len(MARKERS)])
        axes.set_xscale("log")
        axes.set_ylim(top=100)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("tokens generated a problem")
        axes.set_title(f"{judge} judge", fontsize=10)
    rows[0].set_ylabel("problems solved, %")
    handles, labels = rows[0].get_legend_handles_labels()
    count = max(len(point.found.right) for lines in points.values() for line in lines.values() for point in line)
    figure.suptitle(f"{TASK}, {MODEL}, {count} problems; bands 95 %", fontsize=10)
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    save(figure, stem)


def _draw(axes: Any, line: Sequence[Point], colour: str, label: str, marker: str) -> None:
    if line:
        accuracies = [bootstrap(point.found.right) for point in line]
        band(axes, [point.tokens for point in line], accuracies, colour, label, marker)


def report(results: Path, command: str) -> None:
    """Table and plot from what is kept."""
    points = {judge: found for judge in JUDGES if (found := points_of(results / "search", judge))}
    text = ["# Searches by steps at equal cost", "", *(__doc__ or "").splitlines()[2:], ""]
    text += ["`*`: outside of what the baseline's points span. Tokens, cache: means a problem.", ""]
    for judge, found in points.items():
        measurements = [point.found for line in found.values() for point in line]
        ends, cut = sum(each.after_end for each in measurements), sum(each.cut for each in measurements)
        text += [f"## {judge} judge", "", *table(found), ""]
        text += [
            f"Tokens generated after a trajectory had finished: {ends}. Problems that ended in an error: {cut}.",
            "",
        ]
    plot(points, results / "search" / "curves")
    write(str(results / "search_curves"), "\n".join(text).rstrip(), command)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / "search")
    parser.add_argument("--judge", action="append", choices=sorted(JUDGES))
    parser.add_argument("--family", action="append", choices=[*FAMILIES, SAMPLING])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="comma-separated")
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--engine-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where table, plot and kept rows go")
    parser.add_argument("--only-report", action="store_true")
    typed = parser.parse_args()
    if not typed.only_report:
        options = {key: literal(text) for key, _, text in (item.partition("=") for item in typed.engine_option)}
        run(
            typed.out,
            typed.results / "search",
            [(judge, family) for judge in typed.judge or JUDGES for family in typed.family or (SAMPLING, *FAMILIES)],
            options,
            sizes=[int(size) for size in typed.sizes.split(",")],
            limit=typed.limit,
            engine=typed.engine,
        )
    report(typed.results, f"python -m benchmarks.search_curves --limit {typed.limit} --engine {typed.engine}")


if __name__ == "__main__":
    main()
