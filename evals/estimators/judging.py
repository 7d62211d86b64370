"""How good a judge is: how it ranks, whether its numbers are probabilities, whether it finds the first wrong step.

Steps of one solution, and solutions of one problem, are not independent, so intervals resample problems.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from evals.estimators.intervals import Floats, Interval, checked_level, resampled_problems
from evals.estimators.selectors import calibration_error

RESAMPLES = 2_000
BINS = 10


class Bin(NamedTuple):
    """Scores that lie close together, and how many of them were right."""

    low: float
    high: float
    size: int
    score: float  # mean
    right: int


class FirstErrors(NamedTuple):
    """ProcessBench's figures (Zheng et al. 2024, arXiv 2412.06559, section 4)."""

    wrong: float  # share of solutions with an error whose first wrong step was named
    right: float  # share of solutions without one that were passed
    f1: float  # harmonic mean of both; 0 where both are


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The chance that something right has a higher score than something wrong; ties count half (Mann-Whitney).

    Args:
        scores: [N], finite.
        labels: [N], whether it was right; both kinds have to occur, else ``ConfigError``.
    """
    values, right = _both_kinds(scores, labels)
    return _ranking(values, right)(np.ones(values.size))


def auc_interval(
    scores_by_problem: Sequence[Sequence[float]],
    labels_by_problem: Sequence[Sequence[bool]],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """The AUC of all scores with a percentile interval from resampled problems.

    Pairs are compared across problems as well as within them. Resamples in which only one kind occurs are left out.

    Args:
        scores_by_problem: [P][scores of the problem], finite.
        labels_by_problem: The same shape; both kinds have to occur somewhere, else ``ConfigError``.
        seed: Of the draws.
        level: Coverage of the interval.
        resamples: How often the problems are drawn anew.
    """
    sizes = [len(scores) for scores in scores_by_problem]
    if sizes != [len(labels) for labels in labels_by_problem]:
        raise ConfigError("the AUC needs one label for each score of each problem")
    values, right = _both_kinds(
        [score for scores in scores_by_problem for score in scores],
        [label for labels in labels_by_problem for label in labels],
    )
    owner = np.repeat(np.arange(len(sizes)), sizes)
    # Samples of a problem repeat each other, so there is less to sort.
    kinds, times = np.unique(np.stack([owner, values, right], axis=1), axis=0, return_counts=True)
    owner, area = kinds[:, 0].astype(np.int64), _ranking(kinds[:, 1], kinds[:, 2] == 1)
    drawn = [area(row[owner] * times) for rows in resampled_problems(len(sizes), resamples, seed) for row in rows]
    tail = (1 - checked_level(level)) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Interval(area(times.astype(np.float64)), float(low), float(high))


def calibration(scores: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Scores in bins of equal width between 0 and 1, closed above (0 belongs to the first); empty bins are left out.

    Raises ``ConfigError`` if a score lies elsewhere: only probabilities can be calibrated.
    """
    values, right = _probabilities(scores, labels)
    place = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        if inside.any():
            mean, size = float(values[inside].mean()), int(inside.sum())
            found.append(Bin(index / bins, (index + 1) / bins, size, mean, int(right[inside].sum())))
    return found


