"""Values from tree search: what a policy's own simulations say of the prefixes of the solutions that they end with.

The training mode of AlphaMath (Chen et al. 2024, arXiv 2405.03553, section 3.2): a solution is worth 1 or -1, as it
ends, and a prefix what the value model of the round before says of it; in the first round there is none, and it is
worth 0. A prefix's label is (Q + 1) / 2, on the scale of completions: as if that share of its N visits had ended right.

Without values a search goes by its priors alone, level by level, and few simulations reach the end of a long solution.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from decoding.engine import Capability, Engine
from decoding.engines.open import engine_named, open_engine
from decoding.seeds import derive_seed
from decoding.types import FinishReason, SamplingParams
from evals.store import Store
from evals.tasks.base import Problem, Task
from reasoning.open_judges import JudgeChoice, open_judges
from reasoning.run import Run, RunSettings
from reasoning.scores import score_by_name
from reasoning.search.puct import Branch, branches, value_of
from reasoning.search.search import Search
from reasoning.steps import Steps
from reasoning.strategies import require
from reasoning.strategies.mcts import MCTS
from reasoning.trajectory import Candidate, Prompt
from training.judges.completions import Key, Tally, step_ends
from training.judges.rollouts import IN_FLIGHT, Rollout, RolloutRecipe, load_problems, open_store, split_of
from verifiers.judges.types import Judge

_VALUE = score_by_name("value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A score that knows the truth: 1 for a solution that ended right, -1 for another.

    What goes on has the value that the run's value model gives, and 0 where there is none.
    """

    name: ClassVar[str] = "outcome"
    role: ClassVar[None] = None
    needs: ClassVar[frozenset[Capability]] = frozenset()

    task: Task
    problem: Problem

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """It asks no judge."""

    async def __call__(self, run: Run, candidate: Candidate) -> float:
        """In [-1, 1]."""
        if candidate.trajectory.open:
            said = await _VALUE(run, candidate) if run.settings.judges else None
            return 0.0 if said is None else value_of(said, _VALUE, run.settings.judges)
        right = self.task.verifier.verify(candidate.answer, self.problem.reference).correct
        return 1.0 if right else -1.0

    def tell(self, run: Run, candidates: Collection[Candidate]) -> None:
        """Nothing: the tree's events hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecipe:
    """The searches; see `MCTS`."""

    simulations: int = 40
    children: int = 5
    c_puct: float = 1.5  # the paper's for labels
    value: str = ""  # the value model of the round before, by name; empty: this is the first

    def __post_init__(self) -> None:
        self.strategy("value")  # refuses sizes that can't be

    def strategy(self, score: str | Outcome) -> MCTS:
        """The search of a problem."""
        return MCTS(simulations=self.simulations, children=self.children, c_puct=self.c_puct, score=score)


def search_all(
    recipe: RolloutRecipe,
    how: SearchRecipe,
    wanted: Collection[tuple[str, str]],
    folder: Path,
    *,
    engine: str = "transformers",
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[list[Rollout], dict[Key, dict[int, Tally]]]:
    """Search the problems (task, id) that the folder lacks; solutions that ended, and their prefixes' values.

    The solutions are ordered by task, problem and slot: the slot is a number within the problem's tree. The folder is
    that of the rollouts; rows of searches of other sizes are not used.
    """
    known = [(t, p) for t, group in load_problems(recipe, data_dir) for p in group if (t.name, p.id) in wanted]
    name = engine_named(engine)
    with (
        open_engine(recipe.policy, name, **(options or {})) as opened,
        open_store(recipe, folder, opened.engine.info.revision, name) as store,
    ):
        done = _stored(store, how)
        missing = [(task, problem) for task, problem in known if (task.name, problem.id) not in done]
        with open_judges(JudgeChoice(named={"value": how.value} if how.value and missing else {})) as judges:
            opened.run(lambda engine: _search_missing(engine, recipe, how, missing, store, judges))
        done = _stored(store, how)
    found = [each for task, problem in known for each in _read(done[task.name, problem.id], recipe.seed)]
    return [rollout for rollout, _ in found], {rollout.key: tallies for rollout, tallies in found}


async def search_one(
    engine: Engine,
    recipe: RolloutRecipe,
    how: SearchRecipe,
    task: Task,
    problem: Problem,
    judges: Mapping[str, Judge] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """The solutions that a search of one problem ended with, as rows; `values` are those behind each step."""
    strategy = how.strategy(Outcome(task=task, problem=problem))
    require(strategy, engine)
    settings = RunSettings(
        engines={"policy": engine},
        sampling=SamplingParams(seed=0, temperature=recipe.temperature, max_tokens=task.max_tokens, stop=task.stop),
        answers=task.answers,
        judges=judges,
        seed=derive_seed(recipe.seed, "mcts", task.name),
        steps=Steps(delimiter="line", max_tokens=task.max_tokens, max_steps=task.max_tokens),
    )
    text = recipe.prompt.replace("{question}", problem.question)
    prompt = Prompt.from_text(text, engine.tokenizer, question=problem.question)
    run = Run(settings, problem.id, name=f"mcts-{task.name}")
    search = Search(run, prompt, strategy.scoring, logprobs=True)
    tree = await strategy.explore(run, search)
    return [_row(engine, branch) for branch in branches(tree) if branch.node.finished]


def _row(engine: Engine, end: Branch) -> dict[str, Any]:
    trajectory = end.node.trajectory
    eos = trajectory.finish_reason is FinishReason.EOS
    ids = trajectory.generated_ids[:-1] if eos else trajectory.generated_ids
    finished = trajectory.finish_reason is not FinishReason.LENGTH
    path = end.path()[-2::-1]  # the root is no step
    behind = [
        next(branch for branch in path if len(branch.node.trajectory.generated_ids) >= length)
        for length in step_ends(engine.tokenizer.decode, ids, finished)
    ]
    return {
        "prompt_token_ids": list(trajectory.prompt.token_ids),
        "question": trajectory.prompt.question,
        "token_ids": list(ids),
        "text": engine.tokenizer.decode(ids),
        "finished": finished,
        "right": end.q == 1.0,
        "values": [[branch.q, branch.visits] for branch in behind],
    }


async def _search_missing(
    engine: Engine,
    recipe: RolloutRecipe,
    how: SearchRecipe,
    missing: Sequence[tuple[Task, Problem]],
    store: Store,
    judges: Mapping[str, Judge],
) -> None:
    waiting = iter(missing)

    async def worker() -> None:
        for task, problem in waiting:
            solutions = await search_one(engine, recipe, how, task, problem, judges)
            row = {"task": task.name, "problem": problem.id, "search": asdict(how), "solutions": solutions}
            store.append("searches", row)

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, IN_FLIGHT // how.children)):
            group.create_task(worker())


def _stored(store: Store, how: SearchRecipe) -> dict[tuple[str, str], dict[str, Any]]:
    rows = (row for row in store.rows("searches") if row["search"] == asdict(how))
    return {(row["task"], row["problem"]): row for row in rows}


def _read(row: Mapping[str, Any], seed: int) -> Iterator[tuple[Rollout, dict[int, Tally]]]:
    for slot, fields in enumerate(row["solutions"]):
        known = {**fields, "task": row["task"], "problem": row["problem"], "slot": slot}
        values = known.pop("values")
        tuples = {name: tuple(known[name]) for name in ("prompt_token_ids", "token_ids")}
        rollout = Rollout(**{**known, **tuples}, split=split_of(known["question"], seed))
        yield rollout, {steps: Tally((q + 1) / 2 * n, n) for steps, (q, n) in enumerate(values, start=1)}
