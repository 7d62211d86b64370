"""Recordings: what was drawn once is drawn again, without the model."""

import asyncio
import json
from pathlib import Path

import pytest

from decoding.engines import replay
from decoding.engines.open import describe, open_engine
from decoding.engines.recording import Recorder, Recording
from decoding.engines.replay import ReplayEngine
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, EngineError
from decoding.types import FinishReason, GenerationRequest, SamplingParams
from evals.runner import Evaluation, evaluate
from evals.store import Store, read_rows
from reasoning.strategies import AdaptiveSelfConsistency, BestOfN, RepeatedSampling, SelfConsistency
from tests.worlds import PROMPT, answers_table, settings, task

MODEL = answers_table({"1": 0.45, "2": 0.35, "3": 0.2}, babble=0.9)
STRATEGIES = [AdaptiveSelfConsistency(n=12), SelfConsistency(n=8), BestOfN(n=8), RepeatedSampling(n=16)]


def request(seed=0, prompt=(1,), name="", **sampling):
    return GenerationRequest(id=name, prompt_token_ids=prompt, sampling=SamplingParams(seed=seed, **sampling))


def record(path, requests, context_length=4096):
    """What the scripted engine draws, on file."""

    async def work():
        recorder = Recorder(ScriptedEngine(MODEL, context_length=context_length), path, "scripted")
        drawn = await asyncio.gather(*map(recorder.generate, requests))
        await recorder.aclose()
        return drawn

    return asyncio.run(work())


def player(path):
    return ReplayEngine(Recording.read(path), ScriptedEngine(MODEL).tokenizer)


def play(path, *requests):
    async def work():
        engine = player(path)
        return await asyncio.gather(*map(engine.generate, requests))

    return asyncio.run(work())


def run(folder, engine):
    """An evaluation whose strategies share a pool, cancel what they don't need, and grade."""

    async def work():
        chosen = task(12)
        prompts = {problem.id: PROMPT for problem in chosen.problems}
        evaluation = Evaluation(task=chosen, strategies=STRATEGIES, prompts=prompts, settings=settings(engine))
        with Store(folder, {"task": "digits", "model": "table", "sampling": {"temperature": 1.0}}, {}) as store:
            await evaluate(evaluation, store)
        await engine.aclose()

    asyncio.run(work())


def rows(folder, name):
    """A table's rows without the times; the order is that of arrival."""
    kept = [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(folder, name)]
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))


def test_an_evaluation_played_back_is_the_evaluation(tmp_path):
    """Samples, grades, results and their costs, cancelled requests included: adaptive consistency stops early."""
    path = tmp_path / "recording.jsonl"
    run(tmp_path / "drawn", Recorder(ScriptedEngine(MODEL), path, "scripted"))
    run(tmp_path / "played", player(path))
    for name in ("samples", "grades", "results"):
        assert rows(tmp_path / "played", name) == rows(tmp_path / "drawn", name)
    recorded = Recording.read(path)._completions.values()
    reasons = [[one.finish_reason for one in outcomes] for known in recorded for outcomes in known.values()]
    assert [FinishReason.CANCELLED, FinishReason.EOS] in reasons


def test_everything_of_a_completion_is_recorded(tmp_path):
    requests = [request(seed=seed, temperature=0.7, top_k=3, stop=("1",), logprobs=seed % 2 == 0) for seed in range(20)]
    drawn = record(tmp_path / "r", requests)
    assert play(tmp_path / "r", *requests) == drawn
    assert player(tmp_path / "r").info.slots == ScriptedEngine(MODEL).info.slots


def test_a_recording_goes_on_where_it_was_cut(tmp_path):
    """A kill in the middle of a line loses that line; what is recorded already is not written twice."""
    path, requests = tmp_path / "r", [request(seed=seed) for seed in range(6)]
    drawn = record(path, requests)
    whole = path.read_bytes()
    torn = json.loads(whole.splitlines()[-1])["sampling"]["seed"]  # the last to end
    path.write_bytes(whole[:-25])
    kept = [seed for seed in range(6) if seed != torn]
    assert play(path, *(requests[seed] for seed in kept)) == [drawn[seed] for seed in kept]
    with pytest.raises(EngineError, match="not recorded"):
        play(path, requests[torn])
    again = record(path, requests)
    assert (again, path.read_bytes()) == (drawn, whole)


