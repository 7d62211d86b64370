"""What a strategy is, and what all sampling strategies do: draw candidates, all at once or one after another."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from decoding.engine import Capability
from decoding.types import Completion, GenerationRequest
from reasoning.run import Run
from reasoning.score import Score, score_of
from reasoning.selection import Vote
from reasoning.trace import Sampled, Stopped, Voted
from reasoning.trajectory import Candidate, Prompt, Result

SAMPLING_NEEDS: frozenset[Capability] = frozenset()  # samples can be had from any engine, a text-only server too


SEARCH_NEEDS = frozenset({Capability.TOKEN_IDS, Capability.PREFILL})  # what goes on from a prefix


class Strategy(Protocol):
    """Spends compute on one problem. A frozen dataclass of hyper-parameters; all state lives in the call."""

    name: ClassVar[str]  # as typed on the command line
    needs: ClassVar[frozenset[Capability]]  # what the engine must be able to do

    @property
    def most_requests(self) -> int:
        """The most requests that it has open at once: how many problems fill an engine follows from it."""
        ...

    @property
    def most_samples(self) -> int:
        """The most trajectories that it starts from the prompt."""
        ...

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Work on one problem and return the best found, also when the budget ends first."""
        ...


class AllAtOnce:
    """A mixin for strategies that draw `n` samples at once."""

    __slots__ = ()
    n: int

    @property
    def most_requests(self) -> int:
        """All samples."""
        return self.n

    @property
    def most_samples(self) -> int:
        """``n``."""
        return self.n


class BySteps:
    """A mixin for strategies that search by steps: they, and no others, follow the run's `Steps`."""

    __slots__ = ()

    def most_steps(self: Strategy, max_steps: int) -> int:
        """The most steps that it has written, where a solution has at most so many.

        That can be more than its trajectories are long together: what was given up was written, too.
        """
        return self.most_samples * max_steps


async def draw(run: Run, prompt: Prompt, n: int, *, stage: str = "sample", pooled: bool = True) -> list[Candidate]:
    """Candidates for slots 0 .. n - 1, drawn side by side; fewer, from the first slots, where the budget ends.

    A budget in tokens is reserved slot by slot, so under a tight one the slots are drawn in rounds. `stage` and
    `pooled` are for prompts of a strategy's own (see `Run.request`).
    """
    candidates: list[Candidate] = []
    while requests := reserve(run, prompt, len(candidates), n, stage=stage, pooled=pooled):
        for completion in await run.gather(requests):
            candidates.append(read(run, prompt, len(candidates), completion))
    return candidates


async def draw_scored(run: Run, prompt: Prompt, n: int, score: Score) -> list[Candidate]:
    """As `draw`, with scores; each candidate is scored as soon as it has ended."""
    candidates: list[Candidate] = []
    while requests := reserve(run, prompt, len(candidates), n):
        first = len(candidates)

        async def work(index: int, completion: Completion, first: int = first) -> Candidate:
            candidate = run.candidate(first + index, prompt, completion)
            return replace(candidate, score=await score_of(run, score, candidate))

        for candidate in await run.each(requests, work):
            record_sampled(run, candidate)
            candidates.append(candidate)
    score.tell(run, candidates)
    return candidates


async def draw_in_order(
    run: Run, prompt: Prompt, n: int, batch: int, temperature: Callable[[int], float] | None = None
) -> AsyncGenerator[Candidate, None]:
    """Candidates for slots 0 .. n - 1 one after another, with up to `batch` being drawn ahead.

    Whoever stops early cancels what was drawn ahead, and what it has seen depends on the slots alone, not on which of
    them was fast. Close it (``aclosing``) to stop. With a `temperature` for each slot they are not the pool's samples.
    """
    slot = 0
    while requests := reserve(run, prompt, slot, min(n, slot + batch), temperature=temperature):
        async with run.in_order(requests) as completions:
            async for completion in completions:
                yield read(run, prompt, slot, completion)
                slot += 1


def reserve(
    run: Run,
    prompt: Prompt,
    first: int,
    end: int,
    *,
    stage: str = "sample",
    pooled: bool = True,
    temperature: Callable[[int], float] | None = None,
    max_tokens: int | None = None,
) -> Sequence[GenerationRequest]:
    """Requests for slots `first` .. `end` - 1, as many as the budget has room for."""
    requests: list[GenerationRequest] = []
    sampling: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
    for slot in range(first, end):
        if temperature is None:
            request = run.request(prompt, stage, slot, pooled=pooled, **sampling)
        else:
            request = run.request(prompt, "tempered", slot, pooled=False, temperature=temperature(slot), **sampling)
        if request is None:
            break
        requests.append(request)
    return requests


def read(run: Run, prompt: Prompt, slot: int, completion: Completion) -> Candidate:
    """A completion of the prompt as a recorded candidate."""
    candidate = run.candidate(slot, prompt, completion)
    record_sampled(run, candidate)
    return candidate


def record_sampled(run: Run, candidate: Candidate) -> None:
    """Record that a trajectory has ended."""
    reason = candidate.trajectory.finish_reason
    assert reason is not None
    run.record(
        Sampled(
            slot=candidate.slot,
            tokens=len(candidate.trajectory.generated_ids),
            finish_reason=reason,
            answer=candidate.answer,
        )
    )


def ranks(candidates: Sequence[Candidate]) -> list[float]:
    """Scores to rank candidates by, [N]; who was not judged, for want of budget, comes last."""
    return [-math.inf if candidate.score is None else candidate.score for candidate in candidates]


def how_it_ended(candidates: Sequence[Candidate], n: int) -> str:
    """``done`` if there are `n` candidates and all that answer were scored, else ``budget``."""
    scored = all(candidate.score is not None for candidate in candidates if candidate.answer is not None)
    return "done" if len(candidates) == n and scored else "budget"


async def record_vote(run: Run, candidates: Sequence[Candidate], vote: Vote) -> None:
    """Record a vote, its answers spelt as their first voters spelt them."""
    classes = await run.classes(candidates)
    first = {c: i for i, c in reversed(list(enumerate(classes))) if c is not None}
    spelling = {c: str(candidates[i].answer) for c, i in first.items()}
    run.record(
        Voted(
            weights={spelling[c]: weight for c, weight in vote.weights.items()},
            winner=None if vote.winner is None else spelling[vote.winner],
            tied=vote.tied,
        )
    )


def result(run: Run, candidates: Sequence[Candidate], chosen: int | None, reason: str) -> Result:
    """The strategy's result; records that it stopped."""
    run.record(Stopped(reason=reason, samples=run.samples))
    return Result(candidates=tuple(candidates), chosen=chosen, stop_reason=reason)
