"""Plain values as bytes: the closed set of exact built-in types that may cross from a program to its judge.

What is decoded consists of exact built-in types, whatever bytes came; so a comparison on the judge's side runs no code
of the program's. The form is JSON with tags: large ints in hexadecimal (no quadratic time), floats in the shortest
digits that give the same float again; NaN, infinities, -0.0 and lone surrogates come through as they are.

Runs inside the sandbox: standard library only.
"""

import json
from typing import Any

DEPTH = 100  # of nested containers
_SMALL = 2**63  # ints that go as they are
_MOST_DIGITS = 2**20  # hexadecimal ones of an int


class CodecError(ValueError):
    """A value that is not plain, or bytes that no encoder wrote."""


def encode(value: object) -> bytes:
    """A value as bytes. Subclasses of the plain types go as these; raises ``CodecError`` for everything else."""
    try:
        return json.dumps(_pack(value, DEPTH), separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise CodecError("is nested too deep") from None


def decode(data: bytes) -> Any:
    """The value of bytes, which may come from anybody; raises ``CodecError``."""
    try:
        form = json.loads(data)
        return _unpack(form, DEPTH)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"is no message ({type(error).__name__})") from None


_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, type(None))
}
_SEQUENCES: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}
_BARE = {type(None), bool, int, float, str}  # as JSON has them


def _pack(value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__pos__(value) if -_SMALL < value < _SMALL else ["i", int.__format__(value, "x")]
    if isinstance(value, float):
        return float.__pos__(value)
    if depth == 0:
        raise CodecError(f"is nested deeper than {DEPTH}")
    if isinstance(value, list | tuple | set | frozenset | dict | range):
        return _pack_container(value, depth - 1)
    return _pack_scalar(value)


def _pack_container(value: Any, depth: int) -> Any:
    if isinstance(value, range):
        return ["r", *(int.__format__(part, "x") for part in (value.start, value.stop, value.step))]
    if isinstance(value, dict):
        return ["d", *(_pack(part, depth) for item in dict.items(value) for part in item)]
    for tag, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            items = list(kind.__iter__(value))
            return [tag, *(items if _goes_as_it_is(items) else [_pack(item, depth) for item in items])]
    raise CodecError(f"is of type {type(value).__name__}")


def _goes_as_it_is(items: list[Any]) -> bool:
    """Whether packing would change nothing: long lists of numbers are common, and slow to go through in Python."""
    types = set(map(type, items))
    if not types <= _BARE:
        return False
    ints = items if types == {int} else [item for item in items if type(item) is int]
    return not ints or (min(ints) > -_SMALL and max(ints) < _SMALL)


def _pack_scalar(value: Any) -> Any:
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, bytes):
        return ["b", bytes.hex(value)]
    if isinstance(value, bytearray):
        return ["a", bytearray.hex(value)]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["y", value.__name__]
    raise CodecError(f"is of type {type(value).__name__[:50]}")


def _unpack(form: Any, depth: int) -> Any:
    if form is None or isinstance(form, int | float | str):
        return form
    if not isinstance(form, list) or not form or depth == 0:
        raise CodecError("is no message")
    tag, *parts = form
    if tag in _SEQUENCES:
        bare = set(map(type, parts)) <= _BARE
        return _SEQUENCES[tag](parts if bare else [_unpack(part, depth - 1) for part in parts])
    if tag == "d":
        values = [_unpack(part, depth - 1) for part in parts]
        return dict(zip(values[::2], values[1::2], strict=True))
    return _unpack_scalar(tag, parts)


def _unpack_scalar(tag: Any, parts: list[Any]) -> Any:
    if tag == "c":
        real, imaginary = parts
        return complex(float(real), float(imaginary))
    if not all(type(part) is str for part in parts):
        raise CodecError("is no message")
    if tag in ("i", "r"):
        if max(map(len, parts)) > _MOST_DIGITS:
            raise CodecError(f"has an int of more than {_MOST_DIGITS} digits")
        numbers = [int(part, 16) for part in parts]
        return range(*numbers) if tag == "r" else numbers[0]
    if tag == "y":
        return _TYPES[parts[0]]
    if tag in ("b", "a"):
        return (bytes if tag == "b" else bytearray).fromhex(parts[0])
    raise CodecError("is no message")
