"""Choosing by probability: perplexity consistency, RPC and confidence-weighted votes against the majority.

On stored pools, so nothing is generated. All ways choose from the same seeded subsets of k samples of each problem.
"""

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.machine import RESULTS, write
from decoding.seeds import derive_seed
from evals.estimators.intervals import Interval, bootstrap
from evals.estimators.paired import paired_bootstrap
from evals.estimators.selectors import SELECTORS, Picked, Samples, Selector, calibration_error, monte_carlo, subsets_of
from evals.reports.figures import read_pool
from reasoning.selection import perplexity_consistency, prune_unlikely

POOLS: Mapping[str, Sequence[int]] = {"reference-8": (4, 16, 64), "gsm8k-smollm2": (4, 8)}
SUBSETS = 32
NOTES: Mapping[str, str] = {
    "reference-8": (
        "In this world a right solution is nearly always written in the same way, and slips differ. By the token all "
        "solutions of a problem are about as likely (a slip of several nats is spread over some eighty tokens). So PC "
        "by the token counts distinct paths: the right answer, which comes often by few paths, loses what the majority "
        "saw, and more with every further sample. For the same reason the confidence-weighted vote does little but "
        "break the majority's ties, of which there are many at k = 4. Probabilities of whole paths stand in for the "
        "frequencies and need fewer samples for it; but the likeliest path carries most of the weight, so the vote "
        "says little more than the likeliest sample (PPL) does. What pruning takes out seldom decides."
    ),
    "gsm8k-smollm2": (
        "Next to no sample of this small model is right, so no way of choosing can help, and the pool says nothing "
        "about which is best. Paths hardly ever come twice here, as in any free text, so PC by the token is the "
        "confidence-weighted vote at T=1; and by whole paths the shortest solution has all the weight."
    ),
}


class Line(NamedTuple):
    """One way of choosing at k samples."""

    way: str
    k: int
    accuracy: Interval  # bootstrap over problems
    error: float  # of drawing subsets
    gain: Interval  # over the majority, paired by problem
    ece: float | None  # mean over the subsets' indices, as over a paper's seeds; None: the way has no confidence
    seconds: float  # of the processor, a choice


class Traits(NamedTuple):
    """What of a pool matters to these ways."""

    distinct: float  # paths a sample
    distinct_right: float  # the same among right samples
    distinct_wrong: float
    likely_right: float  # geometric mean of a token's probability in right samples
    likely_wrong: float
    mass: float  # probability of all paths seen, a problem
    prunings: Mapping[str, "Prunings"]  # of all samples of each problem, by the kind of probability


class Prunings(NamedTuple):
    """What RPC did to a pool."""

    fits: Counter[str]  # how the mixture's fits came out
    weight: float  # that the pruned had in perplexity consistency, mean over the fits that converged


def one_sample(samples: Samples) -> Picked:
    """Any of them."""
    return Picked(statistics.mean(samples.correct), math.nan)


def oracle(samples: Samples) -> Picked:
    """A right one if there is one."""
    return Picked(float(any(samples.correct)), math.nan)


WAYS: Mapping[str, Selector] = {"one sample": one_sample, **SELECTORS, "oracle": oracle}


def load(pool: str) -> list[Samples]:
    """A stored pool's problems."""
    return [Samples.of(rows) for rows in read_pool(RESULTS / pool).values()]


def measure(problems: Sequence[Samples], k: int, subsets: int = SUBSETS, seed: int = 0) -> list[Line]:
    """All ways at k samples."""
    drawn = [
        [problem.take(slots) for slots in subsets_of(len(problem.paths), k, subsets, derive_seed(seed, index))]
        for index, problem in enumerate(problems)
    ]
    base = [statistics.mean(SELECTORS["majority"](some).credit for some in row) for row in drawn]
    return [_line(way, select, k, drawn, base) for way, select in WAYS.items()]


def _line(way: str, select: Selector, k: int, drawn: Sequence[Sequence[Samples]], base: Sequence[float]) -> Line:
    start = time.thread_time()  # of the processor, so that a busy machine changes it little
    picked = [[select(some) for some in row] for row in drawn]
    seconds = (time.thread_time() - start) / sum(map(len, drawn))
    worth = [[pick.credit for pick in row] for row in picked]
    means = [statistics.mean(row) for row in worth]
    columns = list(zip(*picked, strict=True))
    knows = not math.isnan(picked[0][0].confidence)
    eces = [calibration_error([p.confidence for p in c], [p.credit for p in c]) for c in columns] if knows else []
    return Line(
        way=way,
        k=k,
        accuracy=bootstrap(means),
        error=monte_carlo(worth).standard_error,
        gain=paired_bootstrap(means, base),
        ece=statistics.mean(eces) if knows else None,
        seconds=seconds,
    )


