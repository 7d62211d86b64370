"""Running strategies over a task: one coroutine a problem, all problems in one continuous batch.

A problem is admitted when another one ends, in order, so that its requests lie close together and its prefix stays
cached. Strategies work on a problem one after the other and share its pool of samples: majority vote and best-of-n over
the same slots cost one set of samples. All that was finished is found in the store when the same run starts again.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from decoding.errors import BethinkError, ConfigError, ContextError, EngineError, StoreError
from decoding.types import Completion, FinishReason, GenerationRequest, Usage
from evals.admission import Admission, Seat
from evals.store import Row, Store
from evals.tasks.base import Problem, Task
from reasoning.api import execute
from reasoning.judging import Judgements
from reasoning.run import Run, RunSettings
from reasoning.strategies import Strategy, require, spell
from reasoning.trace import to_json
from reasoning.trajectory import Candidate, Prompt, read_candidate
from verifiers.base import Outcome, Verdict
from verifiers.grading import Grading

OVERSUBSCRIPTION = 4.0  # requests in flight for each slot of the engine; at 2 the tail of searches was longer
FATAL = (EngineError, StoreError, ConfigError)  # no other problem would fare better; ContextError is one problem's own


class Listener(Protocol):
    """Hears of progress."""

    def sampled(self, tokens: int) -> None:
        """Tokens were generated that the store did not have: a completion has ended, or a strategy without a pool."""
        ...

    def solved(self, strategy: str, outcome: Outcome) -> None:
        """A strategy has ended on a problem, now or in an earlier run."""
        ...


class Silence:
    """A `Listener` that does nothing."""

    def sampled(self, tokens: int) -> None:
        """Nothing."""

    def solved(self, strategy: str, outcome: Outcome) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is to be run."""

    task: Task
    strategies: Sequence[Strategy]
    prompts: Mapping[str, Prompt]  # by problem id
    settings: RunSettings


async def evaluate(evaluation: Evaluation, store: Store, listener: Listener | None = None) -> None:
    """Run all strategies on all problems; what the store has already is not done again.

    Raises whatever makes going on pointless (engine broken, disk full). An error on one problem is a row in the
    results, counts as not solved, and is tried again when the same run starts again.
    """
    engine = evaluation.settings.engines["policy"]
    for strategy in evaluation.strategies:
        require(strategy, engine, evaluation.settings.judges)
    state = _State.load(store)
    admission = Admission(math.ceil(OVERSUBSCRIPTION * engine.info.slots))
    width = max(strategy.most_requests for strategy in evaluation.strategies)
    heard = listener or Silence()

    async def work(problem: Problem, seat: Seat) -> None:
        try:
            await _Work(evaluation, problem, store, state, heard, seat).finish()
        finally:
            seat.leave()

    try:
        async with asyncio.TaskGroup() as group:
            for problem in evaluation.task.problems:
                seat = await admission.enter(width)
                group.create_task(work(problem, seat))
    except* BethinkError as errors:
        raise _first(errors) from None


