"""What every engine promises, tested on each: the same laws, seeds, stops, counts and cancelling."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from decoding.engine import Capability
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.open import open_engine
from decoding.errors import CapabilityError, ConfigError, ContextError, EngineError
from decoding.sampling import sampling_law
from decoding.stopping import StopStrings
from decoding.types import FinishReason, SamplingParams
from tests.engines import REAL, SUBJECTS, TOKENS, VLLM, plain_logprobs, random_policy, request

CHEAP = ["scripted", "transformers", REAL[1]]  # opened again and again: a server is started once
PATIENCE = 60  # seconds, for what should take none: a lost slot shows as a timeout


@pytest.fixture(params=CHEAP)
def cheap(request, policy_folder):
    return SUBJECTS[request.param](policy_folder)


def draw(opened, requests):
    async def work(engine):
        return await asyncio.wait_for(asyncio.gather(*map(engine.generate, requests)), PATIENCE)

    return opened.run(work)


def draw_one(opened, prompt, **keywords):
    return draw(opened, [request(prompt, **keywords)])[0]


def many(subject, **keywords):
    return [request(prompt, seed=1000 + i, **keywords) for i, prompt in enumerate(subject.prompts)]


def differing(some, others):
    return sum(a.token_ids != b.token_ids for a, b in zip(some, others, strict=True))


def find(opened, subject, wanted, among=64, **keywords):
    """The first undisturbed (request, completion) pair that is as wanted."""
    requests = [request(subject.prompts[seed % 16], seed=seed, **keywords) for seed in range(among)]
    for one, completion in zip(requests, draw(opened, requests), strict=True):
        if wanted(completion):
            return one, completion
    raise AssertionError("none of the completions is as the test needs it")


# Seeds and company


def test_a_request_is_a_function_of_its_seed(opened, subject):
    first = draw(opened, many(subject))
    assert differing(first, draw(opened, many(subject))) <= subject.mismatches
    others = [draw_one(opened, subject.prompts[5], seed=seed).token_ids for seed in range(8)]
    assert len(set(others)) > 4


def test_company_and_order_change_nothing(opened, subject):
    requests = many(subject)
    together = draw(opened, requests)
    alone = [draw(opened, [one])[0] for one in requests]
    reverse = draw(opened, requests[::-1])[::-1]
    assert sum(len(completion.token_ids) for completion in together) > 16 * 12
    assert differing(together, alone) <= subject.mismatches
    assert differing(together, reverse) <= subject.mismatches


def test_the_number_of_slots_changes_nothing(cheap):
    results = []
    for slots in (1, 3, 64):
        with cheap.open(slots=slots) as opened:
            assert opened.engine.info.slots == slots
            results.append(draw(opened, many(cheap)))
    assert differing(results[0], results[1]) <= cheap.mismatches
    assert differing(results[0], results[2]) <= cheap.mismatches


# Laws


def test_logprobs_are_the_models_own_at_temperature_1(opened, subject):
    """Whatever was drawn from: temperature and filters don't show in them."""
    for one, completion in [
        *zip(many(subject), draw(opened, many(subject)), strict=True),
        *zip(many(subject), draw(opened, many(subject, temperature=0.7, top_p=0.9)), strict=True),
    ]:
        laws = subject.logprobs(one.prompt_token_ids, completion.token_ids)
        chosen = laws[np.arange(len(laws)), list(completion.token_ids)]
        np.testing.assert_allclose(completion.logprobs, chosen, atol=1e-3)


@pytest.mark.parametrize(
    "law",
    [
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 3},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 0.0},
    ],
)
def test_sampling_logprobs_are_of_the_law_that_was_drawn_from(opened, subject, law):
    has = Capability.SAMPLING_LOGPROBS in opened.engine.info.capabilities
    for one, completion in zip(many(subject), draw(opened, many(subject, **law)), strict=True):
        laws = subject.logprobs(one.prompt_token_ids, completion.token_ids)
        with np.errstate(divide="ignore"):
            wanted = np.log([sampling_law(row, SamplingParams(seed=0, **law)) for row in laws])
        chosen = wanted[np.arange(len(laws)), list(completion.token_ids)]
        assert np.isfinite(chosen).all()  # nothing outside the filters is ever drawn, whether it is reported or not
        if has:
            np.testing.assert_allclose(completion.sampling_logprobs, chosen, atol=1e-3)
        else:
            assert completion.sampling_logprobs is None


