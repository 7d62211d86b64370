"""The reference world as a task: ``reference:<difficulty>``."""

import random  # noqa: TID251  the stream of random.Random is part of the problems' definition
from dataclasses import dataclass
from typing import ClassVar

from decoding.errors import ConfigError
from evals.data import checksum
from evals.tasks.base import Problem, Task
from evals.tasks.reference import MAX_DIFFICULTY, Chain, check_steps, find_answer, generate
from reasoning.steps import Steps
from verifiers.base import Extraction
from verifiers.exact import NO_ANSWER, ExactVerifier, Spelt

DEFAULT_PROBLEMS = 500
STEPS = Steps(delimiter="line", max_steps=40)
_LINE = 14  # characters of the longest line, newline included, and a little air


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFormat(Spelt):
    """The number behind the last ``#`` line."""

    name = "reference"

    def extract(self, text: str) -> Extraction:
        """The answer in a solution, without leading zeros."""
        found = find_answer(text)
        if found is None:
            return NO_ANSWER
        return Extraction(value=found.value, rule="#", span=found.span)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsCheck:
    """Accepts a solution whose every line is right. It recomputes them from the question and needs no reference."""

    oracle: ClassVar[bool] = False
    name = "steps"

    def accept(self, question: str, text: str) -> bool:
        """Whether the text is a complete solution without an error; False for a question of another world."""
        try:
            chain = Chain.parse(question)
        except ValueError:
            return False
        labels = check_steps(chain, text)
        return len(labels) == len(chain.steps) and all(labels)


def reference_problem(difficulty: int, seed: int, index: int) -> Problem:
    """Problem `index` of the stream that a seed names; it depends on nothing else.

    Policies are trained on another stream. At difficulty 1 and 2 there are so few chains that some of them come in
    both; from 4 on that practically never happens.
    """
    chain = generate(difficulty, random.Random(f"reference/{seed}/{difficulty}/{index}"))
    return Problem(
        id=f"reference-{difficulty}-{index:05d}",
        question=chain.question,
        reference=str(chain.answer),
        metadata={"difficulty": difficulty},
    )


def load_reference(spec: str, *, limit: int | None, seed: int) -> Task:
    """The task ``reference:<difficulty>`` with `limit` problems.

    Ids don't carry the seed: a task's checksum does.
    """
    _, _, level = spec.partition(":")
    if not (level.isascii() and level.isdigit() and 1 <= int(level[:9]) <= MAX_DIFFICULTY):
        raise ConfigError(f"{spec!r}: the difficulty must be a whole number from 1 to {MAX_DIFFICULTY}")
    difficulty = int(level)
    problems = [reference_problem(difficulty, seed, i) for i in range(DEFAULT_PROBLEMS if limit is None else limit)]
    return Task(
        name=spec,
        problems=problems,
        answers=ReferenceFormat(),
        verifier=ExactVerifier(),
        prompt="plain",
        max_tokens=_LINE * difficulty + 16,
        source=f"generated: reference world, difficulty {difficulty}, seed {seed}",
        checksum=checksum(problems),
        check=StepsCheck(),
        steps=STEPS,
    )
