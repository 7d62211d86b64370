"""Two ways to talk to an OpenAI-compatible server: in token ids, where it has them (vLLM does), and in text.

A dialect turns a request into the body that is posted, and the events that come back into pieces of a completion.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from decoding.engine import Tokenizer
from decoding.engines.openai.http import Fault
from decoding.engines.openai.text import CodePoints, read_prompt
from decoding.errors import ConfigError
from decoding.types import FinishReason, GenerationRequest, SamplingParams

_AS_ID = "token_id:"  # how vLLM writes a token where ids are asked for
_LEAST = -9999.0  # nats; what vLLM writes for less, minus infinity included
TEXT_SEED = 0x7FFFFFFF  # servers that speak text differ in how large a seed they take; all take 31 bits


class Post(NamedTuple):
    """What is sent, and where to below /v1."""

    path: str
    body: dict[str, Any]


class Piece(NamedTuple):
    """What one event of a streamed answer carries."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()  # of those tokens, or none
    finish_reason: str | None = None  # in the server's words
    stop_string: bool | None = None  # whether a stop string ended it; None where the server does not tell
    usage: Mapping[str, Any] = {}  # the server's counts
    chosen: tuple[Mapping[int, float], ...] = ()  # log-probabilities by id, for each of its tokens, or none


class Dialect(Protocol):
    """How requests are spelt for a server, and how its answers are read."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What its ids are."""
        ...

    @property
    def ids_are_tokens(self) -> bool:
        """Whether an id is a token; otherwise only the server's counts are."""
        ...

    def spell(self, request: GenerationRequest, room: int, interval: int) -> Post:
        """The request as it is posted, for up to `room` tokens, to come `interval` at a time where that can be had."""
        ...

    def read(self, event: Mapping[str, Any]) -> Piece:
        """One event; raises `Fault` if it is not as it should be."""
        ...

    def finish_reason(self, piece: Piece, token_ids: Sequence[int], sampling: SamplingParams) -> FinishReason:
        """What the server's finish reason is called here. `token_ids` are all that were written."""
        ...


