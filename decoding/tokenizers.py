"""The engines' tokenizer over a Hugging Face one: every token that matters, exactly once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decoding.errors import ConfigError, ModelError


class HuggingFaceTokenizer:
    """`decoding.engine.Tokenizer` over a tokenizer of transformers."""

    def __init__(self, raw: Any, *, eos_token_ids: frozenset[int]) -> None:
        self.raw = raw  # the transformers object, for engines that need it
        self._eos_token_ids = eos_token_ids
        self._ids_with: dict[str, tuple[int, ...]] = {}  # what was looked up

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Any of them ends a completion."""
        return self._eos_token_ids

    @property
    def has_chat_template(self) -> bool:
        """Whether `render_chat` works."""
        return bool(getattr(self.raw, "chat_template", None))

    def encode(self, text: str, *, opening: bool = True) -> tuple[int, ...]:
        """Ids of a text that opens a prompt, with the special tokens that open one; or of one that goes on."""
        ids = tuple(int(token) for token in self.raw(text, add_special_tokens=opening)["input_ids"])
        if not opening:
            return ids
        # A text that spells the opening token out would get it twice, and models answer worse then.
        opening = self.raw.bos_token_id
        return ids[1:] if opening is not None and ids[:2] == (opening, opening) else ids

    def ids_with(self, text: str) -> tuple[int, ...]:
        """All ids whose own text contains a text, in order. Reads the whole vocabulary once a text."""
        if text not in self._ids_with:
            pieces = self.raw.batch_decode(
                [[i] for i in range(len(self.raw))], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            self._ids_with[text] = tuple(i for i, piece in enumerate(pieces) if text in piece)
        return self._ids_with[text]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out; spaces stay as the model wrote them."""
        text: str = self.raw.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def render_chat(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Ids of a chat up to where the assistant's answer begins.

        Raises ``ConfigError`` if the model has no chat template or its template refuses the messages.
        """
        import jinja2

        if not self.has_chat_template:
            raise ConfigError("this model has no chat template: give the prompt as text")
        try:
            # The template writes the special tokens itself, so none are added. return_dict is True by default.
            ids = self.raw.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ConfigError(
                f"the model's chat template refuses these messages ({roles}): {error}. Take other roles, or text"
            ) from error
        return tuple(int(token) for token in ids)


def find_eos_token_ids(folder: Path, tokenizer_eos: int | None) -> frozenset[int]:
    """All ids that end a completion: the tokenizer's, and those of generation_config.json and config.json.

    They differ: a chat model often has the end of a turn in one file and the end of a text in the other.
    """
    found = set() if tokenizer_eos is None else {tokenizer_eos}
    for name in ("generation_config.json", "config.json"):
        config = read_json(folder / name) if (folder / name).is_file() else {}
        value = config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id"))
        found.update([] if value is None else value if isinstance(value, list) else [value])
    return frozenset(int(token) for token in found)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder; ``ModelError`` if it is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read ({error}): fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} does not hold a JSON object: fetch the model again")
    return value
