"""How well and how long a model executes a plan, from the states that it wrote.

The measures of ProcBench are means of `StepMeasures`. Those of Sinha et al. 2025, arXiv 2509.09677, section 2, are
taken over running sums (`evals.tasks.horizon`):

- turn accuracy at t: the share of samples whose step from turn t - 1 to t is right, whatever the sum at t - 1 was;
- task accuracy at t: the share of samples without a mistake up to t;
- horizon length H_s: the number of turns up to which task accuracy is at least s. The paper names the first turn at
  which it is below, which is one more.

The problem is the unit: several samples of a problem are averaged first.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from decoding.errors import ConfigError
from evals.estimators.intervals import Floats, Interval, bootstrap_curves, wilson
from verifiers.steps import States, StepMeasures

THRESHOLD = 0.5


class StepFigures(NamedTuple):
    """Means of the measures of ProcBench (arXiv 2410.03117), with intervals from a bootstrap over problems."""

    prefix_match_length: Interval  # steps
    prefix_accuracy: Interval
    sequential_match: Interval
    final_match: Interval


class Row(NamedTuple):
    """A sample of a problem."""

    problem: str
    written: States  # as `StepFormat` read them; shorter where turns are missing
    increments: Sequence[int]  # [T] what each turn adds to the sum


class Horizon(NamedTuple):
    """The horizon length with its interval, in turns."""

    turns: int
    low: int
    high: int
    at_least: bool  # the task was too short to see its end


class Execution(NamedTuple):
    """What a set of samples says of a model."""

    turn_accuracy: list[Interval]  # [T]
    task_accuracy: list[Interval]  # [T]
    horizon: Horizon


def step_figures(rows: Iterable[tuple[str, StepMeasures]], *, level: float = 0.95, seed: int = 0) -> StepFigures:
    """The measures of ProcBench over samples, each with its problem."""
    samples: dict[str, list[tuple[float, ...]]] = {}
    for problem, m in rows:
        measures = (m.prefix_match_length, m.prefix_accuracy, m.sequential_match, m.final_match)
        samples.setdefault(problem, []).append(measures)
    table = np.array([np.mean(measures, axis=0) for measures in samples.values()]).reshape(-1, len(StepFigures._fields))
    return StepFigures(*bootstrap_curves(table, level, seed=seed))


def measure_execution(
    rows: Iterable[Row], *, threshold: float = THRESHOLD, level: float = 0.95, seed: int = 0
) -> Execution:
    """Curves over turns and the horizon length.

    Intervals are Wilson's where every problem has one sample, else from a bootstrap over problems. The horizon's
    interval holds the lengths that the band around task accuracy allows: the band falls with t, so this inverts the
    test at each length, at the same level.

    Raises ``ConfigError`` without rows, or where problems differ in their number of turns.
    """
    samples: dict[str, list[tuple[Floats, Floats]]] = {}
    for row in rows:
        samples.setdefault(row.problem, []).append(_judge(row))
    lengths = {turn.size for judged in samples.values() for turn, _ in judged}
    if len(lengths) != 1:
        raise ConfigError(f"curves need samples of problems with one number of turns, got {sorted(lengths) or 'none'}")
    single = all(len(judged) == 1 for judged in samples.values())
    tables = np.array([np.mean(judged, axis=0) for judged in samples.values()])  # [problems, turn or task, T]
    turn, task = (_band(tables[:, which], single, level, seed) for which in (0, 1))
    low, mean, high = ([getattr(point, name) for point in task] for name in ("low", "mean", "high"))
    turns = horizon_length(mean, threshold)
    bounds = horizon_length(low, threshold), horizon_length(high, threshold)
    return Execution(turn, task, Horizon(turns, *bounds, at_least=turns == len(task)))


def horizon_length(task_accuracy: Sequence[float], threshold: float = THRESHOLD) -> int:
    """The number of turns before the first one whose task accuracy, [T], is below the threshold."""
    for turns, accuracy in enumerate(task_accuracy):
        if accuracy < threshold:
            return turns
    return len(task_accuracy)


def constant_horizon(accuracy: float, threshold: float = THRESHOLD) -> float:
    """The horizon length of a model whose every turn is right with the same probability, independently.

    ``floor(ln s / ln p)`` (proposition 1); infinite for a model that makes no mistakes.
    """
    if not (0 <= accuracy <= 1 and 0 < threshold <= 1):
        raise ConfigError(f"accuracy must lie in [0, 1] and threshold in (0, 1], got {accuracy} and {threshold}")
    if accuracy == 1:
        return math.inf
    if accuracy == 0:
        return 0
    length = math.log(threshold) / math.log(accuracy)
    nearest = round(length)  # a power of p that is s up to rounding still meets it
    return nearest if math.isclose(length, nearest, rel_tol=1e-12) else math.floor(length)


def _judge(row: Row) -> tuple[Floats, Floats]:
    """Whether each turn is right by itself, [T], and whether all are up to it, [T]."""
    steps, clean = np.zeros(len(row.increments)), np.zeros(len(row.increments))
    total, right = 0, True
    before: int | None = 0
    for turn, increment in enumerate(row.increments):
        total += increment
        written = _integer(row.written[turn]) if turn < len(row.written) else None
        steps[turn] = written is not None and before is not None and written == before + increment
        right = right and written == total
        clean[turn] = right
        before = written
    return steps, clean


def _integer(state: str | None) -> int | None:
    """A state as a number; None for one that is none, or so long that it can't be a sum."""
    digits = "" if state is None else state.removeprefix("-")
    return int(str(state)) if digits.isascii() and digits.isdigit() and len(digits) < 100 else None


def _band(table: Floats, single: bool, level: float, seed: int) -> list[Interval]:
    """A figure a turn with its interval, from [problems, T]."""
    if single:
        return [wilson(int(column.sum()), column.size, level) for column in table.T]
    return bootstrap_curves(table, level, seed=seed)
