"""The positive control, and the negative ones: a sandbox is asked what can be done in it, by doing it.

Runs inside the sandbox: standard library only.
"""

import importlib
import os
import socket
import threading
from collections.abc import Callable

COMPUTE = "compute"  # has to work, or nothing else that fails means anything
THREAD = "start a thread"
ROOT = "be root"


def possible(namespaces: bool) -> list[str]:
    """The names of what worked."""
    attempts: dict[str, Callable[[], object]] = {
        COMPUTE: _compute,
        THREAD: _thread,
        ROOT: _be_root,
        "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "start a process": _fork,
        "signal another process": lambda: os.kill(os.getppid() or 1, 0),
        "read /etc/passwd": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "write outside": lambda: _write("/control" if namespaces else "/var/tmp/bethink-control"),
    }
    worked = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, RuntimeError, ImportError):
            continue
        worked.append(name)
    return worked


def _compute() -> None:
    if sum(range(1000)) != 499500:
        raise RuntimeError
    importlib.import_module("colorsys")  # a module of Python's own that nothing has loaded


def _thread() -> None:
    thread = threading.Thread(target=_compute)
    thread.start()
    thread.join()


def _write(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.remove(path)


def _be_root() -> None:
    os.setuid(0)
    if os.getuid() != 0:
        raise RuntimeError


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
