"""The server that makes sandboxes, each for one job: a Python that has loaded what programs import, and forks.

It is started by `verifiers.sandbox.host` only. One sandbox is always ready before it is asked for. A child confines
itself, says so, and then waits for its job on a channel of its own; the server never sees a program or a value. When
the control channel ends, because its owner has, the server ends, and everything that it started with it.

Requests on the control channel, and their replies:

- ``["take"]``: ``["taken", pid]``, then the child's channel as a file descriptor.
- ``["end", pid, grace]``: kill the child and all that it started. ``["ended", status, CPU seconds]``; the status as
  of `os.waitstatus_to_exitcode`, or None if it was still running after `grace` seconds and had to be killed.
- ``["load", name]``: import a package for all further children. ``["loaded", whether it worked]``.

Runs inside the sandbox: standard library only.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple

from verifiers.sandbox import codec, confine, jobs, wire

_PRELOADED = (
    *("array", "bisect", "calendar", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator", "queue", "random"),
    *("re", "socket", "statistics", "string", "struct", "textwrap", "threading", "time", "traceback", "types"),
    *("typing", "unicodedata", "ast", "bdb", "encodings.idna", "encodings.latin_1"),
)
_PR_SET_CHILD_SUBREAPER = 36
_SWEEP_SECONDS = 10.0
_POLL_SECONDS = 0.0005


class _Child(NamedTuple):
    pid: int
    channel: socket.socket | None  # until it is taken


def main() -> None:
    """Serve until the control channel ends."""
    settings = json.loads(sys.argv[1])
    how = confine.Confinement(**settings["confinement"])
    confine.lift_limits()
    os.environ.clear()
    sys.path[:] = [entry for entry in sys.path if entry != settings["code"]] + settings["packages"]
    for name in _PRELOADED:
        importlib.import_module(name)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a program leaves behind comes to us
    Server(socket.socket(fileno=settings["control"]), how).serve()


class Server:
    """Makes children and ends them."""

    def __init__(self, control: socket.socket, how: confine.Confinement) -> None:
        self._control, self._how = control, how
        self._self = os.pidfd_open(os.getpid()) if how.namespaces else -1
        self._ready: _Child | None = None
        self._taken: set[int] = set()

    def serve(self) -> None:
        """Answer requests until there are no more."""
        gc.freeze()
        with suppress(wire.WireError):
            self._ready = self._make()
            while True:
                self._answer(codec.decode(wire.receive(self._control)))
        for pid in self._taken | ({self._ready.pid} if self._ready else set()):
            self._kill(pid)
        self._sweep()

    def _answer(self, request: list[Any]) -> None:
        what, *arguments = request
        if what == "take":
            child, self._ready = self._ready or self._make(), None
            assert child.channel is not None
            self._taken.add(child.pid)
            self._reply(["taken", child.pid])
            socket.send_fds(self._control, [b"c"], [child.channel.fileno()])
            child.channel.close()
            self._ready = self._make()
        elif what == "end":
            self._reply(["ended", *self._end(*arguments)])
        else:
            self._load(*arguments)

    def _reply(self, message: list[Any]) -> None:
        wire.send(self._control, codec.encode(message))

    def _make(self) -> _Child:
        ours, theirs = socket.socketpair()
        if self._how.namespaces:
            confine.new_pid_namespace()
        pid = os.fork()
        if pid == 0:
            _be_child(theirs, self._how)
        if self._how.namespaces:
            confine.same_pid_namespace(self._self)
        theirs.close()
        return _Child(pid, ours)

    def _end(self, pid: int, grace: float) -> tuple[int | None, float]:
        """Wait for a child a little, then kill it; leave nothing of it."""
        self._taken.remove(pid)
        deadline = time.monotonic() + grace
        found, status, usage = os.wait4(pid, os.WNOHANG)
        while not found and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            found, status, usage = os.wait4(pid, os.WNOHANG)
        ended = bool(found)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
        if not self._how.seccomp:
            self._sweep()
        return (os.waitstatus_to_exitcode(status) if ended else None), usage.ru_utime + usage.ru_stime

    def _load(self, name: str) -> None:
        try:
            importlib.import_module(name)
            loaded = True
        except ImportError:
            loaded = False
        gc.freeze()
        if self._ready is not None:
            assert self._ready.channel is not None
            self._ready.channel.close()
            self._kill(self._ready.pid)
        self._ready = self._make()
        self._reply(["loaded", loaded])

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _sweep(self) -> None:
        """Kill what programs have left: in the weakest tier they could start processes, which came to us as orphans."""
        keep = self._taken | ({self._ready.pid} if self._ready else set())
        deadline = time.monotonic() + _SWEEP_SECONDS
        while (left := _descendants(keep)) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _be_child(channel: socket.socket, how: confine.Confinement) -> None:
    """The life of a child; never returns."""
    try:
        _keep_only(channel.fileno())
        confine.confine(how)
    except BaseException as error:
        with suppress(BaseException):
            wire.send(channel, codec.encode(["failed", f"{type(error).__name__}: {error}"]))
        os._exit(1)
    with suppress(BaseException):
        wire.send(channel, codec.encode(["ready"]))
        jobs.run(channel, how)
    os._exit(0)


def _keep_only(channel: int) -> None:
    """Close everything but a channel and the folders that Python is read from; input is empty, output is dropped."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    folders = [int(entry.split("/")[4]) for entry in sys.path if entry.startswith("/proc/self/fd/")]
    low = 3
    for kept in sorted({channel, *folders}):
        os.closerange(low, kept)
        low = kept + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if sys.platform != "linux" else 2**31 - 1)


def _descendants(keep: set[int]) -> list[int]:
    """All processes below this one, but for some and what is below them. Without /proc, none."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        with suppress(ValueError, OSError, IndexError):
            pid = int(name)
            with open(f"/proc/{pid}/stat") as file:
                children.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(pid)
    found, queue = [], [os.getpid()]
    while queue:
        below = [pid for pid in children.get(queue.pop(), ()) if pid not in keep]
        found += below
        queue += below
    return found


if __name__ == "__main__":
    main()
