"""A worker program: reads calls from its standard input, answers on its standard output, one at a time.

    python -m verifiers.worker_main PARENT_PID MEMORY_BYTES

A call is a pickle of (function, arguments, CPU seconds), an answer one of (kind, value). Each is preceded by its
length in 8 bytes. The program ends with its input, and with its parent.
"""

import ctypes
import os
import pickle
import resource
import signal
import sys
import traceback
from typing import BinaryIO, Literal, NamedTuple

LENGTH_BYTES = 8
_PR_SET_PDEATHSIG = 1


class Answer(NamedTuple):
    """What a call came to. On its way it is a plain tuple: here this module is ``__main__``, there it is not."""

    kind: Literal["value", "error"]
    value: object  # the function's value, or (type, message, traceback) as texts


def read_frame(stream: BinaryIO) -> bytes | None:
    """One length-prefixed frame; None at the end of the stream."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return stream.read(int.from_bytes(head, "big"))


def frame(payload: bytes) -> bytes:
    """The payload with its length in front."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def main() -> None:
    """Serve calls until the input ends."""
    parent, memory = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # whatever a function prints must not get between the answers
    while (payload := read_frame(calls)) is not None:
        answers.write(frame(_answer(payload)))
        answers.flush()


def _answer(payload: bytes) -> bytes:
    try:
        function, arguments, seconds = pickle.loads(payload)
        _limit_cpu(seconds)
        return pickle.dumps(("value", function(*arguments)))
    except BaseException as error:  # whatever a judged text makes the function do is reported, not obeyed
        told = (type(error).__name__, str(error)[:10_000], traceback.format_exc()[-10_000:])
        return pickle.dumps(("error", told))


def _limit_cpu(seconds: float) -> None:
    """Kill this program by SIGXCPU once it has used `seconds` more of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The kernel counts whole seconds; the limit is rounded up.
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


if __name__ == "__main__":
    main()
