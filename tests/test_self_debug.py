"""Self-debugging with the real sandbox: what the model is told, when it stops, which program is taken."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.check_score import CheckScore
from reasoning.run import Run
from reasoning.strategies.best_of_n import BestOfN
from reasoning.strategies.repeated_sampling import RepeatedSampling
from reasoning.strategies.resample import ResampleUntilAccepted
from reasoning.strategies.self_debug import Diagnosed, SelfDebug
from reasoning.trace import to_json
from reasoning.trajectory import Prompt
from tests.worlds import ShuffledDelivery, settings
from verifiers.code.check import ExamplesCheck
from verifiers.code.programs import CodeFormat
from verifiers.sandbox.types import Limits
from verifiers.workers import WorkerPool

QUESTION = 'def double(x):\n    """ Twice x.\n    >>> double(2)\n    4\n    >>> double(3)\n    6\n    """\n'
RIGHT, SQUARE, BROKEN = "    return 2 * x\n", "    return x * x\n", "    return x +\n"
ASKED = "fenced block of Python."  # the last words of a repair's prompt


@dataclass(frozen=True)
class Coder:
    """A model that reads its prompt and goes on with one of the texts that `says` gives for it."""

    says: Callable[[str], Mapping[str, float]]
    vocabulary: tuple[str, ...] = tuple(map(chr, range(128)))
    eos_token_ids: frozenset[int] = frozenset({0})

    def law(self, prefix):
        prompt, ask, written = "".join(map(chr, prefix)).rpartition(ASKED)
        if not ask:
            prompt, _, written = "".join(map(chr, prefix)).rpartition('"""\n')
        law = np.zeros(len(self.vocabulary))
        for text, share in self.says(prompt).items():
            if (text + "\0").startswith(written):
                law[ord((text + "\0")[len(written)])] += share
        return law / law.sum()


def fenced(body):
    return f"```python\ndef double(x):\n{body}```"


def improves(prompt):
    """A program that does not parse, one that fails on the second example, the right one: if it is told what failed."""
    if "double(3) == 6" in prompt.rpartition("should hold")[2] and "gives 9" in prompt:
        return {fenced(RIGHT): 1.0}
    if "SyntaxError" in prompt or "does not end well" in prompt or "raises" in prompt:
        return {fenced(SQUARE): 1.0}
    return {BROKEN: 1.0}


def solve(strategy, says=improves, *, check=None, question=QUESTION, delivery=lambda e: e, pool=None, **keywords):
    async def work():
        engine = delivery(ScriptedEngine(Coder(says)))
        quick = ExamplesCheck(limits=Limits(cpu_seconds=1, wall_seconds=4))
        async with WorkerPool(size=1) as workers:
            base = settings(engine, max_tokens=200, check=check or quick, workers=workers, **keywords)
            run = Run(replace(base, answers=CodeFormat()), "p", pool=pool)
            prompt = Prompt.from_text(question, engine.tokenizer)
            return await execute(strategy, run, prompt)

    return asyncio.run(work())


def rounds(result):
    return [(event.slot, event.passed, event.accepted) for event in result.trace if isinstance(event, Diagnosed)]


def test_the_model_is_told_what_failed_until_the_examples_pass():
    result = solve(SelfDebug(rounds=3))
    assert result.stop_reason == "accepted"
    assert rounds(result) == [(0, 0, False), (1, 1, False), (2, 2, True)]
    assert result.answer == fenced(RIGHT)[10:-3].rstrip()
    told = next(event for event in result.trace if isinstance(event, Diagnosed) and event.slot == 1)
    assert "double(3) gives 9" in told.message
    assert to_json(told)["event"] == "Diagnosed"
    prompts = ["".join(map(chr, c.trajectory.prompt.token_ids)) for c in result.candidates]
    assert prompts[0] == QUESTION
    assert prompts[1].startswith(QUESTION + "\n\n```python\n" + QUESTION + BROKEN)
    assert told.message in prompts[2]
    assert BROKEN not in prompts[2]  # of earlier rounds nothing is said


def test_without_feedback_the_same_model_stays_where_it_is():
    """The control: what it draws by itself is never right, however often."""
    assert solve(ResampleUntilAccepted(k=4)).answer is None


@pytest.mark.parametrize(("limit", "slot", "reason"), [(1, 1, "exhausted"), (2, 2, "accepted")])
def test_rounds_are_the_limit_and_the_program_that_comes_furthest_is_taken(limit, slot, reason):
    result = solve(SelfDebug(rounds=limit))
    assert (result.chosen, result.stop_reason) == (slot, reason)
    assert SelfDebug(rounds=limit).most_samples == limit + 1


