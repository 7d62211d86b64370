"""One number from the scores of steps, by the ways in use.

``last`` (search-and-learn), ``min`` (Lightman et al. 2023, arXiv 2305.20050, and EurusPRM), ``product`` (the same), and
``mean`` (RLHFlow). ``model`` is not made from scores: the whole text is scored as one step.
"""

import math
from collections.abc import Sequence

from decoding.errors import ConfigError
from verifiers.judges.types import AGGREGATIONS, ScoreKind


def aggregate(scores: Sequence[float], how: str, kind: ScoreKind) -> float:
    """Aggregate the scores of steps, [S], at least one.

    Raises ``ConfigError`` if there is no such way, or if it makes no sense of scores of this kind: a product is one of
    probabilities.
    """
    check_aggregation(how, kind)
    match how:
        case "last":
            return scores[-1]
        case "min":
            return min(scores)
        case "product":
            return math.prod(scores)
        case "mean":
            return math.fsum(scores) / len(scores)
    raise ConfigError("aggregation 'model' needs the judge: score the whole text as one step")


def check_aggregation(how: str, kind: ScoreKind) -> None:
    """Refuse, before anything is computed, a way that there is not or that does not fit the kind of scores."""
    if how not in AGGREGATIONS:
        raise ConfigError(f"there is no aggregation {how!r}: there are {', '.join(AGGREGATIONS)}")
    if how == "product" and kind is not ScoreKind.PROBABILITY:
        raise ConfigError(f"a product is one of probabilities, and these scores are a {kind}: take last, min or mean")