def test_a_recording_of_something_else_is_refused(tmp_path):
    path = tmp_path / "r"
    record(path, [request()])
    other = ScriptedEngine(MODEL)
    object.__setattr__(other.info, "model", "another")
    with pytest.raises(EngineError, match="'scripted', not 'another'"):
        Recorder(other, path, "scripted")
    for content, words in [("", "can be read"), ("{}\n", "can be read"), ('{"format": 2}\n', "format 2")]:
        path.write_text(content)
        with pytest.raises(EngineError, match=words):
            Recording.read(path)
    with pytest.raises(EngineError, match="record="):
        Recording.read(tmp_path / "none")


def test_what_was_not_recorded_is_told_with_what_is_nearest(tmp_path):
    record(tmp_path / "r", [request(seed=seed, temperature=0.5) for seed in range(3)])
    with pytest.raises(EngineError, match=r"with temperature 0\.5 instead of 0\.6\. Record"):
        play(tmp_path / "r", request(seed=2, temperature=0.6))
    with pytest.raises(EngineError, match=r"with seed . instead of 9"):
        play(tmp_path / "r", request(seed=9, temperature=0.5))
    with pytest.raises(EngineError, match="none of the 1 recorded prompts"):
        play(tmp_path / "r", request(seed=2, prompt=(1, 2)))


def test_what_was_cancelled_waits_to_be_cancelled(tmp_path, monkeypatch):
    async def cancelled(engine):
        work = asyncio.ensure_future(engine.generate(request(name="x", seed=3)))
        for _ in range(60):
            await asyncio.sleep(0)
        await engine.abort("x")
        return await work

    async def draw():
        recorder = Recorder(ScriptedEngine(answers_table({"1": 1.0}, babble=1.0)), tmp_path / "r", "scripted")
        completion = await cancelled(recorder)
        await recorder.aclose()
        return completion

    drawn = asyncio.run(draw())
    assert drawn.finish_reason is FinishReason.CANCELLED
    assert drawn.token_ids
    assert asyncio.run(cancelled(player(tmp_path / "r"))) == drawn
    monkeypatch.setattr(replay, "PATIENCE", 0.05)
    with pytest.raises(EngineError, match="nobody cancels"):
        play(tmp_path / "r", request(seed=3))


def test_what_was_cancelled_for_one_and_drawn_for_the_other_is_both(tmp_path, monkeypatch):
    """Whoever plays back only the second strategy is not kept waiting for the first one's decision."""
    monkeypatch.setattr(replay, "PATIENCE_WITH_END", 0.05)
    [whole] = record(tmp_path / "r", [request(seed=3)])
    head, row = (tmp_path / "r").read_text().splitlines()
    cut = json.loads(row)
    cut["completion"] |= {"finish_reason": "cancelled", "token_ids": whole.token_ids[:1]}
    (tmp_path / "r").write_text("\n".join([head, json.dumps(cut), row, ""]))
    assert play(tmp_path / "r", request(seed=3)) == [whole]

    async def work():
        engine = player(tmp_path / "r")
        stream = engine.stream(request(seed=3, name="x"))
        await anext(stream)
        await engine.abort("x")
        first = [delta async for delta in stream][-1].completion
        return first, await engine.generate(request(seed=3))

    first, second = asyncio.run(work())
    assert (first.finish_reason, first.token_ids) == (FinishReason.CANCELLED, whole.token_ids[:1])
    assert second == whole


def test_any_engine_records_and_its_tokenizer_is_found_again(tmp_path):
    path = tmp_path / "r.jsonl"

    async def work(engine):
        prompt = engine.tokenizer.encode("12,+30\n")
        requests = [request(seed=seed, prompt=prompt, max_tokens=24) for seed in range(4)]
        streamed = [delta async for delta in engine.stream(request(seed=9, prompt=prompt, max_tokens=24))]
        return await asyncio.gather(*map(engine.generate, requests)), streamed

    with open_engine("reference-small", "transformers", slots=4, threads=1, record=path) as opened:
        drawn, streamed = opened.run(work)
        text = opened.engine.tokenizer.decode(drawn[0].token_ids)
    with open_engine(str(path), "replay") as opened:
        assert opened.run(work) == (drawn, streamed)
        assert opened.engine.tokenizer.decode(drawn[0].token_ids) == text
        assert (opened.engine.info.engine, opened.engine.info.model) == ("replay", "reference-small")
    model = describe(str(path), "replay", {})
    assert (model.source.name, Path(model.source.path), model.context_length > 0) == ("reference-small", path, True)
    with pytest.raises(ConfigError, match="no option"):
        open_engine(str(path), "replay", slots=3)
