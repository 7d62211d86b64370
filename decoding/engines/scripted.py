"""A tabular language model behind the engine protocol: for tests, and for users' tests of their own strategies.

Its laws are known exactly, so whatever a strategy does can be compared with what it should do. Its scheduler works like
a real one, with slots, a queue and one token a busy slot a step, and counts its steps, so schedules can be measured.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from decoding.engine import EngineInfo
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.rows import Row, RowEngine
from decoding.errors import ConfigError
from decoding.sampling import Floats
from decoding.types import FinishReason

REACTION_ROUNDS = 32
"""Turns that the event loop takes between two steps. A real engine's step lasts milliseconds, and what follows from a
completion (a vote, the next request) happens within it; without a wait the script would run ahead of its readers."""


class TabularModel(Protocol):
    """A language model over a tiny vocabulary."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The tokens' texts, [V]."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Any of them ends a completion."""
        ...

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """Probabilities of the next token after `prefix` (prompt and generated ids), [V], summing to 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A model written down: laws by the last tokens of the prefix, the longest match first."""

    vocabulary: Sequence[str]
    eos_token_ids: frozenset[int]
    laws: Mapping[tuple[int, ...], Sequence[float]]  # the key () is the law where nothing longer matches

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """Probabilities of the next token, [V]."""
        for start in range(len(prefix) + 1):
            if prefix[start:] in self.laws:
                return np.asarray(self.laws[prefix[start:]], dtype=np.float64)
        raise ConfigError(f"the table has no law for {prefix}: give one for ()")


@dataclass(frozen=True, slots=True)
class VocabularyTokenizer:
    """Splits a text into the longest tokens of a vocabulary, from the left."""

    vocabulary: Sequence[str]
    eos_token_ids: frozenset[int]
    has_chat_template: bool = False

    def ids_with(self, text: str) -> tuple[int, ...]:
        """All ids whose text contains a text."""
        return tuple(i for i, token in enumerate(self.vocabulary) if text in token and i not in self.eos_token_ids)

    def encode(self, text: str, *, opening: bool = True) -> tuple[int, ...]:
        """Ids of a text; raises ``ConfigError`` where no token fits."""
        ids: list[int] = []
        while text:
            fits = [i for i, token in enumerate(self.vocabulary) if token and text.startswith(token)]
            if not fits:
                raise ConfigError(f"no token of the vocabulary begins {text[:20]!r}")
            ids.append(max(fits, key=lambda i: len(self.vocabulary[i])))
            text = text[len(self.vocabulary[ids[-1]]) :]
        return tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, the end token left out."""
        return "".join(self.vocabulary[i] for i in token_ids if i not in self.eos_token_ids)

    def render_chat(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Not to be had: tabular models have no chat template."""
        raise ConfigError("the scripted engine has no chat template: give the prompt as text")


class ScriptedEngine(RowEngine):
    """An `Engine` over a `TabularModel`."""

    def __init__(
        self, model: TabularModel, *, slots: int = 64, context_length: int = 4096, parameters: int = 0
    ) -> None:
        super().__init__()
        self._model, self._vocabulary = model, len(model.vocabulary)
        self._tokenizer = VocabularyTokenizer(model.vocabulary, model.eos_token_ids)
        self._info = EngineInfo(
            engine="scripted",
            version="1",
            model="scripted",
            revision=None,
            parameters=parameters,
            context_length=context_length,
            slots=slots,
            capabilities=CAPABILITIES["scripted"],
        )
        self._queue: deque[Row] = deque()
        self._busy: list[Row] = []
        self._pump: asyncio.Task[None] | None = None
        self.steps = 0  # steps taken while at least one slot was busy
        self.busy_slot_steps = 0  # tokens decoded: one a busy slot a step

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        row = self._rows.get(request_id)
        if row is not None:
            row.finish_reason = FinishReason.CANCELLED
            (self._busy if row in self._busy else self._queue).remove(row)
            self._settle(row)

    async def aclose(self) -> None:
        """End all requests as cancelled."""
        for request_id in list(self._rows):
            await self.abort(request_id)
        if self._pump is not None:
            await self._pump

    def _enqueue(self, row: Row) -> None:
        self._queue.append(row)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        await _let_others_react()
        while self._queue or self._busy:
            while self._queue and len(self._busy) < self._info.slots:
                self._busy.append(self._queue.popleft())
            self.steps += 1
            self.busy_slot_steps += len(self._busy)
            if self._step():
                await _let_others_react()
            else:
                await asyncio.sleep(0)

    def _step(self) -> bool:
        """Draw the next token of every busy row; whether one of them has ended."""
        for row in list(self._busy):
            prefix = row.request.prompt_token_ids + tuple(row.token_ids)
            try:
                with np.errstate(divide="ignore"):  # tokens of zero probability have log-probability minus infinity
                    row.take(np.log(self._model.law(prefix)))
            except Exception as error:  # the law is the user's own code: who asked hears of it, and the others go on
                self._fail(row, error)
                continue
            if row.on_token is not None:
                row.on_token(row.token_ids[-1])
        ended = [row for row in self._busy if row.finish_reason is not None]
        self._busy = [row for row in self._busy if row.finish_reason is None]
        for row in ended:
            self._settle(row)
        return bool(ended)

    def _fail(self, row: Row, error: Exception) -> None:
        self._busy.remove(row)
        del self._rows[row.request.id]
        if not row.future.done():
            row.future.set_exception(error)


async def _let_others_react() -> None:
    for _ in range(REACTION_ROUNDS):
        await asyncio.sleep(0)
