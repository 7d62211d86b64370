"""What a folder of `evals.judging` shows: how a judge ranks, whether it is calibrated, whether it finds first errors.

Everything is computed from the rows, with intervals by bootstrap over problems, and the same rows give the same bytes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from decoding.errors import ConfigError, StoreError
from evals.data import hash_order
from evals.estimators.intervals import Interval
from evals.estimators.judging import (
    Bin,
    FirstErrors,
    auc_interval,
    calibration,
    ece,
    f1_interval,
    first_error,
    processbench_f1,
    tune_threshold,
)
from evals.store import Row, read_config, read_rows
from verifiers.judges.aggregate import aggregate
from verifiers.judges.types import ScoreKind

PARTS = 5  # of a solution, for values by position
AGGREGATED = ("last", "min", "product", "mean")


class Ranking(NamedTuple):
    """How well scores tell right from wrong."""

    what: str
    scores: int
    right: int
    auc: Interval | None  # None: only one kind occurs


class Thresholded(NamedTuple):
    """First wrong steps, found by a threshold."""

    how: str  # the threshold was chosen
    threshold: float
    solutions: int
    shares: FirstErrors
    f1: Interval


class Pace(NamedTuple):
    """What judging cost, in all the times that it took."""

    scores: int
    read: int  # tokens
    kept: int  # tokens that had been read before
    written: int  # tokens, by judges that write
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """All figures of a judge on some solutions."""

    title: str
    judge: Row  # role, kind, format and whether it was checked, backend, revision, whether it knows the truth
    problems: int
    solutions: int
    too_long: int  # solutions that do not fit the judge's context; they are in no figure
    left_out: int  # samples that were cut off
    rankings: Sequence[Ranking]
    bins: Sequence[Bin]  # none where scores are no probabilities
    ece: float | None
    first_errors: Sequence[Thresholded]  # of process rewards
    pace: Pace | None


def make_judge_report(folder: Path) -> JudgeReport:
    """Compute a folder's figures. Raises ``StoreError`` if there is nothing in it yet."""
    config = read_config(folder)["config"]
    rows = {row["id"]: row for row in read_rows(folder, "scores")}
    scored = sorted((row for row in rows.values() if "error" not in row), key=lambda row: row["id"])
    if "role" not in config or not scored:
        raise StoreError(f"{folder} holds no judged solutions: run `bethink judge` on it first")
    role, kind = config["role"], ScoreKind(config["kind"])
    pairs = {"prm": step_labels, "value": _outcomes, "orm": _outcomes}[role]
    flat = [pair for row in scored for pair in pairs(row)]
    probable = kind is ScoreKind.PROBABILITY
    values, labels = [score for score, _ in flat], [label for _, label in flat]
    return JudgeReport(
        title=f"{config['name']} on {config['source']}",
        judge={key: config[key] for key in ("role", "kind", "format", "verified", "backend", "revision", "oracle")},
        problems=len({row["problem"] for row in scored}),
        solutions=len(scored),
        too_long=len(rows) - len(scored),
        left_out=config["left_out"],
        rankings=_RANKINGS[role](scored, kind),
        bins=calibration(values, labels) if probable else (),
        ece=ece(values, labels) if probable else None,
        first_errors=_first_errors(scored, kind) if role == "prm" else (),
        pace=_pace(folder),
    )


def step_labels(row: Row) -> list[tuple[float, bool]]:
    """Scores of steps, each with whether no step up to it is wrong, as in Math-Shepherd (arXiv 2312.08935)."""
    label = row["first_error"]
    return [(score, label == -1 or index < label) for index, score in enumerate(row["scores"])]


def is_for_tuning(problem: str) -> bool:
    """Whether a threshold may be tuned on a problem: half of them, by the first bit of the sha256 of "tuning/" and id.

    The id alone won't do: the first problems of a data set are those with the lowest hashes of their ids.
    """
    return hash_order(f"tuning/{problem}")[0] < 128


def _outcomes(row: Row) -> list[tuple[float, bool]]:
    return [(score, row["right"]) for score in row["scores"]]


