"""One streamed request to an OpenAI-compatible server, and what its failures mean.

Retries, routing and limits are the engine's, with seeded randomness, so what is needed below them is a client that only
carries bytes: aiohttp, without the policies of the `openai` package.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from decoding.errors import BethinkError, ConfigError, ContextError, EngineError

LONGEST_LINE = 1 << 25  # bytes; a server may send a whole prompt's ids back on one line
CONNECT_SECONDS = 10.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DOWN = frozenset({502, 503, 504})
_CONTEXT = re.compile(r"context.?(length|window)|maximum context|max_model_len|too (long|many tokens)", re.IGNORECASE)
_WORDS = 500  # characters of a server's own words in our messages


class Fault(Exception):
    """A failure that may pass: the request is to be sent again, to another server if there is one."""

    def __init__(self, message: str, *, down: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.down = down  # nobody else would get an answer from this server either
        self.retry_after = retry_after  # seconds, where the server gave them


class Client:
    """A connection pool to any number of servers."""

    def __init__(self, api_key: str | None, timeout: float) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the engine counts what is open
            timeout=aiohttp.ClientTimeout(total=timeout, connect=min(CONNECT_SECONDS, timeout)),
            headers=headers,
            read_bufsize=LONGEST_LINE,
            trust_env=True,
        )

    async def get(self, url: str) -> Any:
        """A JSON value. Raises like `events`."""
        async with _faults(url), self._session.get(url) as response:
            await _refuse(url, response)
            return _parsed(url, await response.read())

    async def events(self, url: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of a streamed answer; a server that doesn't stream gives one.

        Raises ``Fault`` for what may pass, ``ContextError`` for a prompt that is too long, ``ConfigError`` for what
        the server does not accept, and ``EngineError`` for what will not get better by itself.
        """
        async with _faults(url), self._session.post(url, json=body) as response:
            await _refuse(url, response)
            if response.content_type != "text/event-stream":
                yield _object(url, await response.read())
                return
            async for line in response.content:
                data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data:
                    yield _object(url, data)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


def refusal(url: str, status: int, body: str, retry_after: float | None = None) -> BethinkError | Fault:
    """The error that an HTTP status other than 200 stands for."""
    what = f"{url} answered {status}: {_words(body)}"
    if status in _AGAIN:
        return Fault(what, down=status in _DOWN, retry_after=retry_after)
    if status in {401, 403}:
        return EngineError(f"{what}. Give a key that the server accepts (api_key=..., or OPENAI_API_KEY)")
    if status == 404:
        return EngineError(f"{what}. Check the model's name and base_url, which usually ends in /v1")
    if status in {400, 413, 422}:
        if _CONTEXT.search(body):
            return ContextError(f"{what}. Shorten the prompt or ask for fewer tokens")
        return ConfigError(f"{what}. Leave out what this server does not know")
    return EngineError(what)


@asynccontextmanager
async def _faults(url: str) -> AsyncIterator[None]:
    """Turn failures of the transport into `Fault`."""
    try:
        yield
    except TimeoutError as error:
        raise Fault(f"{url} did not answer in time", down=True) from error
    except aiohttp.InvalidURL as error:
        raise ConfigError(f"{url} is not an address: base_url is like http://host:8000/v1") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Fault(f"{url}: {type(error).__name__}: {error}", down=True) from error


async def _refuse(url: str, response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        body = (await response.read()).decode(errors="replace")
        raise refusal(url, response.status, body, _seconds(response.headers.get("Retry-After")))


def _parsed(url: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Fault(f"{url} sent what is not JSON: {_words(data.decode(errors='replace'))}") from error


def _object(url: str, data: bytes) -> dict[str, Any]:
    """A JSON object; an error that the server sends in the middle of a stream is raised."""
    value = _parsed(url, data)
    if not isinstance(value, dict):
        raise Fault(f"{url} sent what is not a JSON object: {_words(str(value))}")
    if (error := value.get("error")) is not None:
        code = error.get("code") if isinstance(error, dict) else None
        raise refusal(url, code if isinstance(code, int) else 500, json.dumps(value))
    return value


def _seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number of them, or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _words(body: str) -> str:
    """What a server said: the message in an error's JSON, or the beginning of the body."""
    try:
        error = json.loads(body)["error"]
        body = error if isinstance(error, str) else str(error["message"])
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(body.split())[:_WORDS].rstrip(".") or "nothing"
