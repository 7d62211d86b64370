"""Plays a recording back: same completions, same counts, no model.

Equal requests get their recorded completions in the order of the recording, and the last one ever after. What was
cancelled when it was recorded waits to be cancelled again: the run that cancelled it will.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from decoding.engine import EngineInfo, RequestNames, Tokenizer, check_context
from decoding.engines.openai.text import CodePoints
from decoding.engines.recording import Recording
from decoding.errors import ConfigError, EngineError
from decoding.models import ModelSource, load_tokenizer, resolve
from decoding.types import FINAL, Completion, Delta, FinishReason, GenerationRequest

# Seconds that a request waits for being cancelled that was cancelled when it was recorded. Then it is played to its end
# where that was recorded too, for somebody else; otherwise there is nothing more to play.
PATIENCE, PATIENCE_WITH_END = 30.0, 2.0


async def open_replay(source: ModelSource, *, tokenizer: str | None = None, **options: Any) -> "ReplayEngine":
    """Open a recording, the file that `source` names.

    `tokenizer` is a model's name or folder whose tokenizer takes the place of the recorded model's.

    Raises ``EngineError`` if the file is no recording, ``ModelError`` if its tokenizer can't be loaded.
    """
    if options:
        raise ConfigError(f"the replay engine has no option {sorted(options)}: there is tokenizer")
    recording = Recording.read(Path(source.path).expanduser())
    name = tokenizer or recording.tokenizer
    return ReplayEngine(
        recording, CodePoints(has_chat_template=True) if name is None else load_tokenizer(resolve(name))
    )


@dataclass(slots=True, eq=False)
class _Flight:
    """A request in flight."""

    completion: Completion  # as it was recorded
    end: Completion | None  # of the same request, where it was drawn to its end too
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    written: int = 0  # ids that are out


class ReplayEngine:
    """An `Engine` over a recording."""

    def __init__(self, recording: Recording, tokenizer: Tokenizer) -> None:
        self._recording, self._tokenizer = recording, tokenizer
        self._info = replace(
            recording.info, engine="replay", version=f"{recording.info.engine} {recording.info.version}"
        )
        self._flights: dict[str, _Flight] = {}
        self._played: Counter[GenerationRequest] = Counter()  # how often each was asked for, ids left out
        self._names = RequestNames()

    @property
    def info(self) -> EngineInfo:
        """The recorded engine's, under the name of this one."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The recorded model's."""
        return self._tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """The recorded completion; raises ``EngineError`` if there is none."""
        async with aclosing(self.stream(request)) as deltas:
            async for delta in deltas:
                if delta.completion is not None:
                    return delta.completion
        raise AssertionError("the last delta carries the completion")

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """The recorded completion, a delta an id, as fast as it is read."""
        request_id, flight = self._admit(request)
        try:
            while flight.written < len(flight.completion.token_ids) or await self._goes_on(flight):
                await asyncio.sleep(0)
                if flight.aborted.is_set():
                    break
                flight.written += 1
                yield Delta(token_ids=flight.completion.token_ids[flight.written - 1 : flight.written])
            completion = _so_far(flight)
            yield Delta(token_ids=completion.token_ids[flight.written :], completion=completion)
        finally:
            del self._flights[request_id]

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        if request_id in self._flights:
            self._flights[request_id].aborted.set()

    async def aclose(self) -> None:
        """End all requests as cancelled."""
        for request_id in list(self._flights):
            await self.abort(request_id)

    def _admit(self, request: GenerationRequest) -> tuple[str, _Flight]:
        if self._info.context_length or not request.prompt_token_ids:
            check_context(request, self._info.context_length)
        request_id = self._names.name(request, self._flights).id
        outcomes = self._recording.find(request)
        if not outcomes:
            raise EngineError(f"this request was not recorded: {self._recording.nearest(request)}. Record it first")
        key = replace(request, id="")
        played = outcomes[min(self._played[key], len(outcomes) - 1)]
        self._played[key] += 1
        end = outcomes[-1] if outcomes[-1].finish_reason in FINAL else None
        self._flights[request_id] = flight = _Flight(played, end)
        return request_id, flight

    async def _goes_on(self, flight: _Flight) -> bool:
        """Wait until a request is cancelled again; whether it goes on because nobody did."""
        if flight.completion.finish_reason is not FinishReason.CANCELLED:
            return False
        try:
            await asyncio.wait_for(flight.aborted.wait(), PATIENCE if flight.end is None else PATIENCE_WITH_END)
            return False
        except TimeoutError:
            if flight.end is None:
                raise EngineError(
                    "this request was cancelled when it was recorded, and nobody cancels it now"
                ) from None
        flight.completion, flight.end = flight.end, None
        return flight.written < len(flight.completion.token_ids)


def _so_far(flight: _Flight) -> Completion:
    """The recorded completion, or what is out of it if it was aborted on the way."""
    recorded, written = flight.completion, flight.written
    if not flight.aborted.is_set() or recorded.finish_reason is FinishReason.CANCELLED:
        return recorded
    usage = recorded.usage
    share = written / max(1, len(recorded.token_ids))  # ids are not always tokens
    return Completion(
        token_ids=recorded.token_ids[:written],
        logprobs=recorded.logprobs and recorded.logprobs[:written],
        sampling_logprobs=recorded.sampling_logprobs and recorded.sampling_logprobs[:written],
        chosen_logprobs=recorded.chosen_logprobs and recorded.chosen_logprobs[:written],
        finish_reason=FinishReason.CANCELLED,
        usage=replace(
            usage,
            prompt_tokens_computed=usage.prompt_tokens_computed if written else 0,
            prompt_tokens_cached=usage.prompt_tokens_cached if written else 0,
            generated_tokens=0,
            aborted_tokens=round(share * usage.decoded_tokens),
            overrun_tokens=0,
        ),
    )
