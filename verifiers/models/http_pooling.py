"""A judge's head over tokens read at a vLLM server, or several of them: ``POST /pooling``.

The server is started on the judge with ``vllm serve MODEL --runner pooling``. One that serves Qwen's process reward
models gives numbers at their step token alone unless it is told ``--pooler-config '{"tok_pooling_type": "ALL"}'``; both
are read. Nothing is kept between calls. Judges of chosen tokens need no such server: `open_engine_reader` asks any that
completes ids.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from decoding.engines.openai.fleet import Fleet, Server, pause
from decoding.engines.openai.http import Client, Fault
from decoding.engines.openai.open import Options, served_tokenizer
from decoding.engines.openai.probe import model_card
from decoding.errors import ConfigError, EngineError
from decoding.host import Hosted
from decoding.models import ModelSource
from decoding.seeds import derive_seed
from verifiers.judges.format import ReadOut
from verifiers.judges.reader import Head, Reader, ReaderInfo, Readings
from verifiers.models.asked import check_columns, check_head, check_row, finite, known_context

FIRST_PAUSE = 0.5  # seconds before a row is sent again; the pause doubles each time
OPEN_AT_ONCE = 64  # rows at each server
_OPTIONS = ("base_url", "api_key", "tokenizer", "context_length", "parameters", "concurrency", "timeout", "retries")


def open_http_pooling_reader(source: ModelSource, read_out: ReadOut, **options: Any) -> Reader:
    """Open a judge at vLLM servers; blocks.

    Args:
        source: The server's name of the model (``auto``: the only one it serves).
        read_out: What is read; a head over tokens.
        options: ``base_url`` (one or several, up to and with /v1), ``api_key``, ``tokenizer`` (whose it is, by default
            the model's), ``context_length``, ``parameters``, ``concurrency``, ``timeout``, ``retries``; see
            `decoding.engines.openai.open.Options`.

    Raises:
        ConfigError: An option can't work, or the read-out reads no head over tokens.
        ModelError: The model has a head of another shape, or there is no tokenizer for it.
        EngineError: No server answers, or it does not pool by token.
    """
    check_head(source.name, read_out, (Head.CLASSES, Head.SCALAR), "take the engine backend, which asks for chosen ids")
    if unknown := set(options) - set(_OPTIONS):
        raise ConfigError(f"the pooling reader of a server has no option {sorted(unknown)}: there are {list(_OPTIONS)}")
    wanted = Options(**options)
    opened = Hosted(lambda: _open(source, wanted))
    try:
        tokenizer: Any = served_tokenizer(wanted.tokenizer or opened.held.model, source)
        reader = HttpPoolingReader(opened, tokenizer.raw, wanted.parameters)
        # Whether it pools at all, and what: found out now rather than in the middle of a run.
        rows = opened.run(lambda servers: servers.pooled((0, 1, 2)))
        if rows:
            check_columns(reader.info.model, read_out.head, len(rows[0]))
    except BaseException:
        opened.close()
        raise
    return reader


@dataclass(slots=True, eq=False)
class _Servers:
    """Servers of one judge, and the connections to them."""

    client: Client
    fleet: Fleet
    model: str
    context_length: int  # tokens; 0: unknown
    retries: int
    free: asyncio.Semaphore

    async def pooled(self, token_ids: tuple[int, ...]) -> list[list[float]]:
        """What comes back for a row: numbers at each token, or at step tokens alone, before any activation."""
        seed = derive_seed(0, "pooling", *token_ids)
        async with self.free:
            return await self.fleet.until_answered(
                token_ids,
                self.retries,
                lambda server: self._ask(server, token_ids),
                lambda attempt: pause(seed, attempt, FIRST_PAUSE),
            )

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _ask(self, server: Server, token_ids: tuple[int, ...]) -> list[list[float]]:
        url = f"{server.url.removesuffix('/v1')}/pooling"
        body = {
            "model": self.model,
            "input": list(token_ids),
            "task": "token_classify",
            "use_activation": False,
            "encoding_format": "float",
        }
        answer = [event async for event in self.client.events(url, body)]
        try:
            data = answer[0]["data"][0]["data"]
            return [[float(x) for x in row] if isinstance(row, list) else [float(row)] for row in data]
        except (LookupError, TypeError, ValueError) as error:
            raise Fault(f"{url} answered without numbers: {str(answer)[:200]}") from error


async def _open(source: ModelSource, options: Options) -> _Servers:
    client, fleet = Client(options.api_key, options.timeout), Fleet(options.urls)
    try:
        card = await fleet.until_answered(
            (), options.retries, lambda server: model_card(client, server.url, source.name), lambda _: FIRST_PAUSE
        )
    except BaseException:
        await client.aclose()
        raise
    return _Servers(
        client=client,
        fleet=fleet,
        model=str(card["id"]),
        context_length=options.context_length or int(card.get("max_model_len") or 0),
        retries=options.retries,
        free=asyncio.Semaphore(options.concurrency or OPEN_AT_ONCE * len(fleet.servers)),
    )


class HttpPoolingReader:
    """A `Reader` over servers."""

    def __init__(self, opened: Hosted[_Servers], tokenizer: Any, parameters: int) -> None:
        self._opened, self._tokenizer = opened, tokenizer
        self._info = ReaderInfo(
            backend="http",
            model=opened.held.model,
            revision=None,
            parameters=parameters,
            context_length=known_context(opened.held.model, opened.held.context_length),
            prefix_cache=False,
        )

    @property
    def info(self) -> ReaderInfo:
        """Name and limits."""
        return self._info

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    async def read(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Readings:
        """Read at positions; see `Reader.read`."""
        check_row(self._info, token_ids, positions)
        asked = token_ids[: positions[-1] + 1]
        pooled = await self._opened.arun(lambda servers: servers.pooled(asked))
        rows = _at(self._info.model, pooled, asked, positions)
        return Readings(rows=finite(self._info, positions, rows), computed=len(asked), cached=0)

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._opened.close)


def _at(
    model: str, pooled: Sequence[list[float]], token_ids: tuple[int, ...], positions: tuple[int, ...]
) -> list[list[float]]:
    """The rows of positions, whether there is a row for each token or for each place of the step token."""
    if len(pooled) == len(token_ids):
        return [pooled[position] for position in positions]
    step = token_ids[positions[-1]]
    places = [i for i, token in enumerate(token_ids) if token == step]
    if len(pooled) == len(places) and set(positions) <= set(places):
        return [pooled[places.index(position)] for position in positions]
    raise EngineError(
        f"{model} gave {len(pooled)} rows of numbers for {len(token_ids)} tokens: its server pools otherwise than by "
        'token. Start it with --runner pooling --pooler-config \'{"tok_pooling_type": "ALL"}\''
    )
