"""Grading: cheap comparisons here, dear ones in worker programs, one notion of equality for votes and grades."""

import asyncio
import os
import time
from dataclasses import dataclass

import pytest

from decoding.errors import ConfigError
from verifiers.base import Extraction, Outcome, Verdict
from verifiers.grading import Grading
from verifiers.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class Sum:
    """Sums of digits are equal if their values are; finding that out is dear. "loop" never ends, "crash" breaks."""

    calls: str = ""
    home: int = os.getpid()

    def quick(self, answer, reference):
        if answer is None:
            return Verdict(outcome=Outcome.NO_ANSWER, rule="none")
        return Verdict(outcome=Outcome.CORRECT, rule="same") if answer == reference else None

    def verify(self, answer, reference):
        assert os.getpid() != self.home  # it came along from where it was made
        while "loop" in (answer, reference):
            pass
        if self.calls:
            with open(self.calls, "a") as file:
                file.write(f"{answer} {reference}\n")
        same = sum(map(int, answer.split("+"))) == sum(map(int, reference.split("+")))
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="sum")


@dataclass(frozen=True, slots=True)
class Sums:
    equality: Sum = Sum()
    name = "sums"

    def extract(self, text):
        return Extraction(value=text, rule="all")

    def key(self, value):
        return value.replace(" ", "")


def graded(work, answers, **limits):
    async def main():
        async with WorkerPool(**limits) as workers:
            return await work(Grading(answers, workers))

    return asyncio.run(main())


def test_values_join_the_first_class_that_they_equal():
    values = ["1+2", "4", None, "3", "1 + 2", "2+2", "5", None]
    assert graded(lambda g: g.classes(values), Sums()) == [0, 1, None, 0, 0, 1, 2, None]


def test_each_pair_is_compared_once(tmp_path):
    answers = Sums(equality=Sum(calls=str(tmp_path / "calls")))

    async def work(grading):
        before = await grading.classes(["1+2", "4"])
        after = await grading.classes(["1+2", "4", "3", "3"])
        return before, after, await grading.verify(answers.equality, "3", "1+2")

    assert graded(work, answers) == ([0, 1], [0, 1, 0, 0], Verdict(outcome=Outcome.CORRECT, rule="sum"))
    assert (tmp_path / "calls").read_text() == "4 1+2\n3 1+2\n"


def test_a_judgement_that_never_ends_is_a_timeout_and_one_that_breaks_is_an_error():
    async def work(grading):
        began = time.monotonic()
        loop = await grading.verify(Sum(), "loop", "1")
        fine = await grading.verify(Sum(), "1+1", "2")
        return loop, await grading.verify(Sum(), "x", "1"), fine, time.monotonic() - began

    loop, crash, fine, seconds = graded(work, Sums(), cpu_seconds=1)
    assert (loop.outcome, crash.outcome, fine.outcome) == (Outcome.TIMEOUT, Outcome.ERROR, Outcome.CORRECT)
    assert "1 s of CPU time" in loop.rule
    assert "ValueError" in crash.rule
    assert seconds < 30


def test_what_can_not_be_compared_is_a_class_of_its_own_and_costs_one_limit():
    """Each value after it would otherwise run into the limit too."""

    async def work(grading):
        began = time.process_time()
        numbers = await grading.classes(["1", "loop", "2", "1+1", "loop", "3", "2+1"])
        return numbers, time.process_time() - began

    numbers, _ = graded(work, Sums(), cpu_seconds=1)
    assert numbers == [0, 1, 2, 2, 1, 3, 3]


def test_no_answer_takes_no_worker_and_a_dear_one_asks_for_them():
    grading = Grading(Sums())
    assert asyncio.run(grading.verify(Sum(), None, "1")).outcome is Outcome.NO_ANSWER
    assert asyncio.run(grading.classes([None, "1", "1"])) == [None, 0, 0]
    with pytest.raises(ConfigError, match="workers"):
        asyncio.run(grading.verify(Sum(), "1+1", "2"))