def test_greedy_is_argmax(opened, subject):
    for one, completion in zip(many(subject), draw(opened, many(subject, temperature=0.0)), strict=True):
        laws = subject.logprobs(one.prompt_token_ids, completion.token_ids)
        assert completion.token_ids == tuple(laws.argmax(axis=1))


def test_draws_follow_the_law_and_their_positions_are_independent(opened, subject):
    """First two tokens of 2000 seeds against their exact joint law: a test that 999 of 1000 fair samplers pass."""
    from scipy.stats import chi2

    prompt, eos = subject.prompts[3], opened.engine.tokenizer.eos_token_ids
    requests = [request(prompt, seed=seed * 7919, max_tokens=2) for seed in range(2000)]
    counts, expected = np.zeros((2, subject.size, subject.size))
    for completion in draw(opened, requests):
        counts[completion.token_ids[0], completion.token_ids[-1]] += 1  # an EOS at once stands at (eos, eos)
    for first in range(subject.size):
        laws = np.exp(subject.logprobs(prompt, [first, 0]))
        second = np.eye(subject.size)[first] if first in eos else laws[1]
        expected[first] = 2000 * laws[0, first] * second
    large = expected >= 5
    pooled = [*zip(counts[large], expected[large], strict=True), (counts[~large].sum(), expected[~large].sum())]
    assert len(pooled) > 10
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in pooled)
    assert statistic < chi2.ppf(0.999, len(pooled) - 1)


def test_chosen_logprobs_are_of_the_ids_that_were_asked_for_and_change_no_token(opened, subject):
    """In any order, one of them twice, whatever was drawn and from whichever law; together with requests that ask for
    other ids, or for none."""
    wanted = [(5, 2, 7), (), (0, 6), tuple(range(subject.size)), (3, 1, 3)]
    for law in ({}, {"temperature": 0.7, "top_k": 2}, {"temperature": 0.0, "logprobs": False}):
        plain = many(subject, **law)
        asking = [
            replace(one, sampling=replace(one.sampling, logprob_token_ids=wanted[i % len(wanted)]))
            for i, one in enumerate(plain)
        ]
        completions = draw(opened, asking)
        assert differing(completions, draw(opened, plain)) <= subject.mismatches
        for one, completion in zip(asking, completions, strict=True):
            ids = one.sampling.logprob_token_ids
            if not ids:
                assert completion.chosen_logprobs is None
                continue
            laws = subject.logprobs(one.prompt_token_ids, completion.token_ids)
            np.testing.assert_allclose(completion.chosen_logprobs, laws[:, list(ids)], atol=1e-3)
            assert (completion.logprobs is None) == ("logprobs" in law)
            if len(ids) == subject.size and completion.logprobs is not None:
                drawn = [
                    row[token] for row, token in zip(completion.chosen_logprobs, completion.token_ids, strict=True)
                ]
                assert drawn == list(completion.logprobs)


def test_chosen_logprobs_of_a_request_that_was_cancelled_or_streamed(opened, subject):
    ids = (4, 1)
    one, full = long_one(opened, subject)
    one = replace(one, id="asking", sampling=replace(one.sampling, logprob_token_ids=ids))

    async def work(engine):
        whole = [delta async for delta in engine.stream(one)][-1].completion
        stream = engine.stream(one)
        await second_delta(stream)
        await engine.abort("asking")
        return whole, [delta async for delta in stream][-1].completion

    laws = subject.logprobs(one.prompt_token_ids, full.token_ids)[:, list(ids)]
    for completion in opened.run(work):
        assert completion.token_ids == full.token_ids[: len(completion.token_ids)]
        assert len(completion.token_ids) >= 2
        np.testing.assert_allclose(completion.chosen_logprobs, laws[: len(completion.token_ids)], atol=1e-3)


def test_a_slow_reader_gets_the_same_numbers(opened, subject):
    """vLLM merges what waits for its reader by id: an id that was drawn and asked for has one number there, not two."""
    one, full = long_one(opened, subject)
    one = replace(one, sampling=replace(one.sampling, logprob_token_ids=tuple(range(subject.size))))

    async def work(engine):
        deltas = []
        async for delta in engine.stream(one):
            deltas.append(delta)
            await asyncio.sleep(0.02)
        return deltas

    deltas = opened.run(work)
    assert sum((delta.token_ids for delta in deltas), ()) == full.token_ids
    completion = deltas[-1].completion
    assert completion.token_ids == full.token_ids
    laws = subject.logprobs(one.prompt_token_ids, full.token_ids)
    np.testing.assert_allclose(completion.logprobs, laws[np.arange(len(laws)), list(full.token_ids)], atol=1e-3)
    np.testing.assert_allclose(completion.chosen_logprobs, laws, atol=1e-3)


