"""Limits of our own on what is sent: requests and tokens a minute, as token buckets.

A bucket holds a second's worth, so that no minute sees more than what it may and one second's worth on top. A request
reserves its prompt and the most that it may write, as servers count it, and gives back what it did not use.
"""

import asyncio
import time
from collections.abc import Callable

from decoding.errors import ConfigError

LOOK = 0.1  # seconds between two looks at a bucket: others may have given something back


class Bucket:
    """Fills at a steady rate; a taker may leave it in debt, and the next one waits."""

    def __init__(self, name: str, per_minute: float, clock: Callable[[], float]) -> None:
        if not per_minute > 0:
            raise ConfigError(f"{name} must be above 0, got {per_minute!r}; leave it out for no limit")
        self._rate = per_minute / 60
        self._capacity = max(1.0, self._rate)
        self._level, self._clock = self._capacity, clock
        self._looked = clock()

    def wait(self, amount: float) -> float:
        """Seconds until so much can be taken. More than the bucket holds can be taken when it is full."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._looked) * self._rate)
        self._looked = now
        return max(0.0, (min(amount, self._capacity) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """Take so much; a negative amount gives back."""
        self._level = min(self._capacity, self._level - amount)


class Limits:
    """Both limits; None is no limit. Whoever asks first is served first."""

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        self._requests, self._tokens = (
            None if limit is None else Bucket(name, limit, clock) for name, limit in limits.items()
        )
        self._turn = asyncio.Lock()

    async def acquire(self, tokens: int) -> None:
        """Wait until one more request of so many tokens may be sent."""
        wanted = [(bucket, amount) for bucket, amount in ((self._requests, 1), (self._tokens, tokens)) if bucket]
        async with self._turn:
            while (wait := max((bucket.wait(amount) for bucket, amount in wanted), default=0.0)) > 0:
                await asyncio.sleep(min(wait, LOOK))
            for bucket, amount in wanted:
                bucket.take(amount)

    def give_back(self, tokens: int) -> None:
        """Tokens that a request had reserved and did not use."""
        if self._tokens is not None:
            self._tokens.take(-tokens)
