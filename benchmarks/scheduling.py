"""How busy an evaluation keeps an engine's slots, its tail included.

200 problems x 16 samples with lognormal lengths through the runner on the scripted engine with 256 slots, which counts
its own steps: busy slot-steps over slots x makespan. Two figures of the same lengths in the same order stand beside it:
the best that anybody could do who does not know the lengths (all requests in one queue from the start), and one
``LLM.generate`` after another, each on as many problems as fill the slots.

The spread of the lengths is that of 5,276 published GSM8K solutions (sigma 0.48 of their logarithms). A completion may
have 512 tokens; with 1024, the few longest make most of the tail, for everybody.
"""

import argparse
import asyncio
import heapq
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import lognorm

from benchmarks.machine import write
from decoding.engines.scripted import ScriptedEngine
from decoding.sampling import Floats
from decoding.types import SamplingParams
from evals.runner import Evaluation, evaluate
from evals.store import Store, read_rows
from evals.tasks.base import Problem, Task
from reasoning.run import RunSettings
from reasoning.strategies import RepeatedSampling
from reasoning.trajectory import Prompt
from verifiers.exact import ExactVerifier
from verifiers.text import TextFormat

MEDIAN, SIGMA = 200.0, 0.48
LIMITS = (512, 1024)  # most tokens of a completion
PROBLEMS, SAMPLES, SLOTS = 200, 16, 256


class Busy(NamedTuple):
    """What one run measured."""

    share: float  # busy slot-steps over slots x makespan
    makespan: int  # steps
    best_share: float  # the same lengths, all in one queue from the start
    barrier_share: float  # the same lengths, a barrier after each full batch


@dataclass(frozen=True, slots=True)
class LognormalLengths:
    """Writes x until a length drawn from a lognormal law, then the end."""

    vocabulary: tuple[str, ...] = ("<end>", "q", "x")
    eos_token_ids: frozenset[int] = frozenset({0})

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """The end comes with the hazard of the lognormal law at this length."""
        return _law(len(prefix))


@cache
def _law(length: int) -> Floats:
    law = lognorm(s=SIGMA, scale=MEDIAN)
    hazard = 1.0 if (left := law.sf(length - 1)) <= 0 else (law.cdf(length) - law.cdf(length - 1)) / left
    return np.array([min(1.0, hazard), 0.0, 1.0 - min(1.0, hazard)])


def measure(seed: int, limit: int) -> Busy:
    """One evaluation with a seed and a limit on the length."""
    return asyncio.run(_measure(seed, limit))


async def _measure(seed: int, limit: int) -> Busy:
    engine = ScriptedEngine(LognormalLengths(), slots=SLOTS)
    problems = [Problem(id=f"p{i:03d}", question="q", reference="x") for i in range(PROBLEMS)]
    task = Task(
        name="lengths",
        problems=problems,
        answers=TextFormat(),
        verifier=ExactVerifier(),
        prompt="plain",
        max_tokens=limit,
        source="generated",
        checksum="",
    )
    settings = RunSettings(
        engines={"policy": engine},
        sampling=SamplingParams(seed=0, max_tokens=limit),
        answers=task.answers,
        seed=seed,
    )
    prompts = {problem.id: Prompt(question="q", token_ids=(1,)) for problem in problems}
    evaluation = Evaluation(task=task, strategies=[RepeatedSampling(n=SAMPLES)], prompts=prompts, settings=settings)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), {}, {}) as store:
        await evaluate(evaluation, store)
        lengths = {(row["problem"], row["slot"]): len(row["token_ids"]) for row in read_rows(Path(folder), "samples")}
    ordered = [lengths[(problem.id, slot)] for problem in problems for slot in range(SAMPLES)]
    with_barrier = sum(max(ordered[i : i + SLOTS]) for i in range(0, len(ordered), SLOTS))
    total = sum(ordered)
    if total != engine.busy_slot_steps:
        raise AssertionError(f"{total} tokens were stored and {engine.busy_slot_steps} decoded")
    best = _one_queue(ordered)
    return Busy(total / (SLOTS * engine.steps), engine.steps, total / (SLOTS * best), total / (SLOTS * with_barrier))


def _one_queue(lengths: Sequence[int]) -> int:
    """Makespan of lengths that go, in order, to whichever slot is free first."""
    free = [0] * SLOTS
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def main() -> None:
    """Measure over some seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    lines = [
        f"# Slots kept busy: {PROBLEMS} problems x {SAMPLES} samples, {SLOTS} slots",
        "",
        f"Lengths are lognormal: median {MEDIAN:.0f} tokens, sigma {SIGMA}.",
        "",
        "| limit | seed | busy, tail included | makespan, steps | best, lengths unknown | with a barrier a batch |",
        "|---|---|---|---|---|---|",
    ]
    for limit in LIMITS:
        runs = [measure(seed, limit) for seed in seeds]
        median = Busy(*(statistics.median(column) for column in zip(*runs, strict=True)))
        for name, run in [*((str(seed), run) for seed, run in zip(seeds, runs, strict=True)), ("median", median)]:
            figures = f"{run.share:.3f} | {run.makespan} | {run.best_share:.3f} | {run.barrier_share:.3f}"
            lines.append(f"| {limit} | {name} | {figures} |")
    write("scheduling", "\n".join(lines), f"python -m benchmarks.scheduling --seeds {len(seeds)}")


if __name__ == "__main__":
    main()