def test_ids_that_the_model_does_not_have_are_refused(opened, subject):
    for strange in (-1, 10**6):
        with pytest.raises(ConfigError, match=f"logprob_token_ids.*{strange}|{strange}.*logprob_token_ids"):
            draw_one(opened, subject.prompts[0], logprob_token_ids=(2, strange))


def test_without_logprobs_there_are_none(opened, subject):
    completion = draw_one(opened, subject.prompts[0], logprobs=False)
    assert completion.logprobs is None
    assert completion.sampling_logprobs is None
    assert completion.token_ids == draw_one(opened, subject.prompts[0]).token_ids


# Ends


def test_a_stop_token_ends_it_and_is_kept(opened, subject):
    one, full = find(opened, subject, lambda completion: len(set(completion.token_ids[:8])) > 3)
    last = max(full.token_ids.index(token) for token in full.token_ids[:8])
    stop = full.token_ids[last]
    assert stop not in opened.engine.tokenizer.eos_token_ids
    stopped = draw_one(opened, one.prompt_token_ids, seed=one.sampling.seed, stop_token_ids=(stop,))
    assert stopped.token_ids == full.token_ids[: last + 1]
    assert stopped.finish_reason is FinishReason.STOP


def test_a_stop_string_ends_it_with_the_token_that_completes_it(opened, subject):
    """The string spans three tokens, and its first characters have appeared before in vain."""
    decode = opened.engine.tokenizer.decode
    one, full = find(opened, subject, lambda completion: len(decode(completion.token_ids[11:14])) == 3)
    stop = decode(full.token_ids[11:14])
    end = next(i for i in range(len(full.token_ids)) if stop in decode(full.token_ids[: i + 1]))
    stopped = draw_one(opened, one.prompt_token_ids, seed=one.sampling.seed, stop=("no such text", stop))
    assert stopped.token_ids == full.token_ids[: end + 1]
    assert stopped.finish_reason is FinishReason.STOP
    assert len(stopped.logprobs) == end + 1


def test_eos_ends_it_as_eos_even_if_it_is_a_stop_token_too(opened, subject):
    eos = opened.engine.tokenizer.eos_token_ids
    one, full = find(opened, subject, lambda completion: completion.finish_reason is FinishReason.EOS)
    assert full.token_ids[-1] in eos
    assert not eos.intersection(full.token_ids[:-1])
    again = draw_one(opened, one.prompt_token_ids, seed=one.sampling.seed, stop_token_ids=tuple(eos))
    assert again.token_ids == full.token_ids
    assert again.finish_reason is FinishReason.EOS


def test_max_tokens_ends_it_as_length(opened, subject):
    one, full = find(opened, subject, lambda completion: len(completion.token_ids) > 6)
    cut = draw_one(opened, one.prompt_token_ids, seed=one.sampling.seed, max_tokens=5)
    assert cut.token_ids == full.token_ids[:5]
    assert cut.finish_reason is FinishReason.LENGTH


def test_a_stop_on_the_very_last_token_is_a_stop(opened, subject):
    one, full = find(opened, subject, lambda completion: len(completion.token_ids) > 6)
    stop = full.token_ids[4]
    cut = full.token_ids.index(stop) + 1
    keywords = {"seed": one.sampling.seed, "max_tokens": cut, "stop_token_ids": (stop,)}
    assert draw_one(opened, one.prompt_token_ids, **keywords).finish_reason is FinishReason.STOP


def test_the_context_ends_it_as_length(opened, subject):
    filler = subject.prompts[-1][-4:]
    prompt = (*subject.prompts[0], *filler * subject.context)[: subject.context - 3]
    completions = draw(opened, [request(prompt, seed=seed, max_tokens=64) for seed in range(32)])
    assert max(len(completion.token_ids) for completion in completions) == 3
    full = [c for c in completions if len(c.token_ids) == 3 and c.finish_reason is not FinishReason.EOS]
    assert full
    assert {completion.finish_reason for completion in full} == {FinishReason.LENGTH}
    laws = subject.logprobs(prompt, full[0].token_ids)
    np.testing.assert_allclose(full[0].logprobs, laws[range(3), list(full[0].token_ids)], atol=1e-3)


