"""What a sandbox is made for: it gets one job on its channel, limits itself, and does it.

Runs inside the sandbox: standard library only.
"""

import os
import socket
import sys
from contextlib import suppress
from typing import Any

from verifiers.sandbox import candidate, codec, confine, control, examining, referee, wire

_SPARE = 8  # the server's own processes of the same user


def run(channel: socket.socket, how: confine.Confinement) -> None:
    """Do the job that comes on the channel."""
    job: dict[str, Any] = codec.decode(wire.receive(channel))
    kind = job["kind"]
    sys.modules["random"].seed(0)  # the same program does the same in each sandbox
    confine.limit(job["limits"], threads=_threads(how, job["limits"]["processes"]))
    if kind == "values":
        candidate.serve(channel, job["program"])
    elif kind == "tests":
        referee.judge_by_value(channel, job)
    elif kind == "one process":
        referee.judge_in_one_process(channel, job)
    elif kind == "examine":
        examining.examine(channel, job)
    else:
        wire.send(channel, codec.encode(control.possible(how.namespaces)))


def _threads(how: confine.Confinement, processes: int) -> int | None:
    """The limit of the user's threads.

    It is a limit of the user, so where that is a real one, who runs other things too, it limits only what isn't held
    otherwise: with the filter of system calls there are no new processes, and memory limits the threads.
    """
    if how.user is not None or how.namespaces:
        return processes + _SPARE
    return None if how.seccomp or how.landlock else _threads_of_user() + processes


def _threads_of_user() -> int:
    found = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        with suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                found += len(os.listdir(f"/proc/{name}/task"))
    return found
