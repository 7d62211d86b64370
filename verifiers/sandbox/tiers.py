"""Which tier this machine reaches: found out by starting sandboxes and trying to get out of them.

Nothing is taken from version numbers. A sandbox counts if it computes (the positive control) and if what its tier
promises to stop is stopped (`verifiers.sandbox.control`).
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import NamedTuple

from decoding.errors import SandboxError
from verifiers.sandbox import codec, control, landlock
from verifiers.sandbox.host import Server
from verifiers.sandbox.launch import Launch, launches, plain
from verifiers.sandbox.types import Limits, Policy, Tier
from verifiers.sandbox.wire import WireError

_ALLOWED = {control.COMPUTE, control.THREAD}  # all that may work but in the weakest tier
_SECONDS = 30.0


class Layer(NamedTuple):
    """A part of what holds a program."""

    name: str
    held: bool
    why: str  # what it gives here, or why it is not there


def reached(policy: Policy) -> Tier:
    """The tier that programs run in under a policy; found out once a process.

    Raises:
        SandboxError: It is weaker than the policy wants, with the reason of every stronger tier.
    """
    if policy.use_tier is not None:
        found = policy.use_tier
        reason = _probed(found, os.getpid())
        if reason is not None:
            raise SandboxError(f"the sandbox's tier {found.name.lower()} can't be had here: {reason}")
    else:
        found = _strongest()
    if policy.require_tier is not None and found < policy.require_tier:
        raise SandboxError(
            f"the sandbox reaches the tier {found.name.lower()} only, {policy.require_tier.name.lower()} is required "
            f"({_missing(found)}); see docs/sandbox.md"
        )
    if found is Tier.LIMITS and not policy.allow_weakest:
        raise SandboxError(
            "the sandbox reaches its weakest tier only, in which a program can read files and use the network "
            f"({_missing(found)}): allow that by Policy(allow_weakest=True), or see docs/sandbox.md for what is needed"
        )
    return found


def describe() -> list[Layer]:
    """What holds programs on this machine, layer by layer, each tried apart from the others."""
    user = next(launches(Tier.LIMITS, packages=False)).confinement.user
    own = f"programs run as user {user}" if user is not None else f"programs run as your user, {os.geteuid()}"
    filtered, ruled = _alone(user, seccomp=True), _alone(user, seccomp=False)
    weakest, strongest = (_probed(tier, os.getpid()) for tier in (Tier.LIMITS, Tier.NAMESPACES))
    return [
        Layer("resource limits", weakest is None, weakest or "CPU time, memory, file size, threads"),
        Layer("unprivileged user", weakest is None, weakest or own),
        Layer("seccomp", filtered is None, filtered or "no new processes, no sockets, no signals, no mounts"),
        Layer("Landlock", ruled is None, ruled or f"reads of Python's own files only (ABI {landlock.abi()})"),
        Layer("namespaces", strongest is None, strongest or "no network, no host files, no other processes"),
    ]


@lru_cache
def working_launch(tier: Tier, packages: bool, process: int) -> Launch:
    """The first way to start a server that reaches a tier, tried out once in a process.

    Raises:
        SandboxError: There is none, with the reason of each.
    """
    return _first_working(launches(tier, packages))


def _strongest() -> Tier:
    for tier in reversed(Tier):
        if _probed(tier, os.getpid()) is None:
            return tier
    raise SandboxError(
        f"no program can be run safely here: {_missing(None)}; "
        "as root, the rights to become another user (CAP_SETUID, CAP_SETGID) are needed"
    )


def _missing(found: Tier | None) -> str:
    """Why each stronger tier is not there."""
    reasons = {tier: _probed(tier, os.getpid()) for tier in reversed(Tier) if found is None or tier > found}
    told = [f"{tier.name.lower()}: {reason}" for tier, reason in reasons.items() if reason is not None]
    return "; ".join(told) or "stronger ones are there, but use_tier asks for this one"


def _alone(user: int | None, *, seccomp: bool) -> str | None:
    """Why the filter, or the file rules, can't be had by themselves; None if they can."""
    try:
        _try_out(plain(tier=Tier.LIMITS, seccomp=seccomp, landlocked=not seccomp, user=user, numpy=None))
    except SandboxError as error:
        return str(error)
    return None


@lru_cache
def _probed(tier: Tier, process: int) -> str | None:
    """Why a tier can't be reached; None if it can."""
    try:
        working_launch(tier, False, process)
    except SandboxError as error:
        return str(error)
    return None


def _first_working(ways: Iterator[Launch]) -> Launch:
    reasons = []
    for launch in ways:
        try:
            _try_out(launch)
        except SandboxError as error:
            reasons.append(str(error))
        else:
            return launch
    raise SandboxError(", ".join(dict.fromkeys(reasons)))


def _try_out(launch: Launch) -> None:
    """Run the controls; raises ``SandboxError`` if anything works that must not, or nothing works."""
    with Server(launch) as server:
        box = server.take()
        box.send({"kind": "control", "limits": asdict(Limits())})
        try:
            reply = box.receive(time.monotonic() + _SECONDS, 2**16)
        except WireError:
            reply = None
        ended = box.end()
    if reply is None:
        raise SandboxError(f"the control gave no answer, status {ended.status}")
    worked = set(codec.decode(reply))
    if control.COMPUTE not in worked or control.THREAD not in worked:
        raise SandboxError("the control could not compute")
    escaped = worked - _ALLOWED if launch.tier > Tier.LIMITS else worked & {control.ROOT}
    if escaped:
        raise SandboxError(f"the control could {', '.join(sorted(escaped))}")
