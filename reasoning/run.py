"""The one handle that a strategy touches.

A strategy asks for requests (`request`: seeds, budget), has them generated (`generate`, `gather`, `in_order`), reads
them (`candidate`) and records what it did. Batching, cancelling, budgets, pools and worker programs live below.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from decoding.engine import Engine, finish_or_abort
from decoding.errors import ConfigError, SeedError
from decoding.seeds import PathItem, Rng, SeededRng, derive_seed
from decoding.types import FINAL, Completion, FinishReason, GenerationRequest, SamplingParams, Usage
from reasoning.budget import Budget, Ledger, with_flops
from reasoning.trace import Committed, Event
from reasoning.trajectory import Candidate, Prompt, Trajectory, read_candidate
from verifiers.base import AnswerFormat, Check
from verifiers.grading import Grading
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
    workers: WorkerPool | None = None


class Run:
    """One strategy's work on one problem."""

    def __init__(
        self,
        settings: RunSettings,
        problem_id: str,
        *,
        name: str = "run",
        pool: Pool | None = None,
        grading: Grading | None = None,
        on_commit: Callable[[tuple[int, ...]], None] = lambda _: None,
        on_load: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.problem_id = problem_id
        self.trace: list[Event] = []
        self._name = name  # distinguishes this run's requests from those of others in the same engine
        self._pool = pool
        self._grading = grading or Grading(settings.answers, settings.workers)  # shared by all who work on a problem
        self._on_commit = on_commit  # hears the settled prefix
        self._on_load = on_load  # hears by how many the open requests have changed
        self._ledger = Ledger(settings.budget)
        self._seeds: set[int] = set()
        self._open: dict[str, _Open] = {}
        seconds = settings.budget.seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    # -- randomness ------------------------------------------------------------------------------------------------

    def seed(self, *path: PathItem) -> int:
        """The seed of a draw, from the path that distinguishes it; raises ``SeedError`` if the path was used."""
        seed = derive_seed(self.settings.seed, self.problem_id, *path)
        if seed in self._seeds:
            raise SeedError(
                f"the seed path {path!r} was used before, two draws would be one: name what tells them apart"
            )
        self._seeds.add(seed)
        return seed

    def rng(self, *path: PathItem) -> Rng:
        """Randomness for the strategy's own choices, from a path."""
        return SeededRng(self.seed(*path))

    # -- generating ------------------------------------------------------------------------------------------------

    def render(self, messages: Sequence[dict[str, str]], question: str) -> Prompt:
        """Messages of the strategy's own as a prompt: by the model's chat template, or as one text without one."""
        tokenizer = self._engine("policy").tokenizer
        if tokenizer.has_chat_template:
            return Prompt.from_chat(messages, tokenizer, question=question)
        return Prompt.from_text("\n\n".join(m["content"] for m in messages), tokenizer, question=question)

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

    @asynccontextmanager
    async def in_order(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[AsyncIterator[Completion]]:
        """Have requests generated side by side and hand them out in their order, each as soon as those before it are.

        Leaving the block cancels what has not ended and settles all: a decision on the first *m* completions never
        depends on which of the others happened to be fast.
        """
        tasks = [asyncio.ensure_future(self._generate(request)) for request in requests]
        try:
            yield _each(tasks)
        finally:
            await _cancel(tasks)
            for request in requests:
                opened = self._open.pop(request.id)
                self._ledger.settle(request, opened.parameters, opened.usage)

    # -- reading ---------------------------------------------------------------------------------------------------

    def candidate(self, slot: int, prompt: Prompt, completion: Completion) -> Candidate:
        """A completion of the prompt as a candidate, with its text and its answer."""
        return read_candidate(self._engine("policy").tokenizer, self.settings.answers, slot, prompt, completion)

    async def classes(self, candidates: Sequence[Candidate]) -> list[int | None]:
        """Equality classes of the candidates' answers, [N]; None where there is no answer."""
        return await self._grading.classes([candidate.answer for candidate in candidates])

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a module-level function in a worker program, under its limits."""
        if self.settings.workers is None:
            raise ConfigError("this run has no worker programs: pass `workers` to its settings")
        return await self.settings.workers.call(function, *arguments)

    # -- telling ---------------------------------------------------------------------------------------------------

    @property
    def usage(self) -> Usage:
        """All that was computed so far."""
        return self._ledger.spent

    @property
    def samples(self) -> int:
        """Trajectories started from the prompt so far."""
        return self._ledger.samples

    def record(self, event: Event) -> None:
        """Put an event into the trace."""
        self.trace.append(event)

    def commit(self, prefix: Trajectory) -> None:
        """Declare a prefix settled: it will open the answer whatever happens, so it may be streamed."""
        self.record(Committed(tokens=len(prefix.generated_ids)))
        self._on_commit(prefix.generated_ids)

    # -- below -----------------------------------------------------------------------------------------------------

    def _engine(self, role: str) -> Engine:
        try:
            return self.settings.engines[role]
        except KeyError:
            raise ConfigError(f"no engine plays the role {role!r}: there are {sorted(self.settings.engines)}") from None

    def _expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

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


async def _each(tasks: Sequence["asyncio.Task[Completion]"]) -> AsyncIterator[Completion]:
    for task in tasks:
        yield await task


async def _cancel(tasks: Sequence["asyncio.Task[Completion]"]) -> None:
    """Cancel what is running and wait until it has let go of the engine."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
