"""Running a program on the examples that its problem shows: whether it passes, and what happens where it doesn't."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import ClassVar, NamedTuple

from verifiers.base import Outcome
from verifiers.code.examples import SAME, Example, read_examples
from verifiers.code.programs import assemble, find_code
from verifiers.sandbox.judge import examine, judge
from verifiers.sandbox.types import CodeTests, Examination, Limits, Policy, Step

_LIMITS = Limits(cpu_seconds=4.0, wall_seconds=12.0)  # of the examples of one program: they are small
_MOST_BLOCKS = 10  # shown from the beginning of a call, and as many from its end
_LONGEST = 500  # characters of a value or of what was printed


class Diagnosis(NamedTuple):
    """What a program does on the examples."""

    program: str  # as it was run; empty where the text has none
    passed: int  # before the first that fails
    total: int  # 0: the problem shows none that can be read
    message: str  # the first example that fails, and what happens there; empty if none does

    @property
    def accepted(self) -> bool:
        """Whether there are examples, and all pass."""
        return 0 < self.total == self.passed


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesCheck:
    """Accepts a program that passes all examples that the problem shows; nothing where it shows none.

    What can't be checked is not accepted: resampling then ends without an answer, and says so.
    """

    oracle: ClassVar[bool] = False
    name: ClassVar[str] = "examples"

    limits: Limits = field(default_factory=lambda: _LIMITS)
    policy: Policy = field(default_factory=Policy)

    def accept(self, question: str, text: str) -> bool:
        """Whether the program in the text passes; raises ``SandboxError`` where the machine can't hold it."""
        shown = read_examples(question)
        value = find_code(text).value
        if value is None or not shown.examples:
            return False
        program = assemble(value, prompt=question, entry_point=shown.entry_point)
        return self._passes(program, shown.entry_point, shown.examples)

    def diagnose(self, question: str, text: str, *, trace: bool = False) -> Diagnosis:
        """What the program in the text does on the examples, and on the first that fails in detail.

        Args:
            question: As the problem states it.
            text: The model's.
            trace: Tell the values of the variables, block by block.
        """
        name, examples = (shown := read_examples(question)).entry_point, shown.examples
        value = find_code(text).value
        if value is None:
            return Diagnosis("", 0, len(examples), "There is no complete program in the answer.")
        program = assemble(value, prompt=question, entry_point=name)
        if not examples or self._passes(program, name, examples):
            return Diagnosis(program, len(examples), len(examples), "")
        failing = next((i for i, one in enumerate(examples) if not self._passes(program, name, [one])), None)
        if failing is None:  # each passes by itself: the program keeps something between calls
            return Diagnosis(program, 0, len(examples), "The examples pass one by one, but not one after another.")
        seen = examine(program, examples[failing].call, trace=trace, limits=self.limits, policy=self.policy)
        return Diagnosis(program, failing, len(examples), describe(examples[failing], seen, program))

    def _passes(self, program: str, entry_point: str, examples: Sequence[Example]) -> bool:
        test = "\n".join(example.test for example in examples)
        tests = CodeTests(setup=SAME, test=test, entry_point=entry_point, calls_check=False)
        return judge(program, tests, limits=self.limits, policy=self.policy).outcome is Outcome.CORRECT


def describe(example: Example, seen: Examination, program: str) -> str:
    """A failing example in words, with the blocks that ran where there is a trace."""
    came = {"returned": "gives", "raised": "raises"}.get(seen.outcome)
    what = f"{example.call} {came} {_cut(seen.value)}" if came else f"{example.call} does not end well: {seen.outcome}"
    lines = [f"This should hold, and does not:\n{example.shown}", what]
    if seen.stdout.strip():
        lines.append(f"It prints:\n{_cut(seen.stdout)}")
    if seen.steps:
        lines.append("What ran, block by block, and the values that it changed:\n" + _blocks(seen.steps, program))
    return "\n\n".join(lines)


def _blocks(steps: Sequence[Step], program: str) -> str:
    source = program.split("\n")
    visits = [list(visit) for _, visit in groupby(steps, key=lambda step: (step.function, step.block))]
    told = [f"[block {number}] {_block(visit, source)}" for number, visit in enumerate(visits, start=1)]
    if len(told) > 2 * _MOST_BLOCKS:
        told[_MOST_BLOCKS:-_MOST_BLOCKS] = ["..."]
    return "\n".join(told)


def _block(visit: Sequence[Step], source: Sequence[str]) -> str:
    """The lines of one visit to a block, and each variable's last value."""
    lines = sorted({step.line for step in visit})
    code = "\n".join(source[line - 1] for line in lines if line <= len(source))
    values = {name: value for step in visit for name, value in step.variables.items()}
    told = ", ".join(f"{name} = {_cut(value)}" for name, value in values.items())
    return f"in {visit[0].function}:\n{code}\n# {told or 'nothing'}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
