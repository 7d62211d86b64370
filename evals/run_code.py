"""Judging anybody's programs: completions of a code task in, the same rows with a verdict out.

Rows are judged side by side and come out in their order. A program that ran past a limit is tried once more, alone on
the machine, before that is its verdict; the row then says so.
"""

import asyncio
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from decoding.errors import ConfigError, DataError, WorkerError, WorkerTimeout
from evals.data import Row, read_jsonl
from evals.estimators.intervals import Interval, bootstrap_curves, wilson
from evals.estimators.metrics import pass_at_k
from evals.reports.figures import powers
from evals.store import whole_file
from evals.tasks.base import Problem
from evals.tasks.humaneval import load_humaneval
from evals.tasks.mbpp import load_mbpp, mbpp_problems
from verifiers.base import Outcome
from verifiers.code.verifier import CodeReference, judge_program
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import CodeVerdict, Limits, Policy
from verifiers.workers import WorkerPool

TASKS = ("humaneval", "humaneval+", "mbpp", "mbpp+")
CPU_SECONDS = 60.0  # that the data set's own tests may take; programs have limits of their own
FIELDS = ("solution", "completion")


class Case(NamedTuple):
    """A program and what it is judged by."""

    task_id: str
    program: str
    against: CodeReference


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReport:
    """What a file of programs came to."""

    verdicts: Mapping[str, int]
    tier: str
    tasks: int  # that the file has programs of
    known: int  # that the data set has
    pass_at_k: Sequence[tuple[int, Interval]]  # up to the fewest programs that a task of the file has
    retried: int  # programs that ran past a limit and were tried again


def run_code(
    source: Path,
    target: Path,
    *,
    task: str,
    data_dir: Path | None = None,
    policy: Policy | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
) -> CodeReport:
    """Judge a file's programs into another file, which appears when all are judged.

    Args:
        source: JSON lines, each with ``task_id`` and ``solution``, a whole program, or ``completion``, what goes on
            with the task's prompt. Both are taken as they stand: nothing is cut or mended.
        target: The same rows with ``verdict`` (correct, wrong, timeout, error), ``rule``, ``tier``, ``mode`` and
            ``seconds``, and ``retried`` where a program was tried twice.
        task: One of `TASKS`.
        data_dir: Folder with the data set's file, in place of the hub.
        policy: How strong the sandbox has to be.
        limits: Of one program.
        workers: Programs judged at once; one a core if left out.

    Raises:
        ConfigError: No such task.
        DataError: A row names no task of the data set or lacks a field; nothing has run then.
        SandboxError: This machine can't hold programs as the policy demands.
        StoreError: The target can't be written.
    """
    policy, limits = policy or Policy(), limits or Limits()
    problems = code_problems(task, data_dir)
    rows = read_jsonl(source)
    cases = [_case(row, problems, f"{source}, row {number}") for number, row in enumerate(rows, start=1)]
    tier = reached(policy).name.lower()
    verdicts = asyncio.run(_judge_all(cases, limits, policy, workers or os.cpu_count() or 1))
    with whole_file(target) as file:
        for row, verdict in zip(rows, verdicts, strict=True):
            file.write(json.dumps({**row, **verdict}, ensure_ascii=False) + "\n")
    right: dict[str, list[bool]] = defaultdict(list)
    for case, verdict in zip(cases, verdicts, strict=True):
        right[case.task_id].append(verdict["verdict"] == Outcome.CORRECT)
    return CodeReport(
        verdicts=Counter(str(verdict["verdict"]) for verdict in verdicts),
        tier=tier,
        tasks=len(right),
        known=len(problems),
        pass_at_k=_curve(list(right.values())),
        retried=sum("retried" in verdict for verdict in verdicts),
    )


def code_problems(task: str, data_dir: Path | None) -> dict[str, Problem]:
    """The problems of a code task by id, those of MBPP from all its splits; raises ``ConfigError``, ``DataError``."""
    if task not in TASKS:
        raise ConfigError(f"there is no code task {task!r}: there are {', '.join(TASKS)}")
    if task == "mbpp":
        problems, _ = mbpp_problems(data_dir)
    else:
        load = load_mbpp if task == "mbpp+" else load_humaneval
        problems = list(load(task, data_dir=data_dir).problems)
    return {problem.id: problem for problem in problems}


def _case(row: Row, problems: Mapping[str, Problem], where: str) -> Case:
    if row.get("task_id") is None:
        raise DataError(f"{where} has no task_id: it has {', '.join(row) or 'nothing'}")
    task_id = str(row["task_id"])
    if task_id.isdecimal() or task_id.startswith("MBPP/"):  # as MBPP's own files and some others number them
        task_id = f"Mbpp/{task_id.rpartition('/')[2]}"
    if task_id not in problems:
        known = ", ".join(list(problems)[:3])
        raise DataError(f"{where}: there is no task {row['task_id']!r}, ids look like {known}. Is it another data set?")
    field = next((field for field in FIELDS if isinstance(row.get(field), str)), None)
    if field is None:
        raise DataError(f"{where} has no text under {' or '.join(FIELDS)}: it has {', '.join(row)}")
    against = CodeReference.from_json(problems[task_id].reference)
    program = row[field] if field == "solution" else against.prompt + row[field]
    return Case(task_id, program, against)


async def _judge_all(cases: Sequence[Case], limits: Limits, policy: Policy, workers: int) -> list[Row]:
    wall = limits.wall_seconds + 4 * CPU_SECONDS
    async with WorkerPool(size=workers, cpu_seconds=CPU_SECONDS, wall_seconds=wall) as pool:
        rows = list(await asyncio.gather(*(_judge(case, limits, policy, pool) for case in cases)))
        for index, row in enumerate(rows):
            if row["verdict"] == Outcome.TIMEOUT:
                rows[index] = {**await _judge(cases[index], limits, policy, pool), "retried": True}
    return rows


async def _judge(case: Case, limits: Limits, policy: Policy, pool: WorkerPool) -> Row:
    began = time.monotonic()
    try:
        found = await pool.call(judge_program, case.program, case.against, limits, policy)
    except WorkerError as error:  # the data set's tests themselves ran past their limit, or broke
        outcome = Outcome.TIMEOUT if isinstance(error, WorkerTimeout) else Outcome.ERROR
        rule = str(error).partition("\n")[0]
        seconds = time.monotonic() - began
        found = CodeVerdict(outcome=outcome, rule=rule, tier=reached(policy), mode="values", seconds=seconds)
    return {
        "verdict": found.outcome,
        "rule": found.rule,
        "tier": found.tier.name.lower(),
        "mode": found.mode,
        "seconds": round(found.seconds, 3),
    }


def _curve(right: Sequence[Sequence[bool]]) -> list[tuple[int, Interval]]:
    """pass@k at powers of two, over tasks with their programs' verdicts."""
    if not right:
        return []
    depth = min(map(len, right))
    if max(map(len, right)) == 1:
        return [(1, wilson(sum(verdict for (verdict,) in right), len(right)))]
    ks = powers(depth)
    table = [[pass_at_k(len(verdicts), sum(verdicts), k) for k in ks] for verdicts in right]
    return list(zip(ks, bootstrap_curves(table), strict=True))
