"""Scores as probabilities, for methods whose weights are made of them."""

import math
from collections.abc import Mapping

from decoding.errors import ConfigError
from reasoning.judging import judge_of
from reasoning.score import Score
from verifiers.judges.types import Judge, ScoreKind

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, so that a judge that is certain and wrong ends nothing. its_hub clips
likewise; the logit is then at most 16.1."""


def score_kind(score: Score, judges: Mapping[str, Judge]) -> ScoreKind:
    """What a score's numbers are; raises ``ConfigError`` for one that no judge gives."""
    if score.role is None:
        raise ConfigError(f"weights are made of a judge's probabilities, and the score {score.name} asks no judge")
    return judge_of(judges, score.role).info.kind


def probability(score: float, kind: ScoreKind) -> float:
    """A score as a probability in [`CLIP`, 1 - `CLIP`].

    A value in [-1, 1], the expectation of an outcome of 1 or -1, is (value + 1) / 2; a logit and a log-ratio go through
    the logistic function. A score of minus infinity (nothing is known) is `CLIP`.
    """
    match kind:
        case ScoreKind.PROBABILITY:
            share = score
        case ScoreKind.VALUE:
            share = (score + 1) / 2
        case ScoreKind.LOGIT | ScoreKind.LOG_RATIO:
            share = 1 / (1 + math.exp(-score)) if score > -700 else 0.0
    return min(max(share, CLIP), 1 - CLIP)


def log_odds(share: float) -> float:
    """The logit of a probability that `probability` gave."""
    return math.log(share) - math.log1p(-share)