def final_results(results: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """The results that are not to be worked on again, by (problem, strategy).

    An error may have been the machine's: whoever runs the same line again wants another try.
    """
    rows = (row for row in results if row["outcome"] != Outcome.ERROR)
    return {(row["problem"], row["strategy"]): row for row in rows}


@dataclass(slots=True)
class _State:
    """What the store holds."""

    samples: dict[str, list[Row]] = field(default_factory=dict)  # by problem
    graded: set[tuple[str, int]] = field(default_factory=set)  # (problem, slot)
    results: dict[tuple[str, str], Row] = field(default_factory=dict)  # by (problem, strategy)

    @classmethod
    def load(cls, store: Store) -> "_State":
        state = cls()
        for row in store.rows("samples"):
            state.samples.setdefault(row["problem"], []).append(row)
        state.graded = {(row["problem"], row["slot"]) for row in store.rows("grades")}
        state.results = final_results(store.rows("results"))
        return state


class _Work:
    """All work on one problem, and the pool of its samples (`reasoning.run.Pool`)."""

    def __init__(
        self,
        evaluation: Evaluation,
        problem: Problem,
        store: Store,
        state: _State,
        listener: Listener,
        seat: Seat,
    ) -> None:
        self._evaluation, self._problem, self._store = evaluation, problem, store
        self._state, self._listener, self._seat = state, listener, seat
        self._prompt = evaluation.prompts[problem.id]
        self._grading = Grading(evaluation.settings.answers, evaluation.settings.workers)
        self._judgements: Judgements = {}  # strategies that ask the same judge of the same solution ask once
        self._asked: dict[int, float] = {}  # when a sample that was not there was asked for, by seed
        self._rows: dict[int, Row] = {row["seed"]: row for row in state.samples.pop(problem.id, [])}
        self._told = 0  # tokens of the running strategy that the store had or the listener has heard of

    async def finish(self) -> None:
        """Every strategy's result and every sample's grade."""
        for strategy in self._evaluation.strategies:
            key = (self._problem.id, spell(strategy))
            if key not in self._state.results:
                self._state.results[key] = await self._run(strategy)
                self._store.append("results", self._state.results[key])
            self._listener.solved(key[1], Outcome(self._state.results[key]["outcome"]))
        await self._grade(
            [row for row in self._rows.values() if (self._problem.id, row["slot"]) not in self._state.graded]
        )

    def find(self, request: GenerationRequest) -> Completion | None:
        """The stored completion of the same draw."""
        sampling = request.sampling
        row = self._rows.get(sampling.seed)
        if row is not None:
            # What ended by itself within the limit would have under any limit that leaves it room.
            by_itself = row["finish_reason"] != FinishReason.LENGTH and len(row["token_ids"]) <= sampling.max_tokens
            if by_itself or row["max_tokens"] == sampling.max_tokens:
                completion = _completion(row)
                self._told += completion.usage.decoded_tokens
                return completion
        self._asked[sampling.seed] = time.monotonic()
        return None

    def add(self, request: GenerationRequest, slot: int, completion: Completion) -> None:
        """Store a completion."""
        seed = request.sampling.seed
        row: Row = {
            "problem": self._problem.id,
            "slot": slot,
            "seed": seed,
            "max_tokens": request.sampling.max_tokens,
            "token_ids": completion.token_ids,
            "finish_reason": completion.finish_reason,
            "logprob": completion.logprob,
            "usage": _nonzero(completion.usage),
            "seconds": round(time.monotonic() - self._asked.pop(seed), 3),
        }
        self._store.append("samples", row)
        self._rows[seed] = row
        self._told += completion.usage.decoded_tokens
        self._listener.sampled(len(completion.token_ids))

    async def _run(self, strategy: Strategy) -> Row:
        """The strategy's result as a row; an error that is this problem's own is a result too."""
        run = Run(
            self._evaluation.settings,
            self._problem.id,
            name=spell(strategy),
            pool=self,
            grading=self._grading,
            judgements=self._judgements,
            on_load=self._seat.changed,
        )
        began, self._told = time.monotonic(), 0
        candidate, reason = None, "error"
        try:
            result = await execute(strategy, run, self._prompt)
            candidate = None if result.chosen is None else result.candidates[result.chosen]
            reason = result.stop_reason
            verdict = await self._judge(result.answer)
        except ContextError as error:
            verdict = Verdict(outcome=Outcome.ERROR, rule=f"ContextError: {error}")
        except FATAL:
            raise
        except BethinkError as error:
            verdict = Verdict(outcome=Outcome.ERROR, rule=f"{type(error).__name__}: {error}")
        if (rest := run.usage.decoded_tokens - self._told) > 0:  # of searches, and of prompts of a strategy's own
            self._listener.sampled(rest)
        return {
            "problem": self._problem.id,
            "strategy": spell(strategy),
            "slot": None if candidate is None else candidate.slot,
            "answer": None if candidate is None else candidate.answer,
            "outcome": verdict.outcome,
            "rule": verdict.rule,
            "stop_reason": reason,
            "samples": run.samples,
            "usage": _nonzero(run.usage),
            "seconds": round(time.monotonic() - began, 3),
            "trace": [to_json(event) for event in run.trace],
        }

    async def _grade(self, rows: Sequence[Row]) -> None:
        """Judge every sample and store the grades of `rows`; a grade's class is that among all samples."""
        if not rows:
            return
        settings = self._evaluation.settings
        tokenizer = settings.engines["policy"].tokenizer
        candidates = [
            read_candidate(tokenizer, settings.answers, row["slot"], self._prompt, _completion(row))
            for row in sorted(self._rows.values(), key=lambda row: row["slot"])
        ]
        labels = await class_labels(self._grading, [candidate.answer for candidate in candidates])
        wanted = {row["slot"] for row in rows}
        for candidate, label in zip(candidates, labels, strict=True):
            if candidate.slot in wanted:
                verdict = await self._judge(candidate.answer)
                self._store.append("grades", grade_row(self._problem.id, candidate, label, verdict))

    async def _judge(self, answer: str | None) -> Verdict:
        return await self._grading.verify(self._evaluation.task.verifier, answer, self._problem.reference)


async def class_labels(grading: Grading, answers: Sequence[str | None]) -> list[str | None]:
    """For each answer, [N], the first one that is equal to it; None stays None."""
    numbers = await grading.classes(answers)
    first: dict[int | None, str | None] = {None: None}
    for number, answer in zip(numbers, answers, strict=True):
        first.setdefault(number, answer)
    return [first[number] for number in numbers]


def grade_row(problem: str, candidate: Candidate, label: str | None, verdict: Verdict) -> Row:
    """The judgement of one sample; its class is written down where it is not the answer itself."""
    return {
        "problem": problem,
        "slot": candidate.slot,
        "answer": candidate.answer,
        **({} if label == candidate.answer else {"class": label}),
        "outcome": verdict.outcome,
        "rule": verdict.rule,
        "text": candidate.text,
    }


def _completion(row: Row) -> Completion:
    return Completion(
        token_ids=tuple(row["token_ids"]),
        logprobs=None,
        sampling_logprobs=None,
        logprob=row["logprob"],
        finish_reason=FinishReason(row["finish_reason"]),
        usage=Usage(**row["usage"]),
    )


def _nonzero(usage: Usage) -> Row:
    return {key: value for key, value in asdict(usage).items() if value}


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
