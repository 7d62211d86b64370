"""How much of judging hides behind a policy that goes on writing.

8 samples for each of 100 problems, each judged at all its steps as soon as it ends. Judging time is the time that the
reader's worker is busy; it overlaps while the policy has requests in flight. Policy and judge have reference-base's
weights; the judge is read at a pair of tokens on the transformers backend.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from decoding.engines.open import available_engines, open_engine
from decoding.host import OpenEngine
from decoding.models import resolve
from decoding.types import GenerationRequest, SamplingParams
from evals.tasks.reference import Chain, generate
from verifiers.judges.reader import Head, Reader
from verifiers.judges.types import ScoreKind
from verifiers.models.transformers_reader import open_transformers_reader

MODEL = "reference-base"
OPERATIONS = 9  # and the answer's line: 10 steps
PROBLEMS, SAMPLES = 100, 8


@dataclass(frozen=True, slots=True)
class Pair:
    """The read-out of the benchmark's judges."""

    head: Head
    kind: ScoreKind = ScoreKind.PROBABILITY
    models: int = 1

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """The pair, where it is one of tokens."""
        return tuple(tokenizer.convert_tokens_to_ids(["<yes>", "<no>"])) if self.head is Head.TOKENS else ()

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Not asked for."""
        raise NotImplementedError


class Prefix(NamedTuple):
    """A question and the first steps of a solution."""

    ids: tuple[int, ...]
    bounds: tuple[int, ...]  # [1 + S] tokens up to the end of the question and of each step

    @property
    def positions(self) -> tuple[int, ...]:
        """Each step's last token."""
        return tuple(bound - 1 for bound in self.bounds[1:])


class Overlap(NamedTuple):
    """One best-of-n on one policy engine."""

    judging: float  # seconds that the reader was busy
    share: float  # of them, those during which the policy was generating
    together: float  # seconds in all
    in_turn: float  # seconds in all, judged when everything has been written


class Encoder:
    """Solutions as ids, a step at a time."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def question(self, chain: Chain) -> Prefix:
        """Before the first step."""
        ids = tuple(self._tokenizer(chain.question)["input_ids"])
        return Prefix(ids, (len(ids),))

    def then(self, prefix: Prefix, step: str) -> Prefix:
        """One step further."""
        ids = prefix.ids + tuple(self._tokenizer(step + "\n", add_special_tokens=False)["input_ids"])
        return Prefix(ids, (*prefix.bounds, len(ids)))


class Intervals:
    """When something was going on."""

    def __init__(self) -> None:
        self._open = 0
        self.spans: list[tuple[float, float]] = []

    def begin(self) -> None:
        """One more is going on."""
        if self._open == 0:
            self._start = time.perf_counter()
        self._open += 1

    def end(self) -> None:
        """One fewer."""
        self._open -= 1
        if self._open == 0:
            self.spans.append((self._start, time.perf_counter()))

    def __and__(self, other: "Intervals") -> float:
        """Seconds during which both were."""
        pairs = ((a, b) for a in self.spans for b in other.spans)
        return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in pairs)


def overlap(policy: str, *, problems: int = PROBLEMS, samples: int = SAMPLES, **options: Any) -> Overlap:
    """Best-of-n with a judge on the transformers reader, once judged meanwhile and once afterwards."""
    rng = random.Random(7)
    chains = [generate(OPERATIONS, rng) for _ in range(problems)]
    with open_engine(MODEL, policy, **options) as opened:
        _timed(opened, chains, 1, afterwards=False)  # to warm up
        together, busy, writing = _timed(opened, chains, samples, afterwards=False)
        in_turn = _timed(opened, chains, samples, afterwards=True)[0]
    judging = busy & busy
    return Overlap(judging, (busy & writing) / judging, together, in_turn)


def _timed(
    opened: OpenEngine, chains: Sequence[Chain], samples: int, *, afterwards: bool
) -> tuple[float, Intervals, Intervals]:
    """Seconds in all; when the judge was busy, and when the policy."""
    reader = open_transformers_reader(resolve(MODEL), Pair(Head.TOKENS))
    writing, busy = Intervals(), Intervals()
    _note_turns(reader, busy)
    start = time.perf_counter()
    opened.run(_BestOf(chains, samples, reader, writing, afterwards).run)
    seconds = time.perf_counter() - start
    asyncio.run(reader.aclose())
    return seconds, busy, writing


@dataclass(frozen=True, slots=True)
class _BestOf:
    """Samples of all problems, each judged."""

    chains: Sequence[Chain]
    samples: int
    reader: Reader
    writing: Intervals
    afterwards: bool  # judge when all have been written

    async def run(self, engine: Any) -> None:
        """All of it, on the engine's loop."""
        encoder = Encoder(self.reader.tokenizer)
        prompts = [encoder.question(chain) for chain in self.chains]
        drawing = [self._draw(engine, prompt, seed) for prompt in prompts for seed in range(self.samples)]
        solutions = await asyncio.gather(*drawing)
        if self.afterwards:
            await asyncio.gather(*(self._judge(prefix) for prefix in solutions))

    async def _draw(self, engine: Any, prompt: Prefix, seed: int) -> Prefix:
        sampling = SamplingParams(seed=seed, max_tokens=160)
        self.writing.begin()
        completion = await engine.generate(GenerationRequest(prompt_token_ids=prompt.ids, sampling=sampling))
        self.writing.end()
        newline = prompt.ids[-1]
        written = (*completion.token_ids[:-1], newline)  # in the place of the end
        ids = prompt.ids + written
        ends = [len(prompt.ids) + i + 1 for i, token in enumerate(written) if token == newline]
        prefix = Prefix(ids, (len(prompt.ids), *ends))
        if not self.afterwards:
            await self._judge(prefix)
        return prefix

    async def _judge(self, prefix: Prefix) -> None:
        await self.reader.read(prefix.ids, prefix.positions)


def _note_turns(reader: Any, busy: Intervals) -> None:
    """Note when the reader's worker computes."""
    inner = reader._reader.read

    def timed(questions: Any) -> Any:
        busy.begin()
        try:
            return inner(questions)
        finally:
            busy.end()

    reader._reader.read = timed


def overlap_table() -> list[str]:
    """Both policy engines, those that are installed; lines of a table."""
    lines = [
        f"{SAMPLES} samples for each of {PROBLEMS} problems, each judged when it ends, on the transformers backend.",
        "",
        "| policy on | judging, s | of it while the policy was generating | all, s | judged afterwards: all, s |",
        "|---|---|---|---|---|",
    ]
    for policy in ("transformers", "vllm"):
        if policy in available_engines():
            found = overlap(policy)
            figures = f"{found.judging:.1f} | {100 * found.share:.0f} % | {found.together:.1f} | {found.in_turn:.1f}"
            lines.append(f"| {policy} | {figures} |")
            print(lines[-1], flush=True)
    return lines
