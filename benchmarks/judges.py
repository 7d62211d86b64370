"""The shipped judges on problems that they were not trained on, and what choosing by them is worth.

The protocol, fixed before the judges were first run on this pool:

- Problems: the 500 of `POOL`, which `evals.tasks.reference_task.reference_problem` makes of seed 0. Judges are trained
  on problems of another stream, from which these are taken out (`training.judges.rollouts`).
- Solutions: all 64 stored samples of the policy for each problem; those that were cut off are left out.
- Truth: `evals.tasks.reference.check_steps`. A step is right as long as no line up to it is wrong. A prefix is right if
  its sample came to the right answer.
- Judging: AUC over all steps (prefixes), with a 95 % interval from resampled problems; calibration in ten bins of equal
  width, and its error; F1 of the first wrong step at a threshold that is tuned on half of the problems (by a hash of
  their ids, `evals.reports.judge_report.is_for_tuning`) and measured on the others.
- Choosing, at k = 4, 16 and 64 of the 64 samples: best-of-n and the weighted vote by each judge and by the exact judge,
  and the plain majority. Means over all k-subsets; of the weighted vote, `SUBSETS` seeded ones of each problem. A
  sample without an answer is never chosen and has no vote; ties are shared evenly, so where all weights are 0 all
  answers tie.
- Headline: best-of-n at k = 16 by the process reward model's score of the last step (`HEADLINE`), against the majority
  and against the exact judge, paired by problem. By the truth that it was trained on, that score says whether the whole
  solution is right. The other aggregations and the value model (its value of the whole text) stand beside it.

Whatever comes out is reported; no setting is changed after the first run. That run measured another pair of judges, two
layers trained on top of a frozen body, which chose worse than the majority (``judges_heads.md``). The shipped pair was
made after its figures were known.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.machine import RESULTS, write
from evals.estimators.intervals import Floats, Interval, bootstrap
from evals.estimators.metrics import best_of_n_at_k
from evals.estimators.paired import paired_bootstrap
from evals.estimators.votes import weighted_vote_at_k
from evals.judge_cases import run_cases
from evals.judging import run_judging
from evals.reports.figures import Pool, figure, is_right, read_pool
from evals.reports.judge_output import describe, first_error_table, ranking_table
from evals.reports.judge_plots import write_calibration
from evals.reports.judge_report import AGGREGATED, JudgeReport, make_judge_report
from evals.reports.markup import markdown_table, percent
from evals.store import Row, read_config, read_rows
from evals.tasks.reference import Chain, check_steps
from evals.tasks.registry import task_of_run
from verifiers.judges.aggregate import aggregate
from verifiers.judges.open import open_judge
from verifiers.judges.types import ScoreKind

POOL = "reference-8"
JUDGES = {"prm": "reference-prm", "value": "reference-value"}  # by role
KS = (4, 16, 64)
HEADLINE = ("PRM, last", "best of n", 16)
SUBSETS = 1_000
SEED = 0
EXACT = "exact judge"

Scores = Mapping[str, float]  # of samples, by `sample_id`; those that are left out are absent


class Line(NamedTuple):
    """One way of choosing at k samples."""

    k: int
    way: str
    by: str
    accuracy: Interval  # bootstrap over problems
    error: float  # of drawing subsets
    over_majority: Interval  # paired
    over_exact: Interval | None  # paired, against the exact judge in the same way


def sample_id(row: Row) -> str:
    """As `evals.judge_cases.run_cases` names samples."""
    return f"{row['problem']}/{row['slot']}"


def exact_scores(pool: Pool, questions: Mapping[str, str]) -> dict[str, float]:
    """1 for samples whose every line is right, else 0."""
    found = {}
    for problem, rows in pool.items():
        chain = Chain.parse(questions[problem])
        labels = {text: check_steps(chain, text) for text in {row["text"] for row in rows}}
        found.update({sample_id(row): float(bool(labels[row["text"]]) and all(labels[row["text"]])) for row in rows})
    return found


def judged_scores(folder: Path, role: str) -> dict[str, Scores]:
    """What a folder of `evals.judging` says of whole samples: a process reward in each aggregation, or a value."""
    kind = ScoreKind(read_config(folder)["config"]["kind"])
    rows = [row for row in read_rows(folder, "scores") if "error" not in row]
    if role != "prm":
        return {"value": {row["id"]: row["scores"][-1] for row in rows}}
    return {f"PRM, {how}": {row["id"]: aggregate(row["scores"], how, kind) for row in rows} for how in AGGREGATED}


def choose(pool: Pool, judged: Mapping[str, Scores], ks: Sequence[int] = KS, subsets: int = SUBSETS) -> list[Line]:
    """Every way of choosing by every judge; `judged` has to hold the exact one under `EXACT`."""
    lines = []
    for k in ks:
        majority = np.array([figure("majority", rows, k) for rows in pool.values()])
        none = np.zeros(len(majority))
        lines.append(_line(k, "majority", "", majority, none, majority, None))
        for way, measure in (("best of n", _best_of_n), ("weighted vote", _weighted_vote)):
            exact = measure(pool, judged[EXACT], k, subsets)[0]
            for by, scores in judged.items():
                worth, errors = measure(pool, scores, k, subsets)
                lines.append(_line(k, way, by, worth, errors, majority, None if by == EXACT else exact))
        coverage = np.array([figure("coverage", rows, k) for rows in pool.values()])
        lines.append(_line(k, "any right one", "", coverage, none, majority, None))
    return lines


def _line(k: int, way: str, by: str, worth: Floats, errors: Floats, majority: Floats, exact: Floats | None) -> Line:
    """Figures of each problem, [P], as a line."""
    return Line(
        k=k,
        way=way,
        by=by,
        accuracy=bootstrap(worth, seed=SEED),
        error=math.sqrt(float((errors**2).sum())) / len(errors),
        over_majority=paired_bootstrap(worth, majority, seed=SEED),
        over_exact=None if exact is None else paired_bootstrap(worth, exact, seed=SEED),
    )


def _best_of_n(pool: Pool, scores: Scores, k: int, _: int) -> tuple[Floats, Floats]:
    """Of each problem, [P], exact; the second is no error."""
    worth = [
        best_of_n_at_k(
            [scores.get(sample_id(row), -math.inf) if row["answer"] is not None else -math.inf for row in rows],
            [is_right(row) for row in rows],
            k,
        )
        for rows in pool.values()
    ]
    return np.array(worth), np.zeros(len(worth))


def _weighted_vote(pool: Pool, scores: Scores, k: int, subsets: int) -> tuple[Floats, Floats]:
    """Of each problem, [P], and the standard error of drawing subsets."""
    found = []
    for index, rows in enumerate(pool.values()):
        first: dict[str, bool] = {}  # whether a class is right, in order of first members
        for row in rows:
            if row["answer"] is not None:
                first.setdefault(row["class"], is_right(row))
        numbers = {name: number for number, name in enumerate(first)}
        classes = [None if row["answer"] is None else numbers[row["class"]] for row in rows]
        weights = [scores.get(sample_id(row), 0.0) for row in rows]
        found.append(weighted_vote_at_k(classes, weights, list(first.values()), k, subsets, seed=SEED + index))
    return np.array([each.value for each in found]), np.array([each.standard_error for each in found])


def table(lines: Sequence[Line]) -> list[str]:
    """The lines as Markdown."""

    def span(interval: Interval | None) -> list[str]:
        if interval is None:
            return ["", ""]
        return [f"{100 * interval.mean:+.1f}", f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"]

    heads = [
        "k",
        "way",
        "by",
        "right, %",
        "95 %",
        "s.e. of drawing",
        "over majority",
        "95 %",
        "over exact judge",
        "95 %",
    ]
    rows = [
        [
            *(str(line.k), line.way, line.by, percent(line.accuracy.mean)),
            f"{percent(line.accuracy.low)} to {percent(line.accuracy.high)}",
            f"{100 * line.error:.2f}",
            *span(line.over_majority),
            *span(line.over_exact),
        ]
        for line in lines
    ]
    return markdown_table(heads, rows)


def headline(lines: Sequence[Line]) -> str:
    """What was said beforehand to be the figure to look at."""
    by, way, k = HEADLINE
    line = next(line for line in lines if (line.by, line.way, line.k) == HEADLINE)
    gain, gap = line.over_majority, line.over_exact
    assert gap is not None
    return (
        f"{way} by {by} at k = {k}: {percent(line.accuracy.mean)} %, {100 * gain.mean:+.1f} points over the majority "
        f"(95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}), {100 * gap.mean:+.1f} against the exact judge "
        f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
    )


def judge_pool(role: str, name: str, folder: Path, backend: str) -> JudgeReport:
    """Judge the stored pool into a folder, or go on with that."""
    judge = open_judge(name, role=role, backend=backend)
    run_judging(
        judge, role, f"reference:{POOL.rpartition('-')[2]}", lambda split: run_cases(RESULTS / POOL, split), folder
    )
    return make_judge_report(folder)


def _section(name: str, report: JudgeReport) -> list[str]:
    lines = [f"## {name}", "", *describe(report), "", *markdown_table(*ranking_table(report)), ""]
    if report.first_errors:
        lines += [*markdown_table(*first_error_table(report)), ""]
    if report.ece is not None:
        lines += [f"Expected calibration error: {percent(report.ece)} %; the plot is judges/{name}.png.", ""]
        write_calibration(report.bins, RESULTS / "judges" / name, report.title)
    return lines


def main() -> None:
    """Judge the pool, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prm", default=JUDGES["prm"])
    parser.add_argument("--value", default=JUDGES["value"])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs") / "judges", help="where the scores go")
    arguments = parser.parse_args()
    pool = read_pool(RESULTS / POOL)
    task = task_of_run(read_config(RESULTS / POOL)["config"])
    judged: dict[str, Scores] = {EXACT: exact_scores(pool, {p.id: p.question for p in task.problems})}
    (RESULTS / "judges").mkdir(parents=True, exist_ok=True)
    sections: list[str] = []
    for role in JUDGES:
        name = getattr(arguments, role)
        folder = arguments.out / f"{role}-{Path(name).name}"
        sections += _section(name, judge_pool(role, name, folder, arguments.backend))
        judged |= judged_scores(folder, role)
    lines = choose(pool, judged)
    text = ["# The shipped judges", "", headline(lines), "", *(__doc__ or "").splitlines()[2:], "", *sections]
    text += [f"## Choosing among samples: {len(pool)} problems", "", *table(lines)]
    command = f"python -m benchmarks.judges --prm {arguments.prm} --value {arguments.value}"
    write("judges", "\n".join(text), command)


if __name__ == "__main__":
    main()
