"""Ids for servers that speak text: code points, and a few ids above them that keep a chat's messages apart.

So that ids go in and ids come out of every engine, and nothing else has to know. Such an id is a character, not a
token: how many tokens a text has is what the server says.
"""

from collections.abc import Sequence
from typing import NamedTuple

from decoding.errors import ConfigError

ROLE, CONTENT, ANSWER = range(0x110000, 0x110003)  # the first ids that are no code points


class TextPrompt(NamedTuple):
    """What prompt ids stand for."""

    text: str | None  # a plain text, or
    messages: list[dict[str, str]] | None  # a chat


class CodePoints:
    """A `decoding.engine.Tokenizer` whose ids are code points."""

    def __init__(self, *, has_chat_template: bool) -> None:
        self._has_chat_template = has_chat_template

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """None: a text's end is no character."""
        return frozenset()

    @property
    def has_chat_template(self) -> bool:
        """Whether the server takes chats."""
        return self._has_chat_template

    def encode(self, text: str, *, opening: bool = True) -> tuple[int, ...]:
        """Code points of a text."""
        return tuple(map(ord, text))

    def ids_with(self, text: str) -> tuple[int, ...]:
        """None: such ids are no tokens."""
        return ()

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of code points, the ids above them left out."""
        return "".join(chr(i) for i in token_ids if i < ROLE)

    def render_chat(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Messages one after another, up to where the assistant's answer begins."""
        if not self._has_chat_template:
            raise ConfigError("this server takes no chats: give the prompt as text")
        ids: list[int] = []
        for message in messages:
            ids += [ROLE, *map(ord, message["role"]), CONTENT, *map(ord, message["content"])]
        return (*ids, ANSWER)


def read_prompt(token_ids: Sequence[int]) -> TextPrompt:
    """The text or the messages of prompt ids; raises ``ConfigError`` for a chat whose answer has begun."""
    if token_ids[0] != ROLE:
        return TextPrompt("".join(map(chr, token_ids)), None)
    messages: list[dict[str, str]] = []
    field = "role"
    for i in token_ids[:-1]:
        if i == ROLE:
            messages.append({"role": "", "content": ""})
            field = "role"
        elif i == CONTENT:
            field = "content"
        elif i >= ANSWER:
            break
        else:
            messages[-1][field] += chr(i)
    else:
        if token_ids[-1] == ANSWER:
            return TextPrompt(None, messages)
    raise ConfigError("this server can't go on with an answer that has begun: take a server that completes token ids")
