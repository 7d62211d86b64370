"""A tabular language model behind the engine protocol: for tests, and for users' tests of their own strategies.

Its laws are known exactly, so whatever a strategy does can be compared with what it should do. Its scheduler works like
a real one, with slots, a queue and one token a busy slot a step, and counts its steps, so schedules can be measured.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from decoding.engine import EngineInfo, check_context, finish_or_abort
from decoding.engines.capabilities import CAPABILITIES
from decoding.errors import ConfigError
from decoding.sampling import Floats, draw
from decoding.stopping import StopStrings
from decoding.types import Completion, Delta, FinishReason, GenerationRequest, Usage

REACTION_ROUNDS = 32
"""Turns that the event loop takes between two steps. A real engine's step lasts milliseconds, and what follows from a
completion (a vote, the next request) happens within it; without a wait the script would run ahead of its readers."""


class TabularModel(Protocol):
    """A language model over a tiny vocabulary."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The tokens' texts, [V]."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Any of them ends a completion."""
        ...

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """Probabilities of the next token after `prefix` (prompt and generated ids), [V], summing to 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A model written down: laws by the last tokens of the prefix, the longest match first."""

    vocabulary: Sequence[str]
    eos_token_ids: frozenset[int]
    laws: Mapping[tuple[int, ...], Sequence[float]]  # the key () is the law where nothing longer matches

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """Probabilities of the next token, [V]."""
        for start in range(len(prefix) + 1):
            if prefix[start:] in self.laws:
                return np.asarray(self.laws[prefix[start:]], dtype=np.float64)
        raise ConfigError(f"the table has no law for {prefix}: give one for ()")


@dataclass(frozen=True, slots=True)
class VocabularyTokenizer:
    """Splits a text into the longest tokens of a vocabulary, from the left."""

    vocabulary: Sequence[str]
    eos_token_ids: frozenset[int]
    has_chat_template: bool = False

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text; raises ``ConfigError`` where no token fits."""
        ids: list[int] = []
        while text:
            fits = [i for i, token in enumerate(self.vocabulary) if token and text.startswith(token)]
            if not fits:
                raise ConfigError(f"no token of the vocabulary begins {text[:20]!r}")
            ids.append(max(fits, key=lambda i: len(self.vocabulary[i])))
            text = text[len(self.vocabulary[ids[-1]]) :]
        return tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, the end token left out."""
        return "".join(self.vocabulary[i] for i in token_ids if i not in self.eos_token_ids)

    def render_chat(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Not to be had: tabular models have no chat template."""
        raise ConfigError("the scripted engine has no chat template: give the prompt as text")


@dataclass(slots=True, eq=False)
class _Row:
    """A request in the queue or in a slot."""

    request: GenerationRequest
    room: int  # most tokens it may generate
    future: "asyncio.Future[Completion]"
    on_token: Callable[[int], None] | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    stops: StopStrings | None = None