def ece(scores: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error over the bins of `calibration` (Guo et al. 2017, arXiv 1706.04599, equation 3)."""
    values, right = _probabilities(scores, labels)
    return calibration_error(values.tolist(), right.tolist(), bins)


def first_error(scores: Sequence[float], threshold: float) -> int:
    """The index of the first score below the threshold; -1 if there is none."""
    return next((index for index, score in enumerate(scores) if score < threshold), -1)


def processbench_f1(predicted: Sequence[int], truth: Sequence[int]) -> FirstErrors:
    """ProcessBench's figures of first wrong steps, -1 for none.

    Args:
        predicted: By the judge, [N].
        truth: As labelled, [N]; solutions with and without an error have to occur, else ``ConfigError``.
    """
    pairs = list(zip(predicted, truth, strict=True))
    return f1_of_hits([found == label for found, label in pairs], [label == -1 for _, label in pairs])


def f1_of_hits(hits: Sequence[bool], clean: Sequence[bool]) -> FirstErrors:
    """`processbench_f1` from whether each solution was judged rightly and whether it has no error, both [N]."""
    sums = _hit_table(hits, clean).sum(axis=0)
    _check_kinds(int(sums[1]), int(sums[3]))
    wrong, right = sums[0] / sums[1], sums[2] / sums[3]
    return FirstErrors(float(wrong), float(right), float(_harmonic(wrong, right)))


def f1_interval(
    hits: Sequence[bool],
    clean: Sequence[bool],
    problems: Sequence[str] | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """The F1 of `f1_of_hits` with a percentile interval from resampled problems.

    Resamples in which only one kind occurs are left out.

    Args:
        hits: As for `f1_of_hits`, [N].
        clean: As for `f1_of_hits`, [N].
        problems: Of each solution, [N]; each its own where left out.
        seed: Of the draws.
        level: Coverage of the interval.
        resamples: How often the problems are drawn anew.
    """
    mean, table = f1_of_hits(hits, clean).f1, _hit_table(hits, clean)
    if problems is not None:
        names, owner = np.unique(np.asarray(problems), return_inverse=True)
        table = np.stack([np.bincount(owner, weights=column, minlength=names.size) for column in table.T], axis=1)
    sums = np.concatenate([times @ table for times in resampled_problems(len(table), resamples, seed)])
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    tail = (1 - checked_level(level)) / 2
    low, high = np.quantile(_harmonic(sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def tune_threshold(scores_by_solution: Sequence[Sequence[float]], truth: Sequence[int]) -> float:
    """The threshold of `first_error` with the best F1 on these solutions.

    A solution is judged rightly by the thresholds of one interval: those above its first wrong step's score and not
    above any score before. So only the ends of these intervals have to be tried. Of stretches of thresholds with equal
    F1 the lowest is taken, which calls the fewest steps wrong, and of it the middle (the end, if it has but one).

    Args:
        scores_by_solution: [N][steps].
        truth: First wrong steps, -1 for none, [N]; both kinds have to occur, else ``ConfigError``.
    """
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}  # (low, high]: rightly judged thresholds
    for scores, label in zip(scores_by_solution, truth, strict=True):
        low = -math.inf if label == -1 else scores[label]
        high = min(scores if label == -1 else scores[:label], default=math.inf)
        spans[label == -1].append((low, max(low, high)))
    _check_kinds(len(spans[False]), len(spans[True]))
    ends = np.unique([end for kind in spans.values() for span in kind for end in span if not math.isinf(end)])
    ends = np.append(ends, math.inf)
    shares = [_covering(np.array(spans[kind]), ends) / len(spans[kind]) for kind in (False, True)]
    best = int(np.argmax(_harmonic(*shares)))
    return _between(float(ends[best - 1]) if best else -math.inf, float(ends[best]))


def _ranking(values: Floats, right: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
    """The AUC as a function of how often each score counts, [N]; not a number where only one kind counts."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))  # of runs of equal scores
    positive = right[order].astype(np.float64)

    def area(times: Floats) -> float:
        weights = times[order]
        above = np.add.reduceat(weights * positive, starts)
        below = np.add.reduceat(weights * (1 - positive), starts)
        pairs = above.sum() * below.sum()
        return float(above @ (below.cumsum() - below / 2) / pairs) if pairs else math.nan

    return area


def _covering(spans: Floats, thresholds: Floats) -> npt.NDArray[np.int64]:
    """How many of the spans (low, high], [N, 2], hold each threshold."""
    opened = np.searchsorted(np.sort(spans[:, 0]), thresholds, side="left")
    return opened - np.searchsorted(np.sort(spans[:, 1]), thresholds, side="left")


def _between(low: float, high: float) -> float:
    """A finite threshold above `low` and not above `high`."""
    if math.isinf(low):
        return high if math.isfinite(high) else 0.0
    middle = (low + high) / 2
    return middle if math.isfinite(middle) and middle > low else math.nextafter(low, math.inf)


def _hit_table(hits: Sequence[bool], clean: Sequence[bool]) -> Floats:
    """Of each solution, [N, 4]: judged rightly and with an error, with an error, the same two without one."""
    hit, free = np.asarray(hits, dtype=np.bool_), np.asarray(clean, dtype=np.bool_)
    if hit.shape != free.shape or hit.ndim != 1:
        raise ConfigError(f"F1 needs one kind for each solution, got {hit.shape} and {free.shape}")
    return np.stack([hit & ~free, ~free, hit & free, free], axis=1).astype(np.float64)


def _harmonic(a: Floats, b: Floats) -> Floats:
    """The harmonic mean; 0 where both are."""
    result: Floats = 2 * a * b / np.where(a + b > 0, a + b, 1.0)
    return result


def _check_kinds(wrong: int, right: int) -> None:
    if not wrong or not right:
        raise ConfigError(f"F1 needs solutions with an error and without one, got {wrong} and {right}: take more")


def _paired(scores: Sequence[float], labels: Sequence[bool]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values, right = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if values.shape != right.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise ConfigError(f"judging needs finite scores, one label each, got {values.shape} and {right.shape}")
    return values, right


def _both_kinds(scores: Sequence[float], labels: Sequence[bool]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values, right = _paired(scores, labels)
    if right.all() or not right.any():
        raise ConfigError(f"the AUC needs something right and something wrong, got {right.sum()} of {right.size} right")
    return values, right


def _probabilities(scores: Sequence[float], labels: Sequence[bool]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values, right = _paired(scores, labels)
    if not ((values >= 0) & (values <= 1)).all():
        raise ConfigError("calibration needs scores between 0 and 1: these are no probabilities")
    return values, right
