"""Ways to choose an answer, judged at k samples from a stored pool.

What a choice by probability comes to depends on the whole subset (which paths are the same, where the mixture's
components lie), so it has no closed form over all k-subsets of a pool: seeded subsets are drawn, the same ones for all
ways, and the error that the drawing leaves is reported. Ties share the credit evenly.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decoding.errors import ConfigError
from decoding.seeds import counter_uniforms, derive_seed
from evals.estimators.votes import Estimate
from evals.store import Row
from reasoning.selection import Vote, in_proportion, majority, perplexity_consistency, prune_unlikely, weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Judged samples of one problem, [N] each."""

    paths: Sequence[Hashable]  # what tells samples apart: token ids, or texts
    logprobs: Sequence[float]  # nats of all tokens
    lengths: Sequence[int]  # tokens
    classes: Sequence[int | None]  # of the answers; None: no answer
    correct: Sequence[bool]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Samples":
        """Rows of a pool (`evals.reports.figures`) as samples; ``ConfigError`` where one has no log-probability."""
        if any(row["logprob"] is None for row in rows):
            raise ConfigError("choosing by probability needs log-probabilities: sample with `logprobs` on")
        names = [row["class"] for row in rows]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
        return cls(
            paths=[tuple(row["token_ids"]) for row in rows],
            logprobs=[row["logprob"] for row in rows],
            lengths=[len(row["token_ids"]) for row in rows],
            classes=[None if name is None else numbers[name] for name in names],
            correct=[row["outcome"] == "correct" for row in rows],
        )

    @property
    def mean_logprobs(self) -> list[float]:
        """Nats a token, [N]."""
        return [total / max(1, length) for total, length in zip(self.logprobs, self.lengths, strict=True)]

    def take(self, slots: Sequence[int]) -> "Samples":
        """Those in some slots."""
        return Samples(
            paths=[self.paths[i] for i in slots],
            logprobs=[self.logprobs[i] for i in slots],
            lengths=[self.lengths[i] for i in slots],
            classes=[self.classes[i] for i in slots],
            correct=[self.correct[i] for i in slots],
        )


class Picked(NamedTuple):
    """What a choice is worth."""

    credit: float  # the share of right ones among the answers tied for the first place; 0 where there is no answer
    confidence: float


Selector = Callable[[Samples], Picked]


def by_majority(samples: Samples) -> Picked:
    """Self-consistency."""
    return _picked(samples, majority(samples.classes))


def by_perplexity(samples: Samples) -> Picked:
    """The sample of the highest mean log-probability, as confident as its probability by the token (PPL in RPC)."""
    means = samples.mean_logprobs
    eligible = [i for i, label in enumerate(samples.classes) if label is not None]
    if not eligible:
        return Picked(0.0, 0.0)
    top = max(means[i] for i in eligible)
    return Picked(_mean([samples.correct[i] for i in eligible if means[i] == top]), math.exp(top))


def by_confidence(temperature: float) -> Selector:
    """The vote weighted by exp(mean log-probability / temperature), as in CISC (arXiv 2502.06233)."""

    def select(samples: Samples) -> Picked:
        logs = [mean / temperature for mean in samples.mean_logprobs]
        weights = in_proportion(logs, [label is not None for label in samples.classes]).weights
        return _picked(samples, weighted(samples.classes, weights))

    return select


def by_probability(*, whole: bool, prune: bool) -> Selector:
    """Perplexity consistency, and with `prune` RPC; of whole paths or by the token (arXiv 2502.00511)."""

    def select(samples: Samples) -> Picked:
        logs, classes = samples.logprobs if whole else samples.mean_logprobs, list(samples.classes)
        if prune:
            for index in prune_unlikely(classes, samples.paths, logs, whole=whole).indices:
                classes[index] = None
        weights = perplexity_consistency(classes, samples.paths, logs).weights
        return _picked(samples, weighted(samples.classes, weights))

    return select


SELECTORS: Mapping[str, Selector] = {
    "majority": by_majority,
    "confidence, T=1": by_confidence(1.0),
    "confidence, T=0.1": by_confidence(0.1),
    "PC, token": by_probability(whole=False, prune=False),
    "PC, path": by_probability(whole=True, prune=False),
    "RPC, token": by_probability(whole=False, prune=True),
    "RPC, path": by_probability(whole=True, prune=True),
    "PPL": by_perplexity,
}


def subsets_of(n: int, k: int, count: int, seed: int) -> list[list[int]]:
    """Subsets of k among n slots, drawn uniformly and apart from each other; for k = n there is but one.

    Raises ``ConfigError`` unless 1 <= k <= n and `count` is at least 1.
    """
    if not 1 <= k <= n or count < 1:
        raise ConfigError(f"need 1 <= k <= n and at least one subset, got k={k}, n={n}, subsets={count}")
    if k == n:
        return [list(range(n))]
    key = np.array([derive_seed(seed, "subsets", n, k)], np.uint64)
    uniforms = counter_uniforms(key, np.arange(count * n, dtype=np.uint64)).reshape(count, n)
    return [sorted(map(int, order[:k])) for order in np.argsort(uniforms, axis=1, kind="stable")]


def monte_carlo(worth: Sequence[Sequence[float]]) -> Estimate:
    """The mean over problems of credits, [P, subsets], and its Monte-Carlo standard error."""
    table = np.asarray(worth, dtype=np.float64)
    problems, drawn = table.shape
    if drawn == 1:  # the whole pool, or a single draw, which tells nothing of its error
        return Estimate(float(table.mean()), 0.0)
    variances = table.var(axis=1, ddof=1) / drawn
    return Estimate(float(table.mean()), float(np.sqrt(variances.sum())) / problems)


def calibration_error(confidences: Sequence[float], worth: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error: |mean confidence - mean credit| of each bin, weighted by its members.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3. Bins are of equal width and closed above, as in
    RPC's code; a confidence of 0 belongs to the first. Raises ``ConfigError`` outside of [0, 1].
    """
    confidence, credit = np.asarray(confidences, dtype=np.float64), np.asarray(worth, dtype=np.float64)
    if confidence.shape != credit.shape or not ((confidence >= 0) & (confidence <= 1 + 1e-9)).all():
        raise ConfigError("the calibration error needs one credit for each confidence, and these between 0 and 1")
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidence - credit, minlength=bins)
    return float(np.abs(gaps).sum() / max(1, confidence.size))


def _picked(samples: Samples, vote: Vote) -> Picked:
    winners = [
        c for c, weight in vote.weights.items() if vote.winner is not None and weight == vote.weights[vote.winner]
    ]
    # Members of a class are judged by its first one, whose answer a vote would give.
    return Picked(_mean([samples.correct[samples.classes.index(c)] for c in winners]), vote.share)


def _mean(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else 0.0
