"""The estimators as metrics of the Hugging Face library ``evaluate``.

They are classes of this module, so they work offline, where ``evaluate.load`` would fetch a script from the hub:

    from evals.estimators.hf_metrics import PassAtK
    PassAtK().compute(predictions=[["3", "4"], ["7", "7"]], references=["4", "7"], k=[1, 2])
    # {"pass@1": 0.75, "pass@2": 1.0}

``grader`` says how predictions are read and when two answers are equal. With ``exact`` a prediction is the answer, and
an empty one is none; a name that `verifiers.graders.grader_by_name` knows, such as ``number``, reads the answer from a
text. Every problem needs at least k predictions.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from decoding.errors import ConfigError
from evals.estimators.intervals import wilson
from evals.estimators.metrics import maj_at_k, pass_at_k, pass_hat_k
from verifiers.base import AnswerFormat, Verifier
from verifiers.exact import ExactVerifier
from verifiers.graders import grader_by_name

try:
    import datasets
    import evaluate
except ImportError as error:
    raise ConfigError("metrics of `evaluate` need it installed: pip install 'bethink[data]'") from error

_CITATION = "Estimators of bethink; sources are in evals.estimators.metrics."
_SAMPLES = datasets.Features(
    {"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")}
)
_ONE = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class _Metric(evaluate.Metric):  # type: ignore[misc]
    """What the metrics share: how they describe themselves, and that nothing is written to the disk."""

    features = _SAMPLES

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **settings})

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "", citation=_CITATION, inputs_description=__doc__, features=self.features
        )


class PassAtK(_Metric):
    """The chance that one of k answers is right, unbiased; the mean over problems for each k."""

    def _compute(
        self, predictions: list[list[str]], references: list[str], k: Sequence[int] = (1,), grader: str = "exact"
    ) -> dict[str, float]:
        counts = _right_counts(predictions, references, grader)
        return {f"pass@{i}": _mean(pass_at_k(n, c, i) for n, c in counts) for i in k}


class PassHatK(_Metric):
    """The chance that all of k answers are right, unbiased; the mean over problems for each k."""

    def _compute(
        self, predictions: list[list[str]], references: list[str], k: Sequence[int] = (1,), grader: str = "exact"
    ) -> dict[str, float]:
        counts = _right_counts(predictions, references, grader)
        return {f"pass^{i}": _mean(pass_hat_k(n, c, i) for n, c in counts) for i in k}


class MajAtK(_Metric):
    """The chance that the majority of k answers is right, exact, ties shared; the mean over problems for each k."""

    def _compute(
        self, predictions: list[list[str]], references: list[str], k: Sequence[int] = (1,), grader: str = "exact"
    ) -> dict[str, float]:
        answers, verifier = _grader(grader)
        pairs = [(_read(given, answers), reference) for given, reference in zip(predictions, references, strict=True)]
        votes = [_vote(given, reference, answers, verifier) for given, reference in pairs]
        return {f"maj@{i}": _mean(maj_at_k(counts, right, i, blank) for counts, right, blank in votes) for i in k}


class Accuracy(_Metric):
    """The share of right answers, one a problem, with Wilson's interval."""

    features = _ONE

    def _compute(
        self, predictions: list[str], references: list[str], grader: str = "exact", level: float = 0.95
    ) -> dict[str, float]:
        counts = _right_counts([[answer] for answer in predictions], references, grader)
        interval = wilson(sum(c for _, c in counts), len(counts), level)
        return {"accuracy": interval.mean, "low": interval.low, "high": interval.high}


def _right_counts(predictions: list[list[str]], references: list[str], grader: str) -> list[tuple[int, int]]:
    """Answers and right ones of each problem."""
    answers, verifier = _grader(grader)
    return [
        (len(given), sum(verifier.verify(answer, reference).correct for answer in _read(given, answers)))
        for given, reference in zip(predictions, references, strict=True)
    ]


def _vote(
    given: list[str | None], reference: str, answers: AnswerFormat | None, verifier: Verifier
) -> tuple[list[int], list[int], int]:
    """Votes of each class, the classes whose first member is right, and abstentions."""
    members: dict[str, int] = {}  # of each class, by its first member
    for answer in filter(None, given):
        same = next((first for first in members if _equal(answer, first, answers)), answer)
        members[same] = members.get(same, 0) + 1
    right = [i for i, first in enumerate(members) if verifier.verify(first, reference).correct]
    return [*members.values()], right, given.count(None)


def _equal(answer: str, first: str, answers: AnswerFormat | None) -> bool:
    if answers is None or answer == first:
        return answer == first
    if answers.key(answer) == answers.key(first):
        return True
    return answers.equality is not None and answers.equality.verify(answer, first).correct


def _grader(name: str) -> tuple[AnswerFormat | None, Verifier]:
    return (None, ExactVerifier()) if name == "exact" else grader_by_name(name)


def _read(given: list[str], answers: AnswerFormat | None) -> list[str | None]:
    return [(text or None) if answers is None else answers.extract(text).value for text in given]


def _mean(values: Iterable[float]) -> float:
    figures = list(values)
    return sum(figures) / len(figures)
