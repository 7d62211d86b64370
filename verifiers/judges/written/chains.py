"""A chain of a judge's writing: a row of ids that grows by what it is told and by what the model writes.

Ids that were written stay as they are, so every probability is read where the model itself stood; text is derived from
them and never turned back into ids.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from decoding.engine import Engine, Tokenizer
from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from decoding.host import OpenEngine
from decoding.types import Completion, FinishReason, GenerationRequest, SamplingParams, Usage
from verifiers.judges.openings import encode

AnyEngine = OpenEngine | Engine
RESERVE = 64  # tokens that writing leaves free in the context, for the question that is asked behind it
_LEAST = 256  # tokens for which there has to be room, if that many may be written


class Pair(NamedTuple):
    """Two tokens, one of which says yes."""

    good: int
    bad: int


class Chain:
    """One row of ids, and what it has cost."""

    def __init__(
        self,
        engine: AnyEngine,
        prompt: Sequence[int],
        sampling: SamplingParams,
        seeds: Callable[[int], int],
    ) -> None:
        """Begin a chain: `sampling` says how it is drawn, `seeds` gives the seed of its first, second, ... request."""
        self._opened = engine
        self._engine = engine.engine if isinstance(engine, OpenEngine) else engine
        self._sampling, self._seeds, self._calls = sampling, seeds, 0
        self._prompt = self.token_ids = tuple(prompt)
        self._written: tuple[int, ...] = ()  # by the last request, the end token left out
        self._chosen: tuple[tuple[float, ...], ...] = ()
        self._usage = Usage()

    @property
    def text(self) -> str:
        """All that was written and told since the prompt."""
        return self._engine.tokenizer.decode(self.token_ids[len(self._prompt) :])

    @property
    def usage(self) -> Usage:
        """What it has cost: tokens that were read and tokens that were written are all scored tokens."""
        spent = self._usage
        computed = spent.prompt_tokens_computed + spent.decoded_tokens
        return Usage(
            scored_tokens=computed,
            scored_tokens_cached=spent.prompt_tokens_cached,
            flops=2.0 * self._engine.info.parameters * computed,
        )

    def tell(self, text: str) -> None:
        """Go on with a text that the model has not written."""
        self.token_ids += more_ids(self._engine.tokenizer, text)

    async def write(self, max_tokens: int, *, stop: tuple[str, ...] = (), pair: Pair | None = None) -> FinishReason:
        """Let the model go on; why it ended. With a `pair`, `read_behind` can be asked.

        Raises:
            ContextError: The prompt leaves too little room. A chain that was begun just ends, for want of room.
        """
        self._written, self._chosen = (), ()
        room = self._room(max_tokens)
        if room < 1:
            return FinishReason.LENGTH
        done = await self._draw(room, stop, pair)
        self._chosen = self._chosen_of(done) if pair else ()
        ended = done.token_ids[-1:] and done.token_ids[-1] in self._engine.tokenizer.eos_token_ids
        self._written = done.token_ids[:-1] if ended else done.token_ids  # where ids are characters, none of them ends
        self.token_ids += self._written
        return done.finish_reason

    async def ask(self, pair: Pair) -> float | None:
        """How probable the good one of a pair is as the next token, of the two; None if neither can come."""
        done = await self._draw(1, (), pair)
        return probability(self._chosen_of(done)[0])

    @property
    def written(self) -> str:
        """What the last `write` has written."""
        return self._engine.tokenizer.decode(self._written)

    def read_behind(self, mark: str, pair: Pair) -> float | None:
        """As `ask`, where the model itself wrote one of the pair behind the last `mark` that it wrote.

        None if it wrote no mark, or something else behind it.
        """
        before, found, _ = self.written.rpartition(mark)
        end = len(before) + len(mark)
        at = bisect_left(range(len(self._written)), end, key=self._length)
        behind = self._written[at : at + 1]
        if not found or self._length(at) != end or not behind or behind[0] not in pair:
            return None
        return probability(self._chosen[at])

    def cut_before(self, mark: str) -> None:
        """Take back what was last written from the first `mark` on, if there is one, whole tokens at a time."""
        before, found, _ = self.written.partition(mark)
        if found:
            kept = bisect_right(range(len(self._written) + 1), len(before), key=self._length) - 1
            self.token_ids = self.token_ids[: len(self.token_ids) - len(self._written) + kept]
            self._written = self._written[:kept]

    def _length(self, count: int) -> int:
        """Characters of what the first tokens that were last written say."""
        return len(self._engine.tokenizer.decode(self._written[:count]))

    def _room(self, wanted: int) -> int:
        info = self._engine.info
        if not info.context_length:  # a server that does not say
            return wanted
        room = info.context_length - len(self.token_ids) - RESERVE
        if self._calls == 0 and room < min(wanted, _LEAST):
            raise ContextError(
                f"{info.model}: what is to be judged has {len(self.token_ids)} tokens, and its context of "
                f"{info.context_length} leaves no room to write about it: take a model with a longer context"
            )
        return min(wanted, room)

    async def _draw(self, max_tokens: int, stop: tuple[str, ...], pair: Pair | None) -> Completion:
        sampling = replace(
            self._sampling,
            seed=self._seeds(self._calls),
            max_tokens=max_tokens,
            stop=stop,
            logprob_token_ids=pair or (),
        )
        self._calls += 1
        request = GenerationRequest(prompt_token_ids=self.token_ids, sampling=sampling)
        if isinstance(self._opened, OpenEngine):
            done = await self._opened.arun(lambda engine: engine.generate(request))
        else:
            done = await self._opened.generate(request)
        self._usage += done.usage
        return done

    def _chosen_of(self, done: Completion) -> tuple[tuple[float, ...], ...]:
        if done.chosen_logprobs is None or len(done.chosen_logprobs) != len(done.token_ids):
            info = self._engine.info
            raise EngineError(
                f"{info.engine} gave no log-probabilities of the tokens asked for: {info.model} can't judge"
            )
        return done.chosen_logprobs


def probability(logprobs: Sequence[float]) -> float | None:
    """Of two log-probabilities, nats, the first one's share; None if both events are impossible."""
    good, bad = logprobs
    if math.isnan(good) or math.isnan(bad):
        raise EngineError("the engine gave a log-probability that is no number")
    if good == bad == -math.inf:
        return None
    larger = max(good, bad)
    return math.exp(good - larger) / (math.exp(good - larger) + math.exp(bad - larger))


