"""Judging a run's stored samples again, without a model: after a grader was mended, or with another one.

Texts come from the grades, tokens and probabilities from the samples. Every strategy is run again over the pool, so its
votes follow the new answers; one that asks for more than the pool holds (prompts of its own, a sample that its budget
cut) keeps its answer, and that is judged again.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from decoding.engine import Capability, EngineInfo
from decoding.errors import DataError, StoreError
from decoding.types import Completion, Delta, GenerationRequest, SamplingParams
from evals.grade import CPU_SECONDS
from evals.oracle import OracleCheck
from evals.plan import environment
from evals.runner import Evaluation, evaluate
from evals.store import Row, Store, read_config, read_rows
from evals.tasks.base import Task
from evals.tasks.registry import task_of_run
from reasoning.budget import Budget
from reasoning.run import RunSettings
from reasoning.strategies import parse_strategy
from reasoning.trajectory import Prompt
from verifiers.base import Outcome
from verifiers.graders import grader_by_name
from verifiers.grading import Grading
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind, Solution
from verifiers.workers import WorkerPool

NOT_STORED = "the run's pool of samples does not hold it"


class Changes(NamedTuple):
    """What a new judgement changed."""

    samples: int
    changed_samples: int  # that have another outcome than before
    results: int
    changed_results: int
    kept: int  # results whose strategy could not be run again from the pool: only judged again


def regrade(
    folder: Path, target: Path, *, grader: str | None = None, data_dir: Path | None = None, workers: int = 1
) -> Changes:
    """Grade a results folder's samples into a new folder, with the same samples and grades and results of its own.

    Args:
        folder: What `bethink eval` left.
        target: The new folder.
        grader: A name of `verifiers.graders`; the task's own way to read and to compare if left out.
        data_dir: As for `load_task`.
        workers: Worker programs for judgements that take computer algebra.

    Raises:
        StoreError: The folder holds no results, or the target exists.
        ConfigError, DataError: The task can't be loaded, or its problems are not those of the run.
    """
    config = read_config(folder)["config"]
    task = task_of_run(config, data_dir)
    check = OracleCheck(task) if config["oracle"] else task.check
    if grader is not None:
        task = replace(task, answers=grader_by_name(grader).answers, verifier=grader_by_name(grader).verifier)
    before = _Rows.of(folder)
    if not before.results:
        raise StoreError(f"{folder} has no results yet: run the same `bethink eval` line again first")
    if target.exists():
        raise StoreError(f"{target} exists: name a new folder")
    sampling: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["sampling"].items()}

    async def work(store: Store) -> int:
        async with WorkerPool(size=workers, cpu_seconds=CPU_SECONDS) as pool:
            settings = RunSettings(
                engines={"policy": PoolEngine(before, config)},
                sampling=SamplingParams(seed=0, **sampling),
                answers=task.answers,
                seed=config["seed"],
                budget=Budget(**config["budget"]),
                check=check,
                judges={role: StoredJudge(entry) for role, entry in config.get("judges", {}).items()},
                workers=pool,
            )
            evaluation = Evaluation(
                task=task,
                strategies=[parse_strategy(text) for text in dict.fromkeys(key[1] for key in before.results)],
                prompts={p.id: Prompt(question=p.question, token_ids=(0,)) for p in task.problems},
                settings=settings,
            )
            await evaluate(evaluation, store)
            return await _keep(store, before, task, pool)

    partial = target.with_name(target.name + ".partial")  # interrupted, it is begun anew: nothing is generated
    shutil.rmtree(partial, ignore_errors=True)
    with Store(partial, {**config, "grader": grader}, environment()) as store:
        for row in before.samples:
            store.append("samples", row)
        kept = asyncio.run(work(store))
    partial.rename(target)
    return _changes(before, _Rows.of(target), kept)


class _Rows(NamedTuple):
    samples: Sequence[Row]
    grades: Mapping[tuple[str, Any], Row]  # by (problem, slot)
    results: Mapping[tuple[str, Any], Row]  # by (problem, strategy)

    @classmethod
    def of(cls, folder: Path) -> "_Rows":
        return cls(
            list(read_rows(folder, "samples")),
            {(row["problem"], row["slot"]): row for row in read_rows(folder, "grades")},
            {(row["problem"], row["strategy"]): row for row in read_rows(folder, "results")},
        )


class PoolEngine:
    """An engine that has only a stored pool: it reads completions and draws none."""

    def __init__(self, rows: _Rows, config: Row) -> None:
        self.tokenizer: Any = _Texts(rows)
        self.info = EngineInfo(
            engine=config["engine"],
            version="stored",
            model=config["model"],
            revision=config["revision"],
            parameters=_parameters(rows),
            context_length=2**31,
            slots=256,
            capabilities=frozenset(Capability),
        )

    async def generate(self, request: GenerationRequest) -> Completion:
        """Raises ``DataError``: what the pool holds never gets here."""
        raise DataError(NOT_STORED)

    def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """As `generate`."""
        raise DataError(NOT_STORED)

    async def abort(self, request_id: str) -> None:
        """Nothing is ever running."""

    async def aclose(self) -> None:
        """Nothing is open."""


class StoredJudge:
    """A judge of which only the name is left: results that asked it keep their answer."""

    def __init__(self, entry: Row) -> None:
        """`entry` is what run.json says of it."""
        self.info = JudgeInfo(
            name=entry["name"],
            kind=ScoreKind(entry.get("kind", ScoreKind.PROBABILITY)),
            format=entry.get("format", "stored"),
            backend="stored",
            revision=entry.get("revision"),
            parameters=0,
            context_length=2**31,
        )

    def split(self, text: str) -> tuple[str, ...]:
        """Raises ``DataError``, like all that would ask it."""
        raise DataError(NOT_STORED)

    def tokens(self, solution: Solution) -> int:
        """As `split`."""
        raise DataError(NOT_STORED)

    async def score_steps(self, solution: Solution) -> Judgement:
        """As `split`."""
        raise DataError(NOT_STORED)

    value = reward = score_steps

    async def aclose(self) -> None:
        """Nothing is open."""


class _Texts:
    """Reads the texts of stored samples, as their grades keep them."""

    has_chat_template = False
    eos_token_ids: frozenset[int] = frozenset()

    def __init__(self, rows: _Rows) -> None:
        graded = ((row, rows.grades.get((row["problem"], row["slot"]))) for row in rows.samples)
        self._texts = {tuple(row["token_ids"]): grade["text"] for row, grade in graded if grade is not None}

    def decode(self, token_ids: Sequence[int]) -> str:
        if tuple(token_ids) not in self._texts:
            raise DataError(NOT_STORED)
        text: str = self._texts[tuple(token_ids)]
        return text

    # Prompts of a strategy's own, and steps: nothing is known of them.
    def encode(self, text: str, *, opening: bool = True) -> tuple[int, ...]:
        raise DataError(NOT_STORED)

    def ids_with(self, text: str) -> tuple[int, ...]:
        raise DataError(NOT_STORED)


def _parameters(rows: _Rows) -> int:
    """The model's parameters, from what the results were charged (see `reasoning.budget.with_flops`)."""
    for row in rows.results.values():
        usage = row["usage"]
        if usage.get("scored_tokens"):
            continue  # the judge's FLOPs are in it
        tokens = usage.get("prompt_tokens_computed", 0) + usage.get("generated_tokens", 0)
        if tokens and usage.get("flops"):
            parameters: float = usage["flops"] / (2 * tokens)
            return round(parameters)
    return 0


async def _keep(store: Store, before: _Rows, task: Task, workers: WorkerPool) -> int:
    """Give results that could not be had from the pool their old answer back, judged again."""
    grading = Grading(task.answers, workers)
    references = {problem.id: problem.reference for problem in task.problems}
    missing = [row for row in store.rows("results") if row["outcome"] == Outcome.ERROR and NOT_STORED in row["rule"]]
    kept = [before.results[row["problem"], row["strategy"]] for row in missing]
    for row in kept:
        verdict = await grading.verify(task.verifier, row["answer"], references[row["problem"]])
        store.append("results", {**row, "outcome": verdict.outcome, "rule": verdict.rule})
    return len(kept)


def _changes(before: _Rows, after: _Rows, kept: int) -> Changes:
    def changed(old: Mapping[tuple[str, Any], Row], new: Mapping[tuple[str, Any], Row]) -> int:
        return sum(key in old and old[key]["outcome"] != row["outcome"] for key, row in new.items())

    return Changes(
        samples=len(after.grades),
        changed_samples=changed(before.grades, after.grades),
        results=len(after.results),
        changed_results=changed(before.results, after.results),
        kept=kept,
    )
