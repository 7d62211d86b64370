"""A request on its way: what has come so far, whichever server it came from."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from decoding.engines.openai.dialects import Dialect, Piece
from decoding.engines.openai.http import Fault
from decoding.errors import EngineError
from decoding.types import Completion, FinishReason, GenerationRequest, Usage


@dataclass(slots=True, eq=False)
class Flight:
    """A request in flight and what it has written."""

    request: GenerationRequest
    room: int  # most tokens it may generate
    interval: int  # tokens that come at a time, where the server can hold them back
    dialect: Dialect
    on_tokens: Callable[[tuple[int, ...]], None] | None  # a stream's reader
    work: "asyncio.Task[None] | None" = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    chosen: list[tuple[float, ...]] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)  # the server's usage
    pieces: int = 0  # events that carried text: about a token each
    lost: int = 0  # tokens that came before a server failed
    handed: list[int] = field(default_factory=list)  # ids that the stream's reader has

    def take(self, piece: Piece) -> None:
        """Add what has come."""
        self.token_ids += piece.token_ids
        self.logprobs += piece.logprobs
        self.chosen += self._chosen(piece)
        self.pieces += bool(piece.token_ids)
        self.counts = piece.usage or self.counts
        if piece.finish_reason is not None:
            self.finish_reason = self.dialect.finish_reason(piece, self.token_ids, self.request.sampling)
        if self.on_tokens is not None and (new := self._news()):
            self.on_tokens(new)

    def restart(self) -> None:
        """The server has failed: another one begins again."""
        self.lost += self._written()
        self.token_ids, self.logprobs, self.chosen, self.counts, self.pieces = [], [], [], {}, 0
        self.finish_reason = None

    def completion(self, *, processed_logprobs: bool) -> Completion:
        """What there is; cancelled if it has not finished."""
        cancelled = self.finish_reason is None
        written, cached = self._written(), self._cached()
        token_ids = max(self.token_ids, self.handed, key=len)  # what a reader has stays, if nothing repeated it
        sampling = self.request.sampling
        whole = sampling.logprobs and len(self.logprobs) == len(token_ids)
        chosen = sampling.logprob_token_ids and len(self.chosen) == len(token_ids)
        numbers = tuple(self.logprobs) if whole and self.dialect.ids_are_tokens else None
        return Completion(
            token_ids=tuple(token_ids),
            logprobs=None if processed_logprobs else numbers,
            sampling_logprobs=numbers if processed_logprobs else None,
            chosen_logprobs=tuple(self.chosen) if chosen else None,
            finish_reason=self.finish_reason or FinishReason.CANCELLED,
            usage=Usage(
                requests=1,
                prompt_tokens_computed=self._prompt_tokens() - cached if written or not cancelled else 0,
                prompt_tokens_cached=cached,
                generated_tokens=0 if cancelled else written,
                aborted_tokens=self.lost + (written if cancelled else 0),
            ),
        )

    def _chosen(self, piece: Piece) -> list[tuple[float, ...]]:
        """The log-probabilities that were asked for, a row a token. One that is missing is never made up."""
        wanted = self.request.sampling.logprob_token_ids
        if not wanted:
            return []
        try:
            rows = [tuple(row[token] for token in wanted) for row in piece.chosen]
        except KeyError as error:
            raise Fault(f"the server left out the log-probability of the id {error}") from error
        if len(rows) != len(piece.token_ids):
            raise Fault(f"the server gave {len(rows)} rows of log-probabilities for {len(piece.token_ids)} tokens")
        return rows

    def _news(self) -> tuple[int, ...]:
        """Ids that the reader does not have yet. What it has can't be taken back: a repetition has to match it."""
        again = min(len(self.handed), len(self.token_ids)) if self.lost else 0
        if self.token_ids[:again] != self.handed[:again]:
            raise EngineError(
                "a server failed in the middle of a stream and another one drew other tokens: the stream can't go on. "
                "Ask without streaming, or ask servers that honour seeds"
            )
        new = tuple(self.token_ids[len(self.handed) :])
        self.handed += new
        return new

    def _written(self) -> int:
        """Tokens decoded since the last restart, as far as known."""
        if self.dialect.ids_are_tokens:
            return len(self.token_ids)
        return int(self.counts.get("completion_tokens", self.pieces))

    def _prompt_tokens(self) -> int:
        if self.dialect.ids_are_tokens:
            return len(self.request.prompt_token_ids)
        return int(self.counts.get("prompt_tokens", 0))

    def _cached(self) -> int:
        return int((self.counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
