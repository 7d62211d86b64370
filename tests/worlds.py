"""Small worlds for tests: tabular models, and settings to run strategies over them."""

import asyncio
from dataclasses import dataclass

import numpy as np

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.sampling import Floats
from decoding.types import Completion, GenerationRequest, SamplingParams
from evals.tasks.base import Problem, Task
from evals.tasks.reference_task import ReferenceFormat
from reasoning.budget import Budget
from reasoning.run import RunSettings
from reasoning.trajectory import Prompt
from verifiers.exact import ExactVerifier
from verifiers.grading import Grading

END, QUESTION = 0, 1


def answers_table(shares: dict[str, float], *, babble: float = 0.0) -> Table:
    """A model that writes ``#<digit>`` and ends; digits by their shares; before that "x" with probability `babble`."""
    vocabulary = ("<end>", "q", "x", "#", *shares)
    hash_, digits = 3, list(range(4, 4 + len(shares)))
    size = len(vocabulary)

    def law(**weights: float) -> list[float]:
        row = [0.0] * size
        for key, weight in weights.items():
            row[int(key[1:])] = weight
        return row

    start = law(**{"t2": babble, f"t{hash_}": 1 - babble})
    digit = law(**{f"t{token}": share for token, share in zip(digits, shares.values(), strict=True)})
    end = law(t0=1.0)
    laws = {(): start, (hash_,): digit, **{(token,): end for token in digits}}
    return Table(vocabulary=vocabulary, eos_token_ids=frozenset({END}), laws=laws)


@dataclass(frozen=True)
class RandomModel:
    """A random law for each prefix: equal prefixes have equal laws, and hardly any two else do."""

    size: int = 8
    eos_token_ids: frozenset[int] = frozenset({0})
    # Behind the tokens that it writes, what prompts may be made of.
    vocabulary: tuple[str, ...] = ("<end>", "#", *"123456", "\n", *map(chr, range(32, 127)))
    end: float = 0.08

    def law(self, prefix: tuple[int, ...]) -> Floats:
        weights = np.random.default_rng([1, *prefix]).dirichlet(np.ones(self.size - 1))
        unused = np.zeros(len(self.vocabulary) - self.size)
        return np.concatenate([[self.end], (1 - self.end) * weights, unused])


PROMPT = Prompt(question="q", token_ids=(QUESTION,))


def settings(engine, *, max_tokens=64, budget=None, seed=0, check=None, workers=None, judges=None, **sampling):
    return RunSettings(
        engines={"policy": engine},
        sampling=SamplingParams(seed=0, max_tokens=max_tokens, **sampling),
        answers=ReferenceFormat(),
        seed=seed,
        budget=budget or Budget(),
        check=check,
        judges=judges or {},
        workers=workers,
    )


def task(problems: int = 10, reference: str = "1") -> Task:
    return Task(
        name="digits",
        problems=[Problem(id=f"p{i:03d}", question="q", reference=reference) for i in range(problems)],
        answers=ReferenceFormat(),
        verifier=ExactVerifier(),
        prompt="plain",
        max_tokens=64,
        source="generated",
        checksum="0",
    )


class ShuffledDelivery:
    """An engine whose completions come back in a shuffled order: each waits its own number of turns."""

    def __init__(self, engine: ScriptedEngine, seed: int) -> None:
        self._engine = engine
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def generate(self, request: GenerationRequest) -> Completion:
        turns = int(self._rng.integers(0, 200))
        completion = await self._engine.generate(request)
        for _ in range(turns):
            await asyncio.sleep(0)
        return completion


def classes(answers, values):
    return asyncio.run(Grading(answers).classes(values))
