"""Any OpenAI-compatible server, or several of them, behind the engine protocol.

Everything is streamed underneath, so that an aborted request knows what it had written, up to `INTERVAL` tokens less
than what the server did. Closing the connection is what aborts a request at the server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from decoding.engine import (
    Capability,
    EngineInfo,
    RequestNames,
    Tokenizer,
    check_chosen,
    check_context,
    finish_or_abort,
)
from decoding.engines.openai.dialects import Dialect
from decoding.engines.openai.fleet import Fleet, Server, pause
from decoding.engines.openai.flight import Flight
from decoding.engines.openai.http import Client, Fault
from decoding.engines.openai.limits import Limits
from decoding.errors import ContextError, EngineError
from decoding.types import Completion, Delta, GenerationRequest

INTERVAL = 16  # tokens an event where nobody watches: each event costs the server and us more than a token does
FIRST_PAUSE = 0.5  # seconds before a request is sent again; the pause doubles each time
CHARACTERS_A_TOKEN = 4  # a guess, for limits on tokens a minute of servers that speak text


class OpenAIEngine:
    """An `Engine` over HTTP. It belongs to the event loop that it was opened on."""

    def __init__(
        self, client: Client, fleet: Fleet, dialect: Dialect, info: EngineInfo, limits: Limits, *, retries: int
    ) -> None:
        self._client, self._fleet, self._dialect, self._info = client, fleet, dialect, info
        self._limits, self._retries = limits, retries
        self._slots = asyncio.Semaphore(info.slots)
        self._flights: dict[str, Flight] = {}
        self._names = RequestNames()
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """Name, versions, limits and capabilities. 0 parameters, or a context of 0 tokens, are unknown."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, or code points where the server speaks text."""
        return self._dialect.tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion."""
        flight = self._admit(request, INTERVAL)
        return await finish_or_abort(self._finish(flight), lambda: self.abort(flight.request.id))

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion, a delta for what the server sends at once and a last one that carries the completion."""
        arrived: asyncio.Queue[tuple[int, ...] | None] = asyncio.Queue()
        flight = self._admit(request, 1)
        flight.on_tokens = arrived.put_nowait
        work = asyncio.ensure_future(self._finish(flight))
        work.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (token_ids := await arrived.get()) is not None:
                yield Delta(token_ids=token_ids)
            yield Delta(token_ids=(), completion=work.result())
        finally:
            if not work.done():  # the reader has gone
                await self.abort(flight.request.id)
                await asyncio.wait([work])

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        flight = self._flights.get(request_id)
        if flight is not None and flight.work is not None:
            flight.work.cancel()

    async def aclose(self) -> None:
        """End all requests as cancelled and close the connections."""
        self._closed = True
        flights = [flight.work for flight in self._flights.values() if flight.work is not None]
        for request_id in list(self._flights):
            await self.abort(request_id)
        if flights:
            await asyncio.wait(flights)
        await self._client.aclose()

    def _admit(self, request: GenerationRequest, interval: int) -> Flight:
        """The request with an id and with no more tokens than the context has room for, on its way."""
        if self._closed:
            raise EngineError("the engine is closed: open it again")
        check_chosen(request, self._info, None)
        request = self._names.name(request, self._flights)
        flight = Flight(request, self._room(request), interval, self._dialect, None)
        self._flights[request.id] = flight
        flight.work = asyncio.ensure_future(self._send(flight))
        return flight

    def _room(self, request: GenerationRequest) -> int:
        if self._dialect.ids_are_tokens and self._info.context_length:
            return check_context(request, self._info.context_length)
        if not request.prompt_token_ids:
            raise ContextError("the prompt has no tokens; give at least one")
        return request.sampling.max_tokens  # how many tokens the prompt has is for the server to say

    async def _finish(self, flight: Flight) -> Completion:
        """Wait until a request has ended or was aborted."""
        assert flight.work is not None
        try:
            await asyncio.wait([flight.work])
        finally:
            del self._flights[flight.request.id]
        if not flight.work.cancelled():
            flight.work.result()
        return flight.completion(processed_logprobs=Capability.SAMPLING_LOGPROBS in self._info.capabilities)

    async def _send(self, flight: Flight) -> None:
        """Wait for a slot and for the limits, then send the request until a server has answered it."""
        a_token = 1 if self._dialect.ids_are_tokens else CHARACTERS_A_TOKEN
        reserved = len(flight.request.prompt_token_ids) // a_token + flight.room
        async with self._slots:
            await self._limits.acquire(reserved)
            try:
                await self._until_answered(flight)
            finally:
                self._limits.give_back(flight.room - len(flight.token_ids) // a_token)

    async def _until_answered(self, flight: Flight) -> None:
        def again(attempt: int) -> float:
            flight.restart()
            return pause(flight.request.sampling.seed, attempt, FIRST_PAUSE)

        await self._fleet.until_answered(
            flight.request.prompt_token_ids, self._retries, lambda server: self._ask(flight, server), again
        )

    async def _ask(self, flight: Flight, server: Server) -> None:
        """Send the request to a server and take what comes."""
        path, body = self._dialect.spell(flight.request, flight.room, flight.interval)
        async with aclosing(self._client.events(server.url + path, body)) as events:
            async for event in events:
                flight.take(self._dialect.read(event))
                await asyncio.sleep(0)  # several events may have come at once: a stream's reader sees each of them
        if flight.finish_reason is None:
            raise Fault(f"{server.url} ended its answer in the middle", down=True)
