"""Judging answers and sorting them into equality classes: what is cheap here, what is dear in worker programs.

One notion of equality serves voting and grading. A judgement that runs past its worker's CPU time is a ``timeout``, one
that breaks is an ``error``; neither is ever "correct" or "equal".
"""

from collections.abc import Sequence

from decoding.errors import ConfigError, WorkerError, WorkerTimeout
from verifiers.base import AnswerFormat, Outcome, Verdict, Verifier
from verifiers.workers import WorkerPool


class Grading:
    """Answers of one format. Every dear comparison is made once; what it says is kept for this object's life."""

    def __init__(self, answers: AnswerFormat, workers: WorkerPool | None = None) -> None:
        self._answers, self._workers = answers, workers
        self._known: dict[tuple[Verifier, str, str], Verdict] = {}

    async def verify(self, verifier: Verifier, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer.

        Raises ``ConfigError`` if that takes a worker program and there are none.
        """
        told = verifier.quick(answer, reference)
        if told is not None or answer is None:
            return told or verifier.verify(answer, reference)
        key = (verifier, answer, reference)
        if key not in self._known:
            self._known[key] = await self._prove(verifier, answer, reference)
        return self._known[key]

    async def classes(self, values: Sequence[str | None]) -> list[int | None]:
        """Equality classes of extracted values, [N], numbered by first appearance; None stays None.

        Equality by computer algebra needn't be transitive. A value is compared with the first members of the classes
        there are, in their order, so that the outcome depends on the order of the values alone. What ran into a limit
        is equal to nothing but its own spelling.
        """
        numbers: dict[str, int] = {}  # class of each key
        first: list[str | None] = []  # each class's first value; None: not to be compared with
        keys = [None if value is None else self._answers.key(value) for value in values]
        for key, value in zip(keys, values, strict=True):
            if key is not None and value is not None and key not in numbers:
                numbers[key] = await self._class_of(value, first)
        return [None if key is None else numbers[key] for key in keys]

    async def _class_of(self, value: str, first: list[str | None]) -> int:
        """The class of a value with a new key; adds one to `first` if it equals none of them."""
        equality = self._answers.equality
        opaque = False
        for number, member in enumerate(first):
            if equality is None or member is None:
                continue
            outcome = (await self.verify(equality, value, member)).outcome
            if outcome is Outcome.CORRECT:
                return number
            if outcome in (Outcome.TIMEOUT, Outcome.ERROR):
                opaque = True  # every further comparison would run into the same limit
                break
        first.append(None if opaque else value)
        return len(first) - 1

    async def _prove(self, verifier: Verifier, answer: str, reference: str) -> Verdict:
        if self._workers is None:
            raise ConfigError(f"{type(verifier).__name__} judges in worker programs: pass `workers`")
        try:
            return await self._workers.call(verifier.verify, answer, reference)
        except WorkerTimeout as error:
            return Verdict(outcome=Outcome.TIMEOUT, rule=str(error).partition(":")[0])
        except WorkerError as error:
            return Verdict(outcome=Outcome.ERROR, rule=str(error).partition("\n")[0])
