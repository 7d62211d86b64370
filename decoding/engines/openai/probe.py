"""Finding out what a server does, by a few tiny requests when it is opened."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from decoding.engines.openai.dialects import TextDialect, chosen_fields, read_tokens
from decoding.engines.openai.http import Client, Fault
from decoding.errors import BethinkError, ConfigError, EngineError
from decoding.types import GenerationRequest, SamplingParams

APIS = ("auto", "tokens", "chat", "completions")
ATTEMPTS, LONGEST_WAIT = 3, 30.0  # of a look at a server that is up and busy; seconds
CHOSEN = (2, 1)  # ids; any two that every vocabulary has
SEED_PROMPT, SEED_TOKENS = "Ten random words:", 16

Event = dict[str, Any]


class Found(NamedTuple):
    """What a server does."""

    model: str  # as it names it
    version: str  # of the server, as far as it tells
    context_length: int  # tokens; 0: it does not say
    ids: bool  # takes and returns token ids
    chat: bool  # used for chats
    completions: bool  # used for texts
    processed_logprobs: bool = False  # its log-probabilities are of the law that was drawn from
    reports_cache: bool = False  # says how many prompt tokens came from its cache
    chosen: bool = False  # gives log-probabilities of any ids that are asked for


async def probe(client: Client, url: str, model: str, api: str, extra: Mapping[str, Any]) -> Found:
    """Look at one server. Raises ``Fault`` if it is down, ``EngineError`` or ``ConfigError`` if it can't be used."""
    for attempt in range(ATTEMPTS):
        try:
            return await _probe(client, url, model, api, extra)
        except Fault as fault:
            if fault.down or attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(min(LONGEST_WAIT, fault.retry_after or 1.0 + attempt))
    raise AssertionError("the last attempt raises")


async def _probe(client: Client, url: str, model: str, api: str, extra: Mapping[str, Any]) -> Found:
    card = await model_card(client, url, model)
    name = str(card["id"])
    found = Found(name, await _version(client, url, card), int(card.get("max_model_len") or 0), False, False, False)
    base = {"model": name, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}, **extra}
    texts: list[Event] | BethinkError = []
    if api in {"auto", "tokens"}:
        # top_k=1 shows which law log-probabilities are of: the law that is drawn from is sure of its token then.
        ids = {"prompt": [1], "return_token_ids": True, "logprobs": 0, "top_k": 1, "temperature": 1.0}
        events = await _ask(client, f"{url}/completions", {**base, **ids})
        if not isinstance(events, BethinkError) and (with_ids := _with_ids(found, events)) is not None:
            asked = {**base, "prompt": [1], "return_token_ids": True, "logprobs": 0, **chosen_fields(CHOSEN)}
            rows = await _ask(client, f"{url}/completions", asked)
            return with_ids._replace(chosen=not isinstance(rows, BethinkError) and _gives_chosen(rows))
        if api == "tokens":
            raise EngineError(f"{url} returns no token ids (vLLM does): leave api=tokens out")
    if api in {"auto", "completions"}:
        texts = await _ask(client, f"{url}/completions", {**base, "prompt": SEED_PROMPT})
        found = found._replace(completions=not isinstance(texts, BethinkError))
    if api in {"auto", "chat"}:
        messages = [{"role": "user", "content": SEED_PROMPT}]
        texts = await _ask(client, f"{url}/chat/completions", {**base, "messages": messages})
        found = found._replace(chat=not isinstance(texts, BethinkError))
    if isinstance(texts, BethinkError) and not (found.chat or found.completions):
        raise texts
    return found


async def honours_seeds(client: Client, url: str, found: Found, extra: Mapping[str, Any]) -> bool:
    """Whether the same seed gives the same text, and others give others. A server that always says the same shows none.

    For a server that speaks text; raises ``Fault`` if it is down.
    """
    dialect = TextDialect(found.model, extra, chat=found.chat, completions=found.completions, seeds=True)

    async def draw(seed: int) -> str:
        sampling = SamplingParams(seed=seed, max_tokens=SEED_TOKENS)
        prompt = dialect.tokenizer.encode(SEED_PROMPT)
        path, body = dialect.spell(GenerationRequest(prompt_token_ids=prompt, sampling=sampling), SEED_TOKENS, 1)
        events = await _ask(client, url + path, body)
        if isinstance(events, BethinkError):
            return f"no answer to {seed}"
        return dialect.tokenizer.decode([i for event in events for i in dialect.read(event).token_ids])

    first, again, *others = await asyncio.gather(*map(draw, (1, 1, 2, 3)))
    return first == again and any(other != first for other in others) and not first.startswith("no answer to ")


async def _ask(client: Client, url: str, body: Mapping[str, Any]) -> list[Event] | BethinkError:
    """All events of an answer, or why there is none."""
    try:
        async with aclosing(client.events(url, {k: v for k, v in body.items() if v is not None})) as events:
            return [event async for event in events]
    except (ConfigError, EngineError) as error:
        return error


def _with_ids(found: Found, events: list[Event]) -> Found | None:
    """What the answer to ids says, if it has ids."""
    choices = [event["choices"][0] for event in events if event.get("choices")]
    if not any(choice.get("token_ids") for choice in choices):
        return None
    logprobs = [x for choice in choices for x in (choice.get("logprobs") or {}).get("token_logprobs", [])]
    details = [(event.get("usage") or {}).get("prompt_tokens_details") or {} for event in events]
    return found._replace(
        ids=True,
        completions=True,
        processed_logprobs=bool(logprobs) and not any(logprobs),
        reports_cache=any(detail.get("cached_tokens") is not None for detail in details),
    )


def _gives_chosen(events: list[Event]) -> bool:
    """Whether each token came with the log-probabilities of all chosen ids, by id."""
    try:
        rows = [row for event in events for row in read_tokens(event).chosen]
    except Fault:
        return False
    return bool(rows) and all(row.keys() >= set(CHOSEN) for row in rows)


async def model_card(client: Client, url: str, model: str) -> Event:
    """The server's entry for the model; the only one it has, if the model is not named."""
    unnamed = model in {"", "auto"}
    try:
        cards = (await client.get(f"{url}/models"))["data"]
    except (EngineError, ConfigError, LookupError, TypeError):
        if unnamed:
            raise EngineError(f"{url} does not list its models: name the one that you want") from None
        return {"id": model}  # some gateways list nothing
    if not unnamed:
        return next((card for card in cards if card["id"] == model), {"id": model})
    if len(cards) != 1:
        raise ConfigError(f"{url} serves {', '.join(sorted(card['id'] for card in cards)) or 'nothing'}: name one")
    return dict(cards[0])


async def _version(client: Client, url: str, card: Mapping[str, Any]) -> str:
    """The server's name and version: vLLM tells both."""
    try:
        told = (await client.get(f"{url.removesuffix('/v1')}/version"))["version"]
    except (EngineError, ConfigError, Fault, LookupError, TypeError):
        told = "unknown"
    return f"{card.get('owned_by', 'server')} {told}"
