"""The one handle that a strategy touches.

A strategy asks for requests (`request`: seeds, budget), has them generated (`generate`, `gather`, `each`, `in_order`),
reads them (`candidate`), has them judged (`judge`) and records what it did. Batching, cancelling, budgets, pools and
worker programs live below.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from decoding.engine import Tokenizer
from decoding.errors import ConfigError
from decoding.seeds import PathItem, Rng, SeededRng
from decoding.types import Completion, Usage
from reasoning.generating import Generating, Pool, RunSettings
from reasoning.judging import Judgements, Judging, judge_of, solution_of
from reasoning.trace import Checked, Committed, Event
from reasoning.trajectory import Candidate, Prompt, Trajectory, read_candidate, read_trajectory
from verifiers.base import Check
from verifiers.grading import Grading
from verifiers.judges.types import Judgement, Solution
from verifiers.models.embeddings import embed

__all__ = ["Pool", "Run", "RunSettings"]

T = TypeVar("T")


class Run(Generating):
    """One strategy's work on one problem."""

    def __init__(
        self,
        settings: RunSettings,
        problem_id: str,
        *,
        name: str = "run",
        pool: Pool | None = None,
        grading: Grading | None = None,
        judgements: Judgements | None = None,
        on_commit: Callable[[tuple[int, ...]], None] = lambda _: None,
        on_load: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(settings, problem_id, name, pool, on_load)
        self.trace: list[Event] = []
        self._grading = grading or Grading(settings.answers, settings.workers)  # shared by all who work on a problem
        known = {} if judgements is None else judgements  # likewise
        self._judging = Judging(settings.judges, self._ledger, known, self._deadline)
        self._on_commit = on_commit  # hears the settled prefix
        self._embedded: dict[tuple[str, str], npt.NDArray[np.float32]] = {}  # by model and text

    # -- asking ----------------------------------------------------------------------------------------------------

    def rng(self, *path: PathItem) -> Rng:
        """Randomness for the strategy's own choices, from a path."""
        return SeededRng(self.seed(*path))

    def render(self, messages: Sequence[dict[str, str]], question: str) -> Prompt:
        """Messages of the strategy's own as a prompt: by the model's chat template, or as one text without one."""
        tokenizer = self.tokenizer
        if tokenizer.has_chat_template:
            return Prompt.from_chat(messages, tokenizer, question=question)
        return Prompt.from_text("\n\n".join(m["content"] for m in messages), tokenizer, question=question)

    # -- judging ---------------------------------------------------------------------------------------------------

    def solution(self, candidate: Candidate, role: str, *, whole: bool = False) -> Solution:
        """A candidate as the judge of a role reads it; with `whole`, all of its text as one step."""
        tokenizer = self.tokenizer
        return solution_of(tokenizer, judge_of(self.settings.judges, role), candidate, whole=whole)

    async def judge(self, role: str, solution: Solution) -> Judgement | None:
        """What the judge of a role says of a solution; None if the budget has no room for it.

        Any number of calls may be open at once: judges make batches, across problems. See `Judging.judge`.
        """
        return await self._judging.judge(role, solution)

    async def accepts(self, candidate: Candidate, who: str) -> bool:
        """Whether the run's check accepts a candidate; one without an answer is not asked about.

        Raises ``ConfigError`` where the run has no check; `who` is named as what needs one.
        """
        check = self.settings.check
        if check is None:
            raise ConfigError(f"{who} needs a check: take a task that has one, or pass `check`")
        question = candidate.trajectory.prompt.question
        # A text that was cut off gives no answer, so it can't be one that is taken.
        return candidate.answer is not None and await self.call(_accept, check, question, candidate.text)

    # -- reading ---------------------------------------------------------------------------------------------------

    def candidate(self, slot: int, prompt: Prompt, completion: Completion) -> Candidate:
        """A completion of the prompt as a candidate, with its text and its answer."""
        return read_candidate(self.tokenizer, self.settings.answers, slot, prompt, completion)

    def read(self, slot: int, trajectory: Trajectory) -> Candidate:
        """A trajectory as a candidate."""
        return read_trajectory(self.tokenizer, self.settings.answers, slot, trajectory)

    def text(self, token_ids: Sequence[int]) -> str:
        """What the policy's tokens say."""
        return self.tokenizer.decode(token_ids)

    @property
    def tokenizer(self) -> Tokenizer:
        """The policy's."""
        return self._engine("policy").tokenizer

    def room(self, prefix: Trajectory) -> int:
        """Tokens that the policy's context has left behind a prefix; very many where the context is not known."""
        return (self._engine("policy").info.context_length or 2**31) - len(prefix.token_ids)

    async def classes(self, candidates: Sequence[Candidate]) -> list[int | None]:
        """Equality classes of the candidates' answers, [N]; None where there is no answer."""
        return await self._grading.classes([candidate.answer for candidate in candidates])

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a module-level function in a worker program, under its limits."""
        if self.settings.workers is None:
            raise ConfigError("this run has no worker programs: pass `workers` to its settings")
        return await self.settings.workers.call(function, *arguments)

    async def embed(self, texts: Sequence[str], model: str) -> npt.NDArray[np.float32]:
        """Sentence embeddings, unit rows, [N, D], N at least 1; in a thread, and each text once.

        They are not in the usage: their models are small beside the engine's. See `verifiers.models.embeddings`.
        """
        new = [text for text in dict.fromkeys(texts) if (model, text) not in self._embedded]
        if new:
            rows = await asyncio.to_thread(embed, new, model=model)
            self._embedded |= {(model, text): row for text, row in zip(new, rows, strict=True)}
        return np.stack([self._embedded[model, text] for text in texts])

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

    def record_check(self, candidate: Candidate, accepted: bool) -> None:
        """Record what the run's check said of a candidate."""
        check = self.settings.check
        if check is not None:
            self.record(Checked(slot=candidate.slot, check=check.name, oracle=check.oracle, accepted=accepted))

    def commit(self, prefix: Trajectory) -> None:
        """Declare a prefix settled: it will open the answer whatever happens, so it may be streamed."""
        self.record(Committed(tokens=len(prefix.generated_ids)))
        self._on_commit(prefix.generated_ids)


def _accept(check: Check, question: str, text: str) -> bool:
    return check.accept(question, text)
