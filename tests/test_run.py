"""The run handle: seeds from paths, hard budgets that do not depend on arrival, cancelling, charging."""

import asyncio
import time

import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, SeedError
from decoding.types import FinishReason, GenerationRequest, SamplingParams
from reasoning.budget import Budget, Ledger
from reasoning.run import Run
from tests.worlds import PROMPT, RandomModel, answers_table, settings

LONG = answers_table({"1": 1.0}, babble=0.95)  # 20 tokens of babble on average


def make_run(engine, **keywords) -> Run:
    return Run(settings(engine, **keywords), "p")


def test_a_seed_path_used_twice_raises():
    async def work():
        run = make_run(ScriptedEngine(LONG))
        run.seed("sample", 0)
        run.seed("sample", "0")  # another path: the types differ
        with pytest.raises(SeedError, match="used before"):
            run.seed("sample", 0)

    asyncio.run(work())


def test_a_budget_of_zero_is_refused():
    for field in ("samples", "generated_tokens", "scored_tokens", "flops", "seconds"):
        with pytest.raises(ConfigError, match=field):
            Budget(**{field: 0})


def test_tokens_are_never_exceeded_and_a_clamped_completion_reads_budget():
    """However the budget cuts, decoded tokens stay within it and `length` never stands for the budget."""

    async def work(limit):
        run = make_run(ScriptedEngine(LONG, slots=3), max_tokens=30, budget=Budget(generated_tokens=limit))
        reasons, slot = [], 0
        while True:
            requests = []
            while (request := run.request(PROMPT, "sample", slot)) is not None:
                requests.append(request)
                slot += 1
            if not requests:
                break
            reasons += [completion.finish_reason for completion in await run.gather(requests)]
        assert run.usage.decoded_tokens <= limit
        assert limit - run.usage.decoded_tokens < 1 or run.request(PROMPT, "x", 0) is None
        return run.usage.decoded_tokens, reasons

    for limit in (1, 7, 29, 30, 31, 64, 200):
        decoded, reasons = asyncio.run(work(limit))
        assert decoded == limit  # nothing is left over while a sample still fits
        assert set(reasons) <= {FinishReason.EOS, FinishReason.LENGTH, FinishReason.BUDGET}
        if limit < 30:
            assert FinishReason.LENGTH not in reasons


def test_who_is_clamped_does_not_depend_on_the_batch():
    async def work(slots):
        run = make_run(ScriptedEngine(LONG, slots=slots), max_tokens=40, budget=Budget(generated_tokens=150))
        seen, slot = [], 0
        while requests := [r for _ in range(3) if (r := run.request(PROMPT, "sample", (slot := slot + 1))) is not None]:
            seen += [(c.token_ids, c.finish_reason) for c in await run.gather(requests)]
        return seen

    one, three, many = (asyncio.run(work(slots)) for slots in (1, 3, 64))
    assert one == three == many
    assert len(one) > 3


def test_flops_limit_what_is_computed():
    async def work():
        engine = ScriptedEngine(LONG, parameters=1000)
        run = make_run(engine, max_tokens=30, budget=Budget(flops=2 * 1000 * 25))
        request = run.request(PROMPT, "sample", 0)
        assert request is not None
        assert request.sampling.max_tokens == 24  # 25 tokens' worth, one of them for the prompt
        completion = await run.generate(request)
        assert run.usage.flops == 2 * 1000 * (1 + len(completion.token_ids))
        assert run.usage.flops <= 2 * 1000 * 25

    asyncio.run(work())


def test_samples_are_counted_from_the_prompt_only():
    async def work():
        run = make_run(ScriptedEngine(LONG), budget=Budget(samples=2))
        assert run.request(PROMPT, "sample", 0) is not None
        assert run.request(PROMPT, "sample", 1) is not None
        assert run.request(PROMPT, "sample", 2) is None
        assert run.samples == 2

    asyncio.run(work())


