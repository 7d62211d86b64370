"""Messages over a stream socket: their length in 4 bytes, big endian, and as many bytes.

Runs inside the sandbox: standard library only.
"""

import socket
import struct

_HEADER = struct.Struct(">I")
LONGEST = 2**30  # of messages between the parts that trust each other


class WireError(Exception):
    """The other side broke off, or sent more than is allowed."""


def send(channel: socket.socket, message: bytes) -> None:
    """Send a message; raises ``WireError`` if the other side is gone."""
    try:
        channel.sendall(_HEADER.pack(len(message)))
        channel.sendall(message)
    except OSError as error:
        raise WireError("closed") from error


def receive(channel: socket.socket, longest: int = LONGEST) -> bytes:
    """The next message; raises ``WireError`` for an end, a broken message or one of more bytes."""
    (length,) = _HEADER.unpack(_exactly(channel, _HEADER.size))
    if length > longest:
        raise WireError("too long")
    return _exactly(channel, length)


def _exactly(channel: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        try:
            piece = channel.recv(min(length - len(found), 2**20))
        except ConnectionError as error:
            raise WireError("closed") from error
        if not piece:
            raise WireError("closed")
        found += piece
    return bytes(found)