def _prm_rankings(rows: Sequence[Row], kind: ScoreKind) -> list[Ranking]:
    # Judges that were trained to the first error only have said nothing of what follows it.
    begun = [{**row, "scores": row["scores"][: row["first_error"] + 1 or None]} for row in rows]
    found = [_ranking("steps", rows, step_labels), _ranking("steps up to the first wrong one", begun, step_labels)]
    for how in AGGREGATED:
        if how != "product" or kind is ScoreKind.PROBABILITY:
            whole = [{**row, "scores": [aggregate(row["scores"], how, kind)]} for row in rows]
            found.append(_ranking(f"solutions with a right answer, by {how}", whole, _outcomes))
    return found


def _value_rankings(rows: Sequence[Row], _: ScoreKind) -> list[Ranking]:
    """Values of prefixes against how the solution ended, by the part of its steps that was read."""
    found = [_ranking("prefixes", rows, _outcomes)]
    for part in range(PARTS):
        inside = [
            {**row, "scores": [s for i, s in enumerate(row["scores"]) if i * PARTS // len(row["scores"]) == part]}
            for row in rows
        ]
        low, high = 100 * part // PARTS, 100 * (part + 1) // PARTS
        found.append(_ranking(f"prefixes, last step in {low} to {high} % of the solution", inside, _outcomes))
    whole = [{**row, "scores": row["scores"][-1:]} for row in rows]
    return [*found, _ranking("whole solutions", whole, _outcomes)]


def _orm_rankings(rows: Sequence[Row], _: ScoreKind) -> list[Ranking]:
    return [_ranking("solutions with a right answer", rows, _outcomes)]


_RANKINGS: Mapping[str, Callable[[Sequence[Row], ScoreKind], list[Ranking]]] = {
    "prm": _prm_rankings,
    "value": _value_rankings,
    "orm": _orm_rankings,
}


def _ranking(what: str, rows: Iterable[Row], pairs: Callable[[Row], list[tuple[float, bool]]]) -> Ranking:
    problems: dict[str, list[tuple[float, bool]]] = {}
    for row in rows:
        problems.setdefault(row["problem"], []).extend(pairs(row))
    scores = [[score for score, _ in own] for own in problems.values()]
    labels = [[label for _, label in own] for own in problems.values()]
    size, right = sum(map(len, labels)), sum(map(sum, labels))
    return Ranking(what, size, right, auc_interval(scores, labels, seed=0) if 0 < right < size else None)


def _first_errors(rows: Sequence[Row], kind: ScoreKind) -> list[Thresholded]:
    tuning = [row for row in rows if is_for_tuning(row["problem"])]
    others = [row for row in rows if not is_for_tuning(row["problem"])]
    ways: list[tuple[str, Sequence[Row] | float, Sequence[Row]]] = [
        ("tuned on the other half of the problems", tuning, others),
        ("tuned on these solutions", rows, rows),
    ]
    if kind is ScoreKind.PROBABILITY:
        ways.append(("fixed", 0.5, rows))
    found = []
    for how, basis, measured in ways:
        try:
            threshold = basis if isinstance(basis, float) else _tuned(basis)
            found.append(_thresholded(how, threshold, measured))
        except ConfigError:  # one kind of solutions is missing
            continue
    return found


def _tuned(rows: Sequence[Row]) -> float:
    return tune_threshold([row["scores"] for row in rows], [row["first_error"] for row in rows])


def _thresholded(how: str, threshold: float, rows: Sequence[Row]) -> Thresholded:
    truth = [row["first_error"] for row in rows]
    predicted = [first_error(row["scores"], threshold) for row in rows]
    hits = [found == label for found, label in zip(predicted, truth, strict=True)]
    f1 = f1_interval(hits, [label == -1 for label in truth], problems=[row["problem"] for row in rows])
    return Thresholded(how, threshold, len(rows), processbench_f1(predicted, truth), f1)


def _pace(folder: Path) -> Pace | None:
    sessions = list(read_rows(folder, "sessions"))
    if not sessions:
        return None

    def used(column: str) -> int:
        return sum(row["usage"].get(column, 0) for row in sessions)

    return Pace(
        scores=sum(row["scores"] for row in sessions),
        read=used("scored_tokens"),
        kept=used("scored_tokens_cached"),
        written=used("generated_tokens"),
        seconds=sum(row["seconds"] for row in sessions),
    )
