"""The openai engine against servers that fail in every way, over real sockets. What it shares with all engines, and
that a vLLM server draws what vLLM draws, is tested in test_engine_contract.py and benchmarks/openai_tokens.py."""

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from decoding.engine import Capability
from decoding.engines.open import describe
from decoding.engines.openai import engine as openai
from decoding.engines.openai import open as openai_open
from decoding.engines.openai.fleet import Fleet
from decoding.engines.openai.limits import Bucket
from decoding.engines.openai.open import open_openai
from decoding.engines.openai.text import CodePoints, read_prompt
from decoding.engines.scripted import VocabularyTokenizer
from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from decoding.models import ModelSource
from decoding.types import FinishReason, GenerationRequest, SamplingParams

TOKENS = 6
HANG = 60


class Fake:
    """A server whose tokens are a function of the seed. `faults` happen to the next requests, one each."""

    def __init__(self, *, ids=True, chat=True, completions=True, seeds=True, drift=0):
        self.ids, self.chat, self.completions, self.seeds = ids, chat, completions, seeds
        self.drift = drift  # a server of other weights draws other tokens
        self.faults = deque()
        self.bodies, self.left, self.drawn = [], 0, 0
        self.open = self.most_open = 0
        self.pace = 0.0

    def token(self, body, position):
        self.drawn += 1
        seed = body.get("seed", 0) if self.seeds else self.drawn
        return 5 + (seed * 7 + position * 3 + self.drift) % 10

    async def models(self, _):
        return web.json_response({"data": [{"id": "m", "max_model_len": 64, "owned_by": "fake"}]})

    async def post(self, request):
        body = await request.json()
        self.bodies.append((request.path, body))
        if not (self.chat if "chat" in request.path else self.completions):
            return web.json_response({"error": {"message": "no such endpoint"}}, status=404)
        if not self.ids and isinstance(body.get("prompt"), list):
            return web.json_response({"error": {"message": "prompt must be text"}}, status=400)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.faults:
                return await self.faults.popleft()(self, request, body)
            return await self.answer(request, body)
        except ConnectionResetError:
            self.left += 1
            raise
        finally:
            self.open -= 1

    async def answer(self, request, body, cut=None, tail=b"data: [DONE]\n\n"):
        """Stream a completion, one token an event; `cut` ends it after so many, followed by `tail`."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        count = min(body["max_tokens"], TOKENS)
        for i in range(count if cut is None else cut):
            await asyncio.sleep(self.pace)
            last = i == count - 1
            reason = None if not last else "length" if body["max_tokens"] <= TOKENS else "stop"
            await self.send(response, {"choices": [self.choice(request, body, i, reason)]})
        if cut is None:
            usage = {"prompt_tokens": 11, "completion_tokens": count}
            await self.send(response, {"choices": [], "usage": usage})
        await response.write(tail)
        return response

    async def send(self, response, event):
        await response.write(f"data: {json.dumps(event)}\n\n".encode())

    def choice(self, request, body, position, reason):
        token = self.token(body, position)
        text = chr(ord("a") + token)
        if self.ids:
            return {"text": text, "token_ids": [token], "finish_reason": reason, "logprobs": {"token_logprobs": [-0.5]}}
        piece = {"delta": {"content": text}} if "chat" in request.path else {"text": text}
        return {**piece, "finish_reason": reason}


@asynccontextmanager
async def running(*fakes):
    """The fakes on ports of their own; their addresses, and a function that takes one of them down."""
    runners, urls = [], []
    for fake in fakes:
        app = web.Application()
        app.router.add_get("/v1/models", fake.models)
        app.router.add_post("/v1/completions", fake.post)
        app.router.add_post("/v1/chat/completions", fake.post)
        runners.append(web.AppRunner(app, shutdown_timeout=0.1))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0)
        await site.start()
        urls.append(f"http://127.0.0.1:{runners[-1].addresses[0][1]}/v1")
    try:
        yield urls, lambda i: runners[i].cleanup()
    finally:
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def opened(*fakes, **options):
    async with running(*fakes) as (urls, stop):
        source = ModelSource(name="auto", path="", revision=None)
        engine = await open_openai(source, base_url=urls, **{"tokenizer": "reference-base", "timeout": 5.0, **options})
        for fake in fakes:
            fake.bodies.clear()
        try:
            yield engine, stop
        finally:
            await engine.aclose()


def request(seed=1, prompt=(1, 5, 6), name="", **sampling):
    return GenerationRequest(
        id=name, prompt_token_ids=tuple(prompt), sampling=SamplingParams(seed=seed, **{"max_tokens": 32, **sampling})
    )


def expected(seed):
    fake = Fake()
    return tuple(fake.token({"seed": seed}, i) for i in range(TOKENS))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    tokenizer = VocabularyTokenizer(tuple("<>!abcdefghijklm"), frozenset({2}))
    monkeypatch.setattr(openai, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(openai_open, "load_tokenizer", lambda _: tokenizer)


# Faults that pass


def status(code, headers=None, body="{}"):
    async def fault(_fake, _request, _body):
        return web.Response(status=code, headers=headers, text=body)

    return fault


async def hang(_fake, _request, _body):
    await asyncio.sleep(HANG)


async def reset(_fake, request, _body):
    request.transport.close()
    return web.Response()


async def garbage(fake, request, body):
    return await fake.answer(request, body, cut=2, tail=b"data: {not json\n\n")


async def dropped(fake, request, body):
    response = await fake.answer(request, body, cut=3, tail=b"")
    request.transport.close()
    return response


async def quiet_end(fake, request, body):
    return await fake.answer(request, body, cut=3)


async def error_event(fake, request, body):
    return await fake.answer(request, body, cut=3, tail=b'data: {"error": {"message": "oops", "code": 500}}\n\n')


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (status(500), 0),
        (status(503), 0),
        (status(429), 0),
        (reset, 0),
        (garbage, 2),
        (dropped, 3),
        (quiet_end, 3),
        (error_event, 3),
    ],
)
def test_a_fault_that_passes_costs_another_try_and_what_was_lost_is_charged(fault, lost):
    async def work():
        fake = Fake()
        async with opened(fake) as (engine, _):
            fake.faults += [fault, fault]
            completion = await engine.generate(request(seed=3))
            fake.faults.append(fault)
            deltas = [delta async for delta in engine.stream(request(seed=3))]
            return completion, deltas, len(fake.bodies)

    completion, deltas, posts = asyncio.run(work())
    assert completion.token_ids == expected(3)
    assert completion.usage.generated_tokens == TOKENS
    assert completion.usage.aborted_tokens == 2 * lost
    assert sum((delta.token_ids for delta in deltas), ()) == expected(3) == deltas[-1].completion.token_ids
    assert posts == 5


def test_retry_after_is_honoured():
    async def work():
        fake, clock = Fake(), asyncio.get_running_loop().time
        async with opened(fake) as (engine, _):
            fake.faults.append(status(429, {"Retry-After": "0.4"}))
            began = clock()
            first = asyncio.ensure_future(engine.generate(request()))
            await asyncio.sleep(0.1)
            await asyncio.gather(first, engine.generate(request(seed=2)))  # a second one is not sent meanwhile either
            return clock() - began

    assert 0.4 <= asyncio.run(work()) < 2


def test_a_server_that_hangs_is_left_for_another():
    async def work():
        stuck, fine = Fake(), Fake()
        async with opened(stuck, fine, timeout=0.3) as (engine, _):
            stuck.faults += [hang] * 100
            completions = await asyncio.gather(*(engine.generate(request(seed=i)) for i in range(8)))
            return [completion.token_ids for completion in completions], len(stuck.bodies)

    drawn, asked = asyncio.run(work())
    assert drawn == [expected(i) for i in range(8)]
    assert 1 <= asked <= 6


def test_one_of_two_servers_dies_and_comes_back():
    async def work():
        first, second = Fake(), Fake()
        first.pace = second.pace = 0.1
        async with opened(first, second) as (engine, stop):
            batch = asyncio.gather(*(engine.generate(request(seed=i, prompt=(1, i))) for i in range(40)))
            while len(first.bodies) < 20:
                await asyncio.sleep(0.01)
            await stop(0)
            drawn = [completion.token_ids for completion in await batch]
            resting = engine._fleet.rest(engine._fleet.servers[0])
            return drawn, len(first.bodies), len(second.bodies), resting

    drawn, first, second, resting = asyncio.run(work())
    assert drawn == [expected(i) for i in range(40)]
    assert (first, second) == (20, 40)  # each had its half, and the second did the first one's too
    assert resting < 5


def test_when_all_are_down_the_error_names_them():
    async def work():
        async with opened(Fake(), Fake(), retries=2) as (engine, stop):
            urls = [server.url for server in engine._fleet.servers]
            await stop(0)
            await stop(1)
            with pytest.raises(EngineError) as caught:
                await engine.generate(request())
            return urls, str(caught.value)

    urls, message = asyncio.run(work())
    assert all(url in message for url in urls)


def test_a_server_that_is_down_when_opened_is_used_when_it_is_up():
    async def work():
        async with running(Fake()) as (urls, _), running(fake := Fake()) as (later, stop):
            port = int(later[0].split(":")[2].split("/")[0])
            await stop(0)
            engine = await open_openai(
                ModelSource(name="m", path="", revision=None),
                base_url=f"{urls[0]}, {later[0]}",
                tokenizer="reference-base",
            )
            assert engine._fleet.servers[1].fault
            app = web.Application()
            app.router.add_post("/v1/completions", fake.post)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await asyncio.sleep(1.1)
            await asyncio.gather(*(engine.generate(request(seed=i, prompt=(1, i))) for i in range(20)))
            await engine.aclose()
            await runner.cleanup()
            return len(fake.bodies)

    assert asyncio.run(work()) >= 5


def test_a_stream_is_not_continued_with_other_tokens():
    """Whoever reads it has the first ones already; without a reader the second server's are as good as the first's."""

    async def work():
        first, second = Fake(), Fake(drift=1)
        async with opened(first, second) as (engine, _):
            first.faults += [dropped] * 9
            second.faults += [dropped]
            engine._fleet.servers[1].open = 9  # the first server is asked first
            with pytest.raises(EngineError, match="other tokens"):
                _ = [delta async for delta in engine.stream(request(seed=3))]
            second.faults.clear()
            return await engine.generate(request(seed=3))

    second = Fake(drift=1)
    assert asyncio.run(work()).token_ids == tuple(second.token({"seed": 3}, i) for i in range(TOKENS))


# Faults that don't pass


@pytest.mark.parametrize(
    ("fault", "error", "advice"),
    [
        (status(401), EngineError, "api_key"),
        (status(404), EngineError, "base_url"),
        (status(400, body='{"error": {"message": "maximum context length is 64"}}'), ContextError, "64"),
        (status(400, body='{"error": {"message": "min_p is unknown"}}'), ConfigError, "min_p is unknown"),
    ],
)
def test_what_will_not_get_better_is_told_at_once(fault, error, advice):
    async def work():
        fake = Fake()
        async with opened(fake) as (engine, _):
            fake.faults.append(fault)
            with pytest.raises(error, match=advice):
                await engine.generate(request())
            assert len(fake.bodies) == 1
            return await engine.generate(request(seed=9))

    assert asyncio.run(work()).token_ids == expected(9)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"base_url": ""}, ConfigError, "base_url"),
        ({"api": "soap"}, ConfigError, "auto, tokens, chat"),
        ({"slots": 3}, ConfigError, "no option"),
        ({"requests_per_minute": 0}, ConfigError, "above 0"),
        ({"tokenizer": "no-such-model"}, ModelError, "tokenizer="),
        ({"base_url": "http://127.0.0.1:1/v1"}, EngineError, "127.0.0.1:1"),
    ],
)
def test_what_can_not_work_is_told_when_opening(options, error, words, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    async def work():
        async with opened(Fake(), **options):
            pass

    if "base_url" in options:

        async def work():
            await open_openai(ModelSource(name="m", path="", revision=None), **options)

    with pytest.raises(error, match=words):
        asyncio.run(work())


# Aborting


def test_an_abort_closes_the_connection_and_returns_what_came():
    async def work():
        fake = Fake()
        async with opened(fake, concurrency=1) as (engine, _):
            fake.pace = 0.05
            stream = engine.stream(request(seed=4, name="mine"))
            pieces = [await anext(stream), await anext(stream)]
            waiting = asyncio.ensure_future(engine.generate(request(name="behind")))
            await asyncio.sleep(0)
            await engine.abort("behind")
            await engine.abort("mine")
            pieces += [piece async for piece in stream]
            for _ in range(100):
                if not fake.open:
                    break
                await asyncio.sleep(0.02)
            return pieces, await waiting, fake.open, len(fake.bodies)

    pieces, behind, still_open, posts = asyncio.run(work())
    completion = pieces[-1].completion
    assert completion.finish_reason is FinishReason.CANCELLED
    assert completion.token_ids == expected(4)[: len(completion.token_ids)]
    assert 2 <= completion.usage.aborted_tokens == len(completion.token_ids) < TOKENS
    assert (behind.token_ids, behind.usage.prompt_tokens_computed) == ((), 0)
    assert (still_open, posts) == (0, 1)  # the server has let go, and never heard of the second


# Servers that speak text


def test_text_servers_lack_what_they_lack_and_get_chats_as_messages():
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "1+2"}]

    async def work():
        fake = Fake(ids=False)
        async with opened(fake) as (engine, _):
            chat = engine.tokenizer.render_chat(messages)
            text = engine.tokenizer.encode("1+2")
            drawn = [await engine.generate(request(prompt=p, top_k=3)) for p in (chat, text)]
            cut = await engine.generate(request(prompt=text, max_tokens=2))
            read = engine.tokenizer.decode(drawn[0].token_ids)
            with pytest.raises(ConfigError, match="begun"):
                await engine.generate(request(prompt=chat + drawn[0].token_ids))
            with pytest.raises(ConfigError, match="stop strings"):
                await engine.generate(request(prompt=text, stop_token_ids=(3,)))
            return engine.info, drawn, cut, read, fake.bodies

    info, drawn, cut, read, bodies = asyncio.run(work())
    assert info.capabilities == {Capability.SEEDS, Capability.STREAMING}
    assert read == "".join(chr(ord("a") + token) for token in expected(1))
    assert [one.finish_reason for one in (*drawn, cut)] == [FinishReason.EOS, FinishReason.EOS, FinishReason.LENGTH]
    assert drawn[0].usage.generated_tokens == TOKENS  # the server's counts, not characters
    assert drawn[0].usage.prompt_tokens_computed == 11
    assert bodies[0][0] == "/v1/chat/completions"
    assert bodies[0][1]["messages"] == messages
    assert (bodies[1][0], bodies[1][1]["prompt"]) == ("/v1/completions", "1+2")
    assert (bodies[0][1]["top_k"], "min_p" in bodies[0][1]) == (3, False)


@pytest.mark.parametrize(
    ("fake", "has", "template"),
    [
        (Fake(ids=False, seeds=False), {Capability.STREAMING}, True),
        (Fake(ids=False, completions=False), {Capability.STREAMING, Capability.SEEDS}, True),
        (Fake(ids=False, chat=False), {Capability.STREAMING, Capability.SEEDS, Capability.PREFILL}, False),
    ],
)
def test_a_server_is_looked_at_before_it_is_believed(fake, has, template):
    async def work():
        async with opened(fake) as (engine, _):
            completion = await engine.generate(request(prompt=engine.tokenizer.encode("hello")))
            return engine.info.capabilities, engine.tokenizer.has_chat_template, completion

    capabilities, has_template, completion = asyncio.run(work())
    assert (capabilities, has_template) == (has, template)
    assert len(completion.token_ids) == TOKENS


def test_chats_come_back_from_ids_as_they_were():
    tokenizer = CodePoints(has_chat_template=True)
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "a\U0010ffff\x00 é"}]
    assert read_prompt(tokenizer.render_chat(messages)).messages == messages
    assert tokenizer.decode(tokenizer.render_chat(messages[1:])) == "user" + messages[1]["content"]
    assert read_prompt(tokenizer.encode("a\U0010ffff")).text == "a\U0010ffff"


def test_an_engine_is_described_without_being_used():
    async def work():
        async with running(Fake(ids=False)) as (urls, _):
            return await asyncio.to_thread(
                describe, "auto", "openai", {"base_url": urls[0], "record": "/never/written"}
            )

    model = asyncio.run(work())
    assert (model.source.name, model.tokenizer.has_chat_template) == ("m", True)
    assert model.context_length == 0  # of 64 tokens, but ids are no tokens here


# Who gets what, and when


def test_equal_prefixes_meet_at_one_server_while_the_load_allows():
    fleet = Fleet(["a", "b", "c"])
    prompts = [(i,) * 130 for i in range(6)]
    homes = []
    for prompt in prompts:  # all stay open: they spread
        homes.append(fleet.pick(prompt))
        homes[-1].open += 1
    assert sorted(server.open for server in fleet.servers) == [2, 2, 2]
    assert [fleet.pick((*prompt, 7, 7)) for prompt in prompts] == homes
    homes[0].open += 7
    assert fleet.pick((*prompts[0], 8)) is not homes[0]  # too busy by now


def test_no_server_gets_more_than_its_share_when_all_prompts_begin_alike():
    fleet = Fleet(["a", "b", "c"])
    for i in range(120):
        fleet.pick((9,) * 64 + (i,)).open += 1
    assert max(server.open for server in fleet.servers) <= 1.25 * min(server.open for server in fleet.servers) + 5


def test_a_bucket_lets_no_minute_through_with_more_than_its_rate():
    """Whoever comes as early as it may: in any minute the rate and one second's worth, and nearly all of that."""
    now = 0.0
    bucket = Bucket("tokens_per_minute", 600, lambda: now)
    sent = []
    for i in range(2000):
        amount = (1, 5, 30)[i % 3]
        while (wait := bucket.wait(amount)) > 0:
            now += max(wait, 1e-9)
        bucket.take(amount)
        sent.append((now, amount))
    most = max(sum(a for when, a in sent[i:] if when < start + 60) for i, (start, _) in enumerate(sent[:1000]))
    assert 590 <= most <= 600 + 10 + 30
    for _ in range(10):
        bucket.take(-30)  # what is given back never makes a larger burst
    assert bucket.wait(10) == 0
    bucket.take(10)
    assert bucket.wait(1) > 0


def test_requests_wait_for_slots_and_limits():
    async def work():
        fake, clock = Fake(), asyncio.get_running_loop().time
        async with opened(fake, concurrency=3, requests_per_minute=60 * 40) as (engine, _):
            fake.pace, began = 0.002, clock()
            drawn = await asyncio.gather(*(engine.generate(request(seed=i)) for i in range(60)))
            return [one.token_ids for one in drawn], fake.most_open, clock() - began

    drawn, most_open, seconds = asyncio.run(work())
    assert drawn == [expected(i) for i in range(60)]
    assert most_open <= 3
    assert seconds >= (60 - 40) / 40
