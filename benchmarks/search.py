"""How much faster a search runs as bethink runs it than one problem at a time with a barrier a step.

Shipped: all problems in one continuous batch, admitted by open requests, each child judged as soon as it has ended; the
runner, its store and its grading included. Barrier: the same strategy code over the same requests, admission = 1
problem, and nothing is judged before all children of the step have ended, as its_hub's benchmark and
search-and-learn's beam search run (`benchmarks.barrier`); nothing is stored or graded. Both start with empty caches of
engine and judge, and take turns on one open engine. Where the engine is batch-invariant both give the same answers:
those that differ are counted.

The reference policy is judged by the shipped process reward model on transformers. SmolLM2 judges itself, by one token
(`--self`): there is no process reward model of its size, and what it says is worth nothing, but it costs what judging
costs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.barrier import one_by_one
from benchmarks.machine import write
from bethink.judge_options import literal
from decoding.engines.open import open_source
from decoding.host import OpenEngine
from evals.plan import Plan, Request, make_plan
from evals.run_judges import opened_judges
from evals.runner import Evaluation, evaluate
from evals.store import Store
from reasoning.open_judges import SELF, JudgeChoice, self_judge
from reasoning.run import RunSettings
from verifiers.judges.types import Judge

PROBLEMS, PARTICLES = 32, 16
MODELS: Mapping[str, Mapping[str, Any]] = {
    "reference-base": {
        "task": "reference:8",
        "judges": JudgeChoice(named={"prm": "reference-prm"}),
        "score": "prm",
    },
    "smollm2-135m-instruct": {
        "task": "gsm8k",
        "judges": JudgeChoice(named={SELF: SELF}),
        "score": SELF,
        "temperature": 0.8,
        "max_tokens": 96,
        "steps": {"delimiter": "line", "max_tokens": 32},
    },
}


class Turn(NamedTuple):
    """One way of running all problems."""

    seconds: float
    tokens: int  # decoded
    answers: Mapping[str, str | None]  # by problem


class Pair(NamedTuple):
    """One turn of each."""

    shipped: Turn
    barrier: Turn

    @property
    def ratio(self) -> float:
        """How often the shipped way's time goes into the other's."""
        return self.barrier.seconds / self.shipped.seconds

    @property
    def differing(self) -> int:
        """Problems with other answers."""
        return sum(self.shipped.answers[problem] != answer for problem, answer in self.barrier.answers.items())


def plan_of(model: str, *, problems: int, particles: int, engine: str, data: Path | None) -> Plan:
    """What is run."""
    settings = dict(MODELS[model])
    strategy = f"particle:n={particles},score={settings.pop('score')}"
    return make_plan(
        Request(model=model, strategies=[strategy], engine=engine, limit=problems, data_dir=data, **settings)
    )


def measure(plan: Plan, rounds: int, options: Mapping[str, Any]) -> list[Pair]:
    """Alternate the two ways, after a problem each to warm up."""
    pairs = []
    with open_source(plan.source, plan.config["engine"], **options) as opened:
        for way in (_shipped, _barrier):
            _turn(way, opened, plan, problems=1)
        for _ in range(rounds):
            pairs.append(Pair(_turn(_shipped, opened, plan), _turn(_barrier, opened, plan)))
            print(f"{pairs[-1].shipped.seconds:.1f} s, {pairs[-1].barrier.seconds:.1f} s", flush=True)
    return pairs


def _turn(way: Any, opened: OpenEngine, plan: Plan, problems: int | None = None) -> Turn:
    with _fresh_judges(opened, plan) as judges:
        return opened.run(lambda engine: way(engine, plan, judges, problems))  # type: ignore[no-any-return]


@contextmanager
def _fresh_judges(opened: OpenEngine, plan: Plan) -> Iterator[dict[str, Judge]]:
    with opened_judges(plan.judges) as judges:
        yield {**judges, **({SELF: self_judge(opened, {})} if SELF in plan.judges.named else {})}


async def _evaluation(engine: Any, plan: Plan, judges: Mapping[str, Judge], problems: int | None) -> Evaluation:
    """All that both ways have in common, with the engine's cache empty."""
    if hasattr(engine, "_llm"):
        await engine._llm.reset_prefix_cache()
    settings = RunSettings(
        engines={"policy": engine},
        sampling=plan.sampling,
        answers=plan.task.answers,
        judges=judges,
        steps=plan.steps,
    )
    task = replace(plan.task, problems=plan.task.problems[:problems])
    return Evaluation(task=task, strategies=plan.strategies, prompts=plan.prompts, settings=settings)


async def _shipped(engine: Any, plan: Plan, judges: Mapping[str, Judge], problems: int | None) -> Turn:
    evaluation = await _evaluation(engine, plan, judges, problems)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), {}, {}) as store:
        start = time.perf_counter()
        await evaluate(evaluation, store)
        seconds = time.perf_counter() - start
        rows = list(store.rows("results"))
    tokens = sum(row["usage"].get("generated_tokens", 0) for row in rows)
    return Turn(seconds, tokens, {row["problem"]: row["answer"] for row in rows})


async def _barrier(engine: Any, plan: Plan, judges: Mapping[str, Judge], problems: int | None) -> Turn:
    evaluation = await _evaluation(engine, plan, judges, problems)
    start = time.perf_counter()
    results = await one_by_one(
        evaluation.settings, evaluation.strategies[0], evaluation.task.problems, evaluation.prompts
    )
    seconds = time.perf_counter() - start
    tokens = sum(result.usage.generated_tokens for result in results.values())
    return Turn(seconds, tokens, {problem: result.answer for problem, result in results.items()})


def table(model: str, problems: int, particles: int, pairs: list[Pair]) -> list[str]:
    """The turns as Markdown."""
    lines = [
        f"## {model}: {problems} problems x {particles} particles",
        "",
        "| shipped, s | tokens/s | barrier, s | tokens/s | ratio | problems with other answers |",
        "|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        cells = [f"{turn.seconds:.1f} | {turn.tokens / turn.seconds:.0f}" for turn in (pair.shipped, pair.barrier)]
        lines.append(f"| {cells[0]} | {cells[1]} | {pair.ratio:.2f} | {pair.differing} |")
    return [*lines, "", f"Ratio, median: **{statistics.median(pair.ratio for pair in pairs):.2f}**.", ""]


def main() -> None:
    """Measure one model, or both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--engine-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--data", type=Path, help="folder with gsm8k, for SmolLM2")
    typed = parser.parse_args()
    options = {key: literal(text) for key, _, text in (item.partition("=") for item in typed.engine_option)}
    size = {"problems": typed.problems, "particles": typed.particles}
    text = ["# A search in one batch, and one problem at a time", "", *(__doc__ or "").splitlines()[2:], ""]
    models = typed.model or sorted(MODELS)
    for model in models:
        plan = plan_of(model, **size, engine=typed.engine, data=typed.data)
        text += table(model, typed.problems, typed.particles, measure(plan, typed.rounds, options))
    command = f"python -m benchmarks.search --problems {typed.problems} --particles {typed.particles}"
    command += "".join(f" --model {model}" for model in typed.model or ()) + f" --rounds {typed.rounds} --data DATA"
    write("_".join(["search", *(typed.model or ())]), "\n".join(text).rstrip(), command)


if __name__ == "__main__":
    main()
