"""Self-debugging: write a program, run the examples that the problem shows, tell the model what failed, ask again.

Chen et al. 2023, *Teaching Large Language Models to Self-Debug*, arXiv 2304.05128: the unit-test feedback of section
3.2, zero-shot. With ``trace=blocks`` the model also sees the values of the variables in the failing call, block by
block, as in Zhong et al. 2024, *Debug like a Human* (LDB), arXiv 2402.16906, section 2; there one request judges the
blocks and another repairs, here one does both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.strategies.base import SAMPLING_NEEDS, read, result
from reasoning.trace import Event
from reasoning.trajectory import Candidate, Prompt, Result
from verifiers.code.check import Diagnosis, ExamplesCheck

TRACES = ("none", "blocks")
_REPAIR = (
    "The program is not right yet.\n\n{message}\n\n{task} Then answer with the whole corrected program in one fenced "
    "block of Python."
)
_EXPLAIN = "Say in one or two sentences what is wrong."
_BLOCKS = "Say for each block whether its values are what they should be, and what is wrong."


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed(Event):
    """A program was run on the examples that its problem shows."""

    slot: int
    passed: int  # examples before the first that fails
    total: int
    accepted: bool
    message: str  # what the next round is told


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfDebug:
    """A program, and up to so many rounds of repair; the first that passes, else the one that comes furthest."""

    name: ClassVar[str] = "self_debug"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    rounds: int = 3
    trace: str = "none"  # blocks: show the values of the variables in the failing call

    def __post_init__(self) -> None:
        if self.trace not in TRACES:
            raise ConfigError(f"trace must be {' or '.join(TRACES)}, got {self.trace!r}")

    @property
    def most_requests(self) -> int:
        """One after another."""
        return 1

    @property
    def most_samples(self) -> int:
        """The first program and the repairs."""
        return 1 + self.rounds

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Draw, run the examples, ask again."""
        check = run.settings.check
        if not isinstance(check, ExamplesCheck):
            raise ConfigError("self_debug needs a check that says what failed: take a code task, without an oracle")
        candidates: list[Candidate] = []
        found: list[Diagnosis] = []
        for slot in range(1 + self.rounds):
            asked = _repair(run, prompt.question, found[-1], self.trace) if found else prompt
            request = run.request(asked, "repair", slot, pooled=False) if found else run.request(asked, "sample", 0)
            if request is None:
                return result(run, candidates, _furthest(found), "budget")
            candidates.append(read(run, asked, slot, await run.generate(request)))
            text = candidates[-1].text if candidates[-1].answer is not None else ""  # what was cut off is no program
            found.append(await run.call(_diagnose, check, prompt.question, text, self.trace == "blocks"))
            run.record(_diagnosed(slot, found[-1]))
            if found[-1].accepted:
                return result(run, candidates, slot, "accepted")
            if not found[-1].total:
                return result(run, candidates, slot, "done")  # the problem shows nothing to go by
        return result(run, candidates, _furthest(found), "exhausted")


def _furthest(found: Sequence[Diagnosis]) -> int | None:
    """The program that passes most examples; of equals the last, and any rather than none."""
    return max(range(len(found)), key=lambda slot: (found[slot].program != "", found[slot].passed, slot), default=None)


def _diagnosed(slot: int, found: Diagnosis) -> Diagnosed:
    return Diagnosed(slot=slot, passed=found.passed, total=found.total, accepted=found.accepted, message=found.message)


def _repair(run: Run, question: str, found: Diagnosis, trace: str) -> Prompt:
    """The problem, the program, and what is wrong with it."""
    task = _BLOCKS if trace == "blocks" else _EXPLAIN
    return run.render(
        [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"```python\n{found.program}```"},
            {"role": "user", "content": _REPAIR.format(message=found.message, task=task)},
        ],
        question,
    )


def _diagnose(check: ExamplesCheck, question: str, text: str, trace: bool) -> Diagnosis:
    return check.diagnose(question, text, trace=trace)
