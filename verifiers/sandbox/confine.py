"""How a fresh process is confined before it gets to see a program. The order matters: what comes later needs no rights.

Runs inside the sandbox: standard library only.
"""

import ctypes
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from verifiers.sandbox import landlock, seccomp

FOLDER = "/tmp"  # in the namespaces, a file system of its own for each process
FOLDER_BYTES = 2**26
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWPID = 0x20000, 0x08000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What holds a process, settled when its server is started."""

    namespaces: bool
    seccomp: bool
    landlock: bool
    user: int | None  # become this user; None: stay who we are
    readable: tuple[str, ...]  # folders of Python and its packages, for Landlock


def new_pid_namespace() -> None:
    """Let the next process that is started be the first of a namespace of its own; `same_pid_namespace` ends that."""
    _check(_libc().unshare(_CLONE_NEWPID), "unshare(NEWPID)")


def same_pid_namespace(own: int) -> None:
    """Let further processes be started in the own namespace; `own` is a pidfd of this process."""
    _check(_libc().setns(own, _CLONE_NEWPID), "setns(NEWPID)")


def confine(how: Confinement) -> None:
    """Give up everything but what a program may have; raises ``OSError`` if any of it fails."""
    os.setsid()
    if how.namespaces:
        _own_folder()
    os.chdir(FOLDER if how.namespaces else "/")  # without namespaces there is nowhere to write
    if how.user is not None:
        os.setgroups([])
        os.setresgid(how.user, how.user, how.user)
        os.setresuid(how.user, how.user, how.user)
    if sys.platform == "linux":
        _die_with_server()
        _drop_capabilities()
    if how.landlock:
        landlock.restrict(how.readable, [FOLDER] if how.namespaces else [])
    if how.seccomp:
        seccomp.install()


def limit(limits: Mapping[str, float], *, threads: int | None) -> None:
    """Set the resource limits, soft and hard. `threads`: how many threads the user may have; None: not limited."""
    settings = {
        resource.RLIMIT_CPU: math.ceil(limits["cpu_seconds"]),
        resource.RLIMIT_AS: int(limits["memory_bytes"]),
        resource.RLIMIT_FSIZE: int(limits["file_bytes"]),
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if threads is not None:
        settings[resource.RLIMIT_NPROC] = threads
    if sys.platform == "darwin":
        del settings[resource.RLIMIT_AS]  # there it can't be set
    for what, value in settings.items():
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def lift_limits() -> None:
    """Set soft limits to the hard ones: those that were inherited are somebody else's."""
    for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (hard, hard))


def _own_folder() -> None:
    """An empty file system in memory over `FOLDER`, in a mount namespace of its own; it goes with the process."""
    _check(_libc().unshare(_CLONE_NEWNS | _CLONE_NEWIPC), "unshare(NEWNS)")
    options = f"size={FOLDER_BYTES},nr_inodes=4096,mode=1777".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(_libc().mount(b"tmpfs", FOLDER.encode(), b"tmpfs", ctypes.c_ulong(flags), options), "mount(tmpfs)")


def _die_with_server() -> None:
    """Have the kernel kill this process when its server ends. Changing the user would undo that, so it comes first."""
    libc = _libc()
    _check(libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(DUMPABLE)")  # else /proc/self belongs to root
    _check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PDEATHSIG)")


def _drop_capabilities() -> None:
    number = _CAPSET.get(os.uname().machine)
    if number is None:  # then there is no filter of system calls either, and so no namespaces that give any
        return
    head = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc().syscall(number, head, struct.pack("=6I", *(0,) * 6)), "capset")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
