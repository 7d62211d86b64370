"""The untrusted side of judging by value: it holds the program and nothing else, gets arguments and sends values.

What the program does to this module, or sends in its place, makes no difference: a reply is only ever a value.

Requests, and what they may bring:

- ``["call", name, arguments, named arguments]``: ``["value", value, arguments as they are now, or None if unchanged]``
- ``["get", name]``: ``["value", value, None]``, ``["function"]``, ``["module"]`` or ``["missing"]``
- both: ``["raised", type, message]`` or ``["refused", why]`` for what is no plain value

Runs inside the sandbox: standard library only.
"""

import socket
import sys
import types
from typing import Any

from verifiers.sandbox import codec, wire

_LONGEST_MESSAGE = 1000
_MUTABLE = (list, dict, set, bytearray)


def serve(channel: socket.socket, program: str) -> None:
    """Run the program, say how that went, and answer requests."""
    module = new_module()
    reply = attempt(lambda: run(program, module))
    wire.send(channel, codec.encode(["ready"] if reply[0] == "value" else reply))
    while True:
        what, name, *arguments = codec.decode(wire.receive(channel))
        reply = _call(module, name, *arguments) if what == "call" else _get(module, name)
        wire.send(channel, _encoded(reply))


def new_module() -> types.ModuleType:
    """Where a program runs: a real module, since dataclasses and the like look theirs up."""
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    return module


def run(program: str, module: types.ModuleType) -> None:
    """Run a whole program in a module."""
    exec(compile(program, "<candidate>", "exec", dont_inherit=True), module.__dict__)


def attempt(action: Any) -> list[Any]:
    """The reply to a request: what the action gives, or what it raised."""
    try:
        return ["value", action(), None]
    except BaseException as error:
        return ["raised", type(error).__name__[:100], message_of(error)]


def message_of(error: BaseException) -> str:
    """What an error says, cut."""
    try:
        return str.__str__(str(error))[:_LONGEST_MESSAGE]
    except BaseException:
        return ""


def _call(module: types.ModuleType, name: str, arguments: list[Any], named: dict[str, Any]) -> list[Any]:
    changeable = any(isinstance(argument, (*_MUTABLE, tuple)) for argument in arguments)
    before = codec.encode(arguments) if changeable else b""
    reply = attempt(lambda: getattr(module, name)(*arguments, **named))
    if reply[0] == "value" and changeable:
        try:
            reply[2] = arguments if codec.encode(arguments) != before else None
        except codec.CodecError as error:
            return ["refused", f"argument {error}"]
    return reply


def _get(module: types.ModuleType, name: str) -> list[Any]:
    if name not in module.__dict__:
        return ["missing"]
    value = module.__dict__[name]
    if isinstance(value, types.ModuleType):
        return ["module"]
    return ["function"] if callable(value) else ["value", value, None]


def _encoded(reply: list[Any]) -> bytes:
    try:
        return codec.encode(reply)
    except codec.CodecError as error:
        return codec.encode(["refused", f"value {error}"])
    except MemoryError:
        return codec.encode(["refused", "value leaves no memory to send it"])
