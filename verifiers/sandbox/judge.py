"""Judging programs by the values that they return.

The process that holds the program gets arguments and returns plain values. The data set's tests run in another, against
a stand-in that asks the first. So nothing that a program does in its own process (looking through frames, replacing
built-ins, exiting with 0, returning what equals everything) can turn a wrong value into a right one.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

from verifiers.base import Outcome
from verifiers.sandbox import codec
from verifiers.sandbox.boxes import Boxes, boxes
from verifiers.sandbox.host import Box, Ended
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import CodeTests, CodeVerdict, Examination, Limits, Policy, Step
from verifiers.sandbox.wire import WireError

_VERDICT_BYTES = 2**16
_EXAMINATION_BYTES = 2**22
_TESTS_MEMORY = 4 * 2**30  # numpy, and the tests' own data
_GRACE = 1.0  # seconds in which a program that broke off may turn out to have ended
_LONGEST, _LONGEST_VALUE, _MOST_STEPS = 4000, 120, 400  # characters of output and of a value, lines of a trace
_SHOWN = {"longest": _LONGEST, "longest_value": _LONGEST_VALUE, "most_steps": _MOST_STEPS}
_LIMITS, _POLICY = Limits(), Policy()


class _Told(NamedTuple):
    outcome: Outcome
    rule: str


def judge(
    program: str,
    tests: CodeTests,
    *,
    limits: Limits = _LIMITS,
    policy: Policy = _POLICY,
) -> CodeVerdict:
    """Run a data set's tests against a stranger's program. Blocks.

    Args:
        program: The whole source.
        tests: What it has to pass.
        limits: What it may use.
        policy: How strong the sandbox has to be; `Policy.one_process` for tests that need the program's own classes.

    Raises:
        SandboxError: The machine can't hold the program as safely as the policy wants.
    """
    tier = reached(policy)
    held, start = boxes(tier, os.getpid()), time.monotonic()
    with held.lock:
        if not program.strip():
            told = _Told(Outcome.NO_ANSWER, "empty program")
        elif policy.one_process:
            told = _in_one_process(held, program, tests, limits)
        else:
            told = _by_value(held, program, tests, limits)
    mode = "one process" if policy.one_process else "values"
    return CodeVerdict(outcome=told.outcome, rule=told.rule, tier=tier, mode=mode, seconds=time.monotonic() - start)


def examine(
    program: str,
    expression: str,
    *,
    trace: bool = False,
    packages: tuple[str, ...] = (),
    limits: Limits = _LIMITS,
    policy: Policy = _POLICY,
) -> Examination:
    """What an expression, such as a call, gives in a stranger's program; with `trace`, line by line. Blocks.

    An expression that runs past its CPU time has told its steps until then. Programs have the standard library and, of
    numpy and sympy, those of `packages` that are installed here.

    Raises:
        SandboxError: As `judge`.
    """
    tier = reached(policy)
    held = boxes(tier, os.getpid())
    with held.lock, _ended(held.for_tests(*packages) if packages else held.for_program()) as box:
        deadline = time.monotonic() + limits.wall_seconds
        job = {"kind": "examine", "program": program, "expression": expression, "trace": trace, **_SHOWN}
        job["limits"] = asdict(limits) | {"cpu_seconds": limits.cpu_seconds + 1}  # time to tell of it
        box.send({**job, "cpu_seconds": limits.cpu_seconds})
        try:
            message = box.receive(deadline, _EXAMINATION_BYTES)
        except WireError:
            told = _of_program(box.end(_GRACE), limits)
        else:
            if message is not None:
                return _examination(message, tier)
            told = _wall(limits)
    return Examination(outcome=told.rule, value="", stdout="", steps=(), tier=tier)


def _by_value(held: Boxes, program: str, tests: CodeTests, limits: Limits) -> _Told:
    packages = ["numpy"] if "numpy" in tests.setup + tests.test else []
    with _ended(held.for_program()) as candidate, _ended(held.for_tests(*packages)) as referee:
        deadline = time.monotonic() + limits.wall_seconds
        candidate.send({"kind": "values", "program": program, "limits": asdict(limits)})
        _send_tests(referee, "tests", tests, limits)
        socket.send_fds(referee.channel, [b"c"], [candidate.channel.fileno()])
        told = _verdict(referee, deadline, limits)
        if told is None:
            return _wall(limits)
        if isinstance(told, Ended):
            return _of_tests(told, limits)
        outcome, rule, lost = told
        return _of_program(candidate.end(_GRACE), limits) if lost == "ended" else _Told(Outcome(outcome), rule)


def _in_one_process(held: Boxes, program: str, tests: CodeTests, limits: Limits) -> _Told:
    packages = ["numpy"] if "numpy" in tests.setup + tests.test else []
    with _ended(held.for_tests(*packages)) as box:
        deadline = time.monotonic() + limits.wall_seconds
        _send_tests(box, "one process", tests, limits, program=program)
        told = _verdict(box, deadline, limits)
        if told is None:
            return _wall(limits)
        return _of_program(told, limits) if isinstance(told, Ended) else _Told(Outcome(told[0]), told[1])


def _send_tests(box: Box, kind: str, tests: CodeTests, limits: Limits, **more: str) -> None:
    memory = max(limits.memory_bytes, _TESTS_MEMORY) if kind == "tests" else limits.memory_bytes
    box.send({"kind": kind, "tests": asdict(tests), "limits": asdict(limits) | {"memory_bytes": memory}, **more})


def _verdict(box: Box, deadline: float, limits: Limits) -> tuple[str, str, str] | Ended | None:
    """What the tests say; how their process ended if it says nothing; None if time is up."""
    try:
        message = box.receive(deadline, _VERDICT_BYTES)
        if message is None:
            return None
        outcome, rule, lost = codec.decode(message)
        if all(type(part) is str for part in (outcome, rule, lost)) and outcome in set(Outcome):
            return outcome, rule[:500], lost
    except (WireError, codec.CodecError, ValueError, TypeError):
        pass
    return box.end(_GRACE)


@contextmanager
def _ended(box: Box) -> Iterator[Box]:
    try:
        yield box
    finally:
        box.end()


def _of_program(ended: Ended, limits: Limits) -> _Told:
    """A program that broke off."""
    if _ran_out(ended, limits):
        return _Told(Outcome.TIMEOUT, f"the program used more than {limits.cpu_seconds:g} s of CPU time")
    if ended.status is None:
        return _Told(Outcome.WRONG, "the program closed its channel")
    return _Told(Outcome.WRONG, f"the program ended, {_how(ended.status)}")


def _of_tests(ended: Ended, limits: Limits) -> _Told:
    if _ran_out(ended, limits):
        return _Told(Outcome.TIMEOUT, f"the tests used more than {limits.cpu_seconds:g} s of CPU time")
    return _Told(Outcome.ERROR, "the tests broke off" + (f", {_how(ended.status)}" if ended.status is not None else ""))


def _wall(limits: Limits) -> _Told:
    return _Told(Outcome.TIMEOUT, f"no verdict within {limits.wall_seconds:g} s")


def _ran_out(ended: Ended, limits: Limits) -> bool:
    # The kernel limits CPU time by ticks, and a busy machine can charge a process for a tick of which it had a part.
    return ended.status in (-signal.SIGKILL, -signal.SIGXCPU) and ended.cpu_seconds >= 0.5 * limits.cpu_seconds


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name if -status in set(signal.Signals) else -status}"


def _examination(message: bytes, tier: Any) -> Examination:
    """The program's own account, made plain: whatever came, the fields have their types and lengths."""
    try:
        outcome, value, stdout, steps = codec.decode(message)
        return Examination(
            outcome=str(outcome)[:100],
            value=str(value)[:_LONGEST],
            stdout=str(stdout)[:_LONGEST],
            steps=tuple(_step(*step) for step in steps[:_MOST_STEPS]),
            tier=tier,
        )
    except (ValueError, TypeError, AttributeError) as error:
        return Examination(outcome=f"no account ({type(error).__name__})", value="", stdout="", steps=(), tier=tier)


def _step(function: Any, line: Any, block: Any, variables: Any) -> Step:
    shown = {str(name)[:100]: str(value)[:_LONGEST_VALUE] for name, value in list(variables.items())[:100]}
    return Step(str(function)[:100], int(line), int(block), shown)