def test_requests_that_can_not_work_are_refused(opened, subject):
    with pytest.raises(ContextError, match="context"):
        draw_one(opened, subject.prompts[0][:1] * subject.context)
    with pytest.raises(ContextError, match="no tokens"):
        draw_one(opened, ())
    with pytest.raises(ConfigError, match="in flight"):
        draw(opened, [request(subject.prompts[0], name="twin", max_tokens=4)] * 2)


# Cancelling


def long_one(opened, subject, name=""):
    """A request that takes a while, and what it writes undisturbed."""
    most = subject.context * 3 // 4
    one, full = find(
        opened, subject, lambda completion: len(completion.token_ids) >= most // 2, among=16, max_tokens=most
    )
    return request(one.prompt_token_ids, seed=one.sampling.seed, max_tokens=most, name=name), full


async def second_delta(stream):
    """Wait until two deltas have come."""
    await anext(stream)
    await anext(stream)


def check_cancelled(completion, full):
    written = len(completion.token_ids)
    assert completion.finish_reason is FinishReason.CANCELLED
    assert completion.token_ids == full.token_ids[:written]
    assert completion.usage.requests == 1
    assert completion.usage.generated_tokens == 0
    assert completion.usage.aborted_tokens == written
    assert written < len(full.token_ids)


def test_an_aborted_request_returns_what_it_has(opened, subject):
    one, full = long_one(opened, subject, name="victim")
    companion = replace(one, id="companion")

    async def work(engine, tokens):
        victim = asyncio.ensure_future(engine.generate(one))
        stream, seen = engine.stream(companion), 0
        while seen < tokens:
            seen += len((await anext(stream)).token_ids)
        await engine.abort("victim")
        await engine.abort("nobody")
        rest = [delta async for delta in stream]
        return await victim, rest[-1].completion

    # How far the victim is by then is not known where it has a connection of its own: later until it has some tokens.
    for tokens in (8, 16, 32, 64, 8, 16, 32, 64):
        completion, other = opened.run(lambda engine, tokens=tokens: work(engine, tokens))
        assert other.token_ids == full.token_ids  # nobody else notices
        if completion.token_ids and completion.finish_reason is FinishReason.CANCELLED:
            break
    check_cancelled(completion, full)
    assert completion.token_ids
    assert len(completion.logprobs) == len(completion.token_ids)
    usage = completion.usage
    assert usage.prompt_tokens_computed + usage.prompt_tokens_cached == len(one.prompt_token_ids)


def test_aborting_frees_the_slot(cheap):
    """One slot, held by a request; another waits. Both are aborted, and a third gets the slot."""
    with cheap.open(slots=1) as opened:
        holder, full = long_one(opened, cheap, name="holder")

        async def work(engine):
            stream = engine.stream(holder)
            await second_delta(stream)
            waiting = asyncio.ensure_future(engine.generate(request(cheap.prompts[0], name="waiting")))
            await asyncio.sleep(0)
            await engine.abort("waiting")
            unborn = await waiting
            third = asyncio.ensure_future(engine.generate(request(cheap.prompts[1], name="waiting")))
            await engine.abort("holder")
            held = [delta async for delta in stream][-1].completion
            return held, unborn, await asyncio.wait_for(third, PATIENCE)

        held, unborn, third = opened.run(work)
        check_cancelled(held, full)
        assert (unborn.token_ids, unborn.finish_reason) == ((), FinishReason.CANCELLED)
        assert unborn.usage.prompt_tokens_computed == 0  # it never ran
        assert third.token_ids == draw_one(opened, cheap.prompts[1]).token_ids


def test_cancelling_the_task_lets_go_before_it_is_over(cheap):
    """By the time the cancellation arrives, the id is free and the only slot is too."""
    with cheap.open(slots=1) as opened:
        one, full = long_one(opened, cheap, name="mine")

        async def work(engine):
            task = asyncio.create_task(engine.generate(one))
            await asyncio.sleep(0.001)
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.wait_for(engine.generate(one), PATIENCE)

        assert opened.run(work).token_ids == full.token_ids


