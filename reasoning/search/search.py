"""Growing a search's tree: steps side by side, each read and scored as soon as it has ended."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from decoding.engine import Capability
from decoding.errors import EngineError
from decoding.types import FINAL, Completion, FinishReason, GenerationRequest
from reasoning.run import Run
from reasoning.score import Score
from reasoning.search.tree import Grown, Node
from reasoning.trajectory import Candidate, Prompt, Step, Trajectory

__all__ = ["Search"]


class Search:
    """One strategy's tree on one problem.

    A strategy asks for children (`grow`), decides which nodes go on, and records that. A finished node never gets
    another token, and is never judged again.
    """

    def __init__(self, run: Run, prompt: Prompt, score: Score, *, logprobs: bool = False) -> None:
        """`score` gives every new node its number; `logprobs`: whether the strategy reads log-probabilities itself.

        Where nobody does the engine isn't asked for them, since they cost a pass over the vocabulary for each token.
        """
        self._run, self._prompt, self._score = run, prompt, score
        steps, tokenizer = run.settings.steps, run.tokenizer
        self._steps = steps
        self._wait = tokenizer.encode(steps.wait, opening=False) if steps.wait else ()
        self._ask = tokenizer.encode(steps.ask, opening=False) if steps.ask else ()
        sampling = run.settings.sampling
        self._stops: dict[str, Any] = {
            "stop_token_ids": (*sampling.stop_token_ids, *steps.stop_token_ids(tokenizer)),
            "stop": (*sampling.stop, *steps.stop()),
        }
        self._logprobs = sampling.logprobs and (logprobs or Capability.LOGPROBS in score.needs)
        self._rounds = 0
        start = Candidate(slot=0, trajectory=Trajectory(prompt=prompt), text="", answer=None)
        self.root = Node(id=0, parent=None, candidate=start, finished=False)
        self.nodes = [self.root]  # by id
        self.exhausted = False  # whether the budget had no room for something

    async def grow(self, parents: Sequence[Node], *, scored: bool = True, **sampling: Any) -> list[Node]:
        """One child for each entry, in their order; a parent may come more than once.

        Where the budget ends there are fewer, for the first entries, and `exhausted` is true from then on; a step that
        the budget cut, or that it had no room to judge, has its parent's score. `sampling` overrides the run's
        parameters. Raises ``EngineError`` for a score that is no number.
        """
        round_, self._rounds = self._rounds, self._rounds + 1
        children: list[Node] = []
        while len(children) < len(parents):
            waiting = parents[len(children) :]
            requests = self._reserve(waiting, round_, len(children), sampling)
            if not requests:
                self.exhausted = True
                break
            first = len(self.nodes)

            async def work(
                index: int, completion: Completion, first: int = first, waiting: Sequence[Node] = waiting
            ) -> Node:
                node = await self._read(first + index, waiting[index], completion)
                return await self._judge(node) if scored else node

            grown = await self._run.each(requests, work)
            self.nodes += grown
            children += grown
            for node in grown:
                self._record(node)
        return children

    def _reserve(
        self, parents: Sequence[Node], round_: int, first: int, sampling: dict[str, Any]
    ) -> list[GenerationRequest]:
        requests = []
        for index, parent in enumerate(parents, start=first):
            assert not parent.finished, "a finished node gets no tokens"
            stops = {} if parent.last else self._stops
            settings = {"max_tokens": self._limit(parent), "logprobs": self._logprobs, **stops, **sampling}
            after = parent.trajectory if parent.depth else None
            request = self._run.request(self._prompt, "step", round_, index, after=after, pooled=False, **settings)
            if request is None:
                break
            requests.append(request)
        return requests

    def _limit(self, parent: Node) -> int:
        """Tokens that the next step may have."""
        if parent.last:
            return min(self._steps.ask_tokens, self._run.room(parent.trajectory))
        return min(self._steps.max_tokens, self._left(parent.trajectory))

    def _left(self, trajectory: Trajectory) -> int:
        """Tokens that a trajectory may still have, those of an answer that is asked for left out."""
        whole = self._run.settings.sampling.max_tokens - len(trajectory.generated_ids)
        kept_back = len(self._ask) + self._steps.ask_tokens if self._ask else 0
        return max(0, min(whole, self._run.room(trajectory)) - kept_back)

    async def _read(self, number: int, parent: Node, completion: Completion) -> Node:
        """What a completion made of a parent."""
        written, last = Step.of(completion), False
        candidate, step = self._run.read(number, parent.trajectory.extend(written)), written
        if completion.finish_reason in FINAL and not parent.last:
            step, last = await self._between(parent, completion, candidate)
        if step != written:
            candidate = self._run.read(number, parent.trajectory.extend(step))
        return Node(id=number, parent=parent, candidate=candidate, finished=not step.open, last=last)

    async def _between(self, parent: Node, completion: Completion, candidate: Candidate) -> tuple[Step, bool]:
        """The step with what is put behind it; whether the next one is to be the last."""
        step, depth = Step.of(completion), parent.depth + 1
        given: tuple[int, ...] = ()
        if self._is_whole(completion, candidate):
            if not self._wait or depth >= self._steps.min_steps or completion.finish_reason is not FinishReason.EOS:
                return step, False
            step, given = _without_end(completion), self._wait
        elif self._steps.tool is not None:
            given = self._run.tokenizer.encode(await self._steps.tool(self._run, candidate.text), opening=False)
        longer = _behind(step, given)
        if depth < self._steps.max_steps and self._left(parent.trajectory.extend(longer)) > 0:
            return longer, False
        if self._ask and self._run.room(parent.trajectory.extend(_behind(longer, self._ask))) > 0:
            return _behind(longer, self._ask), True
        return replace(longer, open=False, finish_reason=FinishReason.LENGTH), False

    def _is_whole(self, completion: Completion, candidate: Candidate) -> bool:
        """Whether a step ends the solution."""
        if completion.finish_reason is FinishReason.EOS:
            return True
        if self._steps.until_answer and candidate.answer is not None:
            return True
        sampling = self._run.settings.sampling
        text = self._run.text(completion.token_ids)
        return bool(completion.token_ids) and (
            completion.token_ids[-1] in sampling.stop_token_ids or any(stop in text for stop in sampling.stop)
        )

    async def _judge(self, node: Node) -> Node:
        assert node.parent is not None
        score = None
        if node.step.finish_reason not in FINAL:
            self.exhausted = True  # what is half written is neither right nor wrong
        else:
            score = await self._score(self._run, node.candidate)
            if score is None:
                self.exhausted = True
            elif math.isnan(score):
                raise EngineError(f"the score {self._score.name} is no number for {node.candidate.text[-80:]!r}")
        known = node.parent.candidate.score if score is None else score
        return replace(node, candidate=replace(node.candidate, score=known))

    def _record(self, node: Node) -> None:
        assert node.parent is not None
        self._run.record(
            Grown(
                node=node.id,
                parent=node.parent.id,
                tokens=len(node.step.token_ids) - node.step.given,
                finish_reason=node.step.finish_reason,
                finished=node.finished,
                score=node.candidate.score,
                text=node.candidate.text[len(node.parent.candidate.text) :],
            )
        )


def _without_end(completion: Completion) -> Step:
    """A step less the token that ended it."""
    known = completion.logprobs
    return Step(
        token_ids=completion.token_ids[:-1],
        logprob=None if known is None else math.fsum(known[:-1]),
        finish_reason=FinishReason.STOP,
    )


def _behind(step: Step, given: tuple[int, ...]) -> Step:
    """A step that goes on, with ids put behind it."""
    return replace(step, token_ids=step.token_ids + given, given=step.given + len(given), open=True)
