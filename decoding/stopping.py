"""Stop strings, looked for in a completion's text while its tokens come."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what a character looks like whose bytes are not all there yet
_MOST_PENDING = 16  # tokens; bytes that make no character by then never will


class StopStrings:
    """Finds stop strings in a completion's text as its tokens come, whatever tokens they straddle.

    A token's text depends on its neighbours (bytes of one character, spaces at the start), so each new piece is what
    the last few tokens read with it, less what they read without it.
    """

    def __init__(self, stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._stops, self._decode = stops, decode
        self._keep = max(map(len, stops)) - 1  # characters of the past that a stop string can begin in
        self._tail = ""
        self._context: list[int] = []  # tokens whose text is settled, for the sake of the next
        self._pending: list[int] = []  # tokens whose text is not

    def feed(self, token_id: int) -> bool:
        """Take one token; whether the text now holds a stop string."""
        self._pending.append(token_id)
        piece = self._decode(self._context + self._pending)[len(self._decode(self._context)) :]
        text = self._tail + piece
        if any(stop in text for stop in self._stops):
            return True
        if piece and (not piece.endswith(_REPLACEMENT) or len(self._pending) > _MOST_PENDING):
            self._tail = text[-self._keep :] if self._keep else ""
            self._context, self._pending = self._pending, []
        return False