def test_a_later_program_that_is_worse_is_not_taken():
    result = solve(SelfDebug(rounds=2), lambda prompt: {BROKEN if "gives 9" in prompt else SQUARE: 1.0})
    assert [passed for _, passed, _ in rounds(result)] == [1, 0, 1]
    assert result.chosen == 2  # of equals the last
    result = solve(SelfDebug(rounds=1), lambda prompt: {BROKEN if "gives 9" in prompt else SQUARE: 1.0})
    assert result.chosen == 0


def test_with_a_trace_the_model_sees_values_block_by_block():
    def says(prompt):
        if "should hold" not in prompt:  # the first example holds by chance
            return {"    y = x\n    if x > 2:\n        y = y + 5\n    return y + x\n": 1.0}
        return {fenced(RIGHT if "# y = 8" in prompt else BROKEN): 1.0}

    assert solve(SelfDebug(rounds=1, trace="blocks"), says).stop_reason == "accepted"
    assert solve(SelfDebug(rounds=1), says).stop_reason == "exhausted"
    with pytest.raises(ConfigError, match="none or blocks"):
        SelfDebug(trace="lines")


def test_a_problem_without_examples_ends_after_the_first_program():
    result = solve(SelfDebug(), lambda prompt: {RIGHT: 1.0}, question='def double(x):\n    """ Twice x.\n    """\n')
    assert len(result.candidates) == 1
    assert (result.chosen, result.stop_reason) == (0, "done")


def test_what_was_cut_off_is_no_program_and_the_model_is_told_so():
    def says(prompt):
        return {fenced(RIGHT) if "no complete program" in prompt else RIGHT + "#" * 300: 1.0}

    result = solve(SelfDebug(rounds=1), says)
    assert result.candidates[0].trajectory.finish_reason is FinishReason.LENGTH
    assert result.candidates[0].answer is None
    assert (result.chosen, result.stop_reason) == (1, "accepted")


@pytest.mark.parametrize("tokens", [1, 30, 80])
def test_budgets_in_tokens_hold(tokens):
    result = solve(SelfDebug(), budget=Budget(generated_tokens=tokens))
    assert result.usage.decoded_tokens <= tokens
    assert result.stop_reason == "budget"


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_repairs_count_as_samples(samples):
    assert len(solve(SelfDebug(), budget=Budget(samples=samples)).candidates) == samples


def test_nothing_depends_on_the_order_of_arrival():
    def noisy(prompt):
        return {SQUARE: 0.5, BROKEN: 0.3, fenced(RIGHT): 0.2}

    def seen(result):
        return [c.trajectory.generated_ids for c in result.candidates], result.chosen, result.trace

    expected = seen(solve(SelfDebug(), noisy))
    assert seen(solve(SelfDebug(), noisy, delivery=lambda engine: ShuffledDelivery(engine, 1))) == expected
    assert seen(solve(SelfDebug(), noisy, seed=5)) != expected


class Shelf:
    """A pool that keeps what it is given, by seed."""

    def __init__(self):
        self.kept, self.slots = {}, []

    def find(self, request):
        return self.kept.get(request.sampling.seed)

    def add(self, request, slot, completion):
        self.kept[request.sampling.seed] = completion
        self.slots.append(slot)


def test_the_first_program_is_the_pools_and_repairs_are_not():
    def noisy(prompt):
        return {SQUARE: 0.5, BROKEN: 0.5}

    shelf = Shelf()
    drawn = solve(RepeatedSampling(n=3), noisy, pool=shelf)
    result = solve(SelfDebug(), noisy, pool=shelf)
    assert result.candidates[0].trajectory == drawn.candidates[0].trajectory
    assert shelf.slots == [0, 1, 2]


def test_best_of_n_by_the_check_takes_the_first_program_that_passes():
    def noisy(prompt):
        return {SQUARE: 0.4, BROKEN: 0.3, RIGHT: 0.3}

    result = solve(BestOfN(n=8, score=CheckScore()), noisy)
    texts = [candidate.text for candidate in result.candidates]
    assert [candidate.score for candidate in result.candidates] == [float(text == RIGHT) for text in texts]
    assert result.chosen == texts.index(RIGHT) > 0


def test_another_check_is_refused():
    class Other:
        oracle, name = False, "other"

        def accept(self, question, text):
            return True

    with pytest.raises(ConfigError, match="take a code task"):
        solve(SelfDebug(), check=Other())
