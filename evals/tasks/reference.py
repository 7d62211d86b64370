"""The reference world: chains of integer operations, solved one written step a line.

A problem of difficulty *d* is a start value and *d* operations, applied from left to right:

    prompt     47,+38,*6,-19
    solution   47+38=85
               85*6=510
               510-19=491
               #491

Every value lies in [0, 999]. Each line of a solution can be checked exactly, so step labels need no model, and the
difficulty is a number. Small policies trained by ``bethink train policy`` err in it the way language models do: some
facts are wrong nearly every time, others now and then.
"""

import random
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

MAX_VALUE = 999
MAX_FACTOR = 9
MAX_ADDEND = 99
MAX_DIFFICULTY = 16

Operator = Literal["+", "-", "*"]

# Models write anything: digits of other scripts and numbers that int() refuses for their length are malformed.
_NUMBER = "[0-9]{1,100}"
_STEP = re.compile(rf"({_NUMBER})([-+*])({_NUMBER})=({_NUMBER})")
_ANSWER = re.compile(rf"^#({_NUMBER})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a chain, for example ``*6``."""

    operator: Operator
    operand: int  # 2..999

    def __call__(self, value: int) -> int:
        """The value after this operation."""
        match self.operator:
            case "+":
                return value + self.operand
            case "-":
                return value - self.operand
            case "*":
                return value * self.operand

    def __str__(self) -> str:
        return f"{self.operator}{self.operand}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A problem of the reference world."""

    start: int  # 1..99
    operations: tuple[Operation, ...]  # [difficulty], in order of application

    @property
    def question(self) -> str:
        """The prompt, with its closing newline."""
        return ",".join([str(self.start), *map(str, self.operations)]) + "\n"

    @property
    def values(self) -> list[int]:
        """All intermediate values, [difficulty + 1]; the first is the start, the last the answer."""
        values = [self.start]
        for operation in self.operations:
            values.append(operation(values[-1]))
        return values

    @property
    def answer(self) -> int:
        """The value after the last operation."""
        return self.values[-1]

    @property
    def steps(self) -> list[str]:
        """The lines of the reference solution, [difficulty + 1], without newlines."""
        values = self.values
        lines = [f"{v}{op}={w}" for v, op, w in zip(values, self.operations, values[1:], strict=False)]
        return [*lines, f"#{values[-1]}"]

    @property
    def solution(self) -> str:
        """The reference solution as a policy should write it."""
        return "\n".join(self.steps)

    @classmethod
    def parse(cls, question: str) -> "Chain":
        """Read a question back, with or without its closing newline; raises ``ValueError`` on any other spelling."""
        start, *operations = question.removesuffix("\n").split(",")
        parsed = tuple(Operation(operator=_operator(o[:1]), operand=int(o[1:])) for o in operations)
        chain = cls(start=int(start), operations=parsed)
        if (
            chain.question != question.removesuffix("\n") + "\n"
        ):  # int() takes spaces, signs, underscores and leading zeros
            raise ValueError(f"not a question of the reference world: {question[:80]!r}")
        return chain


def generate(difficulty: int, rng: random.Random) -> Chain:
    """Draw a chain of `difficulty` operations, each uniform among the operators that keep the value in range.

    Only ``rng.random()`` is used: it is the one method whose stream Python promises to keep between versions.
    """
    if not 1 <= difficulty <= MAX_DIFFICULTY:
        raise ValueError(f"difficulty must lie between 1 and {MAX_DIFFICULTY}, got {difficulty}")
    start = value = _uniform(rng, 1, MAX_ADDEND)
    operations: list[Operation] = []
    for _ in range(difficulty):
        # For each operator its largest operand; the smallest is 2 throughout.
        largest: dict[Operator, int] = {
            "+": min(MAX_ADDEND, MAX_VALUE - value),
            "-": value,
            "*": min(MAX_FACTOR, MAX_VALUE // value if value else MAX_FACTOR),
        }
        feasible = [operator for operator, top in largest.items() if top >= 2]
        operator = feasible[_uniform(rng, 0, len(feasible) - 1)]
        operation = Operation(operator=operator, operand=_uniform(rng, 2, largest[operator]))
        operations.append(operation)
        value = operation(value)
    return Chain(start=start, operations=tuple(operations))


def check_steps(chain: Chain, text: str) -> list[bool]:
    """Label every line of a (possibly unfinished) solution: is it the step that belongs there, and is it right?

    A step is right if it is well formed, takes the chain's next operation, starts from the value that the line before
    it wrote, and computes correctly. Errors are not inherited: a correct line after a wrong one is right in itself,
    but no line after one that is malformed or out of place can be. The answer line is right if it repeats the value
    written last.

    Returns one bool a line, [lines]. A newline ends the line before it; after the last one no line has begun yet.
    """
    labels: list[bool] = []
    value: int | None = chain.start
    for index, line in enumerate(text.removesuffix("\n").split("\n") if text else []):
        written = _read_line(chain, index, line, value)
        labels.append(written is not None and written.right)
        value = written.value if written is not None else None
    return labels


class Answer(NamedTuple):
    """A number that a solution gives as its answer."""

    value: str  # without leading zeros
    span: tuple[int, int]  # where in the text


def find_answer(text: str) -> Answer | None:
    """The number behind the last ``#`` line; None where no line answers."""
    found = None
    for found in _ANSWER.finditer(text):  # noqa: B007  the last one is wanted
        pass
    return None if found is None else Answer(str(int(found[1])), found.span(1))


def read_answer(text: str) -> str | None:
    """The value of `find_answer`."""
    found = find_answer(text)
    return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class _Written:
    value: int
    right: bool


def _read_line(chain: Chain, index: int, line: str, value: int | None) -> _Written | None:
    """The value that a line leaves behind, or None if the line has no place in the solution."""
    if value is None or index > len(chain.operations):
        return None
    if index == len(chain.operations):
        return _Written(value, line == f"#{value}")
    step = _STEP.fullmatch(line)
    operation = chain.operations[index]
    if step is None or step[1] != str(value) or step[2] + step[3] != str(operation):
        return None
    return _Written(int(step[4]), step[4] == str(operation(value)))


def _operator(text: str) -> Operator:
    match text:
        case "+" | "-" | "*":
            return text
    raise ValueError(f"operator must be +, - or *, got {text!r}")


def _uniform(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))
