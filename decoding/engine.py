"""The engine protocol: tokens in, tokens out.

An engine takes any number of requests at once and batches them itself. It belongs to the event loop that it was opened
on. ``abort(id)`` ends a request early: its `generate` then returns what was decoded so far, marked ``cancelled``.
Cancelling the task that awaits `generate` aborts the request inside the engine before the cancellation goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from decoding.errors import CapabilityError, ConfigError, ContextError
from decoding.types import Completion, Delta, GenerationRequest


class Capability(StrEnum):
    """What an engine can do; strategies name what they need."""

    TOKEN_IDS = "token_ids"  # prompts and completions are ids, exactly as the model saw and wrote them
    LOGPROBS = "logprobs"  # of the model at temperature 1
    CHOSEN_LOGPROBS = "chosen_logprobs"  # of any ids that the request names, at temperature 1
    SAMPLING_LOGPROBS = "sampling_logprobs"  # of the law that was drawn from, at any temperature and filter
    SEEDS = "seeds"  # same request, same tokens
    PREFILL = "prefill"  # a completion can go on from any prefix
    PREFIX_CACHE = "prefix_cache"  # equal prefixes are computed once
    STREAMING = "streaming"  # deltas arrive while the completion is being written


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself."""

    engine: str  # its name: vllm, transformers, scripted, ...
    version: str  # of the library that does the work
    model: str  # as the user named it
    revision: str | None  # what pins the weights: a commit, a checksum
    parameters: int  # of the model, for FLOPs
    context_length: int  # tokens, prompt and completion together
    slots: int  # requests that it decodes at the same time
    capabilities: frozenset[Capability]


class Tokenizer(Protocol):
    """Text to ids and back. Used on the way in and for reading on the way out; no text is ever turned back into ids."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Any of them ends a completion."""
        ...

    @property
    def has_chat_template(self) -> bool:
        """Whether `render_chat` works."""
        ...

    def encode(self, text: str, *, opening: bool = True) -> tuple[int, ...]:
        """Ids of a text that opens a prompt, with the special tokens that open one; or of one that goes on."""
        ...

    def ids_with(self, text: str) -> tuple[int, ...]:
        """All ids whose own text contains a text, in order; none where ids are no tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        ...

    def render_chat(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Ids of a chat up to where the assistant's answer begins."""
        ...


class Engine(Protocol):
    """A language model that completes token ids."""

    @property
    def info(self) -> EngineInfo:
        """Name, versions, limits and capabilities."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion.

        Raises ``ContextError`` if the prompt leaves no room for a token, ``EngineError`` if the engine broke.
        """
        ...

    def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion and hand out its tokens as they come; the last delta carries the completion."""
        ...

    async def abort(self, request_id: str) -> None:
        """End a request early: its `generate` returns what there is, marked ``cancelled``. Unknown ids do nothing."""
        ...

    async def aclose(self) -> None:
        """Free everything. Requests in flight end as ``cancelled``."""
        ...


def check_context(request: GenerationRequest, context_length: int) -> int:
    """The most tokens that the request may generate, within its `max_tokens` and the model's context."""
    room = context_length - len(request.prompt_token_ids)
    if not request.prompt_token_ids:
        raise ContextError("the prompt has no tokens; give at least one")
    if room < 1:
        raise ContextError(
            f"the prompt has {len(request.prompt_token_ids)} tokens and the model's context is {context_length}: "
            "shorten the prompt or take a model with a longer context"
        )
    return min(request.sampling.max_tokens, room)


def check_chosen(request: GenerationRequest, info: EngineInfo, vocabulary: int | None) -> None:
    """Refuse ids whose log-probabilities can't be had: from this engine, or at all.

    Ids end before `vocabulary`; None is unknown.
    """
    wanted = request.sampling.logprob_token_ids
    if wanted and Capability.CHOSEN_LOGPROBS not in info.capabilities:
        raise CapabilityError(
            f"this {info.engine} engine gives no log-probabilities of chosen ids (logprob_token_ids): leave them out, "
            "or take an engine with the capability chosen_logprobs"
        )
    strange = [token for token in wanted if token < 0 or (vocabulary is not None and token >= vocabulary)]
    if strange:
        end = "start at 0" if vocabulary is None else f"are 0 to {vocabulary - 1}"
        raise ConfigError(f"logprob_token_ids holds {strange[0]}, and the model's ids {end}")


class RequestNames:
    """The names of requests: those that have none are numbered, and no two in flight share one."""

    def __init__(self) -> None:
        self._numbered = 0

    def name(self, request: GenerationRequest, in_flight: Container[str]) -> GenerationRequest:
        """The request with an id; raises ``ConfigError`` if its own is in flight."""
        self._numbered += 1
        named = replace(request, id=request.id or f"#{self._numbered}")
        if named.id in in_flight:
            raise ConfigError(f"a request with the id {named.id!r} is in flight: ids must be unique")
        return named


async def finish_or_abort(
    work: Awaitable[Completion],
    abort: Callable[[], Awaitable[None]],
    last_counts: Callable[[Completion], None] = lambda _: None,
) -> Completion:
    """Await `work`; if cancelled meanwhile, abort it, wait until it has ended, then let the cancellation go on.

    `work` itself is never cancelled: engines give their last counts only to a request that was aborted.
    `last_counts` hears them; it is not called when `work` ends by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await abort()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:  # cancelled again while winding up: the engine still has to let go
                continue
        if not task.cancelled() and task.exception() is None:
            last_counts(task.result())
        raise
