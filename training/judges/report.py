"""How good a trained judge is on problems that it has not seen: figures, a page, and a reliability diagram.

The protocol, fixed before the first held-out score was computed:

    problems   made by the recipe's seed, on a stream of their own; none that `bethink eval` asks by default
    split      by a hash of the question's text: 1/16 tunes, 1/8 is held out, the rest trains (`rollouts.split_of`)
    solutions  all of the policy's samples of these problems, at the recipe's temperature
    truth      process rewards: exact labels (`labels.exact_labels`), whatever they were trained on
               values: whether the solution ended right, at each of its steps
               self-evaluation: the Monte-Carlo label, ties left out
    AUC        over all steps of all held-out solutions; 95 % bootstrap over problems, 2,000 resamples, seed 0
    AUC*       the same over steps up to the first wrong one: those behind it are wrong without being judged
    ECE        10 bins of equal width; as the reliability diagram has them
    F1         ProcessBench's, of the first step below a threshold that was tuned on the tuning split
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decoding.errors import ConfigError
from evals.estimators.judging import (
    auc,
    auc_interval,
    calibration,
    ece,
    first_error,
    processbench_f1,
    tune_threshold,
)
from evals.reports.judge_plots import write_calibration
from training.judges.labels import first_wrong

SEED = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """One solution with its scores and the truth."""

    task: str
    problem: str
    scores: tuple[float, ...]  # [S]
    truth: tuple[bool, ...]  # [S]


def measure(held_out: Sequence[Scored], tuning: Sequence[Scored] = ()) -> dict[str, Any]:
    """The figures. `tuning` is given where the truth of steps is known: it brings AUC* and F1."""
    scores, truth = _flat(held_out)
    if len(set(truth)) < 2:
        raise ConfigError(f"all of {len(truth)} held-out labels are the same: take more problems or samples")
    figures: dict[str, Any] = {
        "solutions": len(held_out),
        "problems": len({(each.task, each.problem) for each in held_out}),
        "steps": len(scores),
        "right": sum(truth) / len(truth),
        "auc": _auc(held_out),
        "ece": ece(scores, truth),
        "auc_by_task": {task: auc(*_flat(group)) for task, group in _by_task(held_out).items() if _both(group)},
    }
    if tuning:
        figures |= _first_errors(held_out, tuning)
    return figures


def write_report(folder: Path, title: str, figures: Mapping[str, Any], held_out: Sequence[Scored]) -> None:
    """Write figures.json, report.md, calibration.png and calibration.svg."""
    scores, truth = _flat(held_out)
    write_calibration(calibration(scores, truth), folder / "calibration.png", title)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / "report.md").write_text("\n".join(_page(title, figures)) + "\n")


def _first_errors(held_out: Sequence[Scored], tuning: Sequence[Scored]) -> dict[str, Any]:
    threshold = tune_threshold([each.scores for each in tuning], [first_wrong(each.truth) for each in tuning])
    found = processbench_f1(
        [first_error(each.scores, threshold) for each in held_out], [first_wrong(each.truth) for each in held_out]
    )
    return {
        "auc_to_first_error": _auc([_to_first_error(each) for each in held_out]),
        "threshold": threshold,
        "first_error": {"wrong": found.wrong, "right": found.right, "f1": found.f1},
    }


def _to_first_error(scored: Scored) -> Scored:
    end = first_wrong(scored.truth)
    length = len(scored.truth) if end < 0 else end + 1
    return Scored(scored.task, scored.problem, scored.scores[:length], scored.truth[:length])


def _auc(scored: Sequence[Scored]) -> dict[str, float]:
    problems: dict[tuple[str, str], tuple[list[float], list[bool]]] = {}
    for each in scored:
        scores, truth = problems.setdefault((each.task, each.problem), ([], []))
        scores.extend(each.scores)
        truth.extend(each.truth)
    interval = auc_interval([s for s, _ in problems.values()], [t for _, t in problems.values()], seed=SEED)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _flat(scored: Sequence[Scored]) -> tuple[list[float], list[bool]]:
    return [s for each in scored for s in each.scores], [t for each in scored for t in each.truth]


def _by_task(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    groups: dict[str, list[Scored]] = {}
    for each in scored:
        groups.setdefault(each.task, []).append(each)
    return groups


def _both(scored: Sequence[Scored]) -> bool:
    return len(set(_flat(scored)[1])) == 2


def _page(title: str, figures: Mapping[str, Any]) -> list[str]:
    def interval(name: str) -> str:
        return "{mean:.4f} ({low:.4f} to {high:.4f})".format(**figures[name])

    lines = [
        f"# {title}",
        "",
        f"Held out: {figures['solutions']:,} solutions of {figures['problems']:,} problems, {figures['steps']:,} "
        f"steps, {100 * figures['right']:.1f} % of them right. Intervals are 95 %, bootstrap over problems.",
        "",
        "| figure | |",
        "|---|---|",
        f"| AUC | {interval('auc')} |",
    ]
    if "first_error" in figures:
        first = figures["first_error"]
        lines += [
            f"| AUC up to the first wrong step | {interval('auc_to_first_error')} |",
            f"| first wrong step found | {100 * first['wrong']:.1f} % |",
            f"| solutions without one passed | {100 * first['right']:.1f} % |",
            f"| F1 of the first wrong step, threshold {figures['threshold']:.3f} | {100 * first['f1']:.1f} % |",
        ]
    lines += [f"| expected calibration error | {figures['ece']:.4f} |"]
    if "kl" in figures:
        lines += [f"| change of how the policy writes, KL | {figures['kl']:.5f} nats a token |"]
    lines += ["", "| task | AUC |", "|---|---|"]
    lines += [f"| {task} | {value:.4f} |" for task, value in figures["auc_by_task"].items()]
    return [*lines, "", "![calibration](calibration.png)"]
