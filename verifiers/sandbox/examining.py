"""What an expression gives in a program, what that printed, and which values its variables took on the way.

The steps are those of LDB (Zhong et al. 2024, "Debug like a Human", section 3.1: basic blocks and the state behind
each). Here a step is a line, with what it changed and the block that it belongs to.

Runs inside the sandbox: standard library only.
"""

import dis
import io
import reprlib
import signal
import socket
import sys
import types
from typing import Any

from verifiers.sandbox import candidate, codec, wire

_FILE = "<candidate>"


class _OutOfTime(BaseException):
    """The CPU time is up; what was seen so far is told."""


class _Output(io.TextIOBase):
    """Keeps the first characters that are written."""

    def __init__(self, longest: int) -> None:
        self._left, self._parts = longest, list[str]()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if self._left > 0:
            self._parts.append(str.__str__(text)[: self._left])
            self._left -= len(text)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)


class _Tracer:
    """Records the lines of the program that run, and the local variables that each has changed."""

    def __init__(self, most: int, longest: int) -> None:
        self._most = most
        self._repr = reprlib.Repr()
        self._repr.maxother = self._repr.maxstring = self._repr.maxlong = longest
        self._repr.maxlist = self._repr.maxtuple = self._repr.maxset = self._repr.maxdict = longest // 4
        self._longest = longest
        self._leaders: dict[types.CodeType, list[int]] = {}
        self.steps: list[list[Any]] = []

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        """For `sys.settrace`: follow the program's own functions, and nothing any more once there is enough."""
        if len(self.steps) >= self._most:
            sys.settrace(None)
            return None
        if frame.f_code.co_filename != _FILE:
            return None
        return _FrameTracer(self).follow

    def show(self, value: object) -> str:
        """A value as text, cut."""
        try:
            return self._repr.repr(value)[: self._longest]
        except Exception as error:
            return f"<{type(error).__name__}>"

    def add(self, code: types.CodeType, line: int) -> dict[str, str] | None:
        """A further step, and where its changes go; None if there are enough."""
        if len(self.steps) >= self._most:
            return None
        if code not in self._leaders:
            self._leaders[code] = _leaders(code)
        block = max((leader for leader in self._leaders[code] if leader <= line), default=line)
        changes: dict[str, str] = {}
        self.steps.append([code.co_name, line, block, changes])
        return changes


class _FrameTracer:
    """The lines of one call. What a line has changed is known when the next one begins."""

    def __init__(self, tracer: _Tracer) -> None:
        self._tracer = tracer
        self._known: dict[str, str] = {}
        self._changes: dict[str, str] | None = {}

    def follow(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if event in ("line", "return"):
            self._compare(frame)
        if event == "return" and self._changes is not None and frame.f_code.co_name != "<module>":
            self._changes["return"] = self._tracer.show(argument)
        if event == "line":
            self._changes = self._tracer.add(frame.f_code, frame.f_lineno)
        return None if self._changes is None else self.follow

    def _compare(self, frame: types.FrameType) -> None:
        if frame.f_code.co_name == "<module>":
            return
        now = {name: self._tracer.show(value) for name, value in frame.f_locals.items()}
        if self._changes is not None:
            self._changes.update({name: text for name, text in now.items() if self._known.get(name) != text})
        self._known = now


def examine(channel: socket.socket, job: dict[str, Any]) -> None:
    """Run the program, then evaluate the expression in it, and send what happened."""
    output, tracer = _Output(job["longest"]), _Tracer(job["most_steps"], job["longest_value"])
    sys.stdout = sys.stderr = output
    module = candidate.new_module()
    signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, job["cpu_seconds"])
    reply = candidate.attempt(lambda: candidate.run(job["program"], module))
    if reply[0] == "value":
        reply = candidate.attempt(lambda: _evaluate(job, module, tracer))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    what, *content = reply
    if what == "value":
        told = ["returned", tracer.show(content[0])]
    elif content[0] == _OutOfTime.__name__:
        told = ["cpu limit", ""]
    else:
        told = ["raised", f"{content[0]}: {content[1]}"[: job["longest"]]]
    wire.send(channel, codec.encode([*told, output.text(), tracer.steps]))


def _evaluate(job: dict[str, Any], module: types.ModuleType, tracer: _Tracer) -> Any:
    expression = compile(job["expression"], "<expression>", "eval", dont_inherit=True)
    if job["trace"]:
        sys.settrace(tracer)
    try:
        return eval(expression, module.__dict__)
    finally:
        sys.settrace(None)


def _stop(number: int, frame: types.FrameType | None) -> None:
    raise _OutOfTime


def _leaders(code: types.CodeType) -> list[int]:
    """The lines with which basic blocks begin: those that are jumped to, and those behind a jump."""
    lines, line, after_jump = {code.co_firstlineno + 1}, code.co_firstlineno, False
    for instruction in dis.get_instructions(code):
        line = (instruction.positions and instruction.positions.lineno) or line
        if instruction.is_jump_target or after_jump:
            lines.add(line)
        after_jump = instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs
    return sorted(lines)
