"""Any decoder of transformers read as a judge, on a CPU or one GPU, with what was read before kept.

Calls from any event loop queue up. One worker thread takes what there is, up to a number of tokens, computes what no
earlier call has computed, in forwards over pieces of like length, and answers. All tokens are kept in a pool behind a
radix tree (`decoding.runtime`), so the steps of a trajectory, and all branches of a search, cost their new tokens.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from decoding.errors import ConfigError, EngineError
from decoding.models import ModelSource, load_tokenizer
from decoding.runtime.slots import usable_context
from verifiers.judges.format import ReadOut
from verifiers.judges.reader import Head, Reader, ReaderInfo, Readings
from verifiers.models.asked import check_row
from verifiers.models.heads import load_model
from verifiers.models.prefix_reader import PrefixReader, Question


def open_transformers_reader(source: ModelSource, read_out: ReadOut, **options: Any) -> Reader:
    """Load a model to be read; blocks. `options` are `TransformersReader`'s; raises ``ConfigError`` for an unknown."""
    known = set(inspect.signature(TransformersReader).parameters) - {"source", "read_out"}
    if unknown := set(options) - known:
        raise ConfigError(f"the transformers reader has no option {sorted(unknown)}: there are {sorted(known)}")
    return TransformersReader(source, read_out, **options)


@dataclass(slots=True, eq=False)
class _Call:
    """A read in the queue."""

    question: Question
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Readings]"


