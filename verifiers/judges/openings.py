"""What stands before the first step: the question as plain text, or a chat up to where the answer begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from decoding.errors import ConfigError, ModelError

SLOT = "\ue000"  # stands for an answer while a chat template is applied; no text has this private character


class Opening(Protocol):
    """What stands before the first step, and what follows the last."""

    def around(self, tokenizer: Any, question: str) -> tuple[str, str]:
        """The texts before and behind an answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """The question as text; nothing follows an answer."""

    text: str = "{question}"
    bos: bool = True  # whether the token that opens a text stands before it, where the tokenizer has one
    strip: str = ""  # characters that are taken off the question's ends

    def around(self, tokenizer: Any, question: str) -> tuple[str, str]:
        """The question's text, behind the opening token."""
        bos = (tokenizer.bos_token or "") if self.bos else ""
        return bos + self.text.format(question=question.strip(self.strip) if self.strip else question), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat by the model's own template: system, the question as the user's turn, and the assistant's answer."""

    system: str | None = None

    def around(self, tokenizer: Any, question: str) -> tuple[str, str]:
        """The chat before the answer, and what ends it."""
        system = [("system", self.system)] if self.system is not None else []
        before, after = chat_parts(tokenizer, [*system, ("user", question), ("assistant", SLOT)])
        return before, after


def chat_parts(tokenizer: Any, turns: Sequence[tuple[str, str]], answers: int = 1) -> list[str]:
    """The texts between the assistant's answers, [answers + 1]; the turns hold `SLOT` in their place.

    Raises ``ModelError`` if the tokenizer has no chat template, or it refuses these roles.
    """
    import jinja2

    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(f"the tokenizer {tokenizer.name_or_path} should have a chat template and has none")
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        parts: list[str] = tokenizer.apply_chat_template(messages, tokenize=False).split(SLOT)
    except jinja2.TemplateError as error:
        roles = ", ".join(role for role, _ in turns)
        raise ModelError(f"the chat template of {tokenizer.name_or_path} refuses {roles}: {error}") from error
    if len(parts) != answers + 1:
        raise ConfigError(
            f"{answers} answers became {len(parts) - 1} in the chat template of {tokenizer.name_or_path}: "
            "the solution holds the private character U+E000, or the template drops turns"
        )
    return parts


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text, without the special tokens that open one; special tokens that are spelt out count."""
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
