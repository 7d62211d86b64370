"""What judges that write have in common: an engine, chains of writing, and the mean of what they say.

They run over any engine, the policy's own too, so what they write is batched with everything else. Seeds come from the
judge's seed, the question, the steps and the chain's number: the same judgement is the same whenever it is asked for.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from decoding.engine import Capability, Engine
from decoding.errors import CapabilityError, ConfigError
from decoding.host import OpenEngine
from decoding.seeds import derive_seed
from decoding.types import SamplingParams, Usage
from verifiers.judges.format import Split
from verifiers.judges.splits import AtDelimiter
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind, Solution
from verifiers.judges.written.chains import RESERVE, AnyEngine, Chain

READS = frozenset({Capability.TOKEN_IDS, Capability.PREFILL, Capability.CHOSEN_LOGPROBS})
"""What it takes to read the probability of a token behind what was written."""
BETWEEN = "\n\n---\n\n"  # of chains, in a judgement's text
_THOUGHT = "</think>"


class EngineJudge:
    """A judge over an engine that generates; subclasses say what they ask it.

    Args:
        engine: Open, on its own thread or on the loop on which the judge is used.
        name: As the user named it.
        verified: Whether the format was checked against the model's real tokenizer.
        owned: Whether closing the judge closes the engine.
    """

    format: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = READS
    steps: ClassVar[Split] = AtDelimiter("\n\n")

    def __init__(self, engine: AnyEngine, *, name: str, verified: bool = False, owned: bool = False) -> None:
        """Raises ``CapabilityError`` if the engine lacks what the judge needs."""
        self._opened, self._owned = engine, owned
        self._engine: Engine = engine.engine if isinstance(engine, OpenEngine) else engine
        self.name, self._verified = name, verified
        info = self._engine.info
        if lacking := self.needs - info.capabilities:
            raise CapabilityError(
                f"{name} judges by {', '.join(sorted(self.needs))}; the engine {info.engine} lacks "
                f"{', '.join(sorted(lacking))}: take another engine"
            )

    @property
    def info(self) -> JudgeInfo:
        """Name, kind and limits."""
        info = self._engine.info
        return JudgeInfo(
            name=self.name,
            kind=ScoreKind.PROBABILITY,
            format=self.format,
            backend=info.engine,
            revision=info.revision,
            parameters=info.parameters,
            context_length=info.context_length,
            verified=self._verified,
        )

    def split(self, text: str) -> tuple[str, ...]:
        """Paragraphs, if the judge has no rule of its own."""
        return self.steps(text)

    async def aclose(self) -> None:
        """Close the engine, if it is the judge's own."""
        if self._owned:
            self._owned = False
            if isinstance(self._opened, OpenEngine):
                await asyncio.to_thread(self._opened.close)
            else:
                await self._opened.aclose()


class WritingJudge(EngineJudge):
    """A judge that generates text and reads its scores there.

    Args:
        engine: As `EngineJudge`, like the other arguments that are not named here.
        chains: How many critiques are written; the score is their mean.
        temperature: Of writing. None: the authors' for this many chains.
        max_tokens: The most that a chain writes in one request. None: the judge's usual number.
        seed: Root of all seeds.
        neutral: The score where no chain says anything that can be read.
    """

    usual_tokens: ClassVar[int] = 4096
    top_p: ClassVar[float] = 1.0
    top_k: ClassVar[int] = 0

    def __init__(
        self,
        engine: AnyEngine,
        *,
        name: str,
        chains: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        neutral: float = 0.5,
        verified: bool = False,
        owned: bool = False,
    ) -> None:
        """Raises ``CapabilityError`` or ``ConfigError`` if the engine can't be judged with."""
        super().__init__(engine, name=name, verified=verified, owned=owned)
        if chains < 1:
            raise ConfigError(f"chains of a judge must be at least 1, got {chains}")
        if not self._engine.tokenizer.has_chat_template:
            model = self._engine.info.model
            raise ConfigError(f"{name} asks in a chat, and {model} has no chat template: take a chat model")
        self.seed, self.chains, self.neutral = seed, chains, neutral
        self.max_tokens = self.usual_tokens if max_tokens is None else max_tokens
        self.temperature = self._usual_temperature(chains) if temperature is None else temperature

    def _usual_temperature(self, chains: int) -> float:
        return 0.0 if chains == 1 else 1.0

    def _chain(self, prompt: Sequence[int], solution: Solution, *path: str | int) -> Chain:
        """A chain whose seeds are those of this path."""
        sampling = SamplingParams(
            seed=0, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, logprobs=False
        )
        known = (self.format, solution.question, *solution.steps, *path)
        return Chain(self._opened, prompt, sampling, lambda call: derive_seed(self.seed, *known, call))

    def _most_tokens(self, prompt: Sequence[int], calls: int) -> int:
        """The most that chains of so many requests may cost, if nothing is cached."""
        return self.chains * calls * (len(prompt) + self.max_tokens + RESERVE)

    def _judgement(self, chains: Sequence[Chain], rows: Sequence[Sequence[float | None]]) -> Judgement:
        """The mean of what each chain says, [chains][scores]."""
        return Judgement(
            scores=mean_of_readable(rows, self.neutral),
            usage=sum((chain.usage for chain in chains), Usage()),
            text=BETWEEN.join(chain.text for chain in chains),
        )


def mean_of_readable(rows: Sequence[Sequence[float | None]], neutral: float) -> tuple[float, ...]:
    """Means of the columns of ``rows``, [chains][scores], those left out that are None; `neutral` if all are."""
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    return tuple(sum(column) / len(column) if column else neutral for column in columns)


def first_error_scores(first: int | None, steps: int) -> tuple[float | None, ...]:
    """Steps' scores from the index of the first wrong one: 1 before it, 0 from there on; -1 is no error.

    None, or an index that there is not, can't be read.
    """
    if first is None or not -1 <= first < steps:
        return (None,) * steps
    right = steps if first == -1 else first
    return (1.0,) * right + (0.0,) * (steps - right)


def boxes(text: str) -> list[str]:
    r"""What stands in the ``\boxed`` of a text, in order, a ``\text`` around it taken off."""
    return [match[1].strip() for match in _BOX.finditer(text)]


def conclusion(text: str) -> str:
    """What a model says after it has thought; all of it if it does not think."""
    return text.rpartition(_THOUGHT)[2]


def listed(steps: Sequence[str], line: Callable[[int, str], str], between: str) -> str:
    """Steps, numbered from 0, as one text."""
    return between.join(line(index, step) for index, step in enumerate(steps))


_BOX = re.compile(r"\\boxed\s*\{\s*(?:\\text(?:bf)?\s*\{)?([^{}]*)\}")