def test_cancelling_a_task_leaves_the_others_alone(opened, subject):
    one, full = long_one(opened, subject)
    requests = many(subject)
    undisturbed = draw(opened, requests)

    async def work(engine):
        task = asyncio.create_task(engine.generate(one))
        others = asyncio.gather(*map(engine.generate, requests))
        await asyncio.sleep(0 if subject.recorded else 0.005)  # what was recorded is over in no time
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await others, await engine.generate(one)

    others, again = opened.run(work)
    assert differing(others, undisturbed) <= subject.mismatches
    assert again.token_ids == full.token_ids


def test_a_reader_that_leaves_a_stream_frees_the_slot(cheap):
    with cheap.open(slots=1) as opened:
        one, _ = long_one(opened, cheap, name="left")

        async def work(engine):
            stream = engine.stream(one)
            await second_delta(stream)
            await stream.aclose()
            return await asyncio.wait_for(engine.generate(one), PATIENCE)

        assert opened.run(work).finish_reason is not FinishReason.CANCELLED


def test_closing_ends_what_is_in_flight_as_cancelled(cheap):
    with cheap.open(slots=1) as opened:
        one, full = long_one(opened, cheap)

        async def work(engine):
            tasks = [asyncio.create_task(engine.generate(one)) for _ in range(3)]
            await asyncio.sleep(0.001)
            await engine.aclose()
            return await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)

        for completion in opened.run(work):
            check_cancelled(completion, full)


# Ids, counts, capabilities


def test_completions_go_on_from_their_own_ids(opened, subject):
    """Nothing is lost or added on the way out and in again: greedy in two pieces is greedy in one."""
    whole = draw(opened, many(subject, temperature=0.0, max_tokens=24))
    heads = draw(opened, many(subject, temperature=0.0, max_tokens=10))
    split = [
        (head, request(prompt + head.token_ids, temperature=0.0, max_tokens=14))
        for prompt, head in zip(subject.prompts, heads, strict=True)
        if head.finish_reason is FinishReason.LENGTH
    ]
    tails = draw(opened, [rest for _, rest in split])
    joined = [head.token_ids + tail.token_ids for (head, _), tail in zip(split, tails, strict=True)]
    assert len(joined) > 8
    assert joined == [one.token_ids for one in whole if len(one.token_ids) > 10]


def test_usage_adds_up(opened, subject):
    for one, completion in zip(many(subject), draw(opened, many(subject)), strict=True):
        usage = completion.usage
        assert usage.requests == 1
        assert usage.prompt_tokens_computed + usage.prompt_tokens_cached == len(one.prompt_token_ids)
        assert usage.generated_tokens == len(completion.token_ids)
        assert (usage.overrun_tokens, usage.aborted_tokens, usage.scored_tokens) == (0, 0, 0)


def test_streams_join_to_the_completion(opened, subject):
    one, full = long_one(opened, subject)

    async def work(engine):
        return [delta async for delta in engine.stream(one)]

    deltas = opened.run(work)
    assert sum((delta.token_ids for delta in deltas), ()) == full.token_ids
    assert deltas[-1].completion.token_ids == full.token_ids
    assert all(delta.completion is None for delta in deltas[:-1])
    assert len(deltas) > 4  # it came in pieces


def test_capabilities_are_honest(opened, subject):
    info = opened.engine.info
    assert info.engine == subject.name
    assert info.context_length == subject.context
    assert info.capabilities == CAPABILITIES[subject.recorded or subject.name]
    completion = draw_one(opened, subject.prompts[0])
    assert (completion.logprobs is not None) == (Capability.LOGPROBS in info.capabilities)
    assert (completion.sampling_logprobs is not None) == (Capability.SAMPLING_LOGPROBS in info.capabilities)
    shared = (*subject.prompts[-1], *subject.prompts[-2], *subject.prompts[-3])[: subject.context - 2]
    repeated = [draw_one(opened, shared, seed=seed, max_tokens=1).usage for seed in range(2)]
    assert (repeated[1].prompt_tokens_cached > 0) == (Capability.PREFIX_CACHE in info.capabilities)
    assert completion.usage.generated_tokens <= TOKENS


# vLLM alone


@VLLM
def test_vllm_takes_as_many_ids_as_it_has_places_for(opened, subject):
    fits, exceeds = (request((1, 7), max_tokens=1, logprob_token_ids=(2,) * count) for count in (128, 129))
    assert len(draw(opened, [fits])[0].chosen_logprobs[0]) == 128
    with pytest.raises(ConfigError, match="129 ids, and vLLM takes 128"):
        draw(opened, [exceeds])