class TransformersReader:
    """A `Reader` over a model of transformers."""

    def __init__(
        self,
        source: ModelSource,
        read_out: ReadOut,
        *,
        dtype: str = "float32",
        device: str | None = None,
        threads: int | None = None,
        max_context: int | None = None,
        cache_tokens: int = 65_536,
        batch_tokens: int = 2048,
    ) -> None:
        """Load a model; blocks while it does.

        Args:
            source: The model.
            read_out: What is read of it.
            dtype: ``float32``, ``bfloat16`` or ``float16``, of weights and what is kept.
            device: As torch names it; by default the GPU where there is one.
            threads: CPU threads of a forward; by default torch's.
            max_context: Tokens a row may have; by default the model's own limit, or what is kept if that is less.
            cache_tokens: Tokens that are kept, across all rows.
            batch_tokens: Tokens of one forward, padding included.

        Raises:
            ConfigError: An option can't work, or what the model computes can't be kept.
            ModelError: The model can't be loaded, or has no such head.
        """
        if batch_tokens < 1 or cache_tokens < 8:
            raise ConfigError(f"batch_tokens and cache_tokens must be positive, got {batch_tokens} and {cache_tokens}")
        tokenizer: Any = load_tokenizer(source)
        self._tokenizer = tokenizer.raw
        self._head = read_out.head
        loaded = load_model(source, read_out.head, dtype=dtype, device=device)
        context = usable_context(loaded.config, max_context, default=cache_tokens)
        if context > cache_tokens:
            raise ConfigError(
                f"max_context {context} is more than the {cache_tokens} tokens of cache_tokens: raise that"
            )
        self._info = ReaderInfo(
            backend="transformers",
            model=source.name,
            revision=source.revision,
            parameters=loaded.parameters,
            context_length=context,
            prefix_cache=True,
        )
        self._vocabulary = int(loaded.body.get_input_embeddings().weight.shape[0])
        columns = tuple(read_out.columns(self._tokenizer)) if read_out.head is Head.TOKENS else ()
        self._check_ids(columns, "the read-out")
        self._reader: PrefixReader | None = PrefixReader(
            loaded, read_out.head, columns, name=source.name, cache_tokens=cache_tokens, batch_tokens=batch_tokens
        )
        self._room, self._batch_tokens = cache_tokens, batch_tokens
        self._calls: deque[_Call] = deque()
        # Torch's number of threads belongs to the thread that sets it.
        initializer = None if threads is None else lambda: torch.set_num_threads(threads)
        self._worker = ThreadPoolExecutor(1, "bethink-reader", initializer)
        self._closing: Future[None] | None = None

    @property
    def info(self) -> ReaderInfo:
        """Name and limits."""
        return self._info

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def counts(self) -> dict[str, int]:
        """Tokens so far: asked for, computed, and computed with padding; and forwards."""
        reader = self._reader
        return {} if reader is None else dict(reader.counts)

    async def read(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Readings:
        """Read at positions; see `Reader.read`."""
        self._check(token_ids, positions)
        loop = asyncio.get_running_loop()
        call = _Call(Question(token_ids[: positions[-1] + 1], positions), loop, loop.create_future())
        self._calls.append(call)
        try:
            self._worker.submit(self._work)  # a turn may answer many calls: theirs find nothing to do
        except RuntimeError as error:
            raise self._closed() from error
        return await call.future

    async def aclose(self) -> None:
        """Answer what is in the queue, then let go of the model. Closing twice does nothing."""
        if self._closing is None:
            self._closing = self._worker.submit(self._release)
            self._worker.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(self._closing))

    def _check(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> None:
        if self._closing is not None:
            raise self._closed()
        check_row(self._info, token_ids, positions)
        if self._head is Head.TEXT and positions[0] == 0:
            raise ConfigError("position 0 has no log-probability: nothing stands before it")
        self._check_ids(token_ids, "the row")

    def _check_ids(self, token_ids: tuple[int, ...], what: str) -> None:
        if token_ids and not (min(token_ids) >= 0 and max(token_ids) < self._vocabulary):
            strange = next(token for token in token_ids if not 0 <= token < self._vocabulary)
            raise ConfigError(f"{what} holds {strange}, and {self._info.model}'s ids end at {self._vocabulary - 1}")

    def _work(self) -> None:
        """Answer calls that wait; runs in the worker."""
        reader = self._reader
        if reader is None:  # they came while it was being closed
            late = [self._calls.popleft() for _ in range(len(self._calls))]
            _deliver(late, [self._closed()] * len(late))
            return
        calls = self._take(reader)
        if not calls:
            return
        try:
            answers = reader.read([call.question for call in calls])
        except Exception as error:  # torch's errors share no root
            failure = EngineError(f"reading {self._info.model} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            reader.clear()
            answers = [failure] * len(calls)
        _deliver(calls, answers)

    def _take(self, reader: PrefixReader) -> list[_Call]:
        """Calls from the queue: about a forward's worth of new tokens, in rows that fit into the cache side by side."""
        calls: list[_Call] = []
        room, fresh = self._room, 0
        while self._calls and fresh < self._batch_tokens and len(self._calls[0].question.token_ids) <= room:
            call = self._calls.popleft()
            if not call.future.done():  # somebody waits for it
                room -= len(call.question.token_ids)
                fresh += reader.new_tokens(call.question)
                calls.append(call)
        return calls

    def _closed(self) -> EngineError:
        return EngineError(f"the reader of {self._info.model} is closed: open another")

    def _release(self) -> None:
        while self._calls:
            self._work()
        self._reader = None


_Answered = tuple[_Call, Readings | EngineError]


def _deliver(calls: Sequence[_Call], answers: Sequence[Readings | EngineError]) -> None:
    """Hand answers to the callers' loops, each woken once."""
    groups: dict[asyncio.AbstractEventLoop, list[_Answered]] = {}
    for call, answer in zip(calls, answers, strict=True):
        groups.setdefault(call.loop, []).append((call, answer))
    for loop, answered in groups.items():
        with suppress(RuntimeError):  # the loop has been closed: nobody waits
            loop.call_soon_threadsafe(_settle, answered)


def _settle(answered: Sequence[_Answered]) -> None:
    for call, answer in answered:
        if call.future.done():
            continue
        if isinstance(answer, EngineError):
            call.future.set_exception(answer)
        else:
            call.future.set_result(answer)
