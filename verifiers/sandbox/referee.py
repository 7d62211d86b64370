"""The trusted side of judging by value: the data set's own tests, run against a stand-in for the program's function.

The tests are run by `exec`, deliberately: they are the data set's, not the model's, and they say what is right. They
run confined like the program all the same, in a process of their own that is thrown away.

Runs inside the sandbox: standard library only, and numpy where the tests want it.
"""

import ast
import builtins
import importlib
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from verifiers.sandbox import candidate, codec, wire

_HIDDEN = ("StopIteration", "StopAsyncIteration")  # would end a loop of the tests as if all were well


class _Lost(Exception):
    """The program can't be asked any more."""


class _Unsendable(Exception):
    """The tests pass something that is no plain value."""


class Raised(Exception):
    """The program raised something that isn't built in."""


class _Program:
    """The program behind its channel."""

    def __init__(self, channel: socket.socket, longest: int) -> None:
        self._channel, self._longest = channel, longest
        self.lost = ""  # why it can't be asked any more
        self.calls = 0

    def ready(self) -> list[Any]:
        return self._receive()

    def get(self, name: str) -> list[Any]:
        return self._ask(["get", name])

    def stand_in(self, name: str) -> Callable[..., Any]:
        """A function that asks the program."""

        def ask(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            return self._value(self._ask(["call", name, list(arguments), named]), arguments)

        ask.__name__ = ask.__qualname__ = name
        return ask

    def _value(self, reply: list[Any], arguments: tuple[Any, ...]) -> Any:
        what, *content = reply
        if what == "value" and len(content) == 2:
            value, changed = content
            if changed is not None:
                _give_back(arguments, changed)
            return value
        if what == "raised" and len(content) == 2:
            raise _error(*content)
        return self._lose(str(content[0])[:200] if what == "refused" and content else "reply is no message")

    def _ask(self, request: list[Any]) -> list[Any]:
        if self.lost:
            raise _Lost(self.lost)
        try:
            message = codec.encode(request)
        except codec.CodecError as error:
            raise _Unsendable(f"argument {error}") from None
        try:
            wire.send(self._channel, message)
        except wire.WireError as error:
            self._lose(str(error))
        return self._receive()

    def _receive(self) -> list[Any]:
        try:
            reply = codec.decode(wire.receive(self._channel, self._longest))
        except wire.WireError as error:
            self._lose("ended" if str(error) == "closed" else f"reply is {error}")
        except codec.CodecError as error:
            self._lose(f"reply {error}")
        if type(reply) is not list or not reply or type(reply[0]) is not str:
            self._lose("reply is no message")
        return reply

    def _lose(self, why: str) -> NoReturn:
        self.lost = why
        raise _Lost(why)


def judge_by_value(channel: socket.socket, job: dict[str, Any]) -> None:
    """Receive the program's channel, run the tests, send the outcome."""
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptors[0])
    program = _Program(asked, job["limits"]["reply_bytes"])
    outcome, rule = _judge(program, job["tests"])
    if program.lost and outcome == "correct":  # the tests swallowed that
        outcome, rule = "wrong", f"the program's {program.lost}"
    wire.send(channel, codec.encode([outcome, rule, program.lost]))


def judge_in_one_process(channel: socket.socket, job: dict[str, Any]) -> None:
    """Run program and tests in one module, as the usual harnesses do, and send the outcome."""
    module = candidate.new_module()
    tests = job["tests"]
    sources = {**tests, "program": job["program"]}

    def whole() -> None:
        # A prompt has a stub of the function, which the program replaces; MBPP's set-up uses the program's classes.
        for part in ("setup", "program", "test") if tests["calls_check"] else ("program", "setup", "test"):
            candidate.run(sources[part], module)
        if tests["calls_check"]:
            module.__dict__["check"](module.__dict__[tests["entry_point"]])

    what, *content = candidate.attempt(whole)
    outcome = ("correct", "passed") if what == "value" else ("wrong", _rule(content[0]))
    wire.send(channel, codec.encode([*outcome, ""]))


def _judge(program: _Program, tests: dict[str, Any]) -> tuple[str, str]:
    try:
        ready = program.ready()
        if ready[0] == "raised":
            return "wrong", f"the program {_rule(str(ready[1]))}"
        if program.get(tests["entry_point"])[0] == "missing":
            return "wrong", f"no function {tests['entry_point']}"
        _run(program, tests)
    except _Lost as error:
        return "wrong", f"the program's {error}"
    except _Unsendable as error:
        return "error", f"the tests need one process: {error}"
    except BaseException as error:
        if not program.calls:
            return "error", f"the tests failed before they called the program: {type(error).__name__}: {error}"[:500]
        return "wrong", _rule(type(error).__name__)
    return ("correct", "passed") if program.calls else ("error", "the tests never called the program")


def _run(program: _Program, tests: dict[str, Any]) -> None:
    namespace: dict[str, Any] = {"__name__": "tests"}
    exec(compile(tests["setup"], "<setup>", "exec", dont_inherit=True), namespace)
    entry_point = tests["entry_point"]
    namespace[entry_point] = program.stand_in(entry_point)
    if not tests["calls_check"]:
        _bind_free_names(program, tests["test"], namespace)
    exec(compile(tests["test"], "<test>", "exec", dont_inherit=True), namespace)
    if tests["calls_check"]:
        namespace["check"](namespace[entry_point])


def _bind_free_names(program: _Program, test: str, namespace: dict[str, Any]) -> None:
    """What else the tests use of the program: stand-ins for its functions, its plain values."""
    names = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    for name in sorted({node.id for node in names} - bound - namespace.keys() - vars(builtins).keys()):
        what, *content = program.get(name)
        if what == "function":
            namespace[name] = program.stand_in(name)
        elif what == "value":
            namespace[name] = content[0]
        elif what == "module" and name in sys.stdlib_module_names:  # MBPP/596 counts on the program's imports
            namespace[name] = importlib.import_module(name)


def _error(kind: Any, message: Any) -> Exception:
    """What the program raised, as the same built-in error where it is one that a test may expect."""
    known = getattr(builtins, kind, None) if isinstance(kind, str) and kind not in _HIDDEN else None
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            return known(message)
        except TypeError:  # UnicodeDecodeError takes more
            pass
    return Raised(f"{kind}: {message}")


def _give_back(arguments: tuple[Any, ...], changed: Any) -> None:
    """Put into the tests' own arguments what the program has made of them."""
    for old, new in zip(arguments, changed if type(changed) is list else (), strict=False):
        if type(old) is not type(new):
            continue
        if isinstance(old, list | bytearray):
            old[:] = new
        elif isinstance(old, dict | set):
            old.clear()
            old.update(new)
        elif isinstance(old, tuple):
            _give_back(old, list(new))


def _rule(error: str) -> str:
    return "assertion failed" if error == "AssertionError" else f"raised {error}"
