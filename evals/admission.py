"""Which problems may be worked on: as many as keep the engine's queue from running dry, and no more.

Counting problems would not do. Most of a problem's samples end long before its longest one does, so a fixed number of
problems leaves slots idle (0.79 busy instead of 0.85, with lengths of up to five times the median). What is counted is
open requests.
"""

import asyncio
from collections import deque


class Seat:
    """One admitted problem."""

    def __init__(self, admission: "Admission", width: int) -> None:
        self._admission = admission
        self._width = width  # requests that it will have open soon, while it has none
        self._open = 0

    @property
    def load(self) -> int:
        """Open requests; between two steps, and before the first, the requests that are to come."""
        return self._open or self._width

    def changed(self, delta: int) -> None:
        """So many requests more, or fewer, are open."""
        before = self.load
        self._open += delta
        self._admission.add(self.load - before)

    def leave(self) -> None:
        """The problem is done."""
        self._admission.add(-self.load)


class Admission:
    """Admits problems in order while fewer than `target` requests are open. Belongs to one event loop."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._load = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, width: int) -> Seat:
        """Wait for a place for a problem that opens up to `width` requests at once."""
        while self._load >= self._target:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._load += width
        return Seat(self, width)

    def add(self, delta: int) -> None:
        """The load has changed."""
        self._load += delta
        while self._waiting and self._load < self._target:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
