"""What goes into the sandbox and what comes out of it, as plain data."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from decoding.errors import ConfigError
from verifiers.base import Outcome


class Tier(IntEnum):
    """What holds a program; each tier has all of those below it. See ``docs/sandbox.md`` for what each lets through."""

    LIMITS = 1  # resource limits, a session of its own, an unprivileged user where root starts it
    FILTERED = 2  # and a filter of system calls (seccomp), and file rules (Landlock)
    NAMESPACES = 3  # and namespaces: no network, no other process, an empty file system (Landlock where there is one)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTests:
    """A data set's tests of one function, or of a script's top-level names."""

    setup: str  # the data set's own code that tests may use: HumanEval's prompt, MBPP's test_setup_code
    test: str  # source: defines ``check(candidate)``, or asserts
    entry_point: str  # the function that is tested
    calls_check: bool  # whether ``check(function)`` is called after `test`; else `test` asserts on the name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use. The tests get as much again, apart from it."""

    cpu_seconds: float = 10.0  # rounded up to whole seconds, of the program and all its calls together
    wall_seconds: float = 30.0  # for what sleeps; of the whole check, without the sandbox's start
    memory_bytes: int = 2**30  # address space
    file_bytes: int = 2**24  # of each file that it writes
    processes: int = 32  # threads; no program may start another but in the weakest tier
    reply_bytes: int = 2**25  # of each value that it returns, as sent

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_bytes", "file_bytes", "processes", "reply_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} of a sandbox must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How strong a sandbox has to be, and how values are compared."""

    require_tier: Tier | None = None  # refuse to run in a weaker one
    allow_weakest: bool = False  # whether ``Tier.LIMITS`` is acceptable where nothing stronger is to be had
    one_process: bool = False  # tests and program in one process: for tests that need the program's own classes
    use_tier: Tier | None = None  # this one although there may be a stronger one, for comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVerdict:
    """How a program was judged."""

    outcome: Outcome
    rule: str  # what decided it
    tier: Tier
    mode: str  # "values" or "one process"; in the latter the program could have forged the verdict
    seconds: float  # wall time


class Step(NamedTuple):
    """A line that ran."""

    function: str
    line: int  # in the program, from 1
    block: int  # the line with which its basic block begins
    variables: dict[str, str]  # what the line changed, each as text, cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What an expression gave in a program. All of it is the program's word, and only fit to be shown."""

    outcome: str  # "returned", "raised", or what ended the program
    value: str  # what came back or was raised, as text, cut
    stdout: str  # cut
    steps: tuple[Step, ...]  # with trace=True; the first ones, up to a limit
    tier: Tier
