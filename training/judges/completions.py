"""Monte-Carlo completion: how often a policy ends right from each prefix of its solutions.

Math-Shepherd's labels (Wang et al. 2024, arXiv 2312.08935). Completions go on from the policy's own ids.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decoding.engine import Engine
from decoding.engines.open import engine_named, open_engine
from decoding.seeds import derive_seed
from decoding.types import FinishReason, GenerationRequest, SamplingParams
from evals.store import Store
from evals.tasks.base import Problem, Task
from training.judges.rollouts import IN_FLIGHT, Rollout, RolloutRecipe, load_problems, open_store

Key = tuple[str, str, int]  # task, problem, slot


class Tally(NamedTuple):
    """How many completions of a prefix ended right."""

    right: float  # whole for completions; a share of `of` for values of a search
    of: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.right / self.of


class _Prefix(NamedTuple):
    rollout: Rollout
    steps: int  # written; 0: nothing but the prompt
    task: Task
    problem: Problem


def complete(
    recipe: RolloutRecipe,
    rollouts: Sequence[Rollout],
    folder: Path,
    *,
    samples: int,
    engine: str = "transformers",
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[Key, dict[int, Tally]]:
    """Draw `samples` completions of every prefix of these rollouts, those that the folder lacks.

    Prefixes have 0, 1, ... S steps. A whole solution is not completed: it counts as it ended. The folder is that of the
    rollouts; rows of fewer samples are not used.
    """
    known = {(t.name, p.id): (t, p) for t, group in load_problems(recipe, data_dir) for p in group}
    name = engine_named(engine)
    with (
        open_engine(recipe.policy, name, **(options or {})) as opened,
        open_store(recipe, folder, opened.engine.info.revision, name) as store,
    ):
        tallies = _stored(store.rows("completions"), samples)
        missing = [
            _Prefix(rollout, steps, *known[rollout.task, rollout.problem])
            for rollout in rollouts
            for steps in range(len(rollout.steps) + (not rollout.finished))
            if steps not in tallies.get(rollout.key, {})
        ]
        opened.run(lambda engine: _complete_all(engine, recipe, missing, samples, store))
        tallies = _stored(store.rows("completions"), samples)
    whole = {r.key: {len(r.steps): Tally(int(r.right), 1)} for r in rollouts if r.finished}
    return {rollout.key: {**tallies.get(rollout.key, {}), **whole.get(rollout.key, {})} for rollout in rollouts}


async def _complete_all(
    engine: Engine, recipe: RolloutRecipe, missing: Sequence[_Prefix], samples: int, store: Store
) -> None:
    waiting = iter(missing)

    async def worker() -> None:
        for prefix in waiting:
            right = sum(await asyncio.gather(*(_ends_right(engine, recipe, prefix, i) for i in range(samples))))
            task, problem, slot = prefix.rollout.key
            row = {"task": task, "problem": problem, "slot": slot, "steps": prefix.steps}
            store.append("completions", {**row, "right": right, "of": samples})

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, IN_FLIGHT // samples)):
            group.create_task(worker())


def _stored(rows: Any, samples: int) -> dict[Key, dict[int, Tally]]:
    tallies: dict[Key, dict[int, Tally]] = {}
    for row in rows:
        if row["of"] == samples:
            key = (row["task"], row["problem"], row["slot"])
            tallies.setdefault(key, {})[row["steps"]] = Tally(row["right"], row["of"])
    return tallies


async def _ends_right(engine: Engine, recipe: RolloutRecipe, prefix: _Prefix, index: int) -> bool:
    rollout, task = prefix.rollout, prefix.task
    ends = step_ends(engine.tokenizer.decode, rollout.token_ids, rollout.finished)
    written = rollout.token_ids[: ends[prefix.steps - 1]] if prefix.steps else ()
    sampling = SamplingParams(
        seed=derive_seed(recipe.seed, "completion", *rollout.key, prefix.steps, index),
        temperature=recipe.temperature,
        max_tokens=max(1, task.max_tokens - len(written)),
        stop=task.stop,
        logprobs=False,
    )
    prompt = rollout.prompt_token_ids + written
    done = await engine.generate(GenerationRequest(prompt_token_ids=prompt, sampling=sampling))
    ids = done.token_ids[:-1] if done.finish_reason is FinishReason.EOS else done.token_ids
    answer = task.answers.extract(engine.tokenizer.decode(written + ids)).value
    return task.verifier.verify(answer, prefix.problem.reference).correct


def step_ends(decode: Callable[[Sequence[int]], str], token_ids: Sequence[int], finished: bool) -> list[int]:
    """Behind which id each step lies, [S]: the one that holds its newline, or the last of a finished solution."""
    ends, blank = [], True
    for index, token in enumerate(token_ids):
        line, newline, rest = decode([token]).partition("\n")
        blank = blank and not line.strip()
        if newline:
            if not blank:
                ends.append(index + 1)
            blank = not rest.strip()
    return [*ends, len(token_ids)] if finished and not blank else ends
