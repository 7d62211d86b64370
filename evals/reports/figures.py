"""The pool of a results folder, and the figures of one problem's samples at k.

Answers are voted in equality classes. A grade row names its class (the spelling of the class's first member) where that
is not the answer itself. Equality need not be transitive, so members of one class can be judged differently: the class
is right if its first member is, since that is the answer that a vote would give.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evals.estimators.intervals import Floats
from evals.estimators.metrics import best_of_n_at_k, maj_at_k, pass_at_k, pass_hat_k
from evals.store import Row, read_rows

METRICS = ("coverage", "majority", "best_of_n", "pass^k")

Pool = Mapping[str, Sequence[Row]]  # judged samples by problem, in slot order


def read_pool(folder: Path) -> dict[str, list[Row]]:
    """Judged samples by problem, in slot order: sample rows with answer, class, outcome and text of their grades.

    Curves need slots 0, 1, 2, ... without a gap: a strategy that stops early leaves the others to chance.
    """
    grades = {(row["problem"], row["slot"]): row for row in read_rows(folder, "grades")}
    pool: dict[str, dict[int, Row]] = {}
    for row in read_rows(folder, "samples"):
        grade = grades.get((row["problem"], row["slot"]))
        if grade is not None:
            joined = {**row, **{key: grade.get(key) for key in ("answer", "outcome", "text")}}
            joined["class"] = grade.get("class", grade["answer"])
            pool.setdefault(row["problem"], {}).setdefault(row["slot"], joined)
    return {problem: _without_gap(slots) for problem, slots in sorted(pool.items()) if 0 in slots}


def pool_depth(pool: Pool) -> int:
    """Samples that every problem has."""
    return min((len(samples) for samples in pool.values()), default=0)


def powers(depth: int) -> list[int]:
    """1, 2, 4, ... and the depth itself."""
    ks = [2**i for i in range(depth.bit_length()) if 2**i <= depth]
    return ks if not ks or ks[-1] == depth else [*ks, depth]


def right_counts(pool: Pool, depth: int) -> list[int]:
    """Right ones among each problem's first `depth` samples, [P]."""
    return [sum(map(is_right, samples[:depth])) for samples in pool.values()]


def figure_table(metric: str, pool: Pool, depth: int, ks: Sequence[int]) -> Floats:
    """A metric of each problem's first `depth` samples at each k, [P, K]."""
    return np.array([[figure(metric, samples[:depth], k) for k in ks] for samples in pool.values()])


def figure(metric: str, samples: Sequence[Row], k: int) -> float:
    """One problem's figure at k samples; `metric` is one of `METRICS`."""
    correct = [is_right(row) for row in samples]
    match metric:
        case "coverage":
            return pass_at_k(len(samples), sum(correct), k)
        case "pass^k":
            return pass_hat_k(len(samples), sum(correct), k)
        case "majority":
            return _majority(samples, correct, k)
    # A sample without an answer is not eligible; it is given the lowest of all scores.
    scores = [_score(row) if row["answer"] is not None else -np.inf for row in samples]
    return best_of_n_at_k(scores, correct, k)


def is_right(row: Row) -> bool:
    """Whether a row was judged correct; whatever else it was judged, it was not right."""
    return bool(row["outcome"] == "correct")


def _majority(samples: Sequence[Row], correct: Sequence[bool], k: int) -> float:
    first: dict[str, bool] = {}  # whether a class is right, in order of first members
    for row, right in zip(samples, correct, strict=True):
        if row["answer"] is not None:
            first.setdefault(row["class"], right)
    counts = Counter(row["class"] for row in samples if row["answer"] is not None)
    winners = [index for index, right in enumerate(first.values()) if right]
    return maj_at_k([counts[label] for label in first], winners, k, abstentions=len(samples) - counts.total())


def _score(row: Row) -> float:
    return -np.inf if row["logprob"] is None else row["logprob"] / max(1, len(row["token_ids"]))


def _without_gap(slots: Mapping[int, Row]) -> list[Row]:
    return [slots[slot] for slot in range(next(i for i in range(len(slots) + 1) if i not in slots))]
