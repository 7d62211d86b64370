"""What a judge asks of a model: numbers at some positions of a row of token ids. Backends are in `verifiers.models`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Head(StrEnum):
    """What is read at a position."""

    CLASSES = "classes"  # logits of a classification head over tokens, [C]
    SCALAR = "scalar"  # the number of a head with one output, [1]; before any sigmoid or tanh
    TOKENS = "tokens"  # log-probabilities, nats, of chosen ids as the next token: the language model's own head
    TEXT = "text"  # log-probability, nats, of the id at this position given those before it, [1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What a model said."""

    rows: tuple[tuple[float, ...], ...]  # [positions][columns], finite
    computed: int  # tokens that went through the model for this, padding left out
    cached: int  # tokens that had been computed before and were kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderInfo:
    """What a backend says of itself."""

    backend: str  # transformers, vllm, http, engine
    model: str  # as the user named it
    revision: str | None
    parameters: int  # 0: unknown
    context_length: int  # tokens
    prefix_cache: bool  # whether what was computed for a prefix is kept for what follows it
    one_pass: bool = True  # whether all positions of a row are read in one pass; else each may cost all before it


class Reader(Protocol):
    """A model that is read, not sampled from. Takes any number of calls at once, from any event loop."""

    @property
    def info(self) -> ReaderInfo:
        """Name and limits."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers has it (`PreTrainedTokenizerBase`)."""
        ...

    async def read(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Readings:
        """Read at positions 0 .. len(token_ids) - 1, ascending; ids after the last position are not computed.

        Raises ``ContextError`` if the ids do not fit the context (they are never cut), ``EngineError`` if a number is
        not finite; both name the model.
        """
        ...

    async def aclose(self) -> None:
        """Free everything. Closing twice does nothing."""
        ...