def chat_ids(tokenizer: Tokenizer, messages: Sequence[dict[str, str]], opening: str = "") -> tuple[int, ...]:
    """Ids of a chat and of how the assistant's answer begins, made of one text where the tokenizer can."""
    ids = tokenizer.render_chat(messages)  # its errors say what is wrong with the messages
    raw = getattr(tokenizer, "raw", None)
    if not opening or raw is None:
        return ids + (more_ids(tokenizer, opening) if opening else ())
    text = raw.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    return more_ids(tokenizer, text + opening)


def more_ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Ids of a text that goes on with others, without the special tokens that open a prompt."""
    raw = getattr(tokenizer, "raw", None)
    if raw is None:
        return tokenizer.encode(text)
    return tuple(encode(raw, text))


def turn_ids(tokenizer: Tokenizer, message: str) -> tuple[int, ...]:
    """Ids that end an assistant's answer, give the user a turn, and begin the next answer, by the chat template."""
    raw = getattr(tokenizer, "raw", None)
    if raw is None or not tokenizer.has_chat_template:
        raise ConfigError("this model's tokenizer has no chat template: give the query as text")
    answer = "ANSWER-SO-FAR"
    roles = ("user", "QUESTION"), ("assistant", answer), ("user", message)
    messages = [{"role": role, "content": content} for role, content in roles]
    text = raw.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return more_ids(tokenizer, text.rpartition(answer)[2])


def pair_ids(tokenizer: Tokenizer, good: str, bad: str, model: str) -> Pair:
    """The ids of two texts; raises ``ModelError`` where one is not a single token."""
    found = [more_ids(tokenizer, text) for text in (good, bad)]
    for text, ids in zip((good, bad), found, strict=True):
        if len(ids) != 1:
            raise ModelError(
                f"{model}: its tokenizer makes {len(ids)} tokens of {text!r}, the judge reads a single one"
            )
    return Pair(found[0][0], found[1][0])
