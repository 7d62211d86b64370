"""Judges in a run: solutions put to them, under the run's budget, each solution once."""

import asyncio
import math
import time
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from decoding.engine import Tokenizer
from decoding.errors import ConfigError, EngineError
from decoding.types import FinishReason, Usage
from reasoning.budget import Ledger, scoring_usage
from reasoning.trajectory import Candidate, Trajectory
from verifiers.judges.types import (
    Judge,
    Judgement,
    OutcomeRewardModel,
    ProcessRewardModel,
    Solution,
    ValueModel,
    check_count,
)

ROLES: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "prm": (ProcessRewardModel, "prm=NAME (--prm NAME)"),
        "value": (ValueModel, "value=NAME (--value NAME)"),
        "orm": (OutcomeRewardModel, "orm=NAME (--orm NAME)"),
        "self": (ValueModel, "self_evaluation=True (--self)"),
    }
)
"""What a judge of each role must be, and how it is passed to a run."""

Judgements = MutableMapping[tuple[str, Solution], Judgement]

_WHOLE = frozenset({FinishReason.EOS, FinishReason.STOP})


def judge_of(judges: Mapping[str, Judge], role: str) -> Judge:
    """The judge that plays a role; raises ``ConfigError`` where there is none, or one of another kind."""
    wanted, how = ROLES[role]
    if role not in judges:
        raise ConfigError(f"there is no judge of the role {role!r}: pass {how}")
    if not isinstance(judges[role], wanted):
        raise ConfigError(f"{judges[role].info.name} is no {wanted.__name__} and can't play the role {role!r}")
    return judges[role]


def solution_of(tokenizer: Tokenizer, judge: Judge, candidate: Candidate, *, whole: bool = False) -> Solution:
    """A candidate as a judge reads it.

    Steps are the trajectory's own; where all was written at once, the judge splits the text. A last step that was cut
    off is left out, unless there is no other: what is half written is neither right nor wrong. With `whole`, all of the
    text is one step.
    """
    trajectory = candidate.trajectory
    finished = trajectory.finish_reason in _WHOLE and not trajectory.open
    if whole:
        steps: tuple[str, ...] = (candidate.text.strip(),)
    elif len(trajectory.steps) > 1 or trajectory.open:
        steps = _written_steps(tokenizer, trajectory)
    else:
        steps = judge.split(candidate.text)
        steps = steps if finished or len(steps) == 1 else steps[:-1]
    return Solution(question=trajectory.prompt.question, steps=steps, finished=finished, token_ids=trajectory.token_ids)


def _written_steps(tokenizer: Tokenizer, trajectory: Trajectory) -> tuple[str, ...]:
    """The texts of a trajectory's steps, without white space around them; empty ones are none."""
    ids: tuple[int, ...] = ()
    steps, before = [], 0
    for step in trajectory.steps:
        ids += step.token_ids
        text = tokenizer.decode(ids)  # of all: a step's first token may read differently where it stands alone
        steps.append(text[before:].strip())
        before = len(text)
    return tuple(filter(None, steps)) or ("",)


class Judging:
    """Puts solutions to a run's judges."""

    def __init__(
        self, judges: Mapping[str, Judge], ledger: Ledger, judgements: Judgements, deadline: float | None
    ) -> None:
        self._judges, self._ledger, self._deadline = judges, ledger, deadline
        self._judgements = judgements  # shared by all who work on a problem
        self._charged: set[tuple[str, Solution]] = set()
        self._asking: dict[tuple[str, Solution], asyncio.Lock] = {}
        self._turn = asyncio.Lock()  # whose turn it is to reserve; it is fair
        self._open, self._settled = 0, asyncio.Event()

    async def judge(self, role: str, solution: Solution) -> Judgement | None:
        """What the judge of a role says; None if the budget has no room for it.

        Reserves in the order of calls, waiting for those before it where there is no room, so who is judged depends on
        the order of calls and on what they cost, not on which was fast. An equal solution costs nothing again in this
        run; one that another strategy had judged costs what it cost then.
        """
        judge, key = judge_of(self._judges, role), (role, solution)
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._judgements.get(key)
            if known is not None and key in self._charged:
                return known
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return None
            tokens = judge.tokens(solution) if known is None else known.usage.scored_tokens
            if not await self._reserve(tokens, judge.info.parameters):
                return None
            usage = scoring_usage(tokens, judge.info.parameters)  # of one that is interrupted: it may have cost it all
            try:
                judgement = known or await self._ask(judge, role, solution)
                usage = judgement.usage if judgement is not None else usage
            finally:
                self._settle(tokens, judge.info.parameters, usage)
            if judgement is not None:
                self._judgements[key] = judgement
                self._charged.add(key)
            return judgement

    async def _reserve(self, tokens: int, parameters: int) -> bool:
        async with self._turn:
            while not self._ledger.reserve_scoring(tokens, parameters):
                if not self._open:
                    return False
                self._settled.clear()
                await self._settled.wait()
            self._open += 1
            return True

    def _settle(self, tokens: int, parameters: int, usage: Usage) -> None:
        self._ledger.settle_scoring(tokens, parameters, usage)
        self._open -= 1
        self._settled.set()

    async def _ask(self, judge: Judge, role: str, solution: Solution) -> Judgement | None:
        """None if the budget of seconds ends first."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(left):
                judgement = await _answer(judge, role, solution)
        except TimeoutError:
            if self._deadline is None or time.monotonic() < self._deadline:
                raise  # the judge's own
            return None
        check_count(judge.info.name, judgement.scores, len(solution.steps) if role == "prm" else 1)
        if any(math.isnan(score) for score in judgement.scores):
            raise EngineError(f"{judge.info.name} gave a score that is no number")
        return judgement


async def _answer(judge: Any, role: str, solution: Solution) -> Judgement:
    judgement: Judgement
    if role == "prm":
        judgement = await judge.score_steps(solution)
    elif role == "orm":
        judgement = await judge.reward(solution)
    else:
        judgement = await judge.value(solution)
    return judgement
