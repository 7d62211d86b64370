"""The sandboxes of this process: two servers, for programs and for the data sets' tests."""

import atexit
import os
import threading
from contextlib import suppress
from functools import lru_cache

from decoding.errors import SandboxError
from verifiers.sandbox.host import Box, Server
from verifiers.sandbox.tiers import working_launch
from verifiers.sandbox.types import Tier


class Boxes:
    """Fresh sandboxes of one tier. One check at a time: hold `lock` meanwhile."""

    def __init__(self, tier: Tier) -> None:
        self.tier, self.lock = tier, threading.Lock()
        self._servers: dict[bool, Server] = {}
        self._loaded: set[str] = set()

    def for_program(self) -> Box:
        """One that has the standard library."""
        return self._take(tests=False)

    def for_tests(self, *packages: str) -> Box:
        """One that has these packages too, where they are installed."""
        if not self._loaded.issuperset(packages):
            for package in packages:
                self._server(tests=True).load(package)
            self._loaded.update(packages)
        return self._take(tests=True)

    def close(self) -> None:
        """End the servers; they are started again when they are needed."""
        while self._servers:
            self._servers.popitem()[1].close()
        self._loaded.clear()

    def _take(self, *, tests: bool) -> Box:
        """A sandbox; if the server has gone, somebody else has ended it, and another one is started."""
        with suppress(SandboxError):
            return self._server(tests=tests).take()
        if tests in self._servers:
            self._servers.pop(tests).close()
        return self._server(tests=tests).take()

    def _server(self, *, tests: bool) -> Server:
        if tests not in self._servers:
            self._servers[tests] = Server(working_launch(self.tier, tests, os.getpid()))
        return self._servers[tests]


@lru_cache
def boxes(tier: Tier, process: int) -> Boxes:
    """Those of this process (a fork's are its own); they end with it."""
    found = Boxes(tier)
    atexit.register(found.close)
    return found
