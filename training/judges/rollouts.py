"""Solutions that a policy wrote, to train and to measure judges on; kept append-only, so that a run goes on.

A folder is an `evals.store` with the tables ``rollouts`` (a row a solution), ``completions`` (see `labels`) and
``searches`` (a row a problem).
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from decoding.engine import Engine
from decoding.engines.open import engine_named, open_engine
from decoding.errors import ConfigError
from decoding.host import OpenEngine
from decoding.seeds import derive_seed
from decoding.types import FinishReason, GenerationRequest, SamplingParams
from evals.store import Store
from evals.tasks.base import Problem, Task
from evals.tasks.reference_task import DEFAULT_PROBLEMS
from evals.tasks.registry import load_task

TABLES = ("rollouts", "completions", "searches")
SPLITS = ("train", "tune", "held-out")
EVALUATION_SEED = 0  # of the problems that `bethink eval` takes; judges never see those
IN_FLIGHT = 512  # requests that wait or run at once
REFERENCE_TASKS = tuple(f"reference:{difficulty}" for difficulty in range(2, 11))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecipe:
    """What determines the solutions."""

    policy: str = "reference-base"  # a model as `open_engine` takes it
    tasks: tuple[str, ...] = REFERENCE_TASKS  # all with one way to write steps: one a line
    problems: int = 1200  # of each task, at most
    samples: int = 2  # of each problem
    temperature: float = 1.0
    prompt: str = "{question}"  # around the question
    seed: int = 0  # of problems and draws

    def __post_init__(self) -> None:
        if self.problems < 1 or self.samples < 1:
            raise ConfigError(f"rollouts need problems and samples, got {self.problems} and {self.samples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One solution, exactly as the policy wrote it."""

    task: str
    problem: str  # its id
    slot: int
    split: str
    question: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]  # [T], without the EOS
    text: str
    finished: bool  # by an EOS, or a stop string of the task's
    right: bool  # the answer is the true one

    @property
    def key(self) -> tuple[str, str, int]:
        """What names it: task, problem, slot."""
        return self.task, self.problem, self.slot

    @property
    def steps(self) -> tuple[str, ...]:
        """Its lines, blank ones left out; the last of a solution that was cut off is none."""
        lines = self.text.split("\n")
        return tuple(line for line in (lines if self.finished else lines[:-1]) if line.strip())


def split_of(question: str, seed: int) -> str:
    """The split of a problem, a function of its text: 1/16 tunes thresholds, 1/8 is held out, the rest trains."""
    place = derive_seed(seed, "split", question) % 16
    return "tune" if place == 0 else "held-out" if place <= 2 else "train"


def load_problems(recipe: RolloutRecipe, data_dir: Path | None = None) -> list[tuple[Task, list[Problem]]]:
    """The problems of each task, without those that evaluations take and without repeats of a question."""
    stream = derive_seed(recipe.seed, "judges", "problems")
    found, seen = [], evaluation_questions(recipe)
    for spec in recipe.tasks:
        task = load_task(spec, data_dir=data_dir, limit=recipe.problems, seed=stream)
        problems = []
        for problem in task.problems:
            if problem.question not in seen:
                seen.add(problem.question)
                problems.append(problem)
        found.append((task, problems))
    return found


def evaluation_questions(recipe: RolloutRecipe) -> set[str]:
    """Questions of the reference tasks that `bethink eval` asks where no other seed or limit is given."""
    specs = [spec for spec in recipe.tasks if spec.startswith("reference:")]
    return {
        problem.question
        for spec in specs
        for problem in load_task(spec, limit=DEFAULT_PROBLEMS, seed=EVALUATION_SEED).problems
    }


def open_store(recipe: RolloutRecipe, folder: Path, revision: str | None, engine: str) -> Store:
    """The folder of a recipe's rollouts; raises ``StoreError`` if it holds those of another."""
    config = {"rollouts": asdict(recipe), "revision": revision, "engine": engine}
    return Store(folder, config, {}, tables=TABLES)


def roll_out(
    recipe: RolloutRecipe,
    folder: Path,
    *,
    engine: str = "transformers",
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Rollout]:
    """Draw what is missing in the folder, and return all rollouts, ordered by task, problem and slot."""
    problems = load_problems(recipe, data_dir)
    name = engine_named(engine)
    with open_engine(recipe.policy, name, **(options or {})) as opened:
        revision = opened.engine.info.revision
        with open_store(recipe, folder, revision, name) as store:
            _draw_missing(recipe, opened, store, problems)
            rows = {_key(row): row for row in store.rows("rollouts")}
    keys = [(task.name, p.id, slot) for task, group in problems for p in group for slot in range(recipe.samples)]
    return [_rollout(rows[key], recipe.seed) for key in keys]


def _draw_missing(
    recipe: RolloutRecipe, opened: OpenEngine, store: Store, problems: list[tuple[Task, list[Problem]]]
) -> None:
    done = {_key(row) for row in store.rows("rollouts")}

    def missing() -> Iterator[tuple[Task, Problem, int]]:
        for task, group in problems:
            for problem in group:
                for slot in range(recipe.samples):
                    if (task.name, problem.id, slot) not in done:
                        yield task, problem, slot

    async def work(engine: Engine) -> None:
        waiting = missing()

        async def worker() -> None:
            for task, problem, slot in waiting:
                store.append("rollouts", await _draw(engine, recipe, task, problem, slot))

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())

    opened.run(work)


async def _draw(engine: Engine, recipe: RolloutRecipe, task: Task, problem: Problem, slot: int) -> dict[str, Any]:
    prompt = engine.tokenizer.encode(recipe.prompt.replace("{question}", problem.question))
    sampling = SamplingParams(
        seed=derive_seed(recipe.seed, "rollout", task.name, problem.id, slot),
        temperature=recipe.temperature,
        max_tokens=task.max_tokens,
        stop=task.stop,
        logprobs=False,
    )
    done = await engine.generate(GenerationRequest(prompt_token_ids=prompt, sampling=sampling))
    ended = done.finish_reason is FinishReason.EOS
    ids = done.token_ids[:-1] if ended else done.token_ids
    text = engine.tokenizer.decode(ids)
    answer = task.answers.extract(text).value
    return {
        "task": task.name,
        "problem": problem.id,
        "slot": slot,
        "question": problem.question,
        "prompt_token_ids": list(prompt),
        "token_ids": list(ids),
        "text": text,
        "finished": done.finish_reason is not FinishReason.LENGTH,
        "right": task.verifier.verify(answer, problem.reference).correct,
    }


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["task"], row["problem"], row["slot"]


def _rollout(row: Mapping[str, Any], seed: int) -> Rollout:
    tuples = {name: tuple(row[name]) for name in ("prompt_token_ids", "token_ids")}
    return Rollout(**{**row, **tuples}, split=split_of(row["question"], seed))
