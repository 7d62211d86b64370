"""How many children each open node gets: a budget split in proportion to a softmax of rewards, in whole numbers.

REBASE (Wu et al. 2024, *Inference Scaling Laws*, arXiv 2408.00724, section 3.2): W_j = Round(B exp(R_j / T_b) / sum_k
exp(R_k / T_b)). Three ways to round:

- ``seq_ceil``, that of the released code: nodes in the order of their rewards take, one after another, the ceiling of
  their share of what is left. In floats the released form hands out one too many in about 2.5 % of draws, and often two
  and none to nodes with equal rewards; here tails are summed from the smallest weight up and a share that is whole but
  for rounding is whole, so widths sum to the budget.
- ``largest_remainder``: shares rounded down, and what is left to those that lost most. Sums to the budget.
- ``round``, the paper's formula: each share to the nearest whole number, halves up. The sum is near the budget and at
  most twice it. Where all round to zero, the best node gets one child.

Of equals the one with the lower index comes first.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

from decoding.errors import ConfigError

ROUNDINGS = ("seq_ceil", "largest_remainder", "round")
_SLACK = 1e-9  # children; shares carry rounding errors of this order at most


def check_rounding(how: str) -> None:
    """Raises ``ConfigError`` for a rounding that there is not."""
    if how not in ROUNDINGS:
        raise ConfigError(f"unknown rounding {how!r}: there are {', '.join(ROUNDINGS)}")


def widths(scores: Sequence[float], budget: int, temperature: float, rounding: str) -> list[int]:
    """Children of each node, [N]; all 0 where the budget is 0 or less.

    Args:
        scores: Rewards, finite, [N].
        budget: Children in all.
        temperature: T_b, above 0. As it falls the best node gets all, as it rises all get the same.
        rounding: One of `ROUNDINGS`.
    """
    if not scores or budget <= 0:
        return [0] * len(scores)
    top = max(scores)
    weights = [math.exp((score - top) / temperature) for score in scores]
    match rounding:
        case "seq_ceil":
            return _one_after_another(weights, budget)
        case "largest_remainder":
            return _by_remainder(weights, budget)
        case "round":
            return _nearest(weights, budget)
    raise AssertionError(f"unknown rounding {rounding!r}")


def _one_after_another(weights: Sequence[float], budget: int) -> list[int]:
    order = _heaviest_first(weights)
    tails = list(accumulate(weights[index] for index in reversed(order)))[::-1]
    counts, left = [0] * len(weights), budget
    for index, tail in zip(order, tails, strict=True):
        if left == 0:  # all behind may have underflowed to 0, and so has their sum
            break
        counts[index] = min(left, math.ceil(left * weights[index] / tail - _SLACK))
        left -= counts[index]
    return counts


def _by_remainder(weights: Sequence[float], budget: int) -> list[int]:
    shares = _shares(weights, budget)
    counts = [math.floor(share + _SLACK) for share in shares]
    lost = [share - count for share, count in zip(shares, counts, strict=True)]
    by_weight = _heaviest_first(weights)
    for index in sorted(by_weight, key=lambda i: round(lost[i], 9), reverse=True)[: budget - sum(counts)]:
        counts[index] += 1
    return counts


def _nearest(weights: Sequence[float], budget: int) -> list[int]:
    counts = [math.floor(share + 0.5 + _SLACK) for share in _shares(weights, budget)]
    if not any(counts):
        counts[_heaviest_first(weights)[0]] = 1
    return counts


def _shares(weights: Sequence[float], budget: int) -> list[float]:
    total = math.fsum(weights)
    return [budget * weight / total for weight in weights]


def _heaviest_first(weights: Sequence[float]) -> list[int]:
    """Indices; the sort is stable, so equals stay in order."""
    return sorted(range(len(weights)), key=lambda index: -weights[index])
