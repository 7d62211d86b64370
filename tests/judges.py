"""A judge for tests: its numbers follow from the text, and it answers after a number of turns of its own."""

import asyncio
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from decoding.engines.scripted import Table
from decoding.types import Usage
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind

INFO = JudgeInfo(
    name="test",
    kind=ScoreKind.PROBABILITY,
    format="test",
    backend="test",
    revision=None,
    parameters=10,
    context_length=10_000,
)


def lines_model():
    """Writes lines of digits, then "#", a digit and the end; nearly always it gives an answer."""
    vocabulary = ("<end>", "q", "#", *"123456", "\n")
    digits, hash_, newline = range(3, 9), 2, 9
    laws = {(): dict.fromkeys(digits, 1 / 6)}
    for digit in digits:
        laws[digit,] = {newline: 0.4} | dict.fromkeys(digits, 0.1)
        laws[hash_, digit] = {0: 1.0}
    laws[newline,] = {hash_: 0.4} | dict.fromkeys(digits, 0.1)
    rows = {key: [law.get(token, 0.0) for token in range(len(vocabulary))] for key, law in laws.items()}
    return Table(vocabulary=vocabulary, eos_token_ids=frozenset({0}), laws=rows)


def by_hash(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


class TextJudge:
    """Plays every role. A step costs a token a character."""

    def __init__(self, score=by_hash, *, turns=20, seed=0, **info):
        self.score, self.info = score, replace(INFO, **info)
        self._turns, self._rng = turns, np.random.default_rng(seed)
        self.asked, self.closed = [], False

    def split(self, text):
        return tuple(text.strip().split("\n"))

    def tokens(self, solution):
        return sum(map(len, solution.steps)) + 1

    async def score_steps(self, solution):
        return await self._answer(solution, [self.score(step) for step in solution.steps])

    async def value(self, solution):
        return await self._answer(solution, [self.score("\n".join(solution.steps))])

    reward = value

    async def _answer(self, solution, scores):
        self.asked.append(solution)
        for _ in range(int(self._rng.integers(0, self._turns))):
            await asyncio.sleep(0)
        tokens = self.tokens(solution)
        return Judgement(scores=tuple(scores), usage=Usage(scored_tokens=tokens, flops=2.0 * 10 * tokens))

    async def aclose(self):
        self.closed = True