def test_leaving_in_order_early_cancels_frees_slots_and_charges_what_was_spent():
    async def work():
        engine = ScriptedEngine(answers_table({"1": 1.0}, babble=1.0), slots=4)  # never ends by itself
        run = make_run(engine, max_tokens=10_000 // 4)
        requests = [run.request(PROMPT, "sample", i, max_tokens=10 if i == 0 else 2000) for i in range(4)]
        async with run.in_order(requests) as completions:
            async for completion in completions:
                assert completion.finish_reason is FinishReason.LENGTH
                break
        assert run.usage.generated_tokens == 10
        assert 30 <= run.usage.aborted_tokens < 3 * 60  # the others were under way and stopped at once
        assert run.usage.decoded_tokens == engine.busy_slot_steps
        assert not engine._rows
        await engine.aclose()

    asyncio.run(work())


def test_seconds_end_a_run_and_what_they_cut_reads_budget():
    async def work():
        engine = ScriptedEngine(answers_table({"1": 1.0}, babble=1.0), context_length=10**7)
        run = make_run(engine, max_tokens=10**6, budget=Budget(seconds=0.3))
        start = time.monotonic()
        completion = await run.generate(run.request(PROMPT, "sample", 0))
        assert 0.25 < time.monotonic() - start < 3
        assert completion.finish_reason is FinishReason.BUDGET
        assert run.usage.aborted_tokens == len(completion.token_ids) > 0
        assert run.request(PROMPT, "sample", 1) is None

    asyncio.run(work())


def test_an_error_in_one_request_cancels_its_siblings():
    class Broken(ScriptedEngine):
        async def generate(self, request):
            if request.id.endswith("/1"):
                raise RuntimeError("broken")
            return await super().generate(request)

    async def work():
        engine = Broken(answers_table({"1": 1.0}, babble=1.0))
        run = make_run(engine, max_tokens=1000)
        with pytest.raises(RuntimeError, match="broken"):
            await run.gather([run.request(PROMPT, "sample", i) for i in range(3)])
        assert not engine._rows

    asyncio.run(work())


def test_a_cut_answer_at_the_very_end_is_no_answer():
    """'#5' of '#53' would vote for 5."""

    async def work(max_tokens):
        run = make_run(ScriptedEngine(answers_table({"5": 1.0})), max_tokens=max_tokens)
        completion = await run.generate(run.request(PROMPT, "sample", 0))
        return completion.finish_reason, run.candidate(0, PROMPT, completion).answer

    assert asyncio.run(work(2)) == (FinishReason.LENGTH, None)
    assert asyncio.run(work(3)) == (FinishReason.EOS, "5")


def test_the_ledger_waits_before_it_clamps():
    """A second request is not cut while the first may still give tokens back."""
    ledger = Ledger(Budget(generated_tokens=100))
    take = {"prompt_tokens": 1, "parameters": 1, "sample": True}
    assert ledger.reserve(max_tokens=60, **take).tokens == 60
    assert ledger.reserve(max_tokens=60, **take) is None
    assert ledger.reserve(max_tokens=40, **take) == (40, False)


def test_the_same_request_gives_the_same_completion_whatever_runs_beside_it():
    async def work(slots, order):
        engine = ScriptedEngine(RandomModel(), slots=slots)
        run = make_run(engine)
        requests = [run.request(PROMPT, "sample", i) for i in range(40)]
        completions = await run.gather([requests[i] for i in order])
        return {i: completion.token_ids for i, completion in zip(order, completions, strict=True)}

    forward = list(range(40))
    expected = asyncio.run(work(1, forward))
    for slots in (1, 3, 64):
        assert asyncio.run(work(slots, forward[::-1])) == expected


def test_a_law_that_raises_is_heard_of_by_whoever_asked():
    """It ended the engine's own task, and all requests waited for ever."""

    class Flawed(RandomModel):
        def law(self, prefix):
            if prefix[0] == 5:
                raise KeyError("no such context")
            return super().law(prefix)

    async def work():
        engine = ScriptedEngine(Flawed())
        sampling = SamplingParams(seed=0, max_tokens=4)
        requests = [GenerationRequest(prompt_token_ids=(first,), sampling=sampling) for first in (5, 6)]
        done = await asyncio.wait_for(
            asyncio.gather(*map(engine.generate, requests), return_exceptions=True), timeout=20
        )
        again = await engine.generate(requests[1])
        await engine.aclose()
        return done, again

    (error, completion), again = asyncio.run(work())
    assert isinstance(error, KeyError)
    assert completion.token_ids == again.token_ids
