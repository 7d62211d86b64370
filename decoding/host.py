"""A thread with an event loop of its own, on which an engine lives from its opening to its end.

An engine belongs to one event loop. Keeping that loop in a thread lets plain code, a notebook's running loop and a
server use the same open engine, one call after another or side by side.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from decoding.engine import Engine

T = TypeVar("T")


class Closing(Protocol):
    """Anything that has to be closed on the loop that it was opened on."""

    async def aclose(self) -> None:
        """Free everything."""
        ...


C = TypeVar("C", bound=Closing)


class Hosted(Generic[C]):
    """Something open on its own thread; a context manager, since opening it takes a while and closing frees a GPU."""

    def __init__(self, opening: Callable[[], Awaitable[C]]) -> None:
        """Open it: `opening` runs on the new loop. Its errors are raised here."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bethink-engine", daemon=True)
        self._thread.start()
        self._closed = False

        async def opened() -> C:
            return await opening()

        try:
            self.held: C = self._wait(opened())
        except BaseException:
            self._stop_loop()
            raise

    def run(self, work: Callable[[C], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on its loop and wait for it. Ctrl-C cancels it and waits until it has let go."""
        return self._wait(work(self.held))

    async def arun(self, work: Callable[[C], Coroutine[Any, Any, T]]) -> T:
        """The same, from a coroutine on any other loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(self.held), self._loop))

    def close(self) -> None:
        """End what is in flight and free it. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            try:
                self._wait(self.held.aclose())
            finally:
                self._stop_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            self._drain()
            raise

    def _drain(self) -> None:
        """Wait until every task on the loop has ended, so that nothing is cut off in the middle of a write."""

        async def wait() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            working = [task for task in others if task.cancelling()]
            if working:
                await asyncio.wait(working)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _stop_loop(self) -> None:
        asyncio.run_coroutine_threadsafe(_cancel_rest(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class OpenEngine(Hosted[Engine]):
    """An open engine."""

    @property
    def engine(self) -> Engine:
        """The engine itself, for its info and tokenizer; its coroutines belong to its own loop (`run`, `arun`)."""
        return self.held


async def _cancel_rest() -> None:
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
