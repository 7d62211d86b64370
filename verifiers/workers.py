"""CPU work in programs of its own, which can be killed: judging answers, running checks.

A worker is a fresh Python (no fork: the parent may hold torch, threads, an engine). It is limited in CPU time, so that
a loaded machine changes no verdict, and in memory; a deadline in wall time, much longer, catches what sleeps. A worker
that runs past a limit is killed, with all that it has started, and another takes its place.

Workers start when they are needed, and end with the pool, or with the program, even if that is killed. On Linux the
kernel sees to the last, for each worker at the end of the thread that its pool's event loop runs in; elsewhere a worker
ends when its call does. Processes that a call leaves behind are killed at the latest when their worker ends.
"""

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from decoding.errors import ConfigError, WorkerError, WorkerTimeout
from verifiers.worker_main import HEADER

T = TypeVar("T")
Process = asyncio.subprocess.Process

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GRACE = 5.0  # seconds in which an idle worker has to end by itself


class WorkerPool:
    """Worker programs that run module-level functions. Belongs to the event loop that it is first used on.

    Args:
        size: Workers at most, and so calls at the same time; the others wait.
        cpu_seconds: CPU time of a call, rounded up to whole seconds.
        wall_seconds: Time from when a worker takes the call to its reply, the worker's start included.
        memory_bytes: Address space of a worker.
    """

    def __init__(
        self, size: int = 1, cpu_seconds: float = 10.0, wall_seconds: float = 300.0, memory_bytes: int = 4 * 2**30
    ) -> None:
        for name, value in {"size": size, "cpu_seconds": cpu_seconds, "memory_bytes": memory_bytes}.items():
            if value <= 0:
                raise ConfigError(f"{name} of a worker pool must be above 0, got {value}")
        if wall_seconds < cpu_seconds:
            raise ConfigError(f"wall_seconds must be at least cpu_seconds, {cpu_seconds}, got {wall_seconds}")
        self._cpu_seconds, self._wall_seconds, self._memory_bytes = cpu_seconds, wall_seconds, memory_bytes
        self._size, self._slots = size, asyncio.Semaphore(size)
        self._workers: set[Process] = set()
        self._idle: list[Process] = []
        self._ending: set[asyncio.Future[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run ``function(*arguments)`` in a worker; cancelling this kills the worker.

        The result comes back as a pickle and is trusted like the function: what a stranger wrote has to be run in a
        sandbox by the function, not to be it.

        Raises:
            WorkerTimeout: It ran past its CPU time or its deadline.
            WorkerError: It raised (type, message and traceback are in the message), or its worker died.
            ConfigError: The function or an argument can't be sent to another program.
        """
        name = getattr(function, "__qualname__", repr(function))
        request = pickle.dumps((self._cpu_seconds, _pickled(function, arguments, name)))
        async with self._slots:
            worker = await self._take()
            try:
                async with asyncio.timeout(self._wall_seconds):
                    reply = await _exchange(worker, request)
            except BaseException as error:
                await self._end(worker)
                if isinstance(error, TimeoutError | OSError | asyncio.IncompleteReadError):
                    raise self._reason(name, worker, error) from None
                raise
            self._idle.append(worker)
        result: T = _result(name, reply)
        return result

    async def aclose(self) -> None:
        """End all workers. Calls that are running or waiting end with ``WorkerError``."""
        self._closed = True
        idle, self._idle = self._idle, []
        for worker in self._workers.difference(idle):  # its call sees that and winds it up
            _kill(worker)
        await asyncio.gather(*(self._end(worker, _GRACE) for worker in idle))
        for _ in range(self._size):  # a call holds its slot until its worker is gone
            await self._slots.acquire()
        for _ in range(self._size):
            self._slots.release()
        await asyncio.gather(*self._ending)

    async def _take(self) -> Process:
        """An idle worker that is alive, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
            await self._end(worker)
        self._require_open()
        # -P: a folder's own json.py must not stand in for Python's; what is on our path comes by PYTHONPATH.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        command = (sys.executable, "-P", "-m", "verifiers.worker_main", str(os.getpid()), str(self._memory_bytes))
        worker = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": path},
        )
        self._workers.add(worker)
        if self._closed:
            await self._end(worker)
        self._require_open()
        return worker

    def _require_open(self) -> None:
        if self._closed:
            raise WorkerError("the worker pool is closed: make the call before its `async with` block ends")

    async def _end(self, worker: Process, grace: float = 0.0) -> None:
        """End a worker and wait until it is gone, also if this is cancelled meanwhile."""
        self._workers.discard(worker)
        ending = asyncio.ensure_future(_wind_up(worker, grace))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.shield(ending)

    def _reason(self, name: str, worker: Process, error: BaseException) -> WorkerError:
        """Why a worker gave no reply."""
        if self._closed:
            return WorkerError(f"{name} was still running when its worker pool was closed")
        if isinstance(error, TimeoutError):
            return WorkerTimeout(f"{name} gave no result within {self._wall_seconds:g} s: raise wall_seconds")
        status = worker.returncode
        if status == -signal.SIGXCPU:
            return WorkerTimeout(f"{name} used more than {self._cpu_seconds:g} s of CPU time: raise cpu_seconds")
        if status is None or status >= 0:
            return WorkerError(f"{name} ended its worker program, exit status {status}: see its messages above")
        memory = f"; it may use {self._memory_bytes / 2**20:.0f} MiB of memory" if status == -signal.SIGKILL else ""
        return WorkerError(f"{name} crashed its worker program, signal {_signal_name(-status)}{memory}")


async def _exchange(worker: Process, request: bytes) -> bytes:
    """Send a call and await its reply."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(HEADER.pack(len(request)) + request)
    await worker.stdin.drain()
    (length,) = HEADER.unpack(await worker.stdout.readexactly(HEADER.size))
    return await worker.stdout.readexactly(length)


async def _wind_up(worker: Process, grace: float) -> None:
    """Let a worker end by itself for so many seconds, then kill it and all of its session."""
    assert worker.stdin is not None
    worker.stdin.close()
    if grace > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await worker.communicate()
                return
    _kill(worker)
    with suppress(TimeoutError):  # a process that left the session may hold the pipe open for good
        async with asyncio.timeout(_GRACE):
            await worker.communicate()


def _kill(worker: Process) -> None:
    """Kill a worker and all of its session; what is left of the session where the worker itself is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)


def _pickled(function: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> bytes:
    where = getattr(function, "__module__", None)
    if where == "__main__":
        raise ConfigError(
            f"{name} lives in the program's main file, where a worker can't import it: move it to a module"
        )
    try:
        return pickle.dumps((function, arguments))
    except Exception as error:
        raise ConfigError(
            f"{name} or its arguments can't be sent to a worker ({error}): pass a module-level function and plain data"
        ) from error


def _result(name: str, reply: bytes) -> Any:
    try:
        kind, *content = pickle.loads(reply)
    except Exception as error:
        raise WorkerError(f"the result of {name} can't be read back ({error}): return plain data") from error
    if kind == "error":
        raise WorkerError(f"{name} raised {content[0]}\n\nIn the worker:\n{content[1]}")
    return content[0]


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)
