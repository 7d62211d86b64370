"""How busy searches by steps keep an engine's slots, the judge's delay and the tail included.

200 problems x 16 trajectories through the runner on the scripted engine with 256 slots. A trajectory is about 7 lines
of lognormal length; every line is judged, which takes a number of engine steps, and a problem's next lines wait until
all of this round's are judged and one selection is made. The engine counts its steps, those included in which all slots
are idle because everybody waits for the judge: busy slot-steps over slots x makespan.

Two figures stand beside it. "All at once" lets every problem in at the start, without a look at the load. "One by one"
is one problem after another, a step's lines judged when all of them have ended, as its_hub's benchmark and
search-and-learn's beam search run.
"""

import argparse
import asyncio
import heapq
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import lognorm

from benchmarks.barrier import one_by_one
from benchmarks.machine import write
from decoding.engines.scripted import REACTION_ROUNDS, ScriptedEngine
from decoding.sampling import Floats
from decoding.types import SamplingParams
from evals.runner import Evaluation, evaluate
from evals.store import Store
from evals.tasks.base import Problem, Task
from reasoning.api import execute
from reasoning.run import Run, RunSettings
from reasoning.steps import Steps
from reasoning.strategies import parse_strategy
from reasoning.trajectory import Prompt
from verifiers.exact import ExactVerifier
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind, Solution
from verifiers.text import TextFormat

LINE, LINES, SIGMA = 25.0, 7.0, 0.48  # median tokens of a line, median lines, the spread of both
LIMIT = 512  # most tokens of a text, as in `benchmarks.scheduling`
PROBLEMS, SIZE, SLOTS = 200, 16, 256
DELAY = 5  # engine steps that judging takes
DELAYS = (0, DELAY, 20)
ALONE = 20  # problems, one by one: their number changes nothing
STRATEGIES = (f"particle:n={SIZE}", f"beam:n={SIZE},width=4", f"rebase:n={SIZE}")
WAYS = ("shipped", "all at once", "one by one")
_END, _QUESTION, _LETTER, _NEWLINE = range(4)


class Busy(NamedTuple):
    """What one run measured."""

    share: float  # busy slot-steps over slots x makespan
    makespan: int  # steps
    tokens: int


@dataclass(frozen=True, slots=True)
class LognormalLines:
    """Writes lines of lognormal length, a lognormal number of them."""

    vocabulary: tuple[str, ...] = ("<end>", "q", "x", "\n")
    eos_token_ids: frozenset[int] = frozenset({_END})

    def law(self, prefix: tuple[int, ...]) -> Floats:
        """A line ends with the hazard of its law at this length, and the text with that at this line."""
        lines = prefix.count(_NEWLINE)
        begin = len(prefix) - prefix[::-1].index(_NEWLINE) if lines else 1
        return _law(len(prefix) - begin, lines)


@cache
def _law(length: int, lines: int) -> Floats:
    stop = _hazard(length, LINE) if length else 0.0  # a line has a letter
    end = _hazard(lines, LINES)
    return np.array([stop * end, 0.0, 1.0 - stop, stop * (1.0 - end)])


def _hazard(count: int, median: float) -> float:
    law = lognorm(s=SIGMA, scale=median)
    left = law.sf(count)
    return 1.0 if left <= 0 else min(1.0, (law.cdf(count + 1) - law.cdf(count)) / left)


class ClockedEngine(ScriptedEngine):
    """A scripted engine whose steps are a clock: they go on while somebody waits, also where no slot is busy."""

    def __init__(self) -> None:
        super().__init__(LognormalLines(), slots=SLOTS)
        self._alarms: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self.idle_steps = 0

    @property
    def now(self) -> int:
        """Steps so far, idle ones included."""
        return self.steps + self.idle_steps

    async def sleep(self, steps: int) -> None:
        """Wait for so many steps."""
        if steps > 0:
            alarm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._alarms, (self.now + steps, next(self._numbers), alarm))
            if self._pump is None or self._pump.done():
                self._pump = asyncio.ensure_future(self._run())
            await alarm

    def _rouse(self) -> bool:
        """Wake those whose time has come; whether there were any."""
        roused = False
        while self._alarms and self._alarms[0][0] <= self.now:
            heapq.heappop(self._alarms)[2].set_result(None)
            roused = True
        return roused

    async def _run(self) -> None:
        await _let_others_react()
        while self._queue or self._busy or self._alarms:
            while self._queue and len(self._busy) < self._info.slots:
                self._busy.append(self._queue.popleft())
            if self._busy:
                self.steps += 1
                self.busy_slot_steps += len(self._busy)
            else:
                self.idle_steps += 1
            ended = self._step()
            if self._rouse() or ended:
                await _let_others_react()


