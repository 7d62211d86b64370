"""Solutions of which is known how they came out: what judges are put to the test with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from evals.reports.figures import is_right, read_pool
from evals.store import read_config
from evals.tasks.reference import Chain, check_steps
from evals.tasks.registry import load_task, task_of_run
from verifiers.judges.types import Solution

Split = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A solution of which is known how it came out."""

    id: str
    problem: str  # solutions of one problem are not independent
    solution: Solution
    right: bool  # whether its final answer is
    first_error: int | None  # index of the first wrong step, -1: none is; None: not known


class Cases(NamedTuple):
    """Solutions to judge, and where they came from."""

    cases: list[Case]
    source: str  # in words
    left_out: int = 0  # samples that were cut off: their last step is none


def processbench_cases(spec: str, *, data_dir: Path | None = None, limit: int | None = None) -> Cases:
    """The solutions of ProcessBench, as people split and labelled them; see `evals.tasks.processbench`."""
    task = load_task(spec, data_dir=data_dir, limit=limit)
    first: dict[str, str] = {}  # some problems have several solutions
    cases = [
        Case(
            id=problem.id,
            problem=first.setdefault(problem.metadata["problem"], problem.id),
            solution=Solution(question=problem.metadata["problem"], steps=tuple(problem.metadata["steps"])),
            right=bool(problem.metadata["final_answer_correct"]),
            first_error=problem.metadata["label"],
        )
        for problem in task.problems
    ]
    return Cases(cases, task.source)


def run_cases(
    folder: Path,
    split: Split,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    samples: int | None = None,
) -> Cases:
    """The samples of a results folder; in the reference world with the first wrong line, which can be computed.

    Args:
        folder: What `bethink eval` left.
        split: How a judge splits a text into steps; in the reference world steps are lines.
        data_dir: Where the task's data lies, if not on the hub.
        limit: The most problems.
        samples: The most samples of a problem.

    Raises:
        ConfigError, DataError: The task can't be loaded or is no longer the one that was run.
        StoreError: The folder holds no results.
    """
    config, pool = read_config(folder)["config"], read_pool(folder)
    task = task_of_run(config, data_dir)
    checkable = task.name.startswith("reference:")
    cases, left_out = [], 0
    for problem in task.problems[:limit]:
        for row in pool.get(problem.id, ())[:samples]:
            if row["finish_reason"] == "length" or not row["text"].strip():
                left_out += 1
                continue
            lines = tuple(row["text"].removesuffix("\n").split("\n"))
            steps = lines if checkable else tuple(split(row["text"]))
            cases.append(
                Case(
                    id=f"{problem.id}/{row['slot']}",
                    problem=problem.id,
                    solution=Solution(question=problem.question, steps=steps),
                    right=is_right(row),
                    first_error=first_wrong_line(problem.question, row["text"]) if checkable else None,
                )
            )
    return Cases(cases, f"{config['task']}, samples of {config['model']}", left_out)


def first_wrong_line(question: str, text: str) -> int:
    """The index of the first wrong line of a solution of the reference world; -1 if no line is wrong."""
    labels = check_steps(Chain.parse(question), text)
    return labels.index(False) if False in labels else -1


def cases_sha256(cases: Iterable[Case]) -> str:
    """Sha256 over the canonical JSON of the cases, in their order."""
    digest = hashlib.sha256()
    for case in cases:
        line = json.dumps(asdict(case), sort_keys=True, separators=(",", ":"))
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()
