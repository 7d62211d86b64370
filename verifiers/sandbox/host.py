"""The host's side of the sandbox: starts the servers, takes sandboxes from them, and ends them."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple, Self

from decoding.errors import SandboxError
from verifiers.sandbox import codec, wire
from verifiers.sandbox.launch import Launch

_START_SECONDS = 60.0  # on a loaded machine
_GRACE = 5.0


class Ended(NamedTuple):
    """How a sandbox ended."""

    status: int | None  # as of os.waitstatus_to_exitcode; None: it was running and was killed
    cpu_seconds: float


class Box:
    """A fresh sandbox: a confined process that waits for one job."""

    def __init__(self, server: "Server", pid: int, channel: socket.socket) -> None:
        self._server, self._pid, self.channel = server, pid, channel
        self._ended: Ended | None = None

    def send(self, job: Mapping[str, Any]) -> None:
        """Give it its job; raises ``SandboxError`` if it is not there any more."""
        try:
            wire.send(self.channel, codec.encode(dict(job)))
        except wire.WireError:
            raise SandboxError("a fresh sandbox was gone before it got its job: run it again") from None

    def receive(self, deadline: float, longest: int) -> bytes | None:
        """A message, or None if there was none at the deadline; raises ``WireError``."""
        try:
            self.channel.settimeout(max(0.001, deadline - time.monotonic()))
            return wire.receive(self.channel, longest)
        except TimeoutError:
            return None
        finally:
            self.channel.settimeout(None)  # whoever gets a copy of it has the same flags

    def end(self, grace: float = 0.0) -> Ended:
        """Kill it and all that it started, after it had so many seconds to end by itself; once."""
        if self._ended is None:
            self.channel.close()
            _, status, seconds = self._server.ask(["end", self._pid, grace])
            self._ended = Ended(status, seconds)
        return self._ended


class Server:
    """A running `verifiers.sandbox.server`. Ends with this object, and with this program, however that ends."""

    def __init__(self, launch: Launch) -> None:
        """Start it.

        Raises:
            SandboxError: The machine doesn't let it start.
        """
        ours, theirs = socket.socketpair()
        self._control = ours
        self._control.settimeout(_START_SECONDS)
        with theirs:
            user: dict[str, Any] = {"user": launch.user, "group": launch.user, "extra_groups": []}
            settings = {
                "confinement": asdict(launch.confinement),
                "control": theirs.fileno(),
                "code": launch.code,
                "packages": list(launch.packages),
            }
            try:
                self._process = subprocess.Popen(
                    [*launch.command, json.dumps(settings)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=dict(launch.environment),
                    pass_fds=(theirs.fileno(), *launch.descriptors),
                    **(user if launch.user is not None else {}),
                )
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                self._control.close()
                raise SandboxError(f"{launch.command[0]} can't be started: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> Box:
        """A fresh sandbox; raises ``SandboxError`` with the reason if it could not be confined."""
        _, pid = self.ask(["take"])
        try:
            _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            box = Box(self, pid, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptors[0]))
            greeting = box.receive(time.monotonic() + _START_SECONDS, 2**16)
        except (wire.WireError, OSError, IndexError):
            raise self._failure() from None
        what, *content = codec.decode(greeting) if greeting is not None else ("failed", "it did not answer")
        if what != "ready":
            box.end()
            raise SandboxError(str(content[0]))
        return box

    def load(self, package: str) -> bool:
        """Import a package for all further sandboxes; whether it is there."""
        return bool(self.ask(["load", package])[1])

    def ask(self, request: list[Any]) -> list[Any]:
        """A request and its reply."""
        try:
            wire.send(self._control, codec.encode(request))
            reply: list[Any] = codec.decode(wire.receive(self._control))
        except (wire.WireError, OSError):
            raise self._failure() from None
        return reply

    def close(self) -> None:
        """End the server and every sandbox of it."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _failure(self) -> SandboxError:
        """What became of the server. It is not asked again: a late reply would be taken for the next one."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        if self._process.returncode is None:
            return SandboxError("the sandbox's server does not answer")
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return SandboxError(said or f"the sandbox's server ended, status {self._process.returncode}")
