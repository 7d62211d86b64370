"""Strategies of two prompts: what the second sees of the first, budgets, seeds, the pool."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from decoding.types import FinishReason
from evals.prompts import TEMPLATES, render
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run, RunSettings
from reasoning.strategies.concise_organized_perception import ConciseOrganizedPerception
from reasoning.strategies.evidence_to_generate import EvidenceToGenerate
from reasoning.strategies.two_stage import asked
from reasoning.trace import Prepared, Sampled, Stopped
from tests.worlds import ShuffledDelivery, settings
from verifiers.numeric import NumberFormat

QUESTION = "Ann has 12 pens.\nBob is tall.\nAnn gives 5 pens away. How many pens has Ann?"
END, ASCII = "\0", tuple(map(chr, range(128)))


@dataclass(frozen=True)
class Speaker:
    """A model that reads its prompt: `says` gives the texts that it may go on with and their probabilities."""

    says: Callable[[str], dict[str, float]]
    boundary: str  # the last words of every prompt; what follows is the model's own
    vocabulary: tuple[str, ...] = ASCII
    eos_token_ids: frozenset[int] = frozenset({0})

    def law(self, prefix):
        prompt, _, written = "".join(map(chr, prefix)).rpartition(self.boundary)
        law = np.zeros(len(self.vocabulary))
        for text, share in self.says(prompt).items():
            if (text + END).startswith(written):
                law[ord((text + END)[len(written)])] += share
        return law / law.sum()


def evidence_speaker(prompt):
    """Extracts evidence from a problem; computes only from evidence that has both numbers and no third."""
    if "Bob" in prompt:
        return {"Evidence and explanation: Ann has 12 pens.\nShe gives 5 away.\nAnswer: 99": 1.0}
    return {"So 12 - 5.\nAnswer: 7": 0.7, "So 12.\nAnswer: 12": 0.3} if "12" in prompt else {"Answer: 0": 1.0}


def perceiving_speaker(prompt):
    if "Do not answer" in prompt:
        return {"Ann has -> pens\n**Organized statements:**\nAnn: 12 pens\nAnn: -5 pens\n": 1.0}
    return {"Answer: 7": 0.7, "Answer: 12": 0.3} if "Ann: 12 pens" in prompt else {"Answer: 0": 1.0}


# The last words of the prompts: of both steps of E2G, of the first and of the second stage of COP.
ENDS = "How many pens has Ann?"
E2G, COP = EvidenceToGenerate(n=12), ConciseOrganizedPerception(n=12)


class CopSpeaker(Speaker):
    def law(self, prefix):
        text = "".join(map(chr, prefix))
        boundary = "your answer" if "your answer" in text else self.boundary
        return Speaker(self.says, boundary).law(prefix)


def engine_for(strategy, slots=64):
    if isinstance(strategy, EvidenceToGenerate):
        return ScriptedEngine(Speaker(evidence_speaker, ENDS), slots=slots)
    return ScriptedEngine(CopSpeaker(perceiving_speaker, ENDS), slots=slots)


def solve(strategy, engine=None, *, question=QUESTION, pool=None, budget=None, max_tokens=200, seed=0):
    async def work():
        opened = engine or engine_for(strategy)
        base = settings(opened, max_tokens=max_tokens, budget=budget, seed=seed)
        run = Run(
            RunSettings(**{**{f: getattr(base, f) for f in base.__slots__}, "answers": NumberFormat()}), "p", pool=pool
        )
        prompt = render(TEMPLATES["plain"], question, opened.tokenizer)
        return await execute(strategy, run, prompt)

    return asyncio.run(work())


def prompts_of(result):
    return {"".join(map(chr, c.trajectory.prompt.token_ids)) for c in result.candidates}


BOTH = pytest.mark.parametrize("strategy", [E2G, COP], ids=lambda s: s.name)


@BOTH
def test_the_answer_comes_from_what_the_first_stage_kept(strategy):
    result = solve(strategy)
    assert result.answer == "7"
    assert Counter(c.answer for c in result.candidates).keys() == {"7", "12"}  # drawn, not copied
    (prompt,) = prompts_of(result)
    assert "Bob" not in prompt  # pruned, and the problem itself is not posed again
    assert prompt.count("How many pens has Ann?") == 1
    assert "99" not in prompt  # of the evidence step, its answer is not evidence
    prepared, *samples = [event for event in result.trace if isinstance(event, Prepared | Sampled)]
    assert isinstance(prepared, Prepared)
    assert prepared.text in prompt
    assert [sample.slot for sample in samples] == list(range(12))


def test_the_second_step_may_have_the_problem_too():
    (prompt,) = prompts_of(solve(EvidenceToGenerate(context="both")))
    assert "She gives 5 away." in prompt
    assert "Bob is tall." in prompt
    with pytest.raises(ConfigError, match="evidence or both"):
        EvidenceToGenerate(context="none")


@BOTH
def test_nothing_depends_on_slots_or_on_the_order_of_arrival(strategy):
    def seen(result):
        return [(c.slot, c.trajectory.generated_ids) for c in result.candidates], result.chosen, result.trace

    expected = seen(solve(strategy))
    assert seen(solve(strategy, engine_for(strategy, slots=1))) == expected
    assert seen(solve(strategy, ShuffledDelivery(engine_for(strategy), 1))) == expected
    assert seen(solve(strategy, seed=1)) != expected


@BOTH
@pytest.mark.parametrize("tokens", [1, 30, 90, 150])
def test_budgets_in_tokens_hold_over_both_stages(strategy, tokens):
    result = solve(strategy, budget=Budget(generated_tokens=tokens))
    assert result.usage.decoded_tokens <= tokens
    assert result.stop_reason == "budget"
    assert isinstance(result.trace[-1], Stopped)


@BOTH
def test_the_first_stage_counts_as_a_sample(strategy):
    for samples in (1, 2, 5):
        result = solve(strategy, budget=Budget(samples=samples))
        assert len(result.candidates) == samples - 1
        assert result.trace[-1].samples == samples
    assert len(solve(strategy, budget=Budget(samples=strategy.most_samples)).candidates) == strategy.n


class RecordingPool:
    """A pool that would answer anything."""

    def __init__(self):
        self.asked = []

    def find(self, request):
        self.asked.append(request)

    def add(self, request, slot, completion):
        self.asked.append(request)


@BOTH
def test_no_stage_is_taken_for_a_sample_of_the_task(strategy):
    pool = RecordingPool()
    solve(strategy, pool=pool)
    assert pool.asked == []


@BOTH
def test_the_torn_line_of_a_first_stage_that_was_cut_is_not_given_on(strategy):
    # Cut within "12" resp. the organised statements: nothing but whole lines goes on.
    whole = solve(strategy)
    text = next(event for event in whole.trace if isinstance(event, Prepared)).text
    for limit in range(1, 70):
        event = next(e for e in solve(strategy, max_tokens=limit).trace if isinstance(e, Prepared))
        cut = event.finish_reason is FinishReason.LENGTH
        assert event.text == text or (cut and event.text in ("", *_beginnings(text)))


def _beginnings(text):
    lines = text.split("\n")
    return ["\n".join(lines[:end]) for end in range(len(lines))]


@BOTH
def test_a_first_stage_without_yield_leaves_the_problem_as_it_is(strategy):
    def says(prompt):
        return {"Answer: 3": 1.0} if "your answer" in prompt else {"no idea": 1.0}

    speaker = Speaker(says, ENDS) if strategy is E2G else CopSpeaker(says, ENDS)
    result = solve(strategy, ScriptedEngine(speaker))
    assert all(QUESTION in prompt for prompt in prompts_of(result))


@pytest.mark.parametrize(
    ("question", "query"),
    [
        (QUESTION, "How many pens has Ann?"),
        ("He has 1.5 kg. What is left? Give kg.", "What is left? Give kg."),
        ("Is it? It is.\nHow many\nare 3.5 dogs?\nA) 1\nB) 2", "How many\nare 3.5 dogs?\nA) 1\nB) 2"),
        ("Facts:\n\nno stop\n \nWhat now?", "What now?"),
        ("Add 2. Then 3.", "Add 2. Then 3."),
        ("", ""),
    ],
)
def test_what_is_asked_is_the_last_sentence_that_asks(question, query):
    assert asked(question) == query
