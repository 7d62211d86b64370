"""What the engines have in common whose decoding loop is ours: rows that requests write, and how they are asked for."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from decoding.engine import EngineInfo, RequestNames, Tokenizer, check_chosen, check_context, finish_or_abort
from decoding.sampling import draw
from decoding.stopping import StopStrings
from decoding.types import Completion, Delta, FinishReason, GenerationRequest, Usage


@dataclass(slots=True, eq=False)
class Row:
    """A request in the queue or in a slot, and what it has written.

    While a step runs in a worker thread, only that thread writes to it, `aborted` apart.
    """

    request: GenerationRequest
    room: int  # most tokens it may generate
    tokenizer: Tokenizer
    future: "asyncio.Future[Completion]"
    on_token: Callable[[int], None] | None
    aborted: bool = False
    finish_reason: FinishReason | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    chosen_logprobs: list[tuple[float, ...]] = field(default_factory=list)
    stops: StopStrings | None = None

    def __post_init__(self) -> None:
        if self.request.sampling.stop:
            self.stops = StopStrings(self.request.sampling.stop, self.tokenizer.decode)

    def take(self, logits: Any) -> None:
        """Draw the next token from a row of logits, [V], and see whether it is the last."""
        drawn = draw(logits, self.request.sampling, len(self.token_ids))
        self.token_ids.append(drawn.token_id)
        self.logprobs.append(drawn.logprob)
        self.sampling_logprobs.append(drawn.sampling_logprob)
        self.chosen_logprobs.append(drawn.chosen_logprobs)
        stopped = self.stops is not None and self.stops.feed(drawn.token_id)
        if drawn.token_id in self.tokenizer.eos_token_ids:
            self.finish_reason = FinishReason.EOS
        elif stopped or drawn.token_id in self.request.sampling.stop_token_ids:
            self.finish_reason = FinishReason.STOP
        elif len(self.token_ids) >= self.room:
            self.finish_reason = FinishReason.LENGTH

    def completion(self) -> Completion:
        """What there is, once it has finished."""
        assert self.finish_reason is not None
        cancelled, written = self.finish_reason is FinishReason.CANCELLED, len(self.token_ids)
        wanted = self.request.sampling.logprobs
        return Completion(
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs) if wanted else None,
            sampling_logprobs=tuple(self.sampling_logprobs) if wanted else None,
            chosen_logprobs=tuple(self.chosen_logprobs) if self.request.sampling.logprob_token_ids else None,
            finish_reason=self.finish_reason,
            usage=Usage(
                requests=1,
                prompt_tokens_computed=len(self.request.prompt_token_ids) if written else 0,
                generated_tokens=0 if cancelled else written,
                aborted_tokens=written if cancelled else 0,
            ),
        )


class RowEngine(ABC):
    """The asking half of an `Engine`; a subclass queues rows, writes them and settles them."""

    _info: EngineInfo
    _tokenizer: Tokenizer
    _vocabulary: int  # ids of the model

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}  # by request id: all that are in flight
        self._names = RequestNames()

    @property
    def info(self) -> EngineInfo:
        """Name, versions, limits and capabilities."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion."""
        row = self._submit(request)
        return await finish_or_abort(row.future, lambda: self.abort(row.request.id))

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion, a delta a token and a last one, without tokens, that carries the completion."""
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
                await asyncio.wait([row.future])

    @abstractmethod
    async def abort(self, request_id: str) -> None:
        """End a request early: its `generate` returns what there is, marked ``cancelled``."""

    @abstractmethod
    def _enqueue(self, row: Row) -> None:
        """Put a new row into the queue and see that it is worked on."""

    def _submit(self, request: GenerationRequest, on_token: Callable[[int], None] | None = None) -> Row:
        room = check_context(request, self._info.context_length)
        check_chosen(request, self._info, self._vocabulary)
        request = self._names.name(request, self._rows)
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        row = self._rows[request.id] = Row(request, room, self._tokenizer, future, on_token)
        self._enqueue(row)
        return row

    def _settle(self, row: Row) -> None:
        """Hand out what a finished row wrote."""
        del self._rows[row.request.id]
        if not row.future.done():
            row.future.set_result(row.completion())
