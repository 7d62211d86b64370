"""What more attempts are worth on a run's own samples, with a check that was run over them or that is supposed."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from decoding.errors import ConfigError, DataError, StoreError, WorkerError
from evals.estimators.flaws import BestAttempts, Payoff, PoolCurves, best_attempts, pool_curves, supposed_curves
from evals.estimators.intervals import Floats, Interval, bootstrap_curves, bootstrap_ratio
from evals.grade import CPU_SECONDS
from evals.reports.figures import Pool, is_right, pool_depth, read_pool
from evals.reports.report import title
from evals.store import Row, read_config
from evals.tasks.base import Task
from evals.tasks.humaneval import BaseTestsCheck
from evals.tasks.registry import load_task
from verifiers.base import Check
from verifiers.workers import WorkerPool

NAMES = ("right", "wrong", "false positives", "attempts", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlawsReport:
    """The figures of resampling from a pool with one check."""

    title: str
    check: str
    payoff: Payoff
    problems: int
    samples: int  # of each problem
    measured: bool  # whether the check was run, or only supposed
    completeness: Interval | None  # as measured; None: no sample is right
    soundness: Interval | None  # as measured; None: no sample is wrong
    failures: int  # samples that the check did not get through; they count as refused
    curves: Mapping[str, Sequence[Interval | None]]  # each of NAMES at K = 0 .. samples; None: nothing is accepted
    best: BestAttempts


def flaws_of_check(folder: Path, name: str | None, payoff: Payoff, data_dir: Path | None = None) -> FlawsReport:
    """The figures with a real check.

    Args:
        folder: A results folder.
        name: The task's own check, by its name; ``oracle`` for one that knows the answers; None for the run's.
        payoff: What outcomes are worth.
        data_dir: Where the task's data lies, if not on the hub.

    Raises:
        ConfigError: The task has no such check.
        DataError: The task can't be loaded, or is no longer the one that was run.
        StoreError: The folder can't be read or holds no samples.
    """
    config, pool = _open(folder)
    name = name or ("oracle" if config.get("oracle") else config.get("check"))
    if name is None:
        raise ConfigError(
            f"{config['task']} was run without a check: give --check oracle, or --completeness and --soundness"
        )
    if name == "oracle":
        accepted, failures = {p: [is_right(row) for row in samples] for p, samples in pool.items()}, 0
    else:
        task = _task(config, name, data_dir)
        assert task.check is not None
        questions = {problem.id: problem.question for problem in task.problems}
        accepted, failures = asyncio.run(accept_pool(task.check, questions, pool))
    counts = [_counts(samples, accepted[problem]) for problem, samples in pool.items()]
    depth = pool_depth(pool)
    curves = [pool_curves(depth, right, wrong) for right, wrong, _, _ in counts]
    table = np.array(counts)
    return FlawsReport(
        title=title(config),
        check=name,
        payoff=payoff,
        problems=len(pool),
        samples=depth,
        measured=True,
        completeness=bootstrap_ratio(table[:, 0], table[:, 2]),
        soundness=bootstrap_ratio(table[:, 3] - table[:, 1], table[:, 3]),
        failures=failures,
        curves=_intervals(curves, payoff),
        best=best_attempts(np.array([curve.value(payoff) for curve in curves])),
    )


def flaws_of_supposed(folder: Path, completeness: float, soundness: float, payoff: Payoff) -> FlawsReport:
    """The figures with a check of which only its two error rates are supposed, the same for every sample."""
    config, pool = _open(folder)
    depth = pool_depth(pool)
    curves = [supposed_curves(depth, sum(map(is_right, rows)), completeness, soundness) for rows in pool.values()]
    return FlawsReport(
        title=title(config),
        check=f"supposed, completeness {completeness:g}, soundness {soundness:g}",
        payoff=payoff,
        problems=len(pool),
        samples=depth,
        measured=False,
        completeness=None,
        soundness=None,
        failures=0,
        curves=_intervals(curves, payoff),
        best=best_attempts(np.array([curve.value(payoff) for curve in curves])),
    )


async def accept_pool(check: Check, questions: Mapping[str, str], pool: Pool) -> tuple[dict[str, list[bool]], int]:
    """What a check says of each sample of a pool, in worker programs; and how many it did not get through."""
    async with WorkerPool(size=os.cpu_count() or 1, cpu_seconds=CPU_SECONDS) as workers:

        async def judge(question: str, texts: Sequence[str]) -> list[bool | None]:
            try:
                return list(await workers.call(accept_all, check, question, texts))
            except WorkerError:
                if len(texts) == 1:
                    return [None]
                return [(await judge(question, [text]))[0] for text in texts]

        async def problem(name: str, samples: Sequence[Row]) -> list[bool | None]:
            texts = list(dict.fromkeys(row["text"] for row in samples))  # equal texts are judged once
            verdicts = dict(zip(texts, await judge(questions[name], texts), strict=True))
            return [verdicts[row["text"]] for row in samples]

        found = await asyncio.gather(*(problem(name, samples) for name, samples in pool.items()))
    accepted = {name: [verdict is True for verdict in verdicts] for name, verdicts in zip(pool, found, strict=True)}
    return accepted, sum(verdict is None for verdicts in found for verdict in verdicts)


def accept_all(check: Check, question: str, texts: Sequence[str]) -> list[bool]:
    """What a check says of solutions of one problem; runs in a worker program."""
    return [check.accept(question, text) for text in texts]


def _open(folder: Path) -> tuple[Row, dict[str, list[Row]]]:
    """A folder's settings, and its pool cut to the depth that every problem has."""
    config, pool = read_config(folder)["config"], read_pool(folder)
    depth = pool_depth(pool)
    if not depth:
        raise StoreError(f"{folder} holds no pool of samples: run a strategy that draws one, e.g. repeated_sampling")
    return config, {problem: samples[:depth] for problem, samples in pool.items()}


def _task(config: Row, check: str, data_dir: Path | None) -> Task:
    task = load_task(config["task"], data_dir=data_dir, limit=config["problems"])
    if check == "humaneval" and task.name in ("humaneval", "humaneval+"):
        task = replace(task, check=BaseTestsCheck(task, data_dir))
    if task.check is None or task.check.name != check:
        known = "" if task.check is None else f"{task.check.name} or "
        raise ConfigError(f"{config['task']} has no check {check!r}: give {known}oracle, or suppose one's error rates")
    if task.checksum != config["data"]:
        raise DataError(
            f"{config['task']} no longer has the problems that were run: give --data-dir with those, or take the "
            "version that made them"
        )
    return task


def _counts(samples: Sequence[Row], accepted: Sequence[bool]) -> tuple[int, int, int, int]:
    """Accepted right ones, accepted wrong ones, right ones, wrong ones."""
    right = [is_right(row) for row in samples]
    both = sum(r and a for r, a in zip(right, accepted, strict=True))
    return both, sum(accepted) - both, sum(right), len(right) - sum(right)


def _intervals(curves: Sequence[PoolCurves], payoff: Payoff) -> dict[str, list[Interval | None]]:
    right, wrong, attempts = (np.array(part) for part in zip(*curves, strict=True))
    value = np.array([curve.value(payoff) for curve in curves])
    plain: dict[str, Floats] = {"right": right, "wrong": wrong, "attempts": attempts, "value": value}
    found: dict[str, list[Interval | None]] = {name: [*bootstrap_curves(table)] for name, table in plain.items()}
    found["false positives"] = [
        bootstrap_ratio(wrong[:, k], right[:, k] + wrong[:, k], resamples=2000) for k in range(right.shape[1])
    ]
    return found
