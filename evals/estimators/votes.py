"""Votes of k samples out of n: the plain majority by counting, a weighted vote by enumeration or by seeded subsets."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from decoding.seeds import counter_uniforms, derive_seed
from evals.estimators.intervals import Floats

ENUMERABLE = 20_000  # k-subsets that are enumerated; of more, a seeded part is drawn
SUBSETS = 4_000  # drawn then
_TIED = 1e-12  # of the winner's weight: sums in another order differ by less


class Estimate(NamedTuple):
    """A figure and the error that drawing subsets adds to it."""

    value: float
    standard_error: float  # of the Monte-Carlo draw alone; 0 where all subsets were enumerated


@lru_cache(maxsize=100_000)
def majority_curve(correct: int, wrong: tuple[int, ...], abstentions: int) -> Floats:
    """The chance that a class of `correct` members wins the vote of k, for k = 1 .. n, [n].

    A k-subset in which the class has j votes, t others as many and the rest fewer is worth 1 / (1 + t). The
    subsets are counted by a polynomial in x (samples taken) and y (classes tied), multiplied up class by class, and
    since 1 / (1 + t) is the integral of y^t from 0 to 1, the shares come from Gauss-Legendre nodes in y, exactly.

    Args:
        correct: Members of the class.
        wrong: Members of each other class, sorted.
        abstentions: Samples without an answer.
    """
    n = correct + sum(wrong) + abstentions
    worth = np.zeros(n + 1)
    for votes in range(1, correct + 1):
        rivals = [size for size in wrong if size >= votes]
        harmless = n - correct - sum(rivals)  # abstentions, and classes too small to draw level
        nodes, node_weights = np.polynomial.legendre.leggauss(len(rivals) // 2 + 1)
        product = np.tile(_binomials(harmless, n), (nodes.size, 1))  # [nodes, samples taken]
        for size in rivals:
            factor = np.tile(_binomials(size, votes), (nodes.size, 1))
            factor[:, votes] *= (nodes + 1) / 2
            product = _times(product, factor)
        worth[votes:] += math.comb(correct, votes) * (node_weights / 2 @ product)[: n + 1 - votes]
    return worth[1:] / _binomials(n, n)[1:]


def weighted_vote_at_k(
    classes: Sequence[int | None],
    weights: Sequence[float],
    right: Sequence[bool],
    k: int,
    subsets: int = SUBSETS,
    seed: int = 0,
) -> Estimate:
    """The chance that the weighted vote of k samples is right: each votes with its weight, ties are shared evenly.

    There is no closed form. Up to 20,000 k-subsets are enumerated; of more, `subsets` are drawn with a seed, each
    without replacement, and the standard error of that draw stands beside the figure.

    Args:
        classes: Equality class of each sample's answer, [n]; None does not vote.
        weights: Of each sample, [n], finite and at least 0.
        right: Whether each class, numbered from 0, is right.
        k: Samples in a vote.
        subsets: Drawn where there are too many to enumerate; at least 2.
        seed: Of the draws.
    """
    n = len(classes)
    mass = np.asarray(weights, dtype=np.float64)
    if mass.shape != (n,) or not (np.isfinite(mass).all() and (mass >= 0).all()):
        raise ConfigError("a weighted vote needs one weight a sample, finite and at least 0")
    if not 1 <= k <= n or subsets < 2:
        raise ConfigError(f"need 1 <= k <= n and 2 subsets or more, got k={k}, n={n}, subsets={subsets}")
    if any(label is not None and not 0 <= label < len(right) for label in classes):
        raise ConfigError(f"classes must be numbers from 0 to {len(right) - 1}, one verdict each")
    members = np.zeros((n, len(right)))
    for sample, label in enumerate(classes):
        if label is not None:
            members[sample, label] = 1
    exact = math.comb(n, k) <= ENUMERABLE
    taken = _all_subsets(n, k) if exact else _some_subsets(n, k, subsets, seed)
    incidence = np.zeros((len(taken), n))
    np.put_along_axis(incidence, taken, 1.0, axis=1)
    worth = _worth(incidence, members, mass, np.asarray(right, dtype=np.float64))
    error = 0.0 if exact else float(worth.std(ddof=1)) / math.sqrt(len(worth))
    return Estimate(float(worth.mean()), error)


def _worth(incidence: Floats, members: Floats, mass: Floats, right: Floats) -> Floats:
    """Of each subset, [S]: the share of right ones among the classes that win it; 0 where nobody votes."""
    if not right.size:
        return np.zeros(len(incidence))
    totals = incidence @ (members * mass[:, None])
    present = incidence @ members > 0
    totals[~present] = -np.inf
    top = totals.max(axis=1, keepdims=True)
    wins = present & (totals >= top - _TIED * np.abs(np.where(np.isfinite(top), top, 0.0)))
    shares: Floats = (wins @ right) / np.maximum(1, wins.sum(axis=1))
    return shares


def _all_subsets(n: int, k: int) -> npt.NDArray[np.int64]:
    return np.array(list(itertools.combinations(range(n), k)), dtype=np.int64)


def _some_subsets(n: int, k: int, subsets: int, seed: int) -> npt.NDArray[np.int64]:
    """Subsets drawn uniformly, [subsets, k]: the places of the k smallest of n uniforms."""
    key = np.array([derive_seed(seed, "weighted vote", n, k)], np.uint64)
    uniforms = counter_uniforms(key, np.arange(subsets * n, dtype=np.uint64)).reshape(subsets, n)
    places: npt.NDArray[np.int64] = np.argpartition(uniforms, k - 1, axis=1)[:, :k]
    return places


def _binomials(n: int, length: int) -> Floats:
    """C(n, 0) .. C(n, length), [length + 1]."""
    return np.array([math.comb(n, k) for k in range(length + 1)], dtype=np.float64)


def _times(product: Floats, factor: Floats) -> Floats:
    """Rows of polynomials multiplied, cut at the length of `product`."""
    result = product * factor[:, :1]
    for degree in range(1, factor.shape[1]):
        result[:, degree:] += product[:, :-degree] * factor[:, degree : degree + 1]
    return result
