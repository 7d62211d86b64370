"""CPU work in worker programs that can be killed: parsing, comparing and checking what a model wrote.

Workers are programs of their own, started by `sys.executable`: no fork of a process that has threads, no second run of
the caller's script. The limit is in CPU time, so a busy machine changes no verdict; a generous limit in wall time stops
what sleeps. Past a limit the worker is killed, with all that it started, and replaced.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from decoding.errors import WorkerError, WorkerTimeout
from verifiers.worker_main import LENGTH_BYTES, Answer, frame

T = TypeVar("T")
WALL_FACTOR = 20.0  # wall time allowed for each second of CPU time, where none is given


class WorkerPool:
    """Worker programs for one event loop; an async context manager. They start when they are first needed."""

    def __init__(
        self,
        size: int = 1,
        *,
        cpu_seconds: float = 10.0,
        wall_seconds: float | None = None,
        memory_bytes: int = 4 * 2**30,
    ) -> None:
        """`cpu_seconds` of a call are rounded up to whole seconds; `memory_bytes` 0 is no limit."""
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = WALL_FACTOR * cpu_seconds if wall_seconds is None else wall_seconds
        self._memory_bytes = memory_bytes
        self._free: asyncio.LifoQueue[asyncio.subprocess.Process | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._running: set[asyncio.subprocess.Process] = set()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a module-level function of an importable module in a worker.

        Raises:
            WorkerTimeout: It ran past its limit and was killed.
            WorkerError: It raised, in which case the message has its traceback, or its worker died.
        """
        worker = await self._free.get()
        try:
            if worker is None or worker.returncode is not None:
                worker = await self._start()
            answer = await asyncio.wait_for(self._ask(worker, function, arguments), self._wall_seconds)
        except TimeoutError:
            worker = await self._kill(worker)
            raise WorkerTimeout(f"{_name(function)} ran past {self._wall_seconds:g} s of wall time") from None
        except EOFError:
            worker, died = None, worker
            raise await self._epitaph(died, function) from None
        except BaseException:  # cancelled, or arguments that can't be pickled: the worker's state is unknown
            worker = await self._kill(worker)
            raise
        finally:
            self._free.put_nowait(worker)
        if answer.kind == "error":
            kind, message, trace = answer.value  # type: ignore[misc]
            raise WorkerError(f"{_name(function)} failed: {kind}: {message}\n{trace}")
        return answer.value  # type: ignore[return-value]

    async def aclose(self) -> None:
        """End all workers."""
        for worker in list(self._running):
            await self._kill(worker)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _start(self) -> asyncio.subprocess.Process:
        path = os.pathsep.join(filter(None, sys.path))
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "verifiers.worker_main", str(os.getpid()), str(self._memory_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._running.add(worker)
        return worker

    async def _ask(
        self, worker: asyncio.subprocess.Process, function: Callable[..., T], arguments: tuple[Any, ...]
    ) -> Answer:
        """Send a call and read its answer; raises ``EOFError`` if the worker dies meanwhile."""
        payload = pickle.dumps((function, arguments, self._cpu_seconds))
        stdin, stdout = worker.stdin, worker.stdout
        if stdin is None or stdout is None:
            raise WorkerError("a worker was started without pipes")
        try:
            stdin.write(frame(payload))
            await stdin.drain()
            length = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
            answer = Answer(*pickle.loads(await stdout.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise EOFError from None
        return answer

    async def _epitaph(self, worker: asyncio.subprocess.Process | None, function: Callable[..., T]) -> WorkerError:
        """Say what a worker died of."""
        if worker is None:
            return WorkerError(f"{_name(function)}: no worker could be started")
        code = await worker.wait()
        await self._kill(worker)
        if code == -signal.SIGXCPU:
            return WorkerTimeout(f"{_name(function)} ran past {self._cpu_seconds:g} s of CPU time")
        return WorkerError(f"{_name(function)}: its worker died with exit code {code}")

    async def _kill(self, worker: asyncio.subprocess.Process | None) -> None:
        """Kill a worker and all that it started, and wait until it is gone."""
        if worker is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)  # its session, which outlives it if it left children behind
        await worker.wait()
        self._running.discard(worker)
        transport = getattr(worker, "_transport", None)
        if transport is not None:
            transport.close()


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