class TokenDialect:
    """Ids in, ids out: ``/completions`` with vLLM's ``return_token_ids``.

    The parameters are those of `vllm_sampling`, so that a server draws the same tokens as an engine of our own; what
    the model's generation config would change is set to do nothing.
    """

    ids_are_tokens = True

    def __init__(self, model: str, tokenizer: Tokenizer, extra_body: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        self._model, self._extra = model, extra_body

    def spell(self, request: GenerationRequest, room: int, interval: int) -> Post:
        """The request as it is posted."""
        sampling = request.sampling
        body = {
            "model": self._model,
            "prompt": list(request.prompt_token_ids),
            "max_tokens": room,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "seed": sampling.seed if sampling.temperature > 0 else None,
            "stop_token_ids": list(sampling.stop_token_ids),
            "stop": list(sampling.stop),
            "logprobs": 0 if sampling.logprobs or sampling.logprob_token_ids else None,  # 0: of the drawn token alone
            **(chosen_fields(sampling.logprob_token_ids) if sampling.logprob_token_ids else {}),
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "return_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stream_interval": interval,
        }
        return Post("/completions", _with_extra(body, self._extra))

    def read(self, event: Mapping[str, Any]) -> Piece:
        """One event."""
        return read_tokens(event)

    def finish_reason(self, piece: Piece, token_ids: Sequence[int], sampling: SamplingParams) -> FinishReason:
        """What the server's finish reason is called here."""
        if piece.finish_reason == "stop":
            # vLLM turns further EOS ids of the generation config into stop tokens; they are still the model's end.
            ended = bool(token_ids) and token_ids[-1] in self.tokenizer.eos_token_ids
            return FinishReason.EOS if ended else FinishReason.STOP
        return _other_reason(piece)


class TextDialect:
    """Text in, text out: ``/chat/completions`` for chats, ``/completions`` for texts where the server has it.

    What it can't have: ids, log-probabilities, stop tokens, and answers that go on from a beginning in a chat. Most
    servers leave out the stop string, and don't say whether it was a stop string or the end: where stop strings were
    asked for and the server says nothing, it reads ``stop``.
    """

    ids_are_tokens = False

    def __init__(
        self, model: str, extra_body: Mapping[str, Any], *, chat: bool, completions: bool, seeds: bool
    ) -> None:
        self.tokenizer: Tokenizer = CodePoints(has_chat_template=chat)
        self._model, self._extra = model, extra_body
        self._completions, self._seeds = completions, seeds

    def spell(self, request: GenerationRequest, room: int, interval: int) -> Post:
        """The request as it is posted. Raises ``ConfigError`` for what can't be said in text."""
        sampling = request.sampling
        if sampling.stop_token_ids:
            raise ConfigError("this server speaks text and knows no stop tokens: give stop strings instead")
        prompt = read_prompt(request.prompt_token_ids)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": room,
            "temperature": sampling.temperature,
            # Servers refuse what they don't know, so only what does something is sent.
            **({"top_p": sampling.top_p} if sampling.top_p < 1 else {}),
            **({"top_k": sampling.top_k} if sampling.top_k else {}),
            **({"min_p": sampling.min_p} if sampling.min_p else {}),
            **({"stop": list(sampling.stop)} if sampling.stop else {}),
            **({"seed": sampling.seed & TEXT_SEED} if self._seeds else {}),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if prompt.messages is None and self._completions:
            return Post("/completions", _with_extra({**body, "prompt": prompt.text}, self._extra))
        messages = prompt.messages or [{"role": "user", "content": prompt.text or ""}]
        return Post("/chat/completions", _with_extra({**body, "messages": messages}, self._extra))

    def read(self, event: Mapping[str, Any]) -> Piece:
        """One event."""
        usage = event.get("usage") or {}
        if not event.get("choices"):
            return Piece(usage=usage)
        try:
            choice = event["choices"][0]
            message = choice.get("delta") or choice.get("message") or {}
            text = choice.get("text") or message.get("content") or ""
            told = isinstance(choice["stop_reason"], str) if "stop_reason" in choice else None
            return Piece(tuple(map(ord, text)), (), choice.get("finish_reason"), told, usage)
        except (LookupError, TypeError, AttributeError) as error:
            raise Fault(f"the server sent an event without text: {str(event)[:200]}") from error

    def finish_reason(self, piece: Piece, token_ids: Sequence[int], sampling: SamplingParams) -> FinishReason:
        """What the server's finish reason is called here."""
        if piece.finish_reason == "stop":
            stopped = bool(sampling.stop) if piece.stop_string is None else piece.stop_string
            return FinishReason.STOP if stopped else FinishReason.EOS
        return _other_reason(piece)


def read_tokens(event: Mapping[str, Any]) -> Piece:
    """One event of an answer in ids; raises `Fault` if it is not as it should be."""
    usage = event.get("usage") or {}
    if not event.get("choices"):
        return Piece(usage=usage)
    try:
        choice = event["choices"][0]
        logprobs = choice.get("logprobs") or {}
        drawn = tuple(logprobs.get("token_logprobs") or ())
        if any(logprob <= _LEAST for logprob in drawn):
            raise Fault("the server gave a drawn token no probability: its padding hides the id 0 in some batches")
        return Piece(
            token_ids=tuple(choice.get("token_ids") or ()),
            logprobs=drawn,
            chosen=tuple(map(_by_id, logprobs.get("top_logprobs") or ())),
            finish_reason=choice.get("finish_reason"),
            usage=usage,
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Fault(f"the server sent an event without tokens: {str(event)[:200]}") from error


def chosen_fields(token_ids: Sequence[int]) -> dict[str, Any]:
    """Fields of a body that ask for the log-probabilities of ids, by id."""
    return {"logprob_token_ids": list(token_ids), "return_tokens_as_token_ids": True}


def _by_id(logprobs: Mapping[str, float] | None) -> dict[int, float]:
    """Log-probabilities of one position by id; nothing where tokens are written as text.

    vLLM pads the rows of a batch with the id 0, and a padded entry hides that id's own: what it gives for the id 0 is
    left out if it is nothing.
    """
    found = {int(token.removeprefix(_AS_ID)): x for token, x in (logprobs or {}).items() if token.startswith(_AS_ID)}
    return {token: x if x > _LEAST else float("-inf") for token, x in found.items() if token != 0 or x > _LEAST}


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the user's fields over ours; None takes one of ours away."""
    return {key: value for key, value in {**body, **extra}.items() if value is not None}


def _other_reason(piece: Piece) -> FinishReason:
    if piece.finish_reason == "length":
        return FinishReason.LENGTH
    raise Fault(f"the server ended the completion with the reason {piece.finish_reason!r}")
