"""Any engine read as a judge: the log-probabilities of a few ids as the next token (`Head.TOKENS`).

Each position is a request of its own, for one token after the prefix that ends there. An engine with a prefix cache
computes each token once, across positions, calls and branches; others compute every prefix from its start.
"""

import asyncio
from typing import Any

from decoding.engine import Capability, Engine
from decoding.engines.open import engine_named, open_source
from decoding.errors import CapabilityError, EngineError
from decoding.host import OpenEngine
from decoding.models import ModelSource
from decoding.types import Completion, GenerationRequest, SamplingParams
from verifiers.judges.format import ReadOut
from verifiers.judges.reader import Head, Reader, ReaderInfo, Readings
from verifiers.models.asked import check_head, check_row, finite, known_context


def open_engine_reader(source: ModelSource, read_out: ReadOut, *, engine: str = "auto", **options: Any) -> Reader:
    """Open an engine to be read; blocks.

    Args:
        source: The model, or its name at a server.
        read_out: What is read; chosen next tokens.
        engine: As in `open_engine`: ``vllm``, ``openai`` (any server that completes ids), ...
        options: The engine's (``gpu_memory_utilization=0.3``, ``base_url="http://host:8000/v1"``).

    Raises:
        ConfigError: The read-out reads a head of another kind, or the engine can't be asked for chosen ids.
        ModelError: The model can't be loaded.
        EngineError: No server can be used.
    """
    check_head(source.name, read_out, (Head.TOKENS,), "take the transformers or the pooling backend")
    opened = open_source(source, engine_named(engine), **options)
    try:
        return EngineReader(opened, read_out, owned=True)
    except BaseException:
        opened.close()
        raise


class EngineReader:
    """A `Reader` over an engine; policy and judge may be one engine."""

    def __init__(self, engine: OpenEngine | Engine, read_out: ReadOut, *, owned: bool = False) -> None:
        """Read an engine that is open.

        Args:
            engine: From `open_engine`, to be read from any event loop; or an engine itself, to be read from the loop
                that it was opened on.
            read_out: What is read; chosen next tokens.
            owned: Whether closing the reader closes the engine.

        Raises:
            ConfigError: The read-out reads a head of another kind, or the engine can't be asked for chosen ids.
            ModelError: The tokenizer lacks a token that the read-out needs.
        """
        self._opened = engine if isinstance(engine, OpenEngine) else None
        self._engine = engine.engine if isinstance(engine, OpenEngine) else engine
        self._owned = owned
        told, tokenizer = self._engine.info, self._engine.tokenizer
        check_head(told.model, read_out, (Head.TOKENS,), "take the transformers or the pooling backend")
        lacking = {Capability.TOKEN_IDS, Capability.CHOSEN_LOGPROBS} - told.capabilities
        if lacking:
            raise CapabilityError(
                f"a judge that reads chosen tokens needs {', '.join(sorted(lacking))}, which this {told.engine} engine "
                f"on {told.model} lacks: take vllm, transformers, or a vLLM server"
            )
        self._tokenizer: Any = getattr(tokenizer, "raw", tokenizer)
        self._columns = tuple(read_out.columns(self._tokenizer))
        self._info = ReaderInfo(
            backend="engine",
            model=told.model,
            revision=told.revision,
            parameters=told.parameters,
            context_length=known_context(told.model, told.context_length) - 1,  # one token has to be drawn
            prefix_cache=Capability.PREFIX_CACHE in told.capabilities,
            one_pass=False,
        )

    @property
    def info(self) -> ReaderInfo:
        """Name and limits."""
        return self._info

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers has it; the engine's own where it has none of transformers."""
        return self._tokenizer

    async def read(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Readings:
        """Read at positions; see `Reader.read`. Counts are sums over the positions' prefixes."""
        check_row(self._info, token_ids, positions)
        prefixes = [token_ids[: position + 1] for position in positions]
        if self._opened is None:
            completions = await self._draw(self._engine, prefixes)
        else:
            completions = await self._opened.arun(lambda engine: self._draw(engine, prefixes))
        rows = [row for completion in completions for row in self._row(completion)]
        return Readings(
            rows=finite(self._info, positions, rows),
            computed=sum(completion.usage.prompt_tokens_computed for completion in completions),
            cached=sum(completion.usage.prompt_tokens_cached for completion in completions),
        )

    async def aclose(self) -> None:
        """Close the engine, if it is the reader's own."""
        if self._owned:
            await (self._engine.aclose() if self._opened is None else asyncio.to_thread(self._opened.close))

    async def _draw(self, engine: Engine, prefixes: list[tuple[int, ...]]) -> list[Completion]:
        """A token after each prefix. They start in order, so that a cache holds each prefix for the next."""
        sampling = SamplingParams(
            seed=0, temperature=0.0, max_tokens=1, logprobs=False, logprob_token_ids=self._columns
        )
        requests = [GenerationRequest(prompt_token_ids=prefix, sampling=sampling) for prefix in prefixes]
        tasks = [asyncio.ensure_future(engine.generate(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:  # one failed or the reading was cancelled: nobody waits for the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _row(self, completion: Completion) -> tuple[tuple[float, ...], ...]:
        if completion.chosen_logprobs is None or len(completion.chosen_logprobs) != 1:
            raise EngineError(
                f"{self._info.model} ended a read as {completion.finish_reason}, without its numbers: the engine was "
                "closed or the request aborted"
            )
        return completion.chosen_logprobs
