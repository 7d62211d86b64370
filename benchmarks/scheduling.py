"""How busy an evaluation keeps an engine's slots, its tail included.

200 problems x 16 samples with lognormal lengths through the runner on the scripted engine with 256 slots, which counts
its own steps: busy slot-steps over slots x makespan. The same samples with a barrier after each batch of problems that
fills the slots, as harnesses with one ``LLM.generate`` a batch work, stand beside it.
"""

import argparse
import asyncio
import math
import statistics
import tempfile
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
from evals.tasks.answers import TextFormat
from evals.tasks.base import Problem, Task
from evals.tasks.reference_task import ExactVerifier
from reasoning.run import RunSettings
from reasoning.strategies import RepeatedSampling
from reasoning.trajectory import Prompt

MEDIAN, SIGMA, LONGEST = 200.0, 0.5, 1024
PROBLEMS, SAMPLES, SLOTS = 200, 16, 256


class Busy(NamedTuple):
    """What one run measured."""

    share: float  # busy slot-steps over slots x makespan
    makespan: int  # steps
    barrier_share: float  # the same samples, a barrier after each full batch


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


def measure(seed: int) -> Busy:
    """One evaluation with a seed."""
    return asyncio.run(_measure(seed))


async def _measure(seed: int) -> Busy:
    engine = ScriptedEngine(LognormalLengths(), slots=SLOTS)
    problems = [Problem(id=f"p{i:03d}", question="q", reference="x") for i in range(PROBLEMS)]
    task = Task(
        name="lengths",
        problems=problems,
        answers=TextFormat(),
        verifier=ExactVerifier(),
        prompt="plain",
        max_tokens=LONGEST,
        source="generated",
        checksum="",
    )
    settings = RunSettings(
        engines={"policy": engine},
        sampling=SamplingParams(seed=0, max_tokens=LONGEST),
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
    return Busy(total / (SLOTS * engine.steps), engine.steps, total / (SLOTS * with_barrier))


def main() -> None:
    """Measure over some seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    runs = [measure(seed) for seed in seeds]
    lines = [
        f"# Slots kept busy: {PROBLEMS} problems x {SAMPLES} samples, {SLOTS} slots",
        "",
        f"Lengths are lognormal (median {MEDIAN:.0f} tokens, sigma {SIGMA}, mean "
        f"{MEDIAN * math.exp(SIGMA**2 / 2):.0f}), at most {LONGEST}.",
        "",
        "| seed | busy, tail included | makespan, steps | busy with a barrier a batch |",
        "|---|---|---|---|",
        *(
            f"| {seed} | {run.share:.3f} | {run.makespan} | {run.barrier_share:.3f} |"
            for seed, run in zip(seeds, runs, strict=True)
        ),
        f"| median | {statistics.median(r.share for r in runs):.3f} | {statistics.median(r.makespan for r in runs)} "
        f"| {statistics.median(r.barrier_share for r in runs):.3f} |",
    ]
    write("scheduling", "\n".join(lines), f"python -m benchmarks.scheduling --seeds {len(runs)}")


if __name__ == "__main__":
    main()
