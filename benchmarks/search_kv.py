"""What ETS saves of the cache, and what that costs: against REBASE at equal width, on the reference world.

The protocol, fixed before the first run:

- Policy, problems and the shipped process reward model as in `benchmarks.search_curves`. Width 16 everywhere, and one
  balance temperature, 0.2, which is that of ETS's released code for both.
- Fixed beforehand: ETS with lambda_b = 1.0, lambda_d = 1.5 (`FIXED`), clusters of equal steps (in the reference world,
  two lines that differ in a character say different things) on the first `PAIR` problems.
- The curve, on the first `CURVE` of them: lambda_b = 0, 0.5, 1, 1.5 and 2 with the same lambda_d, and `FIXED` with
  clusters of sentence embeddings. REBASE at its own temperature, 0.1, stands beside it.
- Cache: tokens of all open prefixes, equal beginnings and the prompt once, summed over a problem's selections. Held:
  before each, which is what ETS (arXiv 2502.13575) reports, its prompts left out by mistake. Kept: after each, which is
  what the next step needs. "By nodes" is ETS's own way to count, siblings apart that wrote the same: an engine has them
  twice while it writes them, and a prefix cache once. Ratio: REBASE's sum over all problems through ETS's, with a 95 %
  interval from resampled problems.
- Accuracy: paired difference, ETS minus REBASE, with a 95 % interval from resampled problems. Not inferior if all of it
  lies above -`MARGIN`. With a fifth of the problems solved by one of the two alone and no true difference, the interval
  reaches 2.8 points to either side at 1,000 problems and 5.1 at 300, so the curve's rows can't tell.

Results are kept under ``results/search`` and give the table again (``--only-report``).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import RESULTS, write
from benchmarks.search_curves import JUDGES, MODEL, TASK
from benchmarks.search_rows import Measured, keep, measured, run_plans
from bethink.judge_options import literal
from evals.estimators.intervals import Interval, bootstrap, bootstrap_ratio
from evals.estimators.paired import paired_bootstrap
from evals.plan import Plan, Request, make_plan
from evals.reports.markup import between, markdown_table, percent
from reasoning.open_judges import JudgeChoice
from reasoning.strategies import parse_strategy, spell, spell_short

WIDTH, TEMPERATURE, MARGIN = 16, 0.2, 0.03
PAIR, CURVE = 1000, 300  # problems
LAMBDAS = (0.0, 0.5, 1.0, 1.5, 2.0)
REBASE = f"rebase:n={WIDTH},temperature={TEMPERATURE}"


def ets(lambda_b: float, clusters: str = "text") -> str:
    """ETS at lambda_d = 1.5."""
    return f"ets:n={WIDTH},temperature={TEMPERATURE},lambda_b={lambda_b},lambda_d=1.5,clusters={clusters}"


FIXED = ets(1.0)
FOLDERS: Mapping[str, list[str]] = {
    "kv-pair": [REBASE, FIXED],
    "kv-curve": [f"rebase:n={WIDTH}", *(ets(value) for value in LAMBDAS if value != 1.0), ets(1.0, "embedding")],
}


class Saving(NamedTuple):
    """ETS against REBASE on the same problems."""

    strategy: str
    problems: int
    accuracy: Interval
    difference: Interval  # paired, over REBASE
    held: tuple[float, float]  # tokens a problem, REBASE's and its own
    kept: tuple[float, float]
    held_ratio: Interval | None  # REBASE's over its own
    kept_ratio: Interval | None
    nodes_ratio: Interval | None  # of held, by nodes
    tokens: float  # decoded, a problem

    @property
    def not_inferior(self) -> bool:
        """Whether the accuracy is lower by less than the margin."""
        return self.difference.low > -MARGIN


def first(found: Measured, problems: int) -> Measured:
    """The same on the first so many problems."""
    columns = ("problems", "right", "tokens", "scored", "held", "kept", "held_nodes", "kept_nodes")
    return found._replace(**{name: getattr(found, name)[:problems] for name in columns})


def saving(other: Measured, rebase: Measured) -> Saving:
    """What a strategy saves against REBASE."""
    if list(other.problems) != list(rebase.problems):
        raise ValueError(f"{other.strategy} was run on other problems than {rebase.strategy}")
    return Saving(
        strategy=other.strategy,
        problems=len(other.right),
        accuracy=bootstrap(other.right),
        difference=paired_bootstrap(other.right, rebase.right),
        held=(float(rebase.held.mean()), float(other.held.mean())),
        kept=(float(rebase.kept.mean()), float(other.kept.mean())),
        held_ratio=bootstrap_ratio(rebase.held, other.held),
        kept_ratio=bootstrap_ratio(rebase.kept, other.kept),
        nodes_ratio=bootstrap_ratio(rebase.held_nodes, other.held_nodes),
        tokens=float(other.tokens.mean()),
    )


def savings(kept: Path) -> tuple[Saving, list[Saving]]:
    """What was fixed beforehand on all problems; and the curve, on its own, REBASE and what was fixed in it."""
    pair, curve = measured(kept / "kv-pair"), measured(kept / "kv-curve")
    rebase, fixed = (pair[spell(parse_strategy(text))] for text in (REBASE, FIXED))
    count = min(len(line.right) for line in curve.values())
    lines = {**curve, **{line.strategy: first(line, count) for line in (rebase, fixed)}}
    order = [REBASE, *FOLDERS["kv-curve"][:1], *(ets(value) for value in LAMBDAS), FOLDERS["kv-curve"][-1]]
    short = first(rebase, count)
    return saving(fixed, rebase), [saving(lines[spell(parse_strategy(text))], short) for text in order]


def run(out: Path, kept: Path, options: Mapping[str, Any], *, engine: str, pair: int, curve: int) -> None:
    """Run what is missing, and keep what the report needs."""
    plans = {out / name: _plan(name, engine, pair if name == "kv-pair" else curve) for name in FOLDERS}
    run_plans(plans, options)
    for folder in plans:
        keep(folder, kept / folder.name)


def _plan(name: str, engine: str, limit: int) -> Plan:
    judges = JudgeChoice(named={"prm": JUDGES["shipped"]["prm"]})
    strategies = FOLDERS[name]
    return make_plan(Request(task=TASK, model=MODEL, strategies=strategies, engine=engine, limit=limit, judges=judges))


def table(lines: list[Saving]) -> list[str]:
    """As Markdown."""
    heads = ["strategy", "problems", "right, %", "95 %", "over REBASE", "95 %", "tokens"]
    heads += ["held", "times fewer", "95 %", "kept", "times fewer", "95 %", "held by nodes, times fewer", "95 %"]
    rows = [
        [
            *(spell_short(line.strategy), str(line.problems), percent(line.accuracy.mean), between(line.accuracy)),
            *(f"{100 * line.difference.mean:+.1f}", _span(line.difference, 100, "+.1f"), f"{line.tokens:.0f}"),
            *(f"{line.held[1]:.0f}", *_ratio(line.held_ratio), f"{line.kept[1]:.0f}", *_ratio(line.kept_ratio)),
            *_ratio(line.nodes_ratio),
        ]
        for line in lines
    ]
    return markdown_table(heads, rows)


def _ratio(ratio: Interval | None) -> list[str]:
    return ["", ""] if ratio is None else [f"{ratio.mean:.2f}", _span(ratio, 1, ".2f")]


def _span(interval: Interval, by: float, form: str) -> str:
    return f"{by * interval.low:{form}} to {by * interval.high:{form}}"


def headline(line: Saving) -> str:
    """What was said beforehand to be the figure to look at."""
    assert line.held_ratio is not None
    assert line.nodes_ratio is not None
    verdict = "not inferior" if line.not_inferior else "not shown to be no worse"
    return (
        f"{line.held_ratio.mean:.2f} times fewer tokens held (95 %: {_span(line.held_ratio, 1, '.2f')}; by nodes "
        f"{line.nodes_ratio.mean:.2f}, {_span(line.nodes_ratio, 1, '.2f')}), accuracy "
        f"{100 * line.difference.mean:+.1f} points ({_span(line.difference, 100, '+.1f')}): {verdict} at a margin of "
        f"{100 * MARGIN:.0f} points, on {line.problems} problems."
    )


def report(results: Path, command: str) -> None:
    """The table from what is kept."""
    fixed, curve = savings(results / "search")
    text = ["# ETS against REBASE", "", headline(fixed), "", *(__doc__ or "").splitlines()[2:], ""]
    text += [*table([fixed]), "", "## The curve", "", *table(curve)]
    write(str(results / "search_kv"), "\n".join(text).rstrip(), command)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / "search")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table and kept rows go")
    parser.add_argument("--pair", type=int, default=PAIR, help="problems")
    parser.add_argument("--curve", type=int, default=CURVE, help="problems, the first of them")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--engine-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--only-report", action="store_true")
    typed = parser.parse_args()
    if not typed.only_report:
        options = {key: literal(text) for key, _, text in (item.partition("=") for item in typed.engine_option)}
        run(
            *(typed.out, typed.results / "search", options),
            engine=typed.engine,
            pair=typed.pair,
            curve=typed.curve,
        )
    report(typed.results, f"python -m benchmarks.search_kv --pair {typed.pair} --curve {typed.curve}")


if __name__ == "__main__":
    main()
