"""Opening servers: what the user asks for, and what the servers turn out to do."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from decoding.engine import Capability, EngineInfo, Tokenizer
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.openai.dialects import Dialect, TextDialect, TokenDialect
from decoding.engines.openai.engine import OpenAIEngine
from decoding.engines.openai.fleet import Fleet, Server
from decoding.engines.openai.http import Client, Fault
from decoding.engines.openai.limits import Limits
from decoding.engines.openai.probe import APIS, Found, honours_seeds, probe
from decoding.errors import ConfigError, EngineError, ModelError
from decoding.models import EMBEDDED, ModelSource, load_tokenizer, resolve

TOKEN_SLOTS, TEXT_SLOTS = 256, 32  # requests open at a server; vLLM decodes 256 at once, services with accounts fewer
FIRST_REST = 1.0  # seconds that a server rests that did not answer when it was opened
_WITHOUT_IDS = frozenset(
    {Capability.TOKEN_IDS, Capability.LOGPROBS, Capability.CHOSEN_LOGPROBS, Capability.PREFIX_CACHE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `open_engine(model, "openai", ...)` takes."""

    base_url: str | Sequence[str] = field(default_factory=lambda: os.environ.get("OPENAI_BASE_URL", ""))
    api_key: str | None = field(default_factory=lambda: os.environ.get("OPENAI_API_KEY"), repr=False)
    api: str = "auto"  # tokens, chat or completions, to have only that; auto: whatever the server has, ids first
    tokenizer: str | None = None  # whose tokenizer it is, where the server completes ids; by default the model's name
    context_length: int | None = None  # tokens; by default what the server says
    parameters: int = 0  # of the model, for FLOPs; 0: unknown
    concurrency: int | None = None  # requests that are open at once, at all servers together
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 600.0  # seconds from sending a request to the end of its answer
    retries: int = 6  # times that a request is sent again after a failure that may pass
    seeds: bool | None = None  # whether the servers honour seeds; None: find out
    extra_body: Mapping[str, Any] = field(default_factory=dict)  # further fields of each request; None takes one out

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ConfigError(f"api must be one of {', '.join(APIS)}, got {self.api!r}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {self.concurrency}")
        if not self.urls:
            raise ConfigError("give the server's address, up to and with /v1: base_url=http://host:8000/v1")
        if not self.timeout > 0 or self.retries < 0:
            raise ConfigError("timeout must be above 0 and retries at least 0")

    @property
    def urls(self) -> list[str]:
        """The servers' addresses."""
        given = self.base_url.split(",") if isinstance(self.base_url, str) else self.base_url
        return [url.strip().rstrip("/") for url in given if url.strip()]


async def open_openai(source: ModelSource, **options: Any) -> OpenAIEngine:
    """Look at the servers and open an engine on them; `options` are `Options`, by name.

    Raises ``ConfigError`` for an option that can't work, ``EngineError`` if no server can be used, ``ModelError`` if
    the servers complete token ids and there is no tokenizer for them.
    """
    known = {option.name for option in fields(Options)}
    if unknown := set(options) - known:
        raise ConfigError(f"the openai engine has no option {sorted(unknown)}: there are {sorted(known)}")
    wanted = Options(**options)
    client = Client(wanted.api_key, wanted.timeout)
    try:
        return await _opened(client, source, wanted)
    except BaseException:
        await client.aclose()
        raise


async def _opened(client: Client, source: ModelSource, options: Options) -> OpenAIEngine:
    fleet = Fleet(options.urls)
    looks = await asyncio.gather(*(_look(client, fleet, server, source.name, options) for server in fleet.servers))
    found = _agreed([look for look in looks if look is not None], fleet)
    first = next(server for server, look in zip(fleet.servers, looks, strict=True) if look is not None)
    seeds = options.seeds
    if seeds is None:  # whoever returns token ids is vLLM or one of its kin, and they honour seeds
        seeds = found.ids or await honours_seeds(client, first.url, found, options.extra_body)
    dialect: Dialect
    if found.ids:
        tokenizer = served_tokenizer(options.tokenizer or found.model, source)
        dialect = TokenDialect(found.model, tokenizer, options.extra_body)
    else:
        dialect = TextDialect(
            found.model, options.extra_body, chat=found.chat, completions=found.completions, seeds=seeds
        )
    slots = (TOKEN_SLOTS if found.ids else TEXT_SLOTS) * len(fleet.servers)
    info = EngineInfo(
        engine="openai",
        version=found.version,
        model=found.model,
        revision=None,
        parameters=options.parameters,
        # Where ids are not tokens, nobody could tell what fits: the server refuses what does not.
        context_length=(options.context_length or found.context_length) if found.ids else 0,
        slots=options.concurrency or slots,
        capabilities=_capabilities(found, seeds),
    )
    limits = Limits(options.requests_per_minute, options.tokens_per_minute)
    return OpenAIEngine(client, fleet, dialect, info, limits, retries=options.retries)


async def _look(client: Client, fleet: Fleet, server: Server, model: str, options: Options) -> Found | None:
    """What a server does; None, and it rests, if it is down."""
    try:
        return await probe(client, server.url, model, options.api, options.extra_body)
    except Fault as fault:
        server.fault = str(fault)
        fleet.send_to_rest(server, FIRST_REST)
        return None


def _agreed(found: Sequence[Found], fleet: Fleet) -> Found:
    """What all servers do that are up; they have to do the same."""
    if not found:
        raise EngineError(f"no server answers: {fleet.faults()}")
    kinds = {
        (look.model, look.ids, look.chat, look.completions, look.processed_logprobs, look.chosen) for look in found
    }
    if len(kinds) > 1:
        raise ConfigError(f"the servers differ in model or abilities ({sorted(kinds)}): open an engine for each kind")
    known = [look.context_length for look in found if look.context_length]
    caching = all(look.reports_cache for look in found)
    return found[0]._replace(context_length=min(known, default=0), reports_cache=caching)


def _capabilities(found: Found, seeds: bool) -> frozenset[Capability]:
    capabilities = CAPABILITIES["openai"]
    if not found.ids:
        capabilities -= _WITHOUT_IDS
    elif found.processed_logprobs:
        capabilities = capabilities - {Capability.LOGPROBS} | {Capability.SAMPLING_LOGPROBS}
    if not found.chosen or found.processed_logprobs:
        capabilities -= {Capability.CHOSEN_LOGPROBS}
    if not found.reports_cache:
        capabilities -= {Capability.PREFIX_CACHE}
    if found.chat:  # an answer in a chat can't be begun for the model
        capabilities -= {Capability.PREFILL}
    return capabilities if seeds else capabilities - {Capability.SEEDS}


def served_tokenizer(name: str, source: ModelSource) -> Tokenizer:
    """The tokenizer of a model, without its weights where they would have to be fetched."""
    try:
        local = name in EMBEDDED or os.path.isdir(name) or "/" not in name
        if local:
            return load_tokenizer(resolve(name))
        from huggingface_hub import snapshot_download

        path = snapshot_download(
            name, revision=source.revision, allow_patterns=["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
        )
        return load_tokenizer(
            ModelSource(name=name, path=path, revision=source.revision, trust_remote_code=source.trust_remote_code)
        )
    except Exception as error:  # the hub's client, its transport and the disk share no root
        raise ModelError(
            f"the server completes token ids, and {name!r} gives no tokenizer for them ({error}). "
            "Name one (tokenizer=<folder or hub id>), or have text (api=chat)"
        ) from error
