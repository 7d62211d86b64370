"""Several servers of one model: which of them gets a request.

A request goes where the fewest are open, unless the server that saw its prefix last is hardly busier: its cache holds
the prefix then. A server that is down rests, the longer the more often it failed a request, and is then tried again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from decoding.engines.openai.http import Fault
from decoding.errors import EngineError
from decoding.seeds import SeededRng, derive_seed

T = TypeVar("T")

BLOCK = 64  # ids; prefixes are remembered at multiples of it
REMEMBERED = 1 << 17  # prefixes
LONGEST_PAUSE = 60.0  # seconds between two attempts
SLACK, SLACK_REQUESTS = 1.25, 4  # a server with the prefix may be this much busier than the least busy one


@dataclass(slots=True, eq=False)
class Server:
    """One server and what is known of it."""

    url: str  # up to and with /v1
    open: int = 0  # requests that are with it now
    resting_until: float = 0.0  # by the fleet's clock
    fault: str = ""  # its last failure; empty while it works

    @contextmanager
    def busy(self) -> Iterator[None]:
        """One more request is open at it."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class Fleet:
    """The servers, and which prefixes each has seen."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.servers = [Server(url) for url in urls]
        self._clock = clock
        self._seen: OrderedDict[int, Server] = OrderedDict()

    def pick(self, prompt: Sequence[int], avoid: Server | None = None) -> Server:
        """The server for a prompt; `avoid` has just failed it. If all rest, the one that will be back first."""
        awake = [server for server in self.servers if self.rest(server) == 0]
        awake = [server for server in awake if server is not avoid] or awake
        if not awake:
            return min(self.servers, key=self.rest)
        if len(self.servers) == 1:
            return awake[0]
        return self._by_prefix(prompt, awake)

    def rest(self, server: Server) -> float:
        """Seconds until a server is to be tried again."""
        return max(0.0, server.resting_until - self._clock())

    def send_to_rest(self, server: Server, seconds: float) -> None:
        """A server is down, or asked to be left alone."""
        server.resting_until = max(server.resting_until, self._clock() + seconds)

    async def until_answered(
        self,
        prompt: Sequence[int],
        retries: int,
        ask: Callable[[Server], Awaitable[T]],
        again: Callable[[int], float],
    ) -> T:
        """Ask a server, and another or again after a `Fault`, so often and once more for each server there is.

        `again` hears of a failed attempt and says how many seconds to wait before the same server is asked again.
        Raises ``EngineError`` if none has answered.
        """
        failed: Server | None = None
        wait, attempts = 0.0, retries + len(self.servers)
        for attempt in range(attempts):
            server = self.pick(prompt, avoid=failed)
            try:
                with server.busy():  # from now on, so that those who choose meanwhile know
                    await asyncio.sleep(max(self.rest(server), wait if server is failed else 0.0))
                    answer = await ask(server)
                server.fault = ""
                return answer
            except Fault as fault:
                failed, server.fault, wait = server, str(fault), again(attempt)
                if fault.down or fault.retry_after is not None:
                    self.send_to_rest(server, max(wait, fault.retry_after or 0.0))
        raise EngineError(f"no server answered, {attempts} times asked: {self.faults()}")

    def faults(self) -> str:
        """What went wrong at each server, in words."""
        return "; ".join(server.fault or f"{server.url} works" for server in self.servers)

    def _by_prefix(self, prompt: Sequence[int], awake: Sequence[Server]) -> Server:
        keys = _prefix_keys(prompt)
        least = min(awake, key=lambda server: server.open)
        warm = next((self._seen[key] for key in reversed(keys) if key in self._seen), least)
        chosen = warm if warm in awake and warm.open <= SLACK * least.open + SLACK_REQUESTS else least
        for key in keys:
            self._seen[key] = chosen
            self._seen.move_to_end(key)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return chosen


def _prefix_keys(prompt: Sequence[int]) -> list[int]:
    """A hash of each prefix that ends at a multiple of `BLOCK`, and of the whole prompt."""
    keys, key = [], 0
    for start in range(0, len(prompt), BLOCK):
        key = hash((key, *prompt[start : start + BLOCK]))
        keys.append(key)
    return keys


def pause(seed: int, attempt: int, first: float) -> float:
    """Exponential backoff with jitter from the request's seed: from half the step to all of it."""
    jitter = SeededRng(derive_seed(seed, "retry", attempt)).uniform()
    return min(LONGEST_PAUSE, first * 2.0**attempt) * (1 + jitter) / 2
