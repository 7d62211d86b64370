"""Best-of-n with pruning: samples are judged while they are being written, and the worst are given up.

Manvi et al. 2024, *Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation*, arXiv
2410.02725: there the judge is the policy itself. Here it can be any score that makes sense of half a solution.

At marks, after `mark` tokens and twice as many each time, those that are still being written are paused and judged, and
the share `rho` of them with the lowest scores is given up; at least one goes on. What has ended is kept. At the end all
that were not given up are judged, and the best one with an answer is taken.

A sample goes on from its token ids with a new seed: no engine can take up a stream of draws in the middle. So up to the
first mark a sample is that of best-of-n with the same seed, token for token; behind it, it has the same law, given what
was written. With rho = 0 nothing is paused, and all is as in best-of-n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from decoding.stopping import StopStrings
from decoding.types import Completion, FinishReason, GenerationRequest
from reasoning.run import Run
from reasoning.score import score_of
from reasoning.scores import Score, Scoring
from reasoning.selection import best
from reasoning.strategies.base import (
    SAMPLING_NEEDS,
    AllAtOnce,
    draw_scored,
    how_it_ended,
    ranks,
    record_sampled,
    reserve,
    result,
)
from reasoning.trace import Event
from reasoning.trajectory import Candidate, Prompt, Result, Step, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp(Event):
    """Samples were judged while they were being written, and some given up."""

    mark: int  # tokens that they had
    scores: dict[int, float]  # by slot, of all that were judged
    slots: tuple[int, ...]  # of those given up


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedBestOfN(AllAtOnce, Scoring):
    """The best by a score of n samples, of which the worst are given up on the way."""

    name: ClassVar[str] = "pruned_best_of_n"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS | {Capability.TOKEN_IDS, Capability.PREFILL}

    n: int = 16
    rho: float = 0.5  # share given up at each mark, in [0, 1)
    mark: int = 64  # tokens before the first mark; the next are at twice as many
    score: str | Score = "self"  # a name of reasoning.scores, or a score

    def __post_init__(self) -> None:
        _ = self.scoring
        if not 0 <= self.rho < 1:
            raise ConfigError(f"rho is a share, at least 0 and below 1, got {self.rho}")

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw up to a mark, judge, give up the worst, go on; take the best."""
        if self.rho == 0:
            candidates = await draw_scored(run, prompt, self.n, self.scoring)
        else:
            candidates = await self._draw(run, prompt)
            for candidate in candidates:
                record_sampled(run, candidate)
            self.scoring.tell(run, candidates)
        ends = [candidate.trajectory.finish_reason for candidate in candidates]
        kept = [
            c.answer is not None and end is not FinishReason.CANCELLED for c, end in zip(candidates, ends, strict=True)
        ]
        reason = "budget" if self.rho and FinishReason.BUDGET in ends else how_it_ended(candidates, self.n)
        return result(run, candidates, best(ranks(candidates), kept), reason)

    async def _draw(self, run: Run, prompt: Prompt) -> list[Candidate]:
        """Candidates in slot order; those given up read ``cancelled``."""
        limit = run.settings.sampling.max_tokens
        mark = min(self.mark, limit)
        drawn: dict[int, Candidate] = {}
        while requests := reserve(run, prompt, len(drawn), self.n, pooled=False, max_tokens=mark):
            started = [_nothing(len(drawn) + index, prompt) for index in range(len(requests))]
            drawn |= await self._each(run, requests, started, mark)
        while paused := [candidate for candidate in drawn.values() if _is_paused(run, candidate, mark)]:
            survivors, given_up = self._select(paused)
            run.record(
                GivenUp(
                    mark=mark,
                    scores={c.slot: c.score for c in paused if c.score is not None},
                    slots=tuple(candidate.slot for candidate in given_up),
                )
            )
            drawn |= {candidate.slot: _ended(candidate, FinishReason.CANCELLED) for candidate in given_up}
            mark = min(2 * mark, limit)
            drawn |= await self._go_on(run, prompt, survivors, mark)
        return [drawn[slot] for slot in sorted(drawn)]

    def _select(self, paused: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Those that go on and those given up, both in slot order; of equal scores the lower slot goes on."""
        count = min(len(paused) - 1, math.floor(self.rho * len(paused) + 1e-9))  # 0.29 * 100 is a little less than 29
        scores = ranks(paused)
        worst = set(sorted(range(len(paused)), key=lambda index: (scores[index], -index))[:count])
        survivors = [candidate for index, candidate in enumerate(paused) if index not in worst]
        return survivors, [paused[index] for index in sorted(worst)]

    async def _go_on(self, run: Run, prompt: Prompt, waiting: Sequence[Candidate], mark: int) -> dict[int, Candidate]:
        """Survivors, written up to the next mark, by slot; in rounds where the budget is tight."""
        written: dict[int, Candidate] = {}
        while waiting:
            requests: list[GenerationRequest] = []
            for candidate in waiting:
                room = mark - len(candidate.trajectory.generated_ids)
                path = ("sample", candidate.slot, mark)
                request = run.request(prompt, *path, after=candidate.trajectory, max_tokens=room)
                if request is None:
                    break
                requests.append(request)
            if not requests:
                return written | {candidate.slot: _ended(candidate, FinishReason.BUDGET) for candidate in waiting}
            written |= await self._each(run, requests, waiting[: len(requests)], mark)
            waiting = waiting[len(requests) :]
        return written

    async def _each(
        self, run: Run, requests: Sequence[GenerationRequest], started: Sequence[Candidate], mark: int
    ) -> dict[int, Candidate]:
        """What was started, with what the requests write, by slot; each is judged as soon as it is paused or ends."""

        async def work(index: int, completion: Completion) -> Candidate:
            candidate = run.read(started[index].slot, _extend(run, started[index].trajectory, completion))
            if _is_paused(run, candidate, mark):
                return replace(candidate, score=await self.scoring(run, candidate))
            return replace(candidate, score=await score_of(run, self.scoring, candidate))

        return {candidate.slot: candidate for candidate in await run.each(requests, work)}


def _nothing(slot: int, prompt: Prompt) -> Candidate:
    return Candidate(slot=slot, trajectory=Trajectory(prompt=prompt), text="", answer=None)


def _is_paused(run: Run, candidate: Candidate, mark: int) -> bool:
    """Whether a candidate stopped at a mark and could go on."""
    trajectory = candidate.trajectory
    at_mark = trajectory.finish_reason is FinishReason.LENGTH and len(trajectory.generated_ids) == mark
    return at_mark and mark < run.settings.sampling.max_tokens and run.room(trajectory) > 0


def _ended(candidate: Candidate, reason: FinishReason) -> Candidate:
    """A candidate that will not go on, for a reason of ours."""
    (step,) = candidate.trajectory.steps
    trajectory = replace(candidate.trajectory, steps=(replace(step, finish_reason=reason),))
    return replace(candidate, trajectory=trajectory)


def _extend(run: Run, before: Trajectory, completion: Completion) -> Trajectory:
    """A trajectory with more in its one step; marks are no ends of steps.

    A stop string that a mark went through is found here: the engine saw only its second half.
    """
    old = before.generated_ids
    count, stopped = len(completion.token_ids), False
    if run.settings.sampling.stop and old:
        stops = StopStrings(run.settings.sampling.stop, run.text)
        ids = (*old, *completion.token_ids)
        end = next((length for length, token in enumerate(ids, start=1) if stops.feed(token)), None)
        stopped = end is not None
        count = count if end is None else end - len(old)
    new = completion.logprob
    if count < len(completion.token_ids):
        new = None if completion.logprobs is None else math.fsum(completion.logprobs[:count])
    step = Step(
        token_ids=old + completion.token_ids[:count],
        logprob=None if new is None or before.logprob is None else before.logprob + new,
        finish_reason=FinishReason.STOP if stopped else completion.finish_reason,
    )
    return Trajectory(prompt=before.prompt, steps=(step,))
