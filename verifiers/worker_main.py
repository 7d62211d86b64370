"""The worker program: reads calls from its input, runs them, writes replies. Started by `verifiers.workers` only.

A message is its length in 8 bytes, big endian, and a pickle. A call is (limit, pickled function and arguments), where
the inner pickle is read after the CPU limit was lifted for it, so that importing a module costs no call its time. A
reply is ("ok", result) or ("error", one line, traceback text).
"""

import ctypes
import math
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
from typing import BinaryIO, NamedTuple

HEADER = struct.Struct(">Q")
IMPORT_SECONDS = 120  # CPU time for importing what a call needs
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST = 10_000  # characters of an error that go back


def main() -> None:
    """Serve calls until the input ends."""
    owner, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _die_with(owner)
    calls, replies = _take_streams()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory_bytes)
    while (message := _read(calls)) is not None:
        reply = _run(message)
        replies.write(HEADER.pack(len(reply)) + reply)
        replies.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what the calls have left running goes too


def _die_with(owner: int) -> None:
    """Have the kernel end this program when the thread that started it ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it ended before the kernel was told
        os._exit(1)


class _Streams(NamedTuple):
    calls: BinaryIO
    replies: BinaryIO


def _take_streams() -> _Streams:
    """Move the protocol away from where functions read and print: input becomes empty, output goes to stderr."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return _Streams(calls, replies)


def _read(calls: BinaryIO) -> bytes | None:
    header = calls.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    return calls.read(length)


def _run(message: bytes) -> bytes:
    """The reply to a call. Whatever the function raises is a reply."""
    try:
        cpu_seconds, call = pickle.loads(message)
        _allow_cpu(IMPORT_SECONDS)
        function, arguments = pickle.loads(call)
        _allow_cpu(cpu_seconds)
        return pickle.dumps(("ok", function(*arguments)))
    except BaseException as error:
        return pickle.dumps(_describe(error))


def _allow_cpu(seconds: float) -> None:
    """From now on this much CPU time; the kernel counts in whole seconds, so up to one more. Then it kills."""
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds))


def _limit(what: int, value: int) -> None:
    """Set a soft limit, no higher than the hard one, which stays: a soft limit can be raised again."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _describe(error: BaseException) -> tuple[str, str, str]:
    try:
        line = f"{type(error).__name__}: {error}"
    except BaseException:  # an error that can't be printed
        line = type(error).__name__
    return "error", line[:_LONGEST], "".join(traceback.format_exception(error))[-_LONGEST:]


if __name__ == "__main__":
    main()
