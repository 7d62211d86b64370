"""One question, put and read the way a task would."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from decoding.errors import ConfigError
from decoding.host import OpenEngine
from decoding.types import SamplingParams
from evals.prompts import render, template_named
from evals.run_judges import opened_judges, refuse_judges, tell_unverified
from evals.run_steps import refuse_steps
from evals.tasks.reference import Chain
from evals.tasks.reference_task import STEPS, ReferenceFormat, StepsCheck
from reasoning.api import solve
from reasoning.budget import Budget
from reasoning.open_judges import SELF, JudgeChoice, self_judge
from reasoning.steps import steps_for
from reasoning.strategies import parse_strategy
from reasoning.trajectory import Result
from verifiers.base import AnswerFormat, Check
from verifiers.graders import grader_by_name

TEMPLATES = {"number": "zero_shot", "math": "boxed", "text": "answer", "reference": "plain"}  # by kind of answer
DEFAULT_MAX_TOKENS = 1024


def answer_one(
    engine: OpenEngine,
    question: str,
    *,
    task: str,
    strategy: str,
    budget: Budget,
    seed: int,
    judges: JudgeChoice | None = None,
    steps: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    **sampling: float,
) -> Result:
    """Solve one question with a task's prompt, answer format and check, and judges; raises ``BethinkError``.

    `steps` are fields of `Steps` that were typed; for the rest see `steps_for`.
    """
    if task not in TEMPLATES:
        raise ConfigError(f"solve reads answers as {', '.join(TEMPLATES)}, not as {task!r}")
    check: Check | None = None
    if task == "reference":
        question, check = _chain(question), StepsCheck()
    template = template_named(TEMPLATES[task])
    context = engine.engine.info.context_length
    prompt = render(template, question, engine.engine.tokenizer)
    room = max(1, context - len(prompt.token_ids)) if context else DEFAULT_MAX_TOKENS  # 0: unknown
    params = SamplingParams(seed=0, max_tokens=max_tokens or min(DEFAULT_MAX_TOKENS, room))
    choice, chosen = judges or JudgeChoice(), parse_strategy(strategy)
    refuse_judges(choice, [chosen], task)
    refuse_steps(steps or {}, [chosen])
    rule = steps_for(engine.engine.info.model, STEPS if task == "reference" else None, **steps or {})
    with opened_judges(choice) as opened:
        itself = self_judge(engine, choice.options.get(SELF, {})) if SELF in choice.named else None
        tell_unverified({**opened, **({SELF: itself} if itself else {})})
        return solve(
            prompt,
            engine=engine,
            strategy=chosen,
            steps=rule,
            sampling=replace(params, **sampling),  # type: ignore[arg-type]
            answers=_format(task),
            budget=budget,
            check=check,
            seed=seed,
            self_evaluation=itself or False,
            **opened,
        )


def _format(task: str) -> AnswerFormat:
    return ReferenceFormat() if task == "reference" else grader_by_name(task).answers


def _chain(question: str) -> str:
    """The question as the reference world writes it, with its newline."""
    try:
        return Chain.parse(question.strip()).question
    except ValueError as error:
        raise ConfigError(f"{question!r} is no chain such as 83,+56,*7: {error}") from None