async def _let_others_react() -> None:
    for _ in range(REACTION_ROUNDS):
        await asyncio.sleep(0)


class DelayedJudge:
    """A process reward model whose numbers follow from the text, after a delay on the engine's clock."""

    info = JudgeInfo(
        name="delayed",
        kind=ScoreKind.PROBABILITY,
        format="delayed",
        backend="clock",
        revision=None,
        parameters=0,
        context_length=2**31,
    )

    def __init__(self, engine: ClockedEngine, delay: int) -> None:
        self._engine, self._delay = engine, delay

    def split(self, text: str) -> tuple[str, ...]:
        """The lines."""
        return tuple(text.split("\n"))

    def tokens(self, solution: Solution) -> int:
        """Nothing is read by a model."""
        return 0

    async def score_steps(self, solution: Solution) -> Judgement:
        """A number for each step: the hash of its length and its number."""
        await self._engine.sleep(self._delay)
        named = [f"{number}/{len(step)}".encode() for number, step in enumerate(solution.steps)]
        scores = [int.from_bytes(blake2b(name, digest_size=4).digest(), "big") / 2**32 for name in named]
        return Judgement(scores=tuple(scores))

    async def aclose(self) -> None:
        """Nothing is open."""


def measure(strategy: str, delay: int, how: str, *, problems: int = PROBLEMS) -> Busy:
    """One evaluation; `how` is one of `WAYS`."""
    return asyncio.run(_measure(strategy, delay, how, problems))


async def _measure(text: str, delay: int, how: str, count: int) -> Busy:
    engine, strategy = ClockedEngine(), parse_strategy(text)
    problems = [Problem(id=f"p{i:03d}", question="q", reference="x") for i in range(count)]
    prompts = {problem.id: Prompt(question="q", token_ids=(_QUESTION,)) for problem in problems}
    settings = RunSettings(
        engines={"policy": engine},
        sampling=SamplingParams(seed=0, max_tokens=LIMIT),
        answers=TextFormat(),
        judges={"prm": DelayedJudge(engine, delay)},
        steps=Steps(delimiter="line", max_tokens=128),
    )
    if how == "one by one":
        await one_by_one(settings, strategy, problems, prompts)
    elif how == "all at once":
        runs = [Run(settings, problem.id) for problem in problems]
        await asyncio.gather(*(execute(strategy, run, prompts[run.problem_id]) for run in runs))
    else:
        await _evaluated(Evaluation(task=_task(problems), strategies=[strategy], prompts=prompts, settings=settings))
    return Busy(engine.busy_slot_steps / (SLOTS * engine.now), engine.now, engine.busy_slot_steps)


def _task(problems: Sequence[Problem]) -> Task:
    return Task(
        name="lines",
        problems=problems,
        answers=TextFormat(),
        verifier=ExactVerifier(),
        prompt="plain",
        max_tokens=LIMIT,
        source="generated",
        checksum="",
    )


async def _evaluated(evaluation: Evaluation) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), {}, {}) as store:
        await evaluate(evaluation, store)


def row(strategy: str, delay: int, problems: int) -> str:
    """A line of the table; what stands beside the shipped way is measured at the usual delay alone."""
    shipped, beside = measure(strategy, delay, "shipped", problems=problems), ["", ""]
    if delay == DELAY:
        at_once = measure(strategy, delay, "all at once", problems=problems)
        alone = measure(strategy, delay, "one by one", problems=ALONE)
        beside = [f"{at_once.share:.3f}", f"{alone.share:.3f}"]
    figures = f"{shipped.share:.3f} | {shipped.makespan} | {shipped.tokens}"
    return f"| {strategy} | {delay} | {figures} | {beside[0]} | {beside[1]} |"


def main() -> None:
    """Measure all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    problems = parser.parse_args().problems
    lines = [
        f"# Slots kept busy by searches: {problems} problems x {SIZE}, {SLOTS} slots",
        "",
        f"Lines have a median of {LINE:.0f} tokens, texts of {LINES:.0f} lines, sigma {SIGMA}; at most {LIMIT} tokens. "
        "Judging a line takes the delay. Busy: the tail and the judge's delay are included.",
        "",
        "| strategy | delay, steps | busy | makespan, steps | tokens | all at once | one by one |",
        "|---|---|---|---|---|---|---|",
    ]
    for strategy in STRATEGIES:
        for delay in DELAYS:
            lines.append(row(strategy, delay, problems))
            print(lines[-1], flush=True)
    write("search_schedule", "\n".join(lines), f"python -m benchmarks.search_schedule --problems {problems}")


if __name__ == "__main__":
    main()
