"""The errors that bethink raises on purpose. Each message says what was wrong and what to do about it.

BethinkError
├── ConfigError            a setting that can't work: unknown name, impossible value, wrong pair
│   ├── CapabilityError    this strategy can't run on this engine
│   └── ContextError       a prompt that does not fit the model's context
├── ModelError             weights that can't be found, fetched or read
├── DataError              problems that can't be found, fetched or read
├── StoreError             a results folder that can't be read, written or continued
├── EngineError            the engine failed while it was running
├── WorkerError            a worker program failed or was killed
│   └── WorkerTimeout      it was killed because it ran past its limit
├── SandboxError           a stranger's program can't be held as safely as was required
└── SeedError              one seed path used for two draws
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decoding.types import Usage


class BethinkError(Exception):
    """Root of all errors that bethink raises on purpose.

    One that ended a strategy midway knows what had happened until then.
    """

    usage: "Usage | None" = None  # what had been computed
    trace: tuple[Any, ...] = ()  # the strategy's events (`reasoning.trace`)


class ConfigError(BethinkError):
    """A setting that can't work: an unknown name, an impossible value, a wrong pair."""


class CapabilityError(ConfigError):
    """A strategy was asked to run on an engine that lacks what it needs."""


class ContextError(ConfigError):
    """A prompt that does not fit the model's context."""


class ModelError(BethinkError):
    """Weights that can't be found, fetched or read."""


class DataError(BethinkError):
    """Problems that can't be found, fetched or read."""


class StoreError(BethinkError):
    """A results folder that can't be read, written or continued."""


class EngineError(BethinkError):
    """The engine failed while it was running."""


class WorkerError(BethinkError):
    """A worker program failed or was killed."""


class WorkerTimeout(WorkerError):
    """A worker program was killed because it ran past its limit."""


class SandboxError(BethinkError):
    """A stranger's program can't be held as safely as was required, or what holds it failed."""


class SeedError(BethinkError):
    """One seed path was used for two draws."""