class ScriptedEngine:
    """An `Engine` over a `TabularModel`."""

    def __init__(
        self, model: TabularModel, *, slots: int = 64, context_length: int = 4096, parameters: int = 0
    ) -> None:
        self._model = model
        self._tokenizer = VocabularyTokenizer(model.vocabulary, model.eos_token_ids)
        self._info = EngineInfo(
            engine="scripted",
            version="1",
            model="scripted",
            revision=None,
            parameters=parameters,
            context_length=context_length,
            slots=slots,
            capabilities=CAPABILITIES["scripted"],
        )
        self._rows: dict[str, _Row] = {}  # by request id: all that are in flight
        self._queue: deque[_Row] = deque()
        self._busy: list[_Row] = []
        self._pump: asyncio.Task[None] | None = None
        self._numbered = 0
        self.steps = 0  # steps taken while at least one slot was busy
        self.busy_slot_steps = 0  # tokens decoded: one a busy slot a step

    @property
    def info(self) -> EngineInfo:
        """Name, limits and capabilities."""
        return self._info

    @property
    def tokenizer(self) -> VocabularyTokenizer:
        """The vocabulary as a tokenizer."""
        return self._tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion."""
        row = self._submit(request)
        return await finish_or_abort(row.future, lambda: self.abort(row.request.id))

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion, a delta a token."""
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        row = self._submit(request, tokens.put_nowait)
        row.future.add_done_callback(lambda _: tokens.put_nowait(None))
        try:
            while (token := await tokens.get()) is not None:
                yield Delta(token_ids=(token,))
            yield Delta(token_ids=(), completion=row.future.result())
        finally:
            if not row.future.done():  # the reader has gone
                await self.abort(row.request.id)

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        if request_id in self._rows:
            self._end(self._rows[request_id], FinishReason.CANCELLED)

    async def aclose(self) -> None:
        """End all requests as cancelled."""
        for row in list(self._rows.values()):
            self._end(row, FinishReason.CANCELLED)
        if self._pump is not None:
            await self._pump

    def _submit(self, request: GenerationRequest, on_token: Callable[[int], None] | None = None) -> _Row:
        room = check_context(request, self._info.context_length)
        if not request.id:
            self._numbered += 1
            request = GenerationRequest(
                id=f"#{self._numbered}", prompt_token_ids=request.prompt_token_ids, sampling=request.sampling
            )
        if request.id in self._rows:
            raise ConfigError(f"a request with the id {request.id!r} is in flight: ids must be unique")
        row = _Row(request, room, asyncio.get_running_loop().create_future(), on_token)
        if request.sampling.stop:
            row.stops = StopStrings(request.sampling.stop, self._tokenizer.decode)
        self._rows[request.id] = row
        self._queue.append(row)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        return row

    async def _run(self) -> None:
        await _let_others_react()
        while self._queue or self._busy:
            while self._queue and len(self._busy) < self._info.slots:
                self._busy.append(self._queue.popleft())
            self.steps += 1
            self.busy_slot_steps += len(self._busy)
            ended = [reason for row in list(self._busy) if (reason := self._advance(row)) is not None]
            if ended:
                await _let_others_react()
            else:
                await asyncio.sleep(0)

    def _advance(self, row: _Row) -> FinishReason | None:
        """Draw the row's next token; ends the row if that was its last."""
        prefix = row.request.prompt_token_ids + tuple(row.token_ids)
        with np.errstate(divide="ignore"):  # tokens of zero probability have a log-probability of minus infinity
            drawn = draw(np.log(self._model.law(prefix)), row.request.sampling, len(row.token_ids))
        row.token_ids.append(drawn.token_id)
        row.logprobs.append(drawn.logprob)
        row.sampling_logprobs.append(drawn.sampling_logprob)
        if row.on_token is not None:
            row.on_token(drawn.token_id)
        reason = self._ended(row)
        if reason is not None:
            self._end(row, reason)
        return reason

    def _ended(self, row: _Row) -> FinishReason | None:
        sampling, last = row.request.sampling, row.token_ids[-1]
        if last in self._model.eos_token_ids:
            return FinishReason.EOS
        if last in sampling.stop_token_ids:
            return FinishReason.STOP
        if row.stops is not None and row.stops.feed(last):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(row.token_ids) >= row.room else None

    def _end(self, row: _Row, reason: FinishReason) -> None:
        """Free the row's slot and hand out what it wrote."""
        del self._rows[row.request.id]
        (self._busy if row in self._busy else self._queue).remove(row)
        cancelled = reason is FinishReason.CANCELLED
        usage = Usage(
            requests=1,
            prompt_tokens_computed=len(row.request.prompt_token_ids) if row.token_ids else 0,
            generated_tokens=0 if cancelled else len(row.token_ids),
            aborted_tokens=len(row.token_ids) if cancelled else 0,
        )
        wanted = row.request.sampling.logprobs
        completion = Completion(
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs) if wanted else None,
            sampling_logprobs=tuple(row.sampling_logprobs) if wanted else None,
            finish_reason=reason,
            usage=usage,
        )
        if not row.future.done():
            row.future.set_result(completion)


async def _let_others_react() -> None:
    for _ in range(REACTION_ROUNDS):
        await asyncio.sleep(0)