def traits(problems: Sequence[Samples]) -> Traits:
    """What of a pool matters to these ways."""

    def distinct(right: Sequence[bool]) -> float:
        kinds = [[p for p, c in zip(s.paths, s.correct, strict=True) if c in right] for s in problems]
        return sum(len(set(paths)) for paths in kinds) / max(1, sum(map(len, kinds)))

    def likely(right: bool) -> float:
        means = [m for s in problems for m, c in zip(s.mean_logprobs, s.correct, strict=True) if c is right]
        return math.exp(statistics.mean(means)) if means else math.nan

    masses = [math.fsum(map(math.exp, dict(zip(s.paths, s.logprobs, strict=True)).values())) for s in problems]
    return Traits(
        distinct=distinct([True, False]),
        distinct_right=distinct([True]),
        distinct_wrong=distinct([False]),
        likely_right=likely(True),
        likely_wrong=likely(False),
        mass=statistics.mean(masses),
        prunings={"token": _prunings(problems, whole=False), "path": _prunings(problems, whole=True)},
    )


def _prunings(problems: Sequence[Samples], *, whole: bool) -> Prunings:
    fits: Counter[str] = Counter()
    pruned: list[float] = []
    for samples in problems:
        logs = samples.logprobs if whole else samples.mean_logprobs
        indices, fit = prune_unlikely(samples.classes, samples.paths, logs, whole=whole)
        fits[fit.reason] += 1
        if fit.converged:
            weights = perplexity_consistency(samples.classes, samples.paths, logs).weights
            pruned.append(sum(weights[index] for index in indices))
    return Prunings(fits, statistics.mean(pruned) if pruned else 0.0)


def _table(pool: str, problems: Sequence[Samples], lines: Sequence[Line], found: Traits) -> list[str]:
    def span(interval: Interval, sign: str = "") -> str:
        return f"{100 * interval.mean:{sign}.1f} | {100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"

    depth = len(problems[0].paths)
    text = [f"## {pool}: {len(problems)} problems x {depth} samples", ""]
    text += ["| k | way | right, % | 95 % | s.e. of drawing | over majority | 95 % | ECE, % | CPU ms a choice |"]
    text += ["|" + "---|" * 9]
    for line in lines:
        ece = "" if line.ece is None else f"{100 * line.ece:.1f}"
        text.append(
            f"| {line.k} | {line.way} | {span(line.accuracy)} | {100 * line.error:.2f} | {span(line.gain, '+')} "
            f"| {ece} | {1e3 * line.seconds:.2f} |"
        )
    text += [
        "",
        f"Distinct paths a sample: {found.distinct:.2f}; among right samples {found.distinct_right:.2f}, among wrong "
        f"ones {found.distinct_wrong:.2f}. Probability by the token, geometric mean: {found.likely_right:.3f} in right "
        f"samples, {found.likely_wrong:.3f} in wrong ones. All paths seen of a problem have a probability of "
        f"{found.mass:.2g} together, on average.",
        "",
        "Fits of the mixture to all samples of a problem: "
        + "; ".join(
            f"by the {name}: "
            + ", ".join(f"{reason} {count}" for reason, count in each.fits.most_common())
            + f", and where it converged {100 * each.weight:.1f} % of the weight is pruned"
            for name, each in found.prunings.items()
        )
        + ".",
        "",
        NOTES[pool],
        "",
    ]
    return text


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subsets", type=int, default=SUBSETS)
    arguments = parser.parse_args()
    text = [
        "# Choosing by probability",
        "",
        f"All ways choose from the same {arguments.subsets} seeded subsets of k samples of each problem (one where k "
        "is all of them); ties share the credit. Intervals are from a bootstrap over problems, those over the majority "
        "are paired; the standard error is that of drawing subsets. ECE: 10 bins, mean over subsets. PC and RPC are of "
        "arXiv 2502.00511, by the token as released or by whole paths as its theory has it; RPC prunes nothing where "
        "there are fewer than five distinct probabilities. Confidence is CISC's vote (arXiv 2502.06233) by mean "
        "log-probability at a temperature; PPL takes the sample of the highest one.",
        "",
    ]
    for pool, ks in POOLS.items():
        problems = load(pool)
        lines = [line for k in ks for line in measure(problems, k, arguments.subsets)]
        text += _table(pool, problems, lines, traits(problems))
    write("selection", "\n".join(text).rstrip(), f"python -m benchmarks.selection --subsets {arguments.subsets}")


if __name__ == "__main__":
    main()
