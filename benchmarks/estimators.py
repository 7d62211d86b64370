"""Estimators against enumeration, and coverage laws against planted truths.

Each estimator is compared with the mean of a plain definition over all subsets or orders of small random pools. The
laws are fitted to pools drawn from worlds whose coverage is known: one of the beta-binomial's own family, and two that
belong to neither law.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.machine import write
from evals.estimators.coverage import extrapolate
from evals.estimators.flaws import pool_curves, supposed_curves
from evals.estimators.intervals import Floats
from evals.estimators.metrics import best_of_n_at_k, maj_at_k, pass_at_k, pass_hat_k
from evals.estimators.paired import binomial_p
from evals.estimators.votes import weighted_vote_at_k

CASES = 300
LARGEST = 8  # samples of a pool that is enumerated


class Checked(NamedTuple):
    """An estimator and how far it was from its definition."""

    estimator: str
    cases: int
    deviation: float  # the largest


class Recovered(NamedTuple):
    """A law fitted to pools of a world, at 16 times their depth; means over the pools."""

    world: str
    law: str
    pools: int
    truth: float
    estimate: float
    error: float  # root mean square
    covered: float  # share of 95 % intervals that hold the truth


def measure(cases: int = CASES, seed: int = 0) -> list[Checked]:
    """Every estimator on random small pools."""
    return [
        Checked(name, cases, max(deviation(random.Random(f"{seed}/{name}/{case}")) for case in range(cases)))
        for name, deviation in DEVIATIONS.items()
    ]


def _pass(rng: random.Random) -> float:
    n, k, right = _pool(rng)
    return abs(pass_at_k(n, sum(right), k) - _mean(any(right[i] for i in chosen) for chosen in _subsets(n, k)))


def _pass_hat(rng: random.Random) -> float:
    n, k, right = _pool(rng)
    return abs(pass_hat_k(n, sum(right), k) - _mean(all(right[i] for i in chosen) for chosen in _subsets(n, k)))


def _best(rng: random.Random) -> float:
    n, k, right = _pool(rng)
    scores = [rng.choice([-math.inf, math.nan, 0.0, 0.5, 0.5, 1.0]) for _ in range(n)]
    ranked = [-math.inf if math.isnan(score) else score for score in scores]

    def worth(chosen: Sequence[int]) -> float:
        top = max(ranked[i] for i in chosen)
        return statistics.mean(right[i] for i in chosen if ranked[i] == top)

    return abs(best_of_n_at_k(scores, right, k) - _mean(map(worth, _subsets(n, k))))


def _majority(rng: random.Random) -> float:
    """Any number of classes may be right."""
    n, k, _ = _pool(rng)
    answers = [rng.choice([None, 0, 0, 1, 1, 2, 3]) for _ in range(n)]
    right = {label for label in range(4) if rng.random() < 0.4}
    counts = [answers.count(label) for label in range(4)]
    found = maj_at_k(counts, right, k, abstentions=answers.count(None))
    return abs(found - _mean(_vote_worth(answers, [1] * n, right, chosen) for chosen in _subsets(n, k)))


def _weighted(rng: random.Random) -> float:
    n, k, _ = _pool(rng)
    answers = [rng.choice([None, 0, 0, 1, 1, 2]) for _ in range(n)]
    weights = [rng.choice([0, 1, 2, 3, 5]) for _ in range(n)]  # whole numbers: sums are tied exactly or not at all
    right = [rng.random() < 0.4 for _ in range(3)]
    winners = {label for label in range(3) if right[label]}
    found = weighted_vote_at_k(answers, [weight / 8 for weight in weights], right, k)
    return abs(found.value - _mean(_vote_worth(answers, weights, winners, chosen) for chosen in _subsets(n, k)))


def _resampling(rng: random.Random) -> float:
    """Accepted right, accepted wrong and attempts, over all orders of up to six samples."""
    n = rng.randint(1, 6)
    kinds = [rng.choice("rwn") for _ in range(n)]  # accepted and right, accepted and wrong, refused
    found = np.array(pool_curves(n, kinds.count("r"), kinds.count("w")))
    return float(np.abs(found - _orders(kinds)).max())


def _supposed(rng: random.Random) -> float:
    """The same where acceptance is by chance, over all that may be accepted."""
    n = rng.randint(1, 4)
    right = rng.randint(0, n)
    accept = [rng.choice([0.0, 0.3, 0.9, 1.0]) for _ in range(2)]
    total = np.zeros((3, n + 1))
    for accepted in itertools.product([True, False], repeat=n):
        chances = [accept[i >= right] if a else 1 - accept[i >= right] for i, a in enumerate(accepted)]
        kinds = [("r" if i < right else "w") if a else "n" for i, a in enumerate(accepted)]
        total += math.prod(chances) * _orders(kinds)
    return float(np.abs(np.array(supposed_curves(n, right, accept[0], 1 - accept[1])) - total).max())


def _sign(rng: random.Random) -> float:
    """McNemar's and the sign test's p: all ways in which signs may fall."""
    m = rng.randint(0, 10)
    first = rng.randint(0, m)
    lead = abs(2 * first - m)
    leads = [abs(2 * sum(signs) - m) for signs in itertools.product([0, 1], repeat=m)]
    p = _mean(other >= lead for other in leads)
    # The mid-p counts half of what is as extreme on the observed side, and of what mirrors it on the other.
    mid = 1.0 if lead == 0 else p - _mean(other == lead for other in leads) / 2
    found = binomial_p(first, m - first)
    return max(abs(found[0] - p), abs(found[1] - mid))


DEVIATIONS: Mapping[str, Callable[[random.Random], float]] = {
    "pass@k": _pass,
    "pass^k": _pass_hat,
    "maj@k": _majority,
    "best-of-n@k": _best,
    "weighted vote@k": _weighted,
    "resampling until accepted": _resampling,
    "resampling, check supposed": _supposed,
    "McNemar, sign test": _sign,
}


def recover(pools: int = 20, problems: int = 500, samples: int = 64, seed: int = 0) -> list[Recovered]:
    """Both laws on pools of worlds whose coverage is known."""
    found: list[Recovered] = []
    for world, draw in WORLDS.items():
        furthest = 16 * samples
        crowd = draw(np.random.default_rng(seed), 2_000_000)
        truth = float(1 - np.mean((1 - crowd) ** furthest))
        fits: dict[str, list[tuple[float, bool]]] = {}
        for pool in range(pools):
            rng = np.random.default_rng([seed, pool])
            right = rng.binomial(samples, draw(rng, problems))
            for fit in extrapolate(samples, right.tolist()):
                value = fit.values[-1]
                fits.setdefault(fit.name, []).append((value.mean, value.low <= truth <= value.high))
        for law, values in fits.items():
            estimates = [value for value, _ in values]
            error = math.sqrt(statistics.mean((value - truth) ** 2 for value in estimates))
            covered = statistics.mean(hit for _, hit in values)
            found.append(Recovered(world, law, pools, truth, statistics.mean(estimates), error, covered))
    return found


def _beta(rng: np.random.Generator, size: int) -> Floats:
    return rng.beta(0.3, 1.5, size)


def _logit_normal(rng: np.random.Generator, size: int) -> Floats:
    chances: Floats = 1 / (1 + np.exp(3 - 2.5 * rng.standard_normal(size)))
    return chances


def _hopeless(rng: np.random.Generator, size: int) -> Floats:
    chances: Floats = np.where(rng.random(size) < 0.2, 0.0, rng.beta(1, 4, size))
    return chances


WORLDS: Mapping[str, Callable[[np.random.Generator, int], Floats]] = {
    "beta(0.3, 1.5)": _beta,
    "logit-normal(-3, 2.5)": _logit_normal,
    "one in five hopeless, else beta(1, 4)": _hopeless,
}


def _pool(rng: random.Random) -> tuple[int, int, list[bool]]:
    """n, k <= n, and whether each sample is right."""
    n = rng.randint(1, LARGEST)
    share = rng.random()
    return n, rng.randint(1, n), [rng.random() < share for _ in range(n)]


def _subsets(n: int, k: int) -> Iterator[tuple[int, ...]]:
    return itertools.combinations(range(n), k)


def _vote_worth(answers: Sequence[int | None], weights: Sequence[int], right: set[int], chosen: Sequence[int]) -> float:
    totals: dict[int, int] = {}
    for i in chosen:
        label = answers[i]
        if label is not None:
            totals[label] = totals.get(label, 0) + weights[i]
    winners = [label for label, total in totals.items() if total == max(totals.values())]
    return len(right.intersection(winners)) / max(1, len(winners))


def _orders(kinds: Sequence[str]) -> Floats:
    """Accepted right, accepted wrong and attempts made at K = 0 .. n, by trying all orders, [3, n + 1]."""
    n, orders = len(kinds), list(itertools.permutations(kinds))
    total = np.zeros((3, n + 1))
    for order in orders:
        stop = next((i for i, kind in enumerate(order) if kind != "n"), None)
        for k in range(n + 1):
            if stop is not None and stop < k:
                total[0 if order[stop] == "r" else 1, k] += 1
            total[2, k] += k if stop is None else min(k, stop + 1)
    return total / len(orders)


def _mean(values: Iterable[float]) -> float:
    seen = list(values)
    return math.fsum(seen) / len(seen)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--pools", type=int, default=20)
    arguments = parser.parse_args()
    lines = ["# Estimators", "", "| estimator | random pools | largest deviation from enumeration |", "|---|---|---|"]
    lines += [f"| {c.estimator} | {c.cases} | {c.deviation:.1e} |" for c in measure(arguments.cases)]
    lines += [
        "",
        "Coverage at 1,024 samples, extrapolated from pools of 500 problems x 64 samples of a known world:",
        "",
        "| world | law | pools | truth, % | mean estimate, % | r.m.s. error, points | 95 % intervals with the truth |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| {r.world} | {r.law} | {r.pools} | {100 * r.truth:.1f} | {100 * r.estimate:.1f} | {100 * r.error:.1f} "
        f"| {100 * r.covered:.0f} % |"
        for r in recover(arguments.pools)
    ]
    write("estimators", "\n".join(lines), f"python -m benchmarks.estimators --cases {arguments.cases}")


if __name__ == "__main__":
    main()
