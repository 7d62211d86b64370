"""The half of a run that generates: seeds, budgets, requests side by side, cancelling, the pool."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from decoding.engine import Engine, finish_or_abort
from decoding.errors import ConfigError, SeedError
from decoding.seeds import PathItem, derive_seed
from decoding.types import FINAL, Completion, FinishReason, GenerationRequest, SamplingParams, Usage
from reasoning.budget import Budget, Ledger, with_flops
from reasoning.steps import Steps
from reasoning.trajectory import Prompt, Trajectory
from verifiers.base import AnswerFormat, Check
from verifiers.judges.types import Judge
from verifiers.workers import WorkerPool

T = TypeVar("T")


class Pool(Protocol):
    """Samples that were drawn before; what is found there is not drawn again."""

    def find(self, request: GenerationRequest) -> Completion | None:
        """The completion of an equal request (same problem, prompt and sampling, seed included), if there is one."""
        ...

    def add(self, request: GenerationRequest, slot: int, completion: Completion) -> None:
        """Keep a completion that ended by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What is the same for all problems of an evaluation."""

    engines: Mapping[str, Engine]  # by role: policy, draft, target
    sampling: SamplingParams  # its seed is not used: each request has its own
    answers: AnswerFormat
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    check: Check | None = None  # what accepts or refuses candidates
    judges: Mapping[str, Judge] = field(default_factory=dict)  # by role: prm, value, orm, self
    workers: WorkerPool | None = None
    steps: Steps = field(default_factory=Steps)  # of strategies that search by steps


class Generating:
    """Asks the engines of a run."""

    def __init__(
        self, settings: RunSettings, problem_id: str, name: str, pool: Pool | None, on_load: Callable[[int], None]
    ) -> None:
        self.settings = settings
        self.problem_id = problem_id
        self._name = name  # distinguishes this run's requests from those of others in the same engine
        self._pool = pool
        self._on_load = on_load  # hears by how many the open requests have changed
        self._ledger = Ledger(settings.budget)
        self._seeds: set[int] = set()
        self._open: dict[str, _Open] = {}
        seconds = settings.budget.seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def seed(self, *path: PathItem) -> int:
        """The seed of a draw, from the path that distinguishes it; raises ``SeedError`` if the path was used."""
        seed = derive_seed(self.settings.seed, self.problem_id, *path)
        if seed in self._seeds:
            raise SeedError(
                f"the seed path {path!r} was used before, two draws would be one: name what tells them apart"
            )
        self._seeds.add(seed)
        return seed

    def request(
        self,
        prompt: Prompt,
        *path: PathItem,
        after: Trajectory | None = None,
        role: str = "policy",
        pooled: bool = True,
        **sampling: Any,
    ) -> GenerationRequest | None:
        """A request that goes on from the prompt, or from `after`; None if the budget has no room for it now.

        Reserves tokens in the order of calls. None means: settle what is open (see `gather`, `in_order`) and ask
        again; if nothing is open, the budget is exhausted. `sampling` overrides the run's sampling parameters. A sample
        of the task's own prompt, whose path ends in its slot, is shared with other strategies by the pool; pass
        ``pooled=False`` for a prompt of the strategy's own.
        """
        if self._expired():
            return None
        parameters = self._engine(role).info.parameters
        wanted = replace(self.settings.sampling, **sampling)
        ids = (after or prompt).token_ids
        grant = self._ledger.reserve(
            max_tokens=wanted.max_tokens, prompt_tokens=len(ids), parameters=parameters, sample=after is None
        )
        if grant is None:
            return None
        request = GenerationRequest(
            id=f"{self._name}/{self.problem_id}/{'/'.join(map(str, path))}",
            prompt_token_ids=ids,
            sampling=replace(wanted, seed=self.seed(*path, role), max_tokens=grant.tokens),
        )
        slot = path[-1] if pooled and after is None and isinstance(path[-1], int) else None
        self._open[request.id] = _Open(role, parameters, slot, clamped=grant.clamped)
        return request

    async def generate(self, request: GenerationRequest) -> Completion:
        """Have one request generated, charge it and settle it at once."""
        return (await self.gather([request]))[0]

    async def gather(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Have requests generated side by side; in their order, when all have ended. Settles them."""
        async with self.in_order(requests) as completions:
            return [completion async for completion in completions]

    async def each(
        self, requests: Sequence[GenerationRequest], work: Callable[[int, Completion], Awaitable[T]]
    ) -> list[T]:
        """Have requests generated side by side and `work` done on each as soon as it has ended; in their order.

        `work` gets a request's index and its completion; it may judge it, and must not record. Settles the requests.
        Where judging has a limit, work begins in order, so that judgements are reserved in order; where generating and
        judging share one (FLOPs), it begins when all requests have ended and given back what they did not use.
        """
        budget, works = self.settings.budget, list[asyncio.Task[T]]()
        try:
            async with self._generating(requests) as tasks:
                if budget.flops is None and budget.scored_tokens is None:
                    works += [asyncio.ensure_future(_then(work, i, task)) for i, task in enumerate(tasks)]
                    await asyncio.gather(*works)
                elif budget.flops is None:
                    for index, task in enumerate(tasks):
                        await task
                        works.append(asyncio.ensure_future(_then(work, index, task)))
                else:
                    await asyncio.gather(*tasks)
            if not works:
                works += [asyncio.ensure_future(_then(work, i, task)) for i, task in enumerate(tasks)]
            return [await task for task in works]
        finally:
            await _cancel(works)

    @asynccontextmanager
    async def in_order(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[AsyncIterator[Completion]]:
        """Have requests generated side by side and hand them out in their order, each as soon as those before it are.

        One that is handed out is settled. Leaving the block cancels what has not ended and settles the rest: a decision
        on the first *m* completions never depends on which of the others happened to be fast.
        """
        async with self._generating(requests) as tasks:
            yield self._hand_out(requests, tasks)

    def _engine(self, role: str) -> Engine:
        try:
            return self.settings.engines[role]
        except KeyError:
            raise ConfigError(f"no engine plays the role {role!r}: there are {sorted(self.settings.engines)}") from None

    def _expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    @asynccontextmanager
    async def _generating(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Sequence["asyncio.Task[Completion]"]]:
        """Have requests generated side by side; leaving the block cancels what has not ended and settles all."""
        tasks = [asyncio.ensure_future(self._generate(request)) for request in requests]
        try:
            yield tasks
        finally:
            await _cancel(tasks)
            for request in requests:
                self._settle(request)

    async def _hand_out(
        self, requests: Sequence[GenerationRequest], tasks: Sequence["asyncio.Task[Completion]"]
    ) -> AsyncIterator[Completion]:
        for request, task in zip(requests, tasks, strict=True):
            completion = await task
            self._settle(request)
            yield completion

    def _settle(self, request: GenerationRequest) -> None:
        """Give back what a request has not used; settling again does nothing."""
        opened = self._open.pop(request.id, None)
        if opened is not None:
            self._ledger.settle(request, opened.parameters, opened.usage)

    async def _generate(self, request: GenerationRequest) -> Completion:
        opened = self._open[request.id]
        pooled = self._pool.find(request) if self._pool is not None and opened.slot is not None else None
        if pooled is not None:
            self._charge(opened, pooled)
            return pooled
        engine = self._engine(opened.role)
        self._on_load(1)
        timer = self._abort_at_deadline(engine, request.id, opened)
        try:
            completion = await finish_or_abort(
                engine.generate(request),
                lambda: engine.abort(request.id),
                last_counts=lambda completion: self._charge(opened, completion),
            )
        finally:
            self._on_load(-1)
            if timer is not None:
                timer.cancel()
        self._charge(opened, completion)
        completion = self._name_budget(request, opened, completion)
        if self._pool is not None and opened.slot is not None and completion.finish_reason in FINAL:
            self._pool.add(request, opened.slot, completion)
        return completion

    def _abort_at_deadline(self, engine: Engine, request_id: str, opened: "_Open") -> asyncio.TimerHandle | None:
        if self._deadline is None:
            return None

        def abort() -> None:
            opened.abort = asyncio.ensure_future(engine.abort(request_id))

        return asyncio.get_running_loop().call_later(max(0.0, self._deadline - time.monotonic()), abort)

    def _charge(self, opened: "_Open", completion: Completion) -> None:
        opened.usage = with_flops(completion.usage, opened.parameters)
        self._ledger.charge(opened.usage)

    def _name_budget(self, request: GenerationRequest, opened: "_Open", completion: Completion) -> Completion:
        """Whatever the run's budget cut reads ``budget``."""
        clamped = opened.clamped and len(completion.token_ids) >= request.sampling.max_tokens
        by_tokens = clamped and completion.finish_reason is FinishReason.LENGTH
        by_seconds = self._expired() and completion.finish_reason is FinishReason.CANCELLED
        return replace(completion, finish_reason=FinishReason.BUDGET) if by_tokens or by_seconds else completion


@dataclass(slots=True)
class _Open:
    """A request that has reserved tokens and has not settled."""

    role: str
    parameters: int
    slot: int | None  # of a sample, which pools keep; None for a request from inside a trajectory
    clamped: bool
    usage: Usage = field(default_factory=Usage)
    abort: "asyncio.Future[None] | None" = None  # under way, because the budget of seconds ran out


async def _then(work: Callable[[int, Completion], Awaitable[T]], index: int, task: "asyncio.Task[Completion]") -> T:
    return await work(index, await task)


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Cancel what is running and wait until it has let go of the engine."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
