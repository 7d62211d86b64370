"""Log-probabilities of ids that a request names: what engines store, read off servers and refuse.

That every engine gives the right ones is in test_engine_contract.py."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from decoding.engine import Capability
from decoding.engines.openai.dialects import read_tokens
from decoding.engines.openai.flight import Flight
from decoding.engines.openai.http import Fault
from decoding.engines.recording import Recorder, Recording
from decoding.engines.replay import ReplayEngine
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import CapabilityError
from decoding.types import GenerationRequest, SamplingParams
from tests.test_openai_engine import Fake, opened, quick, request  # noqa: F401
from tests.worlds import RandomModel

CHOSEN = (3, 1)


def asking(seed=1, **sampling):
    one = request(seed, **sampling)
    return replace(one, sampling=replace(one.sampling, logprob_token_ids=CHOSEN))


# Recordings


def scripted_request(seed, ids=CHOSEN):
    sampling = SamplingParams(seed=seed, max_tokens=6, logprob_token_ids=ids)
    return GenerationRequest(prompt_token_ids=(1, 2), sampling=sampling)


def test_a_recording_plays_chosen_logprobs_back_to_the_bit_and_keeps_requests_for_others_apart(tmp_path):
    path = tmp_path / "recording.jsonl"

    async def work():
        recorder = Recorder(ScriptedEngine(RandomModel()), path, "scripted")
        drawn = [await recorder.generate(scripted_request(seed, ids)) for seed in (1, 2) for ids in (CHOSEN, (2,), ())]
        replay = ReplayEngine(Recording.read(path), recorder.tokenizer)
        played = [await replay.generate(scripted_request(seed, ids)) for seed in (1, 2) for ids in (CHOSEN, (2,), ())]
        await recorder.aclose()
        return drawn, played

    drawn, played = asyncio.run(work())
    assert played == drawn
    assert [len(c.chosen_logprobs[0]) if c.chosen_logprobs else 0 for c in played] == [2, 1, 0] * 2


def test_recordings_of_before_there_were_chosen_logprobs_still_play(tmp_path):
    path = tmp_path / "recording.jsonl"

    async def work():
        recorder = Recorder(ScriptedEngine(RandomModel()), path, "scripted")
        drawn = await recorder.generate(scripted_request(1, ()))
        await recorder.aclose()
        head, row = map(json.loads, path.read_text().splitlines())
        del row["sampling"]["logprob_token_ids"], row["completion"]["chosen_logprobs"]
        del row["completion"]["usage"]["scored_tokens_cached"]
        head["info"]["capabilities"].remove("chosen_logprobs")
        path.write_text("".join(json.dumps(line) + "\n" for line in (head, row)))
        replay = ReplayEngine(Recording.read(path), recorder.tokenizer)
        return drawn, await replay.generate(scripted_request(1, ())), replay.info.capabilities

    drawn, played, capabilities = asyncio.run(work())
    assert played == drawn
    assert Capability.CHOSEN_LOGPROBS not in capabilities


def test_a_token_that_can_not_be_drawn_has_minus_infinity():
    table = Table(vocabulary=("<end>", "a", "b"), eos_token_ids=frozenset({0}), laws={(): [0.25, 0.75, 0.0]})
    completion = asyncio.run(ScriptedEngine(table).generate(scripted_request(1, (2, 1))))
    np.testing.assert_allclose(np.exp(completion.chosen_logprobs), [(0.0, 0.75)] * len(completion.token_ids))


# Servers


class Scoring(Fake):
    """A vLLM server: chosen ids stand beside the drawn token. A chosen id's log-probability is minus itself."""

    hidden = 0  # so many events hide the id 0, as vLLM's padding does
    missing = False
    knows = True

    def choice(self, request, body, position, reason):
        choice = super().choice(request, body, position, reason)
        wanted = body.get("logprob_token_ids") if self.knows else None
        if wanted is not None:
            assert body["return_tokens_as_token_ids"]
            row = {f"token_id:{token}": -float(token) for token in wanted[self.missing :]}
            row[f"token_id:{choice['token_ids'][0]}"] = -0.5
            if "token_id:0" in row and self.hidden > 0:
                self.hidden -= 1
                row["token_id:0"] = -9999.0
            choice["logprobs"]["top_logprobs"] = [row]
        return choice


def test_a_server_gives_them_in_the_order_of_the_request():
    async def work():
        fake = Scoring()
        async with opened(fake) as (engine, _):
            assert Capability.CHOSEN_LOGPROBS in engine.info.capabilities
            completion = await engine.generate(asking())
            silent = await engine.generate(asking(logprobs=False))
            plain = await engine.generate(request())
            return completion, silent, plain, [body for _, body in fake.bodies]

    completion, silent, plain, bodies = asyncio.run(work())
    assert completion.chosen_logprobs == silent.chosen_logprobs == ((-3.0, -1.0),) * 6
    assert completion.logprobs == (-0.5,) * 6
    assert silent.logprobs is None
    assert plain.chosen_logprobs is None
    assert completion.token_ids == silent.token_ids == plain.token_ids
    assert "logprob_token_ids" not in bodies[2]


def test_a_server_that_does_not_know_them_lacks_the_capability_and_is_not_asked():
    async def work():
        fake = Scoring()
        fake.knows = False
        async with opened(fake) as (engine, _):
            assert Capability.CHOSEN_LOGPROBS not in engine.info.capabilities
            assert Capability.LOGPROBS in engine.info.capabilities
            with pytest.raises(CapabilityError, match="openai engine gives no log-probabilities of chosen ids"):
                await engine.generate(asking())
            assert fake.bodies == []

    asyncio.run(work())


def test_what_a_server_leaves_out_is_never_made_up():
    async def work():
        fake = Scoring()
        async with opened(fake, retries=2) as (engine, _):
            fake.missing = True
            with pytest.raises(Exception, match="left out the log-probability of the id 3"):
                await engine.generate(asking())

    asyncio.run(work())


def test_the_id_0_hidden_by_padding_is_asked_for_again():
    """vLLM pads rows of a batch with the id 0 and minus infinity, and what it sends is keyed by id: the padding comes
    last and hides the entry of a chosen id 0 (as of a drawn one) when others in the batch ask for more ids."""

    async def work():
        fake = Scoring()
        async with opened(fake) as (engine, _):
            fake.hidden = 1
            one = replace(request(), sampling=replace(request().sampling, logprob_token_ids=(0, 2)))
            return await engine.generate(one), len(fake.bodies)

    completion, asked = asyncio.run(work())
    assert completion.chosen_logprobs == ((-0.0, -2.0),) * 6
    assert asked == 2
    drawn = {"choices": [{"token_ids": [0], "logprobs": {"token_logprobs": [-9999.0]}}]}
    with pytest.raises(Fault, match="no probability"):
        read_tokens(drawn)


def test_what_is_less_than_a_server_can_say_is_minus_infinity():
    flight = Flight(asking(), 4, 1, None, None)
    event = {"token_id:3": -9999.0, "token_id:1": -1.5, "token_id:9": -0.1}
    flight.take(read_tokens({"choices": [{"token_ids": [9], "logprobs": {"top_logprobs": [event]}}]}))
    assert flight.chosen == [(-np.inf, -1.5)]