@pytest.mark.engine
def test_vllm_that_reports_other_logprobs_is_not_asked_for_those_of_ids(policy_folder):
    """It alone needs an engine of its own: the rest share one."""
    random_policy(policy_folder)
    with open_engine(str(policy_folder), "vllm", logprobs_mode="processed_logprobs") as opened:
        assert Capability.CHOSEN_LOGPROBS not in opened.engine.info.capabilities
        with pytest.raises(CapabilityError, match="chosen_logprobs"):
            draw_one(opened, (1, 7), max_tokens=1, logprob_token_ids=(2,))


# The transformers engine alone


@pytest.fixture
def policy_engine(policy_folder):
    with SUBJECTS["transformers"](policy_folder).open(slots=3) as opened:
        yield opened


def test_a_step_that_fails_tells_everybody_and_the_engine_goes_on(policy_folder, policy_engine):
    """Five requests over three slots: those in slots and those in the queue hear of it, with the cause."""
    subject = SUBJECTS["transformers"](policy_folder)
    before = draw(policy_engine, many(subject))
    model = policy_engine.engine._batch._model._model
    calls = iter(range(1000))

    def fails_once(*_):
        if next(calls) == 3:
            raise ValueError("out of luck")

    hook = model.register_forward_pre_hook(fails_once)

    async def work(engine):
        tasks = [engine.generate(one) for one in many(subject)[:5]]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)

    errors = policy_engine.run(work)
    hook.remove()
    assert all(isinstance(error, EngineError) and "out of luck" in str(error) for error in errors)
    assert all(isinstance(error.__cause__, ValueError) for error in errors)
    assert differing(before, draw(policy_engine, many(subject))) <= subject.mismatches


def test_logits_that_are_not_numbers_never_become_tokens(policy_folder, policy_engine):
    """And what they left in the cache touches nobody: weight 0 times NaN is NaN."""
    subject = SUBJECTS["transformers"](policy_folder)
    before = draw(policy_engine, many(subject))
    embedding = policy_engine.engine._batch._model._model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda *arguments: arguments[2] * float("nan"))
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineError, match="not finite"):
            draw_one(policy_engine, subject.prompts[-1], temperature=temperature)
    hook.remove()
    assert differing(before, draw(policy_engine, many(subject))) <= subject.mismatches


def test_an_id_outside_the_vocabulary_harms_nobody(policy_folder, policy_engine):
    subject = SUBJECTS["transformers"](policy_folder)

    async def work(engine):
        bad = [request((1, subject.size)), request((-1,))]
        return await asyncio.gather(*map(engine.generate, [*bad, *many(subject)[:2]]), return_exceptions=True)

    too_large, negative, *good = policy_engine.run(work)
    assert isinstance(too_large, ConfigError)
    assert isinstance(negative, ConfigError)
    assert [one.usage.requests for one in good] == [1, 1]


def test_a_closed_engine_says_so_and_its_thread_is_gone(policy_folder):
    subject, before = SUBJECTS["transformers"](policy_folder), set(threading.enumerate())
    with subject.open() as opened:
        draw_one(opened, subject.prompts[0])
        assert any(thread.name.startswith("bethink-transformers") for thread in set(threading.enumerate()) - before)
        opened.run(lambda engine: engine.aclose())
        opened.run(lambda engine: engine.aclose())
        with pytest.raises(EngineError, match="closed"):
            draw_one(opened, subject.prompts[0])
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "at least 1"),
        ({"dtype": "float3"}, "bfloat16"),
        ({"device": "abacus"}, "cuda:0"),
        ({"max_context": 257}, "8 to 256"),
        ({"gpu_memory_utilization": 0.9}, "no option"),
    ],
)
def test_options_that_can_not_work_are_refused(policy_folder, options, message):
    SUBJECTS["transformers"](policy_folder)
    with pytest.raises(ConfigError, match=message):
        open_engine(str(policy_folder), "transformers", **options)


TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 23}
GROUPED = {**TINY, "num_key_value_heads": 2, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("name", "settings", "context"),
    [
        ("Llama", GROUPED, 64),
        ("GPT2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 48, "vocab_size": 23}, 48),
        ("OPT", {**TINY, "ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}, 64),
        ("Qwen3", {**GROUPED, "head_dim": 16, "tie_word_embeddings": True}, 64),
        ("Mistral", {**GROUPED, "sliding_window": 40}, 40),
        ("Gemma2", {**GROUPED, "head_dim": 8, "sliding_window": 40}, 40),
        ("Phi3", {**GROUPED, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}, 64),
        ("Mixtral", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}, 64),
        ("GPTNeoX", {**TINY, "max_position_embeddings": 64}, 64),
    ],
)
def test_models_of_other_families_compute_what_they_compute_alone(tmp_path, name, settings, context):
    """Random weights, ragged rows that come and go, up to the end of the context."""
    model = save_random(name, settings, tmp_path)
    with open_engine(str(tmp_path), "transformers", slots=3, threads=1) as opened:
        assert opened.engine.info.context_length == context
        prompts = [tuple(3 + (7 * i + j * j) % 20 for j in range(1 + 3 * i)) for i in range(6)]
        requests = [request(prompt, seed=i, max_tokens=64) for i, prompt in enumerate(prompts)]
        longest = 0
        for one, completion in zip(requests, draw(opened, requests), strict=True):
            laws = plain_logprobs(model, one.prompt_token_ids, completion.token_ids)
            chosen = laws[np.arange(len(laws)), list(completion.token_ids)]
            np.testing.assert_allclose(completion.logprobs, chosen, atol=1e-3)
            longest = max(longest, len(one.prompt_token_ids) + len(completion.token_ids))
        assert longest == context


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 23}),
        ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 23}),
    ],
)
def test_models_that_slots_do_not_fit_are_refused_when_opened(tmp_path, name, settings):
    """Rather than answering wrongly: these keep no cache of keys, or read positions off the mask."""
    save_random(name, settings, tmp_path)
    with pytest.raises(ConfigError, match="vllm"):
        open_engine(str(tmp_path), "transformers")


def save_random(name, settings, folder):
    import torch
    import transformers

    from training.policy import tokenizer

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, f"{name}ForCausalLM", None) or transformers.GPT2LMHeadModel
    model = model(config).eval()
    for parameter in model.get_input_embeddings().parameters():
        parameter.data *= 20
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


# Stop strings


@pytest.mark.parametrize("stops", [("ab",), ("é",), ("日本",), ("a日", "🙂"), ("\n\n",), ("b",)])
def test_stop_strings_are_found_where_the_whole_text_first_holds_them(stops):
    """A byte a token, so characters of up to four bytes come in pieces: compared with decoding everything each time."""
    rng = np.random.default_rng(0)
    letters = list("ab\né日本🙂")

    def decode(ids):
        return bytes(ids).decode(errors="replace")

    found = 0
    for _ in range(200):
        ids = list("".join(rng.choice(letters, 12)).encode())
        if rng.random() < 0.3:
            ids.insert(int(rng.integers(len(ids))), 0xFF)  # a byte that belongs to no character
        want = next((i for i in range(len(ids)) if any(stop in decode(ids[: i + 1]) for stop in stops)), None)
        search = StopStrings(stops, decode)
        got = next((i for i, token in enumerate(ids) if search.feed(token)), None)
        assert got == want, ids
        found += got is not None
    assert found > 20


def test_stop_strings_are_found_across_tokens_that_lose_their_space_at_the_start_of_a_text():
    """As in SentencePiece: a decoded piece depends on whether anything stands before it."""
    words = ["\u2581the", "\u2581end", "of", "\u2581", "."]

    def decode(ids):
        return "".join(words[i] for i in ids).replace("\u2581", " ").removeprefix(" ")

    rng = np.random.default_rng(0)
    for stop in ("the end", "end.", " .", "endof the", "  "):
        for _ in range(100):
            ids = rng.integers(len(words), size=10).tolist()
            want = next((i for i in range(10) if stop in decode(ids[: i + 1])), None)
            search = StopStrings([stop], decode)
            assert next((i for i, token in enumerate(ids) if search.feed(token)), None) == want


def test_looking_for_stop_strings_reads_a_few_tokens_however_long_the_text():
    lengths = []

    def decode(ids):
        lengths.append(len(ids))
        return "x" * len(ids)

    search = StopStrings(["never"], decode)
    assert not any(search.feed(0) for _ in range(500))
    assert max(lengths) <= 2
