"""Putting a judge to the test: what it says of solutions of which is known how they came out.

    run.json        what was judged, by which judge
    scores.jsonl    one row a solution
    sessions.jsonl  one row each time that the work began: how many scores, tokens and seconds

Rows are appended as they come: whatever stops the work, the same line goes on where it stopped. Equal solutions are
judged once. `evals.reports.judge_report` computes the figures from the rows alone.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from decoding.errors import BethinkError, ConfigError, ContextError
from decoding.types import Usage
from evals.judge_cases import Case, Cases, Split, cases_sha256
from evals.plan import environment
from evals.store import Row, Store
from verifiers.judges.types import (
    Judge,
    Judgement,
    OutcomeRewardModel,
    ProcessRewardModel,
    Solution,
    ValueModel,
    check_count,
)

ROLES: Mapping[str, type] = {"prm": ProcessRewardModel, "value": ValueModel, "orm": OutcomeRewardModel}
AT_ONCE = 256  # solutions that are being judged: the judge makes batches of them
TABLES = ("scores", "sessions")
_OF_JUDGE = ("name", "kind", "format", "backend", "revision", "oracle", "verified")


Told = Callable[[int, int], None]  # of how many cases are done, and of how many there are


def run_judging(
    judge: Judge, role: str, task: str, make: Callable[[Split], Cases], folder: Path, told: Told = lambda *_: None
) -> None:
    """Judge what the folder does not hold yet, and close the judge.

    Args:
        judge: Open.
        role: One of `ROLES`.
        task: What was judged, as typed.
        make: Makes the solutions, given how the judge splits texts (`evals.judge_cases`).
        folder: Made if it is not there; what it holds of the same work is not done again.
        told: Hears of progress.

    Raises:
        ConfigError: Judge, role and cases don't fit together.
        StoreError: The folder can't be written or holds something else.
        EngineError: The judge answers with what is no score.
    """

    async def work() -> None:
        try:
            cases = make(judge.split)
            with Store(folder, judge_config(judge, role, task, cases), environment(), TABLES) as store:
                await judge_cases(judge, role, cases.cases, store, told)
        finally:
            await judge.aclose()

    asyncio.run(work())


def judge_config(judge: Judge, role: str, task: str, cases: Cases) -> Row:
    """What determines the scores, for run.json; raises ``ConfigError`` where judge, role and cases don't fit."""
    if role not in ROLES:
        raise ConfigError(f"a judge has one of the roles {', '.join(ROLES)}, not {role!r}")
    if not isinstance(judge, ROLES[role]):
        raise ConfigError(f"{judge.info.name} is no {ROLES[role].__name__}: give it another role")
    if not cases.cases:
        raise ConfigError(f"{cases.source}: there is nothing to judge")
    if role == "prm" and any(case.first_error is None for case in cases.cases):
        raise ConfigError(
            f"{cases.source}: which steps are wrong is not known; take a value or an outcome reward model"
        )
    info = asdict(judge.info)
    info["name"] = Path(judge.info.name).name if Path(judge.info.name).exists() else judge.info.name
    return {
        "task": task,
        "source": cases.source,
        "cases": len(cases.cases),
        "left_out": cases.left_out,
        "data": cases_sha256(cases.cases),
        "role": role,
        **{key: info[key] for key in _OF_JUDGE},
    }


async def judge_cases(
    judge: Judge, role: str, cases: Sequence[Case], store: Store, told: Told = lambda *_: None
) -> None:
    """Judge what the store does not hold yet; many solutions at once.

    A solution that does not fit the judge's context is a row with an error, and is tried again the next time. Any other
    error ends the work; what was done is kept.
    """
    done = {row["id"]: row for row in store.rows("scores") if "error" not in row}
    groups: dict[Solution, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.solution, []).append(case)
    session, began = _Session(judge, role, store, done, lambda: told(len(done), len(cases))), time.monotonic()
    session.told()
    waiting = iter(groups.values())
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(groups))):
                tasks.create_task(session.work(waiting))
    except* BethinkError as errors:
        first = errors.exceptions[0]  # of one group: the tasks start no groups of their own
        raise first from None
    finally:
        if session.scores:
            seconds = round(time.monotonic() - began, 3)
            usage = {key: value for key, value in asdict(session.usage).items() if value}
            store.append("sessions", {"scores": session.scores, "usage": usage, "seconds": seconds})


class _Session:
    """What is being judged now."""

    def __init__(self, judge: Judge, role: str, store: Store, done: dict[str, Row], told: Callable[[], None]) -> None:
        self._judge, self._role, self._store, self._done = judge, role, store, done
        self.told = told
        self.scores, self.usage = 0, Usage()

    async def work(self, groups: Iterable[Sequence[Case]]) -> None:
        """Judge groups of equal solutions, one after the other; several workers take from the same groups."""
        for group in groups:
            row = next((self._done[case.id] for case in group if case.id in self._done), None)
            said = {"scores": row["scores"]} if row else await self._ask(group[0].solution)
            for case in group:
                if case.id not in self._done:
                    self._done[case.id] = _row(case, said)
                    self._store.append("scores", self._done[case.id])
            self.told()

    async def _ask(self, solution: Solution) -> Row:
        try:
            judgement = await _judged(self._judge, self._role, solution)
        except ContextError as error:
            return {"error": str(error)}
        self.scores += len(judgement.scores)
        self.usage += judgement.usage
        return {"scores": judgement.scores}


async def _judged(judge: Judge, role: str, solution: Solution) -> Judgement:
    """A score for each step, a value of each prefix, or one reward."""
    if role == "prm" and isinstance(judge, ProcessRewardModel):
        judgement = await judge.score_steps(solution)
        check_count(judge.info.name, judgement.scores, len(solution.steps))
        return judgement
    if role == "orm" and isinstance(judge, OutcomeRewardModel):
        return await judge.reward(solution)
    assert isinstance(judge, ValueModel)
    values, usage = [], Usage()
    for end in range(1, len(solution.steps) + 1):  # in order: what is kept of a prefix serves the next one
        last = end == len(solution.steps)
        prefix = replace(solution, steps=solution.steps[:end], finished=solution.finished and last)
        judgement = await judge.value(prefix)
        values.append(judgement.scores[0])
        usage += judgement.usage
    return Judgement(scores=tuple(values), usage=usage)


def _row(case: Case, said: Row) -> Row:
    known = {"steps": len(case.solution.steps), "right": case.right, "first_error": case.first_error}
    return {"id": case.id, "problem": case.problem, **known, **said}
