"""`solve`: one question, one strategy, one answer."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from decoding.engine import Engine
from decoding.engines.open import open_engine
from decoding.errors import BethinkError, ConfigError
from decoding.host import OpenEngine
from decoding.types import SamplingParams
from reasoning.budget import Budget
from reasoning.judging import ROLES
from reasoning.open_judges import SELF, JudgeChoice, open_judges, self_judge
from reasoning.run import Run, RunSettings
from reasoning.steps import Steps, steps_for
from reasoning.strategies import SelfConsistency, Strategy, parse_strategy, require
from reasoning.trajectory import Prompt, Result
from verifiers.base import AnswerFormat, Check
from verifiers.judges.types import Judge
from verifiers.numeric import NumberFormat
from verifiers.workers import WorkerPool

__all__ = ["asolve", "execute", "open_engine", "solve"]

PromptLike = str | Prompt | Callable[[Engine], Prompt]


def solve(question: PromptLike, **settings: Any) -> Result:
    """Answer one question by spending compute on it.

    Works in plain code and in a notebook, whose event loop is running. Opening an engine takes tens of seconds: pass
    an open one to answer more than one question.

    Args:
        question: The question, asked as a chat where the model has a template for one and as plain text otherwise; or
            a `Prompt`, or a function that makes one for an engine.
        settings: As `asolve`'s.

    Returns:
        The answer, all candidates, what it cost and how it came about.

    Raises:
        BethinkError: What was wrong and what to do; nothing else is raised on purpose. One that ends a strategy midway
            has the ``usage`` and the ``trace`` until then.
    """
    with _opened(settings) as (opened, judges):
        return opened.run(lambda engine: _solve(engine, question, judges=judges, **settings))


async def asolve(question: PromptLike, **settings: Any) -> Result:
    """Answer one question from a coroutine; any number of them share one open engine and its batch.

    Args:
        question: As for `solve`.
        settings: ``engine``, an open engine, or ``model``, a model's name. ``strategy``, one of
            `reasoning.strategies` or its text (default: self-consistency over 16 samples). ``sampling``, its
            `SamplingParams`, the seed left alone. ``answers``, how answers read and when two are the same (default:
            numbers). ``budget``, ``check``, ``seed``. ``steps``, the `Steps` of strategies that search by steps
            (default: by the model's name). Judges that scores ask: ``prm``, ``value``, ``orm``, each a name
            (see `bethink models`) or an open judge, which stays open, and ``self_evaluation``, true for the policy
            itself; ``judge_backend``, and ``judge_options`` by role, for those that are opened by name.
    """
    opening = _opened(settings)
    slow = settings.get("engine") is None or any(isinstance(settings.get(role), str) for role in ROLES)
    opened, judges = await asyncio.to_thread(opening.__enter__) if slow else opening.__enter__()
    try:
        return await opened.arun(lambda engine: _solve(engine, question, judges=judges, **settings))
    finally:
        if slow:
            await asyncio.to_thread(opening.__exit__, None, None, None)
        else:
            opening.__exit__(None, None, None)


async def execute(strategy: Strategy, run: Run, prompt: Prompt) -> Result:
    """Run a strategy to its end; the result then knows the whole run's usage and trace.

    So does an error on purpose that ends it before.
    """
    try:
        result = await strategy(run, prompt)
    except BethinkError as error:
        error.usage, error.trace = run.usage, tuple(run.trace)
        raise
    return replace(result, usage=run.usage, trace=tuple(run.trace))


async def _solve(
    engine: Engine,
    question: PromptLike,
    *,
    strategy: Strategy | str | None = None,
    sampling: SamplingParams | None = None,
    answers: AnswerFormat | None = None,
    budget: Budget | None = None,
    check: Check | None = None,
    judges: Mapping[str, Judge],
    seed: int = 0,
    steps: Steps | None = None,
) -> Result:
    if isinstance(strategy, str):
        strategy = parse_strategy(strategy)
    strategy = strategy or SelfConsistency(n=16)
    require(strategy, engine, judges)
    prompt = _prompt(engine, question)
    async with WorkerPool(size=1) as workers:
        settings = RunSettings(
            engines={"policy": engine},
            sampling=sampling or SamplingParams(seed=0),
            answers=answers or NumberFormat(),
            seed=seed,
            budget=budget or Budget(),
            check=check,
            judges=judges,
            workers=workers,
            steps=steps or steps_for(engine.info.model),
        )
        # Any number of equal questions may be asked at once: the object's id tells their requests apart in the engine.
        run = Run(settings, prompt.question, name=f"solve-{id(settings)}")
        return await execute(strategy, run, prompt)


@contextmanager
def _opened(settings: dict[str, Any]) -> Iterator[tuple[OpenEngine, dict[str, Judge]]]:
    """The engine and the judges to use; what was opened here is closed. Takes what names them out of the settings."""
    roles = [role for role in ROLES if role != SELF]
    named = {role: judge for role in roles if (judge := settings.pop(role, None)) is not None}
    itself = settings.pop("self_evaluation", False)
    if itself:
        named[SELF] = SELF if itself is True else itself
    choice = JudgeChoice(
        named=named, backend=settings.pop("judge_backend", "auto"), options=settings.pop("judge_options", {})
    )
    with ExitStack() as stack:
        opened, owned = _engine(settings)
        if owned:
            stack.callback(opened.close)
        judges = stack.enter_context(open_judges(choice))
        if itself is True:
            judges[SELF] = self_judge(opened, choice.options.get(SELF, {}))
        yield opened, judges


def _engine(settings: dict[str, Any]) -> tuple[OpenEngine, bool]:
    """The engine to use, and whether it was opened here. Takes ``engine`` and ``model`` out of the settings."""
    engine, model = settings.pop("engine", None), settings.pop("model", None)
    if isinstance(engine, OpenEngine) and model is None:
        return engine, False
    if engine is None and isinstance(model, str):
        return open_engine(model), True
    raise ConfigError("pass either engine=open_engine(...) or model='name', and not both")


def _prompt(engine: Engine, question: PromptLike) -> Prompt:
    if isinstance(question, Prompt):
        return question
    if not isinstance(question, str):
        return question(engine)
    if engine.tokenizer.has_chat_template:
        return Prompt.from_chat([{"role": "user", "content": question}], engine.tokenizer, question=question)
    return Prompt.from_text(question, engine.tokenizer)
