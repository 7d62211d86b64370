"""File rules (Landlock): a process may read some folders, write to others, and nothing else.

It does not restrict changing modes, owners and times, nor UDP; the filter of system calls does.

Runs inside the sandbox: standard library only.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

LEAST_ABI = 3  # the first that knows truncation
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same number on all machines
_PR_SET_NO_NEW_PRIVS = 38
_PATH_BENEATH = 1
_VERSION = 1
_READ = 0b1100  # READ_FILE, READ_DIR
_EVERYTHING = (1 << 15) - 1  # ABI 3: EXECUTE .. TRUNCATE
_MODIFY = _EVERYTHING & ~0b1  # all but EXECUTE
_TCP_ABI, _TCP = 4, 0b11  # BIND_TCP, CONNECT_TCP
_SCOPE_ABI, _SCOPE = 6, 0b11  # ABSTRACT_UNIX_SOCKET, SIGNAL


def abi() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    version: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, version)


def restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Allow this process, for good, to read and write in these folders only; no TCP where the kernel can say so.

    Raises:
        OSError: There is no Landlock, or it refuses.
    """
    version = abi()
    if version < LEAST_ABI:
        raise OSError(f"Landlock: ABI {version}, at least {LEAST_ABI} is needed")
    rules = struct.pack("=QQQ", _EVERYTHING, _TCP if version >= _TCP_ABI else 0, _SCOPE if version >= _SCOPE_ABI else 0)
    size = 24 if version >= _SCOPE_ABI else 16 if version >= _TCP_ABI else 8
    ruleset = _call(_CREATE_RULESET, rules, ctypes.c_size_t(size), 0)
    for paths, rights in ((readable, _READ), (writable, _MODIFY)):
        for path in paths:
            _add(ruleset, path, rights)
    _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    where = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= ~0b1000  # READ_DIR is no right of a file
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, where), 0)
    finally:
        os.close(where)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
